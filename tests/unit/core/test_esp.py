"""Conversations about ESP at its bounds, about the router's own, and about what people see and what is traced."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook, ike, ikev2_child, ikev2_start, to_inside, to_peer
from throughway.core.commands import FanOut, InstallMapping, Record, Refuse, Reinject, RemoveMapping, Trace
from throughway.core.events import (
    CountersRead,
    EspFromInside,
    EspUnclaimed,
    Event,
    FlowCount,
    HostDisowned,
    IkeExchange,
    PortlessFromInside,
    RefusalKind,
    RouterSaAdded,
    RouterSaDeleted,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.core.tunnels import Tunnels
from throughway.core.verdicts import Basis, Certain

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
