"""Conversations about ESP at its bounds, what people see of it, what is traced, and what an earlier run left."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook, ike, ikev2_child, ikev2_start, to_inside, to_peer
from throughway.core import deciding
from throughway.core.commands import FanOut, InstallMapping, Record, Refuse, Reinject, RemoveMapping, Trace, Untrace
from throughway.core.events import (
    AdoptedFlow,
    CountersRead,
    EspFromInside,
    EspUnclaimed,
    Event,
    FlowCount,
    HostDisowned,
    IkeExchange,
    MappingsAdopted,
    OutsideAddressesChanged,
    PortlessFromInside,
    RefusalKind,
    RouterSaAdded,
    RouterSaDeleted,
    TimerExpired,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.core.tunnels import Tunnels
from throughway.core.verdicts import Basis, Certain, Contested

ALICE, BOB, CAROL = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11, 12))
PEER, OTHER = (Peer(IPv4Address(f"203.0.113.{n}")) for n in (9, 10))
PATH = Path(PEER)
OUT_A, OUT_B, OUT_C = Spi(0xA0000001), Spi(0xB0000001), Spi(0xC0000001)
IN_1, IN_2, IN_3 = Spi(0x11111111), Spi(0x22222222), Spi(0x33333333)
OLD = 5000
"""A sequence number of a security association that began before our watch."""
LIMITS = Limits()


def tell(play: Playbook, *events: Event) -> None:
    for event in events:
        play >> event


def counters(at: float, *keys: FlowKey) -> CountersRead:
    return CountersRead(tuple(FlowCount(key, 2, 200, at) for key in keys))


# What people see


def test_people_see_a_row_for_each_host_with_what_is_its_own_and_what_is_contested(play: Playbook) -> None:
    began_at = play.now
    tell(play, *ikev2_start(ALICE, PEER, 0xA), EspFromInside(ALICE, PEER, OUT_A, 1), EspUnclaimed(PATH, IN_1, 1))
    play.now += 5
    tell(play, *ikev2_child(ALICE, PEER, 0xA, 2), *ikev2_start(BOB, PEER, 0xB), *ikev2_start(CAROL, PEER, 0xC))
    play.now += 5
    tell(play, EspUnclaimed(PATH, IN_2, 1), EspUnclaimed(PATH, IN_3, 1))
    play >> HostDisowned(CAROL, PEER, IN_3, RefusalKind.INVALID_SPI)
    play.now += 5
    tell(play, EspFromInside(BOB, PEER, OUT_B, 1))
    rows = list(play.tracker.tunnels())
    alices = Tunnels(ALICE, PEER, IpProtocol.ESP, (OUT_A,), (IN_1,), (IN_2, IN_3), rivals=3, first_at=began_at)
    bobs = Tunnels(BOB, PEER, IpProtocol.ESP, (OUT_B,), (), (IN_2, IN_3), rivals=3, first_at=play.now)
    assert rows == [alices, bobs], "Carol has none that is known to be hers"


def test_people_see_no_rivals_where_nothing_is_contested(play: Playbook) -> None:
    tell(play, EspFromInside(ROUTER, PEER, OUT_A, 1, 1))
    assert list(play.tracker.tunnels()) == [
        Tunnels(ROUTER, PEER, IpProtocol.ESP, (OUT_A,), (), (), rivals=1, first_at=play.now, slot=1)
    ]
    tell(play, EspUnclaimed(Path(PEER, 1), IN_1, 1))
    (row,) = play.tracker.tunnels()
    assert (row.to_inside, row.contested, row.rivals) == ((IN_1,), (), 1)
    assert list(play.tracker.bindings()) == [(Path(PEER, 1), IN_1, Certain(ROUTER, Basis.ONLY_HOST))]


def test_decisions_are_told_in_words(play: Playbook) -> None:
    named: dict[str, object] = {"protocol": "esp", "peer": str(PEER), "spi_to_inside": "0x11111111"}
    tell(play, *ikev2_start(ALICE, PEER, 0xA), *ikev2_start(BOB, PEER, 0xB), EspUnclaimed(PATH, IN_1, 1))
    contested = Record("mapping.contested", {**named, "hosts": [str(ALICE), str(BOB)], "candidates": 2})
    assert contested in play.answer
    play >> HostDisowned(ALICE, PEER, IN_1, RefusalKind.INVALID_SPI)
    assert Record("mapping.installed", {**named, "host": str(BOB), "basis": "disowned"}) in play.answer


# Bounds


def test_the_least_recently_used_spi_of_a_host_makes_room() -> None:
    play = Playbook(Limits(spis_per_host_and_peer_max=2))
    tell(play, EspFromInside(ALICE, PEER, Spi(0xF000), 1))
    play.now += 1
    tell(play, EspFromInside(ALICE, PEER, Spi(0x1000), 1))
    play >> EspFromInside(ALICE, PEER, Spi(0x2000), 1) << RemoveMapping(to_peer(ALICE, PEER, 0xF000))
    play << InstallMapping(key := to_peer(ALICE, PEER, 0x2000), ALICE) << Reinject(key)
    play.finish()


def test_what_does_not_fit_is_refused_with_its_cause() -> None:
    play = Playbook(Limits(mappings_max=2, hosts_per_peer_max=1))
    tell(play, EspFromInside(ALICE, PEER, OUT_A, 1))
    play >> EspFromInside(BOB, PEER, OUT_B, 1) << Refuse(to_peer(BOB, PEER, OUT_B), Reason.REFUSED, "hosts.limit")
    tell(play, EspUnclaimed(PATH, IN_1, 1))
    play >> EspUnclaimed(PATH, IN_2, 1) << Refuse(to_inside(PEER, IN_2), Reason.REFUSED, "mappings.limit")
    key = to_peer(ALICE, PEER, OUT_B)
    play >> EspFromInside(ALICE, PEER, OUT_B, 1) << Refuse(key, Reason.REFUSED, "mappings.limit")
    play >> EspUnclaimed(Path(OTHER), IN_1, 1)
    play << Refuse(to_inside(OTHER, IN_1), Reason.NO_CANDIDATE, "peer.unknown")
    play.finish()
    assert play.tracker.mapping_count == 2


def test_one_peer_has_a_bounded_number_of_spis_to_the_last_one() -> None:
    play = Playbook(Limits(spis_per_peer_max=2))
    tell(play, EspFromInside(ALICE, PEER, OUT_A, 1), EspUnclaimed(PATH, IN_1, 1), EspUnclaimed(PATH, IN_2, 1))
    play >> EspUnclaimed(PATH, IN_3, 1) << Refuse(to_inside(PEER, IN_3), Reason.REFUSED, "mappings.limit")
    play.finish()


def test_what_credits_give_one_host_is_bounded_and_what_is_in_use_stays() -> None:
    """Alice has a credit for all that somebody outside forges; Bob's tunnel is none of it."""
    play = Playbook(Limits(spis_per_host_and_peer_max=2))
    tell(play, *ikev2_start(BOB, PEER, 0xB), EspUnclaimed(PATH, IN_2, 1), *ikev2_start(ALICE, PEER, 0xA))
    tell(play, *(message for number in range(2, 8) for message in ikev2_child(ALICE, PEER, 0xA, number)))
    tell(play, EspUnclaimed(PATH, IN_1, 1))
    for _ in range(2):
        play.now += LIMITS.counters_every_s
        tell(play, counters(play.now, to_inside(PEER, IN_1)))
    for number in range(4):
        play.now += 1
        tell(play, EspUnclaimed(PATH, Spi(0x10000 + number), 1))
    assert set(play.mappings) == {to_inside(PEER, spi) for spi in (IN_1, IN_2, 0x10003)}
    assert play.tracker.mapping_count == 3
    assert play.tracker.verdict(PATH, Spi(0x10003)) == Certain(ALICE, Basis.CREDIT)


