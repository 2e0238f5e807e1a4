"""The sessions that people are told of, from what a tracker knows."""

from ipaddress import IPv4Address

import pytest

from throughway.control.schema import CarriedBy, Session, Verdict
from throughway.core import discriminators
from throughway.core.events import (
    AhFromInside,
    EspFromInside,
    Event,
    FlowCount,
    L2tpControl,
    L2tpControlSeen,
    PortlessFromInside,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Path, Peer, Spi
from throughway.core.ports import InstalledFlow
from throughway.core.tracker import Tracker
from throughway.service.sessions import sessions

ALICE, BOB = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11))
PEER = Peer(IPv4Address("203.0.113.9"))
OUTSIDE = IPv4Address("192.0.2.2")
GRE, L2TPV3, OTHER = 47, 115, 94
KEY = discriminators.of_gre(42)
ICRQ = 10


def told(*events: Event, received: dict[FlowKey, int] | None = None) -> list[Session]:
    tracker = Tracker()
    for at, event in enumerate(events):
        tracker.handle(event, 1000.0 + at)
    flows = {
        key: InstalledFlow((ALICE,), FlowCount(key, packets, 100 * packets, 1001.0), 1000.0)
        for key, packets in (received or {}).items()
    }
    return sessions(tracker, flows, (), (OUTSIDE,), 1010.0)


def test_gre_with_a_key() -> None:
    received = {FlowKey.to_inside(GRE, Path(PEER), KEY): 3, FlowKey.to_peer(GRE, ALICE, PEER, KEY): 4}
    (row,) = told(PortlessFromInside(ALICE, PEER, GRE, KEY), received=received)
    assert (row.device, row.protocol, row.peer) == (str(ALICE), "gre", str(PEER))
    assert row.discriminators_to_peer == row.discriminators_to_inside == ("key 0x2a",)
    assert (row.packets_to_inside, row.packets_to_peer, row.idle_s) == (3, 4, 9.0)
    assert (row.verdict, row.carried_by, row.reason) == (Verdict.CERTAIN, CarriedBy.BPF, "")
    assert row.address == str(OUTSIDE)


@pytest.mark.parametrize("protocol", [GRE, L2TPV3, OTHER])
def test_host_waits_until_something_comes_back(protocol: int) -> None:
    (row,) = told(PortlessFromInside(ALICE, PEER, protocol, 0))
    assert row.verdict is Verdict.WAITING
    assert row.protocol == discriminators.name_of(protocol)


def test_one_row_for_each_protocol_of_a_host_and_a_peer() -> None:
    rows = told(
        EspFromInside(ALICE, PEER, Spi(0x1000), 1),
        PortlessFromInside(ALICE, PEER, GRE, 0),
        PortlessFromInside(ALICE, PEER, GRE, KEY),
        PortlessFromInside(ALICE, PEER, L2TPV3, 9),
        PortlessFromInside(ALICE, PEER, OTHER, 0),
    )
    assert sorted(row.protocol for row in rows) == ["esp", "gre", "ip-94", "l2tpv3"]
    assert len({row.id for row in rows}) == 4


@pytest.mark.parametrize(
    ("protocol", "name", "words"),
    [
        (GRE, 0, "The device 192.168.1.10 has GRE without a key with this peer."),
        (GRE, KEY, "The device 192.168.1.10 has GRE with the same key with this peer."),
        (OTHER, 0, "The device 192.168.1.10 uses IP protocol 94 with this peer"),
    ],
)
def test_second_host_is_shown_as_refused_with_the_fact_and_the_remedy(protocol: int, name: int, words: str) -> None:
    rows = told(PortlessFromInside(ALICE, PEER, protocol, name), PortlessFromInside(BOB, PEER, protocol, name))
    (refused,) = [row for row in rows if row.verdict is Verdict.REFUSED]
    assert (refused.device, refused.age_s) == (str(BOB), 9.0)
    assert refused.reason.startswith(words)
    assert refused.reason.endswith(".")
    assert [row.device for row in rows if row.verdict is not Verdict.REFUSED] == [str(ALICE)]


def test_equal_session_id_is_shown_with_the_direction_it_belongs_to() -> None:
    message = L2tpControl(0, ICRQ, local_session_id=7)
    rows = told(L2tpControlSeen(ALICE, PEER, True, message), L2tpControlSeen(BOB, PEER, True, message))
    (refused,) = [row for row in rows if row.verdict is Verdict.REFUSED]
    assert (refused.discriminators_to_peer, refused.discriminators_to_inside) == ((), ("0x00000007",))


def test_ah_says_why_it_cannot_work() -> None:
    (row,) = told(AhFromInside(ALICE, PEER))
    assert (row.protocol, row.verdict) == ("ah", Verdict.REFUSED)
    assert "no NAT can carry it" in row.reason
