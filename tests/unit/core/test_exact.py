"""Conversations about GRE and protocols without a discriminator: the first host has it, the second is told so."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook
from throughway.core import discriminators
from throughway.core.commands import InstallMapping, Record, Refuse, Reinject, RemoveMapping
from throughway.core.events import (
    AdoptedFlow,
    AhFromInside,
    CountersRead,
    FlowCount,
    MappingsAdopted,
    PortlessFromInside,
    PortlessUnclaimed,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, Path, Peer
from throughway.core.limits import Limits
from throughway.core.reasons import Reason

ALICE, BOB = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11))
PEER, OTHER_PEER = (Peer(IPv4Address(f"203.0.113.{n}")) for n in (9, 10))
GRE, ETHERIP, IPIP = 47, 97, 4
LIMITS = Limits()

NAMES = [(GRE, discriminators.of_gre(42)), (GRE, discriminators.of_gre(None)), (ETHERIP, 0)]
each_name = pytest.mark.parametrize(("protocol", "name"), NAMES, ids=["key", "no-key", "other"])


def out(host: Host, protocol: int, name: int, peer: Peer = PEER) -> FlowKey:
    return FlowKey.to_peer(protocol, host, peer, name)


def back(protocol: int, name: int, peer: Peer = PEER) -> FlowKey:
    return FlowKey.to_inside(protocol, Path(peer), name)


def begin(play: Playbook, host: Host, protocol: int, name: int) -> None:
    """Let a host send first, and be given both directions."""
    key, back_key = out(host, protocol, name), back(protocol, name)
    play >> PortlessFromInside(host, PEER, protocol, name)
    play << InstallMapping(back_key, host) << InstallMapping(key, host) << Reinject(key)


def counts(play: Playbook, at: float, *keys: FlowKey) -> CountersRead:
    return CountersRead(tuple(FlowCount(key, 1, 100, play.now if key in keys else at) for key in play.mappings))


@each_name
def test_what_a_host_sends_and_what_comes_back_is_its_own(play: Playbook, protocol: int, name: int) -> None:
    begin(play, ALICE, protocol, name)
    assert play.mappings == {out(ALICE, protocol, name): (ALICE,), back(protocol, name): (ALICE,)}
    assert play.tracker.mapping_count == 2
    assert play.tracker.owner(back(protocol, name)) == ALICE


@each_name
def test_second_host_is_refused_and_people_are_told(play: Playbook, protocol: int, name: int) -> None:
    begin(play, ALICE, protocol, name)
    before = dict(play.mappings)
    key = out(BOB, protocol, name)
    play >> PortlessFromInside(BOB, PEER, protocol, name) << Refuse(key, Reason.DISCRIMINATOR_TAKEN)
    assert play.mappings == before
    (refusal,) = play.tracker.refusals()
    assert (refusal.host, refusal.owner, refusal.reason) == (BOB, ALICE, Reason.DISCRIMINATOR_TAKEN)
    assert [tunnels.host for tunnels in play.tracker.tunnels()] == [ALICE]


def test_another_key_another_peer_another_protocol_are_free(play: Playbook) -> None:
    begin(play, ALICE, GRE, discriminators.of_gre(1))
    begin(play, BOB, GRE, discriminators.of_gre(2))
    begin(play, BOB, GRE, discriminators.of_gre(None))
    begin(play, BOB, IPIP, 0)
    play >> PortlessFromInside(BOB, OTHER_PEER, GRE, discriminators.of_gre(1))
    assert play.mappings[back(GRE, discriminators.of_gre(1), OTHER_PEER)] == (BOB,)
    rows = {(row.host, row.peer, row.protocol): row.to_peer for row in play.tracker.tunnels()}
    assert rows[BOB, PEER, GRE] == (discriminators.of_gre(2), discriminators.of_gre(None))
    assert len(rows) == 4


def test_what_nobody_asked_for_is_let_in_to_nobody(play: Playbook) -> None:
    key = back(GRE, 0)
    play >> PortlessUnclaimed(Path(PEER), GRE, 0) << Refuse(key, Reason.NO_CANDIDATE)
    begin(play, ALICE, GRE, discriminators.of_gre(5))
    play >> PortlessUnclaimed(Path(PEER), GRE, 0) << Refuse(key, Reason.NO_CANDIDATE)


def test_what_was_asked_about_meanwhile_goes_to_the_owner(play: Playbook) -> None:
    begin(play, ALICE, GRE, 0)
    play >> PortlessUnclaimed(Path(PEER), GRE, 0) << InstallMapping(back(GRE, 0), ALICE) << Reinject(back(GRE, 0))
    assert play.tracker.mapping_count == 2


def test_the_router_is_an_owner_like_any_host(play: Playbook) -> None:
    begin(play, ROUTER, GRE, 0)
    play >> PortlessFromInside(ALICE, PEER, GRE, 0) << Refuse(out(ALICE, GRE, 0), Reason.DISCRIMINATOR_TAKEN)


@pytest.mark.parametrize(("protocol", "idle_s"), [(GRE, LIMITS.gre_idle_s), (ETHERIP, LIMITS.portless_idle_s)])
def test_flow_that_is_idle_both_ways_is_forgotten_and_free(play: Playbook, protocol: int, idle_s: float) -> None:
    begin(play, ALICE, protocol, 0)
    began_at = play.now
    play >> PortlessFromInside(BOB, PEER, protocol, 0)
    play.wait_until(began_at + idle_s, lambda: counts(play, began_at))
    assert len(play.mappings) == 2
    play.wait_until(began_at + idle_s + 2 * LIMITS.sweep_every_s, lambda: counts(play, began_at))
    assert play.mappings == {}
    assert play.tracker.mapping_count == 0
    begin(play, BOB, protocol, 0)
    assert play.tracker.refusals() == []


def test_flow_in_use_one_way_is_kept(play: Playbook) -> None:
    begin(play, ALICE, GRE, 0)
    began_at = play.now
    play.wait_until(began_at + 2 * LIMITS.gre_idle_s, lambda: counts(play, began_at, back(GRE, 0)))
    assert len(play.mappings) == 2


def test_owner_that_left_gives_way_though_the_peer_still_sends(play: Playbook) -> None:
    begin(play, ALICE, GRE, 0)
    began_at = play.now
    play.wait_until(began_at + LIMITS.gre_idle_s + 1, lambda: counts(play, began_at, back(GRE, 0)))
    begin_keys = out(ALICE, GRE, 0), out(BOB, GRE, 0)
    play >> PortlessFromInside(BOB, PEER, GRE, 0)
    assert RemoveMapping(begin_keys[0]) in play.answer
    assert play.mappings == {begin_keys[1]: (BOB,), back(GRE, 0): (BOB,)}
    assert play.tracker.mapping_count == 2


def adopted(key: FlowKey, host: Host, at: float = 999.0) -> AdoptedFlow:
    return AdoptedFlow(key, (host,), FlowCount(key, 5, 500, at))


def test_adopted_flows_keep_their_owner(play: Playbook) -> None:
    flows = (adopted(out(ALICE, GRE, 0), ALICE), adopted(back(GRE, 0), ALICE))
    (play >> MappingsAdopted(flows)).nothing()
    assert play.tracker.mapping_count == 2
    play >> PortlessFromInside(BOB, PEER, GRE, 0) << Refuse(out(BOB, GRE, 0), Reason.DISCRIMINATOR_TAKEN)


def test_owner_is_told_by_the_adopted_mapping_to_the_inside(play: Playbook) -> None:
    play >> MappingsAdopted((adopted(out(BOB, GRE, 0), BOB), adopted(back(GRE, 0), ALICE)))
    play << RemoveMapping(out(BOB, GRE, 0))
    assert play.tracker.owner(back(GRE, 0)) == ALICE
    assert play.tracker.mapping_count == 1
    begin(play, ALICE, GRE, 0)
    assert play.tracker.mapping_count == 2


def test_one_host_has_a_bounded_number_of_keys_to_one_peer() -> None:
    play = Playbook(Limits(spis_per_host_and_peer_max=4))
    for key in range(20):
        play >> PortlessFromInside(ALICE, PEER, GRE, discriminators.of_gre(key))
        assert play.tracker.mapping_count == len(play.mappings)
    assert len(play.mappings) == 8
    assert play.tracker.owner(back(GRE, discriminators.of_gre(19))) == ALICE


def test_one_host_has_a_bounded_number_of_peers() -> None:
    play = Playbook(Limits(peers_per_host_max=3))
    for n in range(10):
        play >> PortlessFromInside(ALICE, Peer(IPv4Address("192.0.2.0") + n), GRE, 0)
    assert len(play.mappings) == 6 == play.tracker.mapping_count


@pytest.mark.parametrize("limits", [{"mappings_max": 9}, {"hosts_per_peer_max": 4}, {"relations_max": 4}], ids=str)
def test_what_does_not_fit_is_refused(limits: dict[str, int]) -> None:
    play = Playbook(Limits(**limits))
    for n in range(10):
        play >> PortlessFromInside(Host(IPv4Address("192.168.2.0") + n), PEER, GRE, discriminators.of_gre(n))
    assert len(play.mappings) == 8 == play.tracker.mapping_count
    assert any(isinstance(command, Refuse) and command.reason is Reason.REFUSED for command in play.answer)


def test_ah_is_noted_once_and_shown(play: Playbook) -> None:
    assert Record("ah.refused", {"host": str(ALICE), "peer": str(PEER)}) in (play >> AhFromInside(ALICE, PEER)).answer
    play.now += 1
    assert not any(isinstance(command, Record) for command in (play >> AhFromInside(ALICE, PEER)).answer)
    (refusal,) = play.tracker.refusals()
    assert (refusal.protocol, refusal.reason, refusal.owner) == (51, Reason.AH_REFUSED, None)
    assert refusal.last_at - refusal.first_at == 1
    play.wait_until(play.now + LIMITS.refusal_shown_s + 2 * LIMITS.sweep_every_s)
    assert play.tracker.refusals() == []


def test_refusals_are_bounded_for_each_host_and_in_total() -> None:
    play = Playbook(Limits(refusals_max=10, refusals_per_host_max=4))
    play >> AhFromInside(BOB, PEER)
    for n in range(100):
        play >> AhFromInside(ALICE, Peer(IPv4Address("192.0.2.0") + n))
    assert sorted({refusal.host for refusal in play.tracker.refusals()}) == [ALICE, BOB]
    assert len(play.tracker.refusals()) == 5
    for n in range(100):
        play >> AhFromInside(Host(IPv4Address("10.0.0.0") + n), PEER)
    assert len(play.tracker.refusals()) == 10