def test_a_peer_with_hosts_of_which_none_may_receive_esp_is_refused(play: Playbook) -> None:
    tell(play, *ike(ALICE, PEER, 0xA, IkeExchange.FIRST_CHILD, 1, "><", floated=True))
    play >> EspUnclaimed(PATH, IN_1, OLD) << Refuse(to_inside(PEER, IN_1), Reason.NO_CANDIDATE, "peer.unknown")
    play.finish()


# Packets that come again


@pytest.mark.parametrize("hosts", [(ALICE,), (ALICE, BOB), (ALICE, BOB, CAROL)], ids=len)
def test_an_spi_that_was_decided_is_given_out_again_as_it_was(play: Playbook, hosts: tuple[Host, ...]) -> None:
    """Its packet was under way to the tracker when the mapping was installed."""
    for number, host in enumerate(hosts):
        tell(play, *ikev2_start(host, PEER, 0xA + number))
    tell(play, EspUnclaimed(PATH, IN_1, 1))
    key = to_inside(PEER, IN_1)
    play >> EspUnclaimed(PATH, IN_1, 2) << (InstallMapping(key, ALICE) if len(hosts) == 1 else FanOut(key, hosts))
    play << Reinject(key)
    play.finish()
    assert play.tracker.mapping_count == 1


