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
    EspFromInside,
    FlowCount,
    MappingsAdopted,
    PortlessFromInside,
    PortlessUnclaimed,
    TimerExpired,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.core.tunnels import Refusal, Tunnels

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
    play >> PortlessUnclaimed(Path(PEER), GRE, 0) << Refuse(key, Reason.NO_CANDIDATE, "peer.unknown")
    begin(play, ALICE, GRE, discriminators.of_gre(5))
    play >> PortlessUnclaimed(Path(PEER), GRE, 0) << Refuse(key, Reason.NO_CANDIDATE)


@each_name
def test_what_was_asked_about_meanwhile_goes_to_the_owner(play: Playbook, protocol: int, name: int) -> None:
    begin(play, ALICE, protocol, name)
    key = back(protocol, name)
    play >> PortlessUnclaimed(Path(PEER), protocol, name) << InstallMapping(key, ALICE) << Reinject(key)
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


def test_owner_keeps_what_it_sends_with_and_gives_way_by_the_limit_of_its_protocol(play: Playbook) -> None:
    """GRE lives longer than other protocols without ports, and what the counters say of its owner counts."""
    assert LIMITS.gre_idle_s > LIMITS.portless_idle_s
    begin(play, ALICE, GRE, 0)
    play.now += LIMITS.portless_idle_s + 1
    play >> PortlessFromInside(BOB, PEER, GRE, 0) << Refuse(out(BOB, GRE, 0), Reason.DISCRIMINATOR_TAKEN)
    play >> CountersRead((FlowCount(out(ALICE, GRE, 0), 2, 200, play.now),))
    play.now += LIMITS.gre_idle_s
    play >> PortlessFromInside(BOB, PEER, GRE, 0) << Refuse(out(BOB, GRE, 0), Reason.DISCRIMINATOR_TAKEN)
    assert len(play.tracker.refusals()) == 1
    play.now += 1
    play >> PortlessFromInside(BOB, PEER, GRE, 0)
    assert play.mappings == {out(BOB, GRE, 0): (BOB,), back(GRE, 0): (BOB,)}
    assert play.tracker.refusals() == [], "what it has now is not refused any more"


def test_counters_of_flows_that_are_unknown_leave_the_others_theirs(play: Playbook) -> None:
    begin(play, ALICE, GRE, 0)
    unknown = back(GRE, discriminators.of_gre(3)), back(GRE, 0, OTHER_PEER), out(BOB, GRE, 0)
    play.now += LIMITS.gre_idle_s
    counts_now = [FlowCount(key, 1, 100, play.now) for key in (*unknown, back(GRE, 0))]
    (play >> CountersRead(tuple(counts_now))).nothing()
    play.now += LIMITS.sweep_every_s
    play >> TimerExpired()
    assert len(play.mappings) == 2


def test_counters_of_what_another_host_sends_do_not_keep_it_with_its_owner(play: Playbook) -> None:
    begin(play, ALICE, GRE, 0)
    begin(play, BOB, IPIP, 0)
    play.now += LIMITS.gre_idle_s + 1
    play >> CountersRead((FlowCount(out(BOB, GRE, 0), 2, 200, play.now),))
    play >> PortlessFromInside(BOB, PEER, GRE, 0)
    assert play.tracker.owner(back(GRE, 0)) == BOB


def test_counters_of_the_router_count_at_each_of_its_addresses(play: Playbook) -> None:
    """What it sends names no address of ours, so a flow of it is looked for at all that it has."""
    play >> PortlessFromInside(ROUTER, PEER, IPIP, 0, slot=0)
    play >> PortlessFromInside(ROUTER, PEER, GRE, 0, slot=1)
    play.now += LIMITS.gre_idle_s
    play >> CountersRead((FlowCount(out(ROUTER, GRE, 0), 2, 200, play.now),))
    play.now += LIMITS.sweep_every_s
    play >> TimerExpired()
    assert set(play.mappings) == {out(ROUTER, GRE, 0), FlowKey.to_inside(GRE, Path(PEER, 1), 0)}


def test_what_other_hosts_have_with_a_peer_stays_when_one_is_forgotten() -> None:
    play = Playbook(Limits(peers_per_host_max=1))
    begin(play, ALICE, GRE, 0)
    play >> EspFromInside(BOB, PEER, Spi(0xB0000001), 1)
    play >> PortlessFromInside(BOB, OTHER_PEER, GRE, 0)
    assert {key.host for key in play.mappings if key.peer == PEER} == {ALICE, ROUTER}
    assert play.tracker.mapping_count == len(play.mappings) == 4


