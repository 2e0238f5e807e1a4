"""Conversations about L2TP over IP at several outside addresses, and about IDs that are assigned again."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook
from throughway.core.commands import InstallMapping, Reinject
from throughway.core.events import (
    AdoptedFlow,
    FlowCount,
    L2tpControl,
    L2tpControlSeen,
    MappingsAdopted,
    OutsideAddressesChanged,
    PortlessFromInside,
    PortlessUnclaimed,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, Path, Peer
from throughway.core.limits import Limits

ALICE, BOB = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11))
PEER = Peer(IPv4Address("203.0.113.9"))
ADDRESSES = tuple(IPv4Address(f"192.0.2.{n}") for n in (2, 3))
ICRQ, DISCONNECT = 10, 14
LIMITS = Limits()


def out(host: Host, name: int) -> FlowKey:
    return FlowKey.to_peer(115, host, PEER, name)


def back(name: int, slot: int = 0) -> FlowKey:
    return FlowKey.to_inside(115, Path(PEER, slot), name)


def sends(host: Host, name: int, slot: int = 0) -> PortlessFromInside:
    return PortlessFromInside(host, PEER, 115, name, slot)


def assigns(host: Host, session: int, *, kind: int = ICRQ, slot: int = 0) -> L2tpControlSeen:
    return L2tpControlSeen(host, PEER, True, L2tpControl(0, kind, local_session_id=session), slot)


@pytest.fixture
def play() -> Playbook:
    """A gateway with two addresses."""
    return Playbook() >> OutsideAddressesChanged((), ADDRESSES, (0, 1))


def test_what_goes_out_already_is_given_out_again_from_its_own_address(play: Playbook) -> None:
    for slot, host in enumerate((ALICE, BOB)):
        for _ in range(2):
            key = out(host, 0xA1)
            play >> sends(host, 0xA1) << InstallMapping(key, host, slot) << Reinject(key)
            play.finish()
    assert play.tracker.mapping_count == 2


def test_the_router_has_sessions_at_each_of_its_addresses(play: Playbook) -> None:
    for slot in (0, 1):
        play >> assigns(ROUTER, 0xA2, slot=slot) << InstallMapping(back(0xA2, slot), ROUTER)
        play.finish()
    assert [play.tracker.owner(back(0xA2, slot)) for slot in (0, 1)] == [ROUTER, ROUTER]


def test_adopted_sessions_stay_at_their_addresses_with_their_hosts() -> None:
    play = Playbook()
    flows = [
        AdoptedFlow(key, (host,), FlowCount(key, 5, 500, 99_999.0), slot if key == out(host, 0xA1) else 0)
        for slot, host in enumerate((ALICE, BOB))
        for key in (out(host, 0xA1), back(0xA2, slot))
    ]
    (play >> MappingsAdopted(tuple(flows))).nothing()
    play >> OutsideAddressesChanged((), ADDRESSES, (0, 1))
    began_at = play.now
    play.now += 5
    rows = {row.host: (row.slot, row.to_peer, row.to_inside, row.first_at) for row in play.tracker.tunnels()}
    assert rows == {host: (slot, (0xA1,), (0xA2,), began_at) for slot, host in enumerate((ALICE, BOB))}
    for slot, host in enumerate((ALICE, BOB)):
        (play >> assigns(host, 0xA2)).nothing()
        key = back(0xA2, slot)
        play >> PortlessUnclaimed(Path(PEER, slot), 115, 0xA2) << InstallMapping(key, host) << Reinject(key)
    assert play.tracker.refusals() == []


def test_one_message_may_assign_a_connection_and_a_session() -> None:
    play = Playbook()
    both = L2tpControl(0, ICRQ, assigned_connection_id=0xA3, local_session_id=0xA2)
    play >> L2tpControlSeen(ALICE, PEER, True, both)
    play << InstallMapping(back(0xA2), ALICE) << InstallMapping(back(1 << 32 | 0xA3), ALICE)
    play.finish()


def test_a_session_that_its_host_assigns_again_has_not_ended() -> None:
    play = Playbook()
    for event in (assigns(ALICE, 0xA2), assigns(ALICE, 0xA2, kind=DISCONNECT), assigns(ALICE, 0xA2)):
        play >> event
    play.now += LIMITS.l2tpv3_turn_s + 1
    (play >> assigns(BOB, 0xA2)).nothing()
    assert play.tracker.owner(back(0xA2)) == ALICE


def test_what_the_peer_names_of_the_host_is_no_announcement() -> None:
    """It is the host's own session ID, which says nothing of what the host sends."""
    play = Playbook()
    play >> sends(ALICE, 0xA1)
    play >> L2tpControlSeen(BOB, PEER, False, L2tpControl(0, 11, remote_session_id=0xB1))
    (play >> sends(BOB, 0xB1)).nothing()