@pytest.mark.parametrize(("sequence", "is_contested"), [(LIMITS.new_sa_sequence_max, False), (OLD, True)])
def test_what_a_host_sends_counts_as_new_by_its_sequence_number(
    play: Playbook, sequence: int, is_contested: bool
) -> None:
    """Bob's exchange explains a new one; an old one shows that he may own more."""
    tell(play, *ikev2_start(ALICE, PEER, 0xA), *ikev2_start(BOB, PEER, 0xB))
    tell(play, EspUnclaimed(PATH, IN_1, 1), HostDisowned(ALICE, PEER, IN_1, RefusalKind.INVALID_SPI))
    tell(play, EspFromInside(BOB, PEER, OUT_B, sequence), EspUnclaimed(PATH, IN_2, 1))
    assert play.candidates(PEER, IN_2) == ({ALICE, BOB} if is_contested else {ALICE})


def test_a_host_met_by_what_it_sends_may_own_what_nothing_announced(play: Playbook) -> None:
    tell(play, EspFromInside(ALICE, PEER, OUT_A, 1), *ikev2_start(BOB, PEER, 0xB))
    tell(play, EspUnclaimed(PATH, IN_1, 1), EspUnclaimed(PATH, IN_2, 1), EspUnclaimed(PATH, IN_3, 1))
    assert ALICE in play.candidates(PEER, IN_3)
    assert play.candidates(PEER, IN_1) == {ALICE, BOB}


def test_many_rounds_of_the_first_exchange_beside_a_child_with_an_odd_number_are_two(play: Playbook) -> None:
    """The number of a first exchange is nothing that could be taken for a child's."""
    tell(play, *ike(ALICE, PEER, 0xA, IkeExchange.INITIAL, 0, "><"))
    for number in (1, 2, 3):
        tell(play, *ike(ALICE, PEER, 0xA, IkeExchange.FIRST_CHILD, number, "><"))
    tell(play, *ikev2_child(ALICE, PEER, 0xA, 1))
    bases = []
    for spi in (IN_1, IN_2, IN_3):
        tell(play, EspUnclaimed(PATH, spi, 1))
        verdict = play.tracker.verdict(PATH, spi)
        assert isinstance(verdict, Certain)
        bases.append(verdict.basis)
    assert bases == [Basis.CREDIT, Basis.CREDIT, Basis.ONLY_HOST]


# Forgetting


def test_all_that_a_host_sent_with_is_removed_with_it() -> None:
    play = Playbook(Limits(peers_per_host_max=1))
    tell(play, *ikev2_start(ALICE, PEER, 0xA), EspFromInside(ALICE, PEER, OUT_A, 1), EspUnclaimed(PATH, IN_1, 1))
    tell(play, EspFromInside(ALICE, PEER, OUT_B, 1), *ikev2_start(BOB, PEER, 0xB), EspUnclaimed(PATH, IN_2, 1))
    assert play.candidates(PEER, IN_2) == {ALICE, BOB}
    play >> EspFromInside(ALICE, OTHER, OUT_A, 1)
    play << RemoveMapping(to_peer(ALICE, PEER, OUT_A)) << RemoveMapping(to_peer(ALICE, PEER, OUT_B))
    play << RemoveMapping(to_inside(PEER, IN_1)) << InstallMapping(to_inside(PEER, IN_2), BOB)
    play << InstallMapping(key := to_peer(ALICE, OTHER, OUT_A), ALICE) << Reinject(key)
    play.finish()
    assert play.tracker.mapping_count == len(play.mappings) == 2