def test_counters_of_what_the_peer_sends_do_not_make_its_owner_one_that_sends(play: Playbook) -> None:
    begin(play, ALICE, GRE, 0)
    play.now += LIMITS.gre_idle_s + 1
    play >> CountersRead((FlowCount(back(GRE, 0), 2, 200, play.now),))
    play >> PortlessFromInside(BOB, PEER, GRE, 0)
    assert play.mappings == {out(BOB, GRE, 0): (BOB,), back(GRE, 0): (BOB,)}


@pytest.mark.parametrize("sign", ["packet", "counter"])
def test_a_peer_that_a_host_goes_on_sending_to_is_not_the_one_to_forget(sign: str) -> None:
    play = Playbook(Limits(peers_per_host_max=2))
    third = Peer(IPv4Address("203.0.113.11"))
    for peer in (PEER, OTHER_PEER):
        play.now += 1
        play >> PortlessFromInside(ALICE, peer, GRE, 0)
    play.now += 1
    if sign == "packet":
        play >> PortlessFromInside(ALICE, PEER, GRE, 0)
    else:
        play >> CountersRead((FlowCount(out(ALICE, GRE, 0), 2, 200, play.now),))
    play >> PortlessFromInside(ALICE, third, GRE, 0)
    assert {key.peer for key in play.mappings} == {PEER, third}


def test_what_is_installed_and_what_is_taken_are_told_in_words(play: Playbook) -> None:
    name = discriminators.of_gre(0x2A)
    play >> PortlessFromInside(ALICE, PEER, GRE, name)
    fields: dict[str, object] = {"protocol": "gre", "peer": str(PEER), "host": str(ALICE), "discriminator": "key 0x2a"}
    assert Record("flow.installed", fields) in play.answer
    play >> PortlessFromInside(BOB, PEER, GRE, name)
    play << Refuse(out(BOB, GRE, name), Reason.DISCRIMINATOR_TAKEN, "discriminator.taken")
    assert play.tracker.refusals() == [
        Refusal(BOB, PEER, GRE, name, Reason.DISCRIMINATOR_TAKEN, ALICE, play.now, play.now)
    ]


def test_people_see_a_row_for_each_host_and_protocol(play: Playbook) -> None:
    began_at = play.now
    first, second = (discriminators.of_gre(key) for key in (1, 2))
    begin(play, ALICE, GRE, first)
    play.now += 5
    begin(play, ALICE, GRE, second)
    begin(play, ALICE, IPIP, 0)
    assert list(play.tracker.tunnels()) == [
        Tunnels(ALICE, PEER, IPIP, (0,), (0,), contested=(), rivals=1, first_at=play.now),
        Tunnels(ALICE, PEER, GRE, (first, second), (first, second), contested=(), rivals=1, first_at=began_at),
    ]


def adopted(key: FlowKey, host: Host, at: float = 99_999.0) -> AdoptedFlow:
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


def test_adopted_owner_that_has_not_sent_yet_needs_room_for_that() -> None:
    play = Playbook(Limits(mappings_max=2))
    play >> MappingsAdopted((adopted(back(GRE, 0), ALICE), adopted(back(IPIP, 0), ALICE)))
    play >> PortlessFromInside(ALICE, PEER, GRE, 0) << Refuse(out(ALICE, GRE, 0), Reason.REFUSED, "mappings.limit")
    play.finish()
    assert play.tracker.mapping_count == 2


@pytest.mark.parametrize("is_whole", [True, False], ids=["both-ways", "to-the-inside"])
def test_adopted_owner_that_sends_on_has_both_directions_once(play: Playbook, is_whole: bool) -> None:
    flows = (adopted(back(GRE, 0), ALICE), adopted(out(ALICE, GRE, 0), ALICE))
    play >> MappingsAdopted(flows if is_whole else flows[:1])
    assert [row.first_at for row in play.tracker.tunnels()] == [play.now]
    for _ in range(2):
        begin(play, ALICE, GRE, 0)
        assert play.tracker.mapping_count == 2
    play.now += LIMITS.gre_idle_s + LIMITS.sweep_every_s
    play >> TimerExpired() << RemoveMapping(back(GRE, 0)) << RemoveMapping(out(ALICE, GRE, 0))
    play.finish()
    assert play.tracker.mapping_count == 0


