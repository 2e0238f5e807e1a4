"""The scenarios at the level of packets, and the protocols that they are about."""

from throughway.core import discriminators
from throughway.lab.packets import PACKET_SCENARIOS, portless
from throughway.lab.scenarios import SCENARIOS


def test_all_are_registered_under_their_own_names() -> None:
    names = [scenario.name for scenario in PACKET_SCENARIOS]
    assert len(set(names)) == len(names)
    assert set(names) <= set(SCENARIOS)


def test_the_protocols_without_ports_are_those_that_the_gateway_carries() -> None:
    """IGMP is about the link that it is sent on, and passes no router at all."""
    assert set(portless.PORTLESS) == {number for number in range(256) if discriminators.is_ours(number)}