def test_a_forgotten_host_is_no_candidate_any_more() -> None:
    play = Playbook(Limits(peers_per_host_max=1))
    tell(play, *ikev2_start(ALICE, PEER, 0xA), *ikev2_start(BOB, PEER, 0xB), *ikev2_start(ALICE, OTHER, 0xA))
    tell(play, EspUnclaimed(PATH, IN_1, 1))
    assert play.candidates(PEER, IN_1) == {BOB}


def test_what_is_idle_of_many_hosts_is_forgotten_at_once(play: Playbook) -> None:
    """A mapping for its time without packets, a host for its own."""
    for number, host in enumerate((ALICE, BOB)):
        tell(play, *ikev2_start(host, PEER, 0xA + number), EspFromInside(host, PEER, Spi(OUT_A + number), 1))
        tell(play, EspUnclaimed(PATH, Spi(IN_1 + number), 1))
    assert len(play.mappings) == 4
    keys = list(play.mappings)
    play.now += LIMITS.esp_idle_s
    play >> TimerExpired()
    assert len(play.mappings) == 4, "so long it may be idle"
    play.now += LIMITS.sweep_every_s
    play >> TimerExpired()
    for key in keys:
        play << RemoveMapping(key)
    play.finish()
    assert play.tracker.mapping_count == 0
    play.now += LIMITS.candidate_idle_s
    play >> TimerExpired()
    play >> EspUnclaimed(PATH, IN_1, 9) << Refuse(to_inside(PEER, IN_1), Reason.NO_CANDIDATE, "peer.unknown")
    play.finish()


def test_a_contest_that_fell_idle_is_decided_no_more(play: Playbook) -> None:
    tell(play, *ikev2_start(ALICE, PEER, 0xA), *ikev2_start(BOB, PEER, 0xB), EspUnclaimed(PATH, IN_1, 1))
    play.now += LIMITS.esp_idle_s + LIMITS.sweep_every_s
    play >> TimerExpired() << RemoveMapping(to_inside(PEER, IN_1))
    assert not any(isinstance(command, Untrace) for command in play.answer), "its trace went with it"
    tell(play, EspUnclaimed(PATH, IN_2, 1))
    play >> HostDisowned(ALICE, PEER, IN_2, RefusalKind.INVALID_SPI) << InstallMapping(to_inside(PEER, IN_2), BOB)
    play.finish()