def test_adopted_flows_that_are_idle_are_forgotten(play: Playbook) -> None:
    at = play.now - LIMITS.gre_idle_s
    play >> MappingsAdopted((adopted(back(GRE, 0), ALICE, at), adopted(out(ALICE, GRE, 0), ALICE, at - 10)))
    play >> PortlessFromInside(BOB, PEER, IPIP, 0)
    play.now += LIMITS.sweep_every_s
    play >> TimerExpired() << RemoveMapping(back(GRE, 0)) << RemoveMapping(out(ALICE, GRE, 0))
    play.finish()
    assert play.tracker.mapping_count == 2


def test_adopted_owner_that_has_not_sent_yet_is_no_less_an_owner(play: Playbook) -> None:
    play >> MappingsAdopted((adopted(back(GRE, 0), ALICE),))
    play >> PortlessFromInside(BOB, PEER, GRE, 0) << Refuse(out(BOB, GRE, 0), Reason.DISCRIMINATOR_TAKEN)


def test_adopted_owner_that_sent_last_long_ago_gives_way(play: Playbook) -> None:
    play >> MappingsAdopted((adopted(back(GRE, 0), ALICE), adopted(out(ALICE, GRE, 0), ALICE, at=10.0)))
    play.now += 1
    begin_again = play >> PortlessFromInside(BOB, PEER, GRE, 0)
    begin_again << RemoveMapping(out(ALICE, GRE, 0)) << RemoveMapping(back(GRE, 0))
    begin_again << InstallMapping(back(GRE, 0), BOB) << InstallMapping(out(BOB, GRE, 0), BOB)
    begin_again << Reinject(out(BOB, GRE, 0))


def test_adopted_mappings_without_one_owner_are_removed(play: Playbook) -> None:
    """Nothing here is ever fanned out, and of two hosts neither is known to have it."""
    key = back(GRE, 0)
    both = AdoptedFlow(key, (ALICE, BOB), FlowCount(key, 5, 500, 99_999.0))
    play >> MappingsAdopted((both,)) << RemoveMapping(key)
    play.finish()
    assert play.tracker.mapping_count == 0
    begin(play, BOB, GRE, 0)


def test_the_least_recently_used_key_of_a_host_makes_room() -> None:
    play = Playbook(Limits(spis_per_host_and_peer_max=2))
    keys = [discriminators.of_gre(number) for number in (3, 2, 1)]
    for name in keys[:2]:
        play.now += 1
        play >> PortlessFromInside(ALICE, PEER, GRE, name)
    play >> PortlessFromInside(ALICE, PEER, GRE, keys[2])
    assert {key.discriminator for key in play.mappings} == set(keys[1:])


def test_one_peer_has_a_bounded_number_of_flows_to_the_last_one() -> None:
    play = Playbook(Limits(spis_per_peer_max=2))
    begin(play, ALICE, GRE, 0)
    begin(play, ALICE, IPIP, 0)
    play >> PortlessFromInside(BOB, PEER, ETHERIP, 0) << Refuse(out(BOB, ETHERIP, 0), Reason.REFUSED, "mappings.limit")
    play.finish()
    assert play.tracker.addresses.paths(BOB, PEER) == [], "a host that was refused is not known"


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


@pytest.mark.parametrize(
    ("limits", "cause"),
    [
        ({"mappings_max": 9}, "mappings.limit"),
        ({"hosts_per_peer_max": 4}, "hosts.limit"),
        ({"relations_max": 4}, "hosts.limit"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(limits: dict[str, int], cause: str) -> None:
    play = Playbook(Limits(**limits))
    for n in range(10):
        play >> PortlessFromInside(Host(IPv4Address("192.168.2.0") + n), PEER, GRE, discriminators.of_gre(n))
    assert len(play.mappings) == 8 == play.tracker.mapping_count
    last = out(Host(IPv4Address("192.168.2.9")), GRE, discriminators.of_gre(9))
    play << Refuse(last, Reason.REFUSED, cause)
    play.finish()


def test_ah_is_noted_once_and_shown(play: Playbook) -> None:
    assert Record("ah.refused", {"host": str(ALICE), "peer": str(PEER)}) in (play >> AhFromInside(ALICE, PEER)).answer
    play.now += 1
    assert not any(isinstance(command, Record) for command in (play >> AhFromInside(ALICE, PEER)).answer)
    assert play.tracker.refusals() == [
        Refusal(ALICE, PEER, 51, 0, Reason.AH_REFUSED, None, first_at=play.now - 1, last_at=play.now)
    ]
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
