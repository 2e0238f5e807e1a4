"""Conversations about what ends of ESP: what falls idle, what counters show in use, and what an earlier run left."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook, ike, ikev2_child, ikev2_start, to_inside, to_peer
from throughway.core import deciding
from throughway.core.commands import InstallMapping, Refuse, Reinject, RemoveMapping, Untrace
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
    RefusalKind,
    TimerExpired,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
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
    key = to_inside(PEER, IN_1)
    play >> EspUnclaimed(PATH, IN_1, 1) << InstallMapping(key, BOB) << Reinject(key)
    play.finish()
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


def test_an_adopted_contest_takes_no_credit_of_what_is_negotiated_after_it(play: Playbook) -> None:
    """Bob says nothing more, and Alice's one exchange was for her next tunnel, whoever has the one that was adopted."""
    adoption = MappingsAdopted((adopted(to_inside(PEER, IN_1), ALICE, BOB, at=play.now),))
    tell(play, adoption, adoption)  # Law 6: twice is as once.
    tell(play, *ikev2_start(ALICE, PEER, 0xA), *ikev2_start(CAROL, PEER, 0xC))
    play.wait_until(play.now + LIMITS.unseen_s + 2 * LIMITS.sweep_every_s)
    tell(play, EspUnclaimed(PATH, IN_2, 1))
    assert play.candidates(PEER, IN_2) == {ALICE, BOB, CAROL}
    play.wait_until(play.now + LIMITS.esp_idle_s + 2 * LIMITS.sweep_every_s)
    assert not play.mappings
    tell(play, EspUnclaimed(PATH, IN_3, 1))
    assert play.candidates(PEER, IN_3) == {ALICE, CAROL}, "what is forgotten leaves no credit behind"


def test_an_spi_that_is_sent_after_a_restart_keeps_its_credit_when_an_adopted_contest_ends(play: Playbook) -> None:
    """The exchange for it passed while nobody looked: who sends it owns one more to the inside, too."""
    contested = [adopted(to_inside(PEER, spi), ALICE, BOB, at=play.now) for spi in (IN_1, IN_2)]
    sent = [adopted(to_peer(host, PEER, spi), host, at=play.now) for host, spi in ((ALICE, OUT_A), (BOB, OUT_B))]
    tell(play, MappingsAdopted((*contested, *sent)), EspFromInside(ALICE, PEER, OUT_C, 1))
    tell(play, HostDisowned(BOB, PEER, IN_1, RefusalKind.INVALID_SPI))
    tell(play, HostDisowned(ALICE, PEER, IN_2, RefusalKind.INVALID_SPI))
    in_use = [to_inside(PEER, IN_1), to_inside(PEER, IN_2), to_peer(ALICE, PEER, OUT_C), to_peer(BOB, PEER, OUT_B)]
    play.wait_until(play.now + LIMITS.unseen_s + 60, lambda: counters(play.now, *in_use))
    tell(play, *ikev2_start(CAROL, PEER, 0xC), EspUnclaimed(PATH, IN_3, 1))
    assert play.candidates(PEER, IN_3) == {ALICE, CAROL}


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