def test_of_a_hosts_idle_spis_the_latest_are_remembered(play: Playbook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A remembered one is given to its host, another one is new to all of them."""
    monkeypatch.setattr(deciding, "DORMANT_MAX", 2)
    tell(play, *ikev2_start(ALICE, PEER, 0xA), *ikev2_child(ALICE, PEER, 0xA, 2), *ikev2_child(ALICE, PEER, 0xA, 3))
    for spi in (IN_1, IN_2, IN_3):
        tell(play, EspUnclaimed(PATH, spi, 1))
        play.now += 1
    play.now += LIMITS.esp_idle_s + LIMITS.sweep_every_s
    play >> TimerExpired()
    assert play.mappings == {}
    tell(play, *ikev2_start(BOB, PEER, 0xB))
    for spi, hosts in ((IN_3, {ALICE}), (IN_2, {ALICE}), (IN_1, {BOB})):
        tell(play, EspUnclaimed(PATH, spi, 1))
        assert play.candidates(PEER, spi) == hosts


def test_many_contests_that_ended_leave_room_for_others() -> None:
    """Above the bound of contests an SPI counts as not announced, and goes to hosts without a credit, too."""
    play = Playbook(Limits(contested_spis_per_peer_max=1))
    tell(play, *ike(CAROL, PEER, 0xC, IkeExchange.INITIAL, 0, "><"))
    for number in range(4):
        for host, ike_sa in ((ALICE, 0xA0), (BOB, 0xB0)):
            tell(play, *ikev2_start(host, PEER, ike_sa + number))
        spis = [Spi(0x1000 + number), Spi(0x2000 + number)]
        tell(play, EspUnclaimed(PATH, spis[0], 1))
        assert play.candidates(PEER, spis[0]) == {ALICE, BOB}
        play >> HostDisowned(ALICE, PEER, spis[0], RefusalKind.INVALID_SPI)
        tell(play, EspUnclaimed(PATH, spis[1], 1))
        assert play.candidates(PEER, spis[1]) == {ALICE}


def test_an_exchange_that_is_given_up_ends_the_contest_that_it_was_in(play: Playbook) -> None:
    tell(play, *ikev2_start(ALICE, PEER, 0xA), *ike(BOB, PEER, 0xB, IkeExchange.INITIAL, 0, "><"))
    tell(play, *ike(BOB, PEER, 0xB, IkeExchange.FIRST_CHILD, 1, ">>>"), EspUnclaimed(PATH, IN_1, 1))
    assert play.candidates(PEER, IN_1) == {ALICE, BOB}
    play.now += LIMITS.exchange_unanswered_s + 1
    play >> TimerExpired() << InstallMapping(to_inside(PEER, IN_1), ALICE)
    play.finish()


def test_idle_mappings_and_idle_hosts_are_forgotten_at_one_moment(play: Playbook) -> None:
    tell(play, *ikev2_start(BOB, PEER, 0xB))
    play.now += LIMITS.candidate_idle_s - LIMITS.esp_idle_s
    tell(play, EspFromInside(ALICE, PEER, OUT_A, 1))
    play.now += LIMITS.esp_idle_s + 1
    play >> TimerExpired() << RemoveMapping(to_peer(ALICE, PEER, OUT_A))
    play.finish()
    assert play.tracker.addresses.hosts_at(PATH) == [ALICE]


def test_of_three_hosts_in_a_contest_two_are_left_when_one_is_forgotten() -> None:
    play = Playbook(Limits(peers_per_host_max=1))
    for number, host in enumerate((ALICE, BOB, CAROL)):
        tell(play, *ikev2_start(host, PEER, 0xA + number))
    tell(play, EspUnclaimed(PATH, IN_1, 1))
    tell(play, *ikev2_start(CAROL, OTHER, 0xC)[:1])
    assert play.candidates(PEER, IN_1) == {ALICE, BOB}
    assert play.mappings == {to_inside(PEER, IN_1): (ALICE, BOB)}


# Counters


def test_counters_that_stand_still_show_no_use() -> None:
    """Read again and again, they say no more than once; a flood pushes out what was not used since."""
    play = Playbook(Limits(uncredited_spis_per_peer_max=2, uncredited_spis_per_host=1))
    tell(play, EspFromInside(ALICE, PEER, OUT_A, OLD), EspUnclaimed(PATH, IN_1, OLD))
    play.now += 1
    at = play.now
    for _ in range(4):
        play.now += LIMITS.counters_every_s
        tell(play, counters(at, to_inside(PEER, IN_1)))
    for number in range(2):
        tell(play, EspUnclaimed(PATH, Spi(0x10000 + number), OLD))
    assert play.candidates(PEER, IN_1) == set()


def test_what_a_host_sends_keeps_its_peer_from_making_room() -> None:
    play = Playbook(Limits(peers_per_host_max=2))
    for peer in (PEER, OTHER):
        play.now += 1
        tell(play, EspFromInside(ALICE, peer, OUT_A, 1))
    play.now += 1
    tell(play, counters(play.now, to_peer(ALICE, PEER, OUT_A)))
    tell(play, EspFromInside(ALICE, Peer(IPv4Address("203.0.113.11")), OUT_A, 1))
    assert {int(key.peer) % 256 for key in play.mappings} == {9, 11}


def test_counters_of_a_host_that_sends_keep_it_a_candidate(play: Playbook) -> None:
    tell(play, EspFromInside(ALICE, PEER, OUT_A, 1))
    play.now += LIMITS.candidate_idle_s
    tell(play, counters(play.now, to_peer(ALICE, PEER, OUT_A)))
    play.now += LIMITS.sweep_every_s
    play >> TimerExpired()
    assert set(play.mappings) == {to_peer(ALICE, PEER, OUT_A)}
    tell(play, EspUnclaimed(PATH, IN_1, 1))
    assert play.candidates(PEER, IN_1) == {ALICE}


# Disowning


def test_the_router_disowns_at_the_address_that_it_was_asked_at(play: Playbook) -> None:
    for slot in (0, 1):
        tell(play, *(replace(message, slot=slot) for message in ikev2_start(ROUTER, PEER, 0xA + slot)))
        tell(play, *(replace(m, slot=slot) for m in ikev2_start(BOB, PEER, 0xB)) if slot == 0 else ())
    tell(play, EspUnclaimed(Path(PEER, 0), IN_1, 1), EspUnclaimed(Path(PEER, 1), IN_1, 1))
    assert play.candidates(PEER, IN_1) == {ROUTER, BOB}
    (play >> HostDisowned(ROUTER, PEER, IN_1, RefusalKind.INVALID_SPI, slot=1)).nothing()
    play >> HostDisowned(ROUTER, PEER, IN_1, RefusalKind.INVALID_SPI) << InstallMapping(to_inside(PEER, IN_1), BOB)
    play.finish()


# The router's own


def test_an_association_that_ends_leaves_the_credits_that_it_did_not_use(play: Playbook) -> None:
    tell(play, *ikev2_start(ROUTER, PEER, 0xA), *ikev2_child(ROUTER, PEER, 0xA, 2), *ikev2_start(BOB, PEER, 0xB))
    tell(play, RouterSaAdded(PATH, IN_1), RouterSaDeleted(PATH, IN_1), EspUnclaimed(PATH, IN_2, 1))
    assert play.candidates(PEER, IN_2) == {ROUTER, BOB}


def test_an_association_that_ends_may_decide_what_is_contested(play: Playbook) -> None:
    """The router had one credit, for an SPI that is gone: what it contests besides is Bob's."""
    tell(play, *ikev2_start(ROUTER, PEER, 0xA), RouterSaAdded(PATH, IN_1))
    tell(play, *ikev2_child(ROUTER, PEER, 0xA, 2), *ikev2_start(BOB, PEER, 0xB), EspUnclaimed(PATH, IN_2, 1))
    assert play.candidates(PEER, IN_2) == {ROUTER, BOB}
    tell(play, RouterSaAdded(PATH, IN_3))
    assert play.candidates(PEER, IN_2) == {BOB}
    play >> RouterSaDeleted(PATH, IN_3) << RemoveMapping(to_inside(PEER, IN_3))
    play.finish()
    assert play.candidates(PEER, IN_2) == {BOB}


def test_an_association_at_an_unknown_peer_that_ends_is_no_error(play: Playbook) -> None:
    (play >> RouterSaDeleted(PATH, IN_1)).nothing()


def test_the_router_stays_while_one_of_its_associations_does(play: Playbook) -> None:
    play = Playbook(Limits(peers_per_host_max=1))
    tell(play, RouterSaAdded(PATH, IN_1), RouterSaAdded(PATH, IN_2), RouterSaDeleted(PATH, IN_1))
    tell(play, EspFromInside(ROUTER, OTHER, OUT_A, 1))
    assert set(play.mappings) == {to_inside(PEER, IN_2), to_peer(ROUTER, OTHER, OUT_A)}


def test_two_parts_that_know_of_a_host_let_go_one_by_one(play: Playbook) -> None:
    """The router's associations end; what it sends goes on."""
    tell(play, RouterSaAdded(PATH, IN_1), EspFromInside(ROUTER, PEER, OUT_A, 1), RouterSaDeleted(PATH, IN_1))
    tell(play, PortlessFromInside(ALICE, PEER, 47, 0))
    assert play.tracker.addresses.hosts_at(PATH) == [ROUTER, ALICE]


# Contests are traced


def test_what_a_candidate_sends_is_traced_and_what_others_send_is_not(play: Playbook) -> None:
    tell(play, *ikev2_start(ALICE, PEER, 0xA), EspUnclaimed(PATH, IN_1, 1))
    assert not any(isinstance(command, Trace) for command in play.answer), "nothing is contested"
    tell(play, *ikev2_start(BOB, PEER, 0xB), *ikev2_start(CAROL, PEER, 0xC), EspUnclaimed(PATH, IN_2, 1))
    assert Trace(to_inside(PEER, IN_2)) in play.answer
    play >> EspFromInside(BOB, PEER, OUT_B, 1)
    assert Trace(to_peer(BOB, PEER, OUT_B)) in play.answer
    play >> EspFromInside(ALICE, PEER, OUT_A, 1)
    assert not any(isinstance(command, Trace) for command in play.answer)


def test_traces_of_what_is_removed_make_room_for_others() -> None:
    """They ended with their mappings, and there is nothing to be ended any more."""
    play = Playbook(Limits(traces_max=1, peers_per_host_max=1))
    for peer, other in ((PEER, OTHER), (OTHER, PEER), (PEER, OTHER)):
        for number, host in enumerate((ALICE, BOB)):
            play.now += 1
            tell(play, *ikev2_start(host, peer, 0xA + number))
        tell(play, EspUnclaimed(Path(peer), IN_1, 1))
        assert Trace(to_inside(peer, IN_1)) in play.answer, f"after {other}"


# Restart


def adopted(key: FlowKey, *hosts: Host, at: float = 99_999.0) -> AdoptedFlow:
    return AdoptedFlow(key, hosts, FlowCount(key, 5, 500, at))


def test_adopted_verdicts_are_firm_and_adopted_contests_are_open(play: Playbook) -> None:
    began_at = play.now
    flows = [
        adopted(to_inside(PEER, IN_1), ALICE),
        adopted(to_inside(PEER, IN_2), ALICE, BOB),
        adopted(to_peer(ALICE, PEER, OUT_A), ALICE),
    ]
    (play >> MappingsAdopted(tuple(flows))).nothing()
    assert play.tracker.verdict(PATH, IN_1) == Certain(ALICE, Basis.ADOPTED)
    assert play.tracker.verdict(PATH, IN_2) == Contested((ALICE, BOB))
    play.now += 5
    assert [row.first_at for row in play.tracker.tunnels()] == [began_at]
    tell(play, EspFromInside(CAROL, PEER, OUT_C, OLD))
    assert play.candidates(PEER, IN_1) == {ALICE}
    assert play.candidates(PEER, IN_2) == {ALICE, BOB, CAROL}
    tell(play, HostDisowned(BOB, PEER, IN_2, RefusalKind.INVALID_SPI))
    assert play.candidates(PEER, IN_2) == {ALICE, CAROL}


def test_a_flood_does_not_push_out_what_was_adopted() -> None:
    play = Playbook(Limits(uncredited_spis_per_peer_max=2, uncredited_spis_per_host=1))
    tell(play, MappingsAdopted((adopted(to_inside(PEER, IN_1), ALICE), adopted(to_inside(PEER, IN_2), ALICE, BOB))))
    tell(play, *(EspUnclaimed(PATH, Spi(0x10000 + number), OLD) for number in range(5)))
    assert play.candidates(PEER, IN_1) == {ALICE}
    assert play.candidates(PEER, IN_2) == {ALICE, BOB}


def test_an_adopted_spi_that_fell_idle_is_still_its_hosts(play: Playbook) -> None:
    tell(play, MappingsAdopted((adopted(to_inside(PEER, IN_1), ALICE), adopted(to_peer(ALICE, PEER, OUT_A), ALICE))))
    play.now += LIMITS.esp_idle_s + LIMITS.sweep_every_s
    play >> TimerExpired() << RemoveMapping(to_inside(PEER, IN_1)) << RemoveMapping(to_peer(ALICE, PEER, OUT_A))
    tell(play, EspFromInside(BOB, PEER, OUT_B, OLD))
    key = to_inside(PEER, IN_1)
    play >> EspUnclaimed(PATH, IN_1, 40) << InstallMapping(key, ALICE) << Reinject(key)
    play.finish()


def test_what_an_adopted_host_sends_is_no_beginning(play: Playbook) -> None:
    """It goes on with what it had, and so is no host that began and got nothing back."""
    tell(play, *ikev2_start(BOB, PEER, 0xB), EspUnclaimed(PATH, IN_1, 1))
    tell(play, MappingsAdopted((adopted(to_peer(ALICE, PEER, OUT_A), ALICE),)))
    for _ in range(2):
        play.now += LIMITS.unseen_s / 2 + LIMITS.one_way_s
        tell(play, counters(play.now, to_peer(ALICE, PEER, OUT_A), to_inside(PEER, IN_1)))
    assert play.candidates(PEER, IN_1) == {BOB}


def test_mappings_adopted_twice_are_adopted_once(play: Playbook) -> None:
    flows = MappingsAdopted((adopted(to_inside(PEER, IN_1), ALICE), adopted(to_peer(ALICE, PEER, OUT_A), ALICE)))
    for _ in range(2):
        (play >> flows).nothing()
        assert play.tracker.mapping_count == 2
    tell(play, OutsideAddressesChanged((), (), ()))
    assert play.tracker.verdict(PATH, IN_1) == Certain(ALICE, Basis.ADOPTED)
