"""What switches keep from the tracker: no mappings of it, no candidates for it, and nothing else is touched."""

from ipaddress import IPv4Address
from types import MappingProxyType

import pytest

from tests.unit.core.playbook import Playbook
from throughway.core import discriminators
from throughway.core.blocking import Blocking, Withheld
from throughway.core.commands import InstallMapping, KeepPort, Refuse, Reinject, RemoveMapping, TranslatePort
from throughway.core.events import (
    EspFromInside,
    EspUnclaimed,
    IkeExchange,
    IkeMessageSeen,
    PortlessFromInside,
    PortsRemembered,
    SwitchesSet,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Peer, Spi, UdpPort
from throughway.core.reasons import Reason

ALICE, BOB = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11))
PEER = Peer(IPv4Address("203.0.113.9"))
GRE, IPIP = 47, 4
NO_KEY = discriminators.of_gre(None)
ESP_OFF = Withheld.of([Blocking(50, True)])
ALICES_ESP_OFF = Withheld.of([Blocking(50, False, MappingProxyType({(ALICE, None): True}))])


def ike(host: Host, exchange: IkeExchange, spi: int = 0xA1, *, from_host: bool = True) -> IkeMessageSeen:
    return IkeMessageSeen(host, PEER, spi, exchange, 1, from_host=from_host, floated=False)


def tunnel(play: Playbook, host: Host, spi: int) -> None:
    """Let a host have ESP both ways."""
    for from_host in (True, False):
        play >> ike(host, IkeExchange.FIRST_CHILD, spi, from_host=from_host)
    play >> EspFromInside(host, PEER, Spi(0x1000 + spi), 1)
    play >> EspUnclaimed(Path(PEER), Spi(0x2000 + spi), 1)
    assert FlowKey.to_inside(50, Path(PEER), 0x2000 + spi) in play.mappings


def test_off_removes_mappings_both_ways_and_refuses_new_ones() -> None:
    play = Playbook()
    tunnel(play, ALICE, 1)
    to_peer, to_inside = FlowKey.to_peer(50, ALICE, PEER, 0x1001), FlowKey.to_inside(50, Path(PEER), 0x2001)
    play >> SwitchesSet(ESP_OFF) << RemoveMapping(to_peer) << RemoveMapping(to_inside)
    again = FlowKey.to_peer(50, ALICE, PEER, 0x1009)
    play >> EspFromInside(ALICE, PEER, Spi(0x1009), 1) << Refuse(again, Reason.SWITCHED_OFF, "switched.off")
    play >> EspUnclaimed(Path(PEER), Spi(0x2001), 9)
    assert play.mappings == {}
    assert play.tracker.mapping_count == 0
    play >> SwitchesSet(Withheld())
    tunnel(play, ALICE, 2)


def test_ike_of_a_host_that_is_off_makes_it_no_candidate() -> None:
    """What comes from the peer goes to the other host alone."""
    play = Playbook()
    play >> SwitchesSet(ALICES_ESP_OFF)
    for host, spi in ((ALICE, 1), (BOB, 2)):
        for from_host in (True, False):
            play >> ike(host, IkeExchange.FIRST_CHILD, spi, from_host=from_host)
    key = FlowKey.to_inside(50, Path(PEER), 0x2222)
    play >> EspUnclaimed(Path(PEER), Spi(0x2222), 1)
    assert play.mappings[key] == (BOB,)


@pytest.mark.parametrize("other", [(GRE, NO_KEY), (IPIP, 0)])
def test_what_is_on_keeps_its_mappings(other: tuple[int, int]) -> None:
    play = Playbook()
    for protocol, name in ((GRE, NO_KEY), (IPIP, 0)):
        play >> PortlessFromInside(ALICE, PEER, protocol, name)
    tunnel(play, BOB, 1)
    before = set(play.mappings)
    off = IPIP if other[0] == GRE else GRE
    play >> SwitchesSet(Withheld.of([Blocking(off, True)]))
    gone = before - set(play.mappings)
    assert {key.protocol for key in gone} == {off}
    assert len(gone) == 2


def test_the_router_is_not_switched() -> None:
    play = Playbook()
    play >> SwitchesSet(ESP_OFF)
    play >> EspFromInside(ROUTER, PEER, Spi(0x1001), 1)
    assert FlowKey.to_peer(50, ROUTER, PEER, 0x1001) in play.mappings


def test_unassisted_ports_are_translated_and_learned_no_more() -> None:
    play = Playbook()
    play >> PortsRemembered(((PEER, UdpPort.IKE),)) << KeepPort(PEER, UdpPort.IKE)
    play >> SwitchesSet(Withheld(ports=frozenset({UdpPort.IKE}))) << TranslatePort(PEER, UdpPort.IKE)
    (play >> PortsRemembered(((PEER, UdpPort.IKE),))).nothing()
    play >> SwitchesSet(Withheld())
    play >> PortsRemembered(((PEER, UdpPort.IKE),)) << KeepPort(PEER, UdpPort.IKE)


def test_a_flow_that_is_on_again_begins_like_any_other() -> None:
    play = Playbook()
    play >> SwitchesSet(Withheld.of([Blocking(GRE, True)]))
    key, back = FlowKey.to_peer(GRE, ALICE, PEER, NO_KEY), FlowKey.to_inside(GRE, Path(PEER), NO_KEY)
    play >> PortlessFromInside(ALICE, PEER, GRE, NO_KEY) << Refuse(key, Reason.SWITCHED_OFF, "switched.off")
    play >> SwitchesSet(Withheld())
    play >> PortlessFromInside(ALICE, PEER, GRE, NO_KEY)
    play << InstallMapping(back, ALICE) << InstallMapping(key, ALICE) << Reinject(key)


def test_calls_of_pptp_never_concern_the_tracker() -> None:
    assert not Withheld.of([Blocking(IpProtocol.GRE, True, is_pptp=True)])
    with pytest.raises(ValueError, match="exception"):
        Blocking(50, at={(None, None): True})
    with pytest.raises(ValueError, match="GRE"):
        Blocking(50, is_pptp=True)
