"""Conversations about verdicts that may be wrong: who is offered what others have, when, and for how long."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook, ikev2_child, ikev2_start, to_inside, to_peer
from tests.unit.core.test_resolving import Traffic, into, out_of, power_cut
from throughway.core.events import (
    CountersRead,
    EspFromInside,
    EspUnclaimed,
    Event,
    FlowCount,
    HostDisowned,
    IkeExchange,
    IkeMessageSeen,
    RefusalKind,
    TimerExpired,
)
from throughway.core.ids import Host, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.resolving import HISTORY
from throughway.core.verdicts import Basis, Certain, Contested

ALICE, BOB, CAROL, DAVE = (Host(IPv4Address("192.168.1.10") + n) for n in range(4))
PEER = Peer(IPv4Address("203.0.113.9"))
PATH = Path(PEER)
IN_1, IN_2, IN_3 = Spi(0x11111111), Spi(0x22222222), Spi(0x33333333)
LIMITS = Limits()


def tell(play: Playbook, *events: Event) -> None:
    for event in events:
        play >> event


def moves(play: Playbook, *spis: Spi, senders: tuple[Host, ...] = (), is_last: bool = True) -> None:
    """Read counters: packets came with these SPIs just now, and these hosts sent."""
    keys = [to_inside(PEER, spi) for spi in spis] + [to_peer(host, PEER, out_of(host)) for host in senders]
    play >> CountersRead(tuple(FlowCount(key, 2, 0, play.now) for key in keys), is_last)


def has_tunnels(play: Playbook, host: Host, *spis: Spi) -> None:
    """Let a host agree on so many child SAs, and own what comes with these SPIs."""
    tell(play, *ikev2_start(host, PEER, int(host)))
    for number, _ in enumerate(spis[1:]):
        tell(play, *ikev2_child(host, PEER, int(host), 2 + number))
    tell(play, *(EspUnclaimed(PATH, spi, 1) for spi in spis))


def only_sends(play: Playbook, *hosts: Host) -> None:
    for host in hosts:
        tell(play, *ikev2_start(host, PEER, int(host)), EspFromInside(host, PEER, out_of(host), 1))


# A host that only sends


@pytest.mark.parametrize(
    ("sent_at", "looked_at", "is_offered"),
    [((0,), 10.5, False), ((0, 4), 10.5, False), ((0, 6), 9.5, False), ((0, 6), 10.5, True), ((0, 6), 20.0, False)],
    ids=["once", "for-too-short", "not-yet", "goes-on", "vanished"],
)
def test_a_host_that_goes_on_sending_and_hears_nothing_is_offered_what_others_have(
    play: Playbook, sent_at: tuple[float, ...], looked_at: float, is_offered: bool
) -> None:
    assert LIMITS.one_way_s == 10.0
    has_tunnels(play, ALICE, IN_1)
    only_sends(play, BOB)
    began_at = play.now
    for seconds in sent_at:
        play.now = began_at + seconds
        moves(play, senders=(BOB,))
    play.now = began_at + looked_at
    moves(play, IN_1)
    assert play.candidates(PEER, IN_1) == ({ALICE, BOB} if is_offered else {ALICE})


def test_a_reading_that_comes_in_pieces_is_judged_with_its_last_one(play: Playbook) -> None:
    has_tunnels(play, ALICE, IN_1)
    only_sends(play, BOB)
    play.now += LIMITS.one_way_s
    moves(play, IN_1, is_last=False)
    play.now += 1.0
    moves(play, senders=(BOB,), is_last=False)
    assert play.candidates(PEER, IN_1) == {ALICE}
    moves(play)
    assert play.candidates(PEER, IN_1) == {ALICE, BOB}


def test_many_peers_are_judged_some_at_a_time() -> None:
    play = Playbook(Limits(peers_per_host_max=300))
    peers = [Peer(IPv4Address("203.0.113.0") + n) for n in range(300)]
    tell(play, *(EspFromInside(ALICE, peer, out_of(ALICE), 1) for peer in peers))
    play >> CountersRead(tuple(FlowCount(to_peer(ALICE, peer, out_of(ALICE)), 2, 0, play.now) for peer in peers))
    ends = play.tracker.ends_of_reading()
    play >> next(ends)
    assert list(ends) == []


def test_what_nothing_comes_with_is_offered_to_nobody(play: Playbook) -> None:
    has_tunnels(play, ALICE, IN_1, IN_2)
    only_sends(play, BOB)
    play.now += LIMITS.one_way_s + 1
    moves(play, IN_2, senders=(BOB,))
    assert play.candidates(PEER, IN_1) == {ALICE}
    assert play.candidates(PEER, IN_2) == {ALICE, BOB}


def test_a_host_all_of_whose_spis_are_known_is_offered_no_others(play: Playbook) -> None:
    """Its peer may be silent: nothing is missing."""
    has_tunnels(play, ALICE, IN_1)
    has_tunnels(play, BOB, IN_2)
    tell(play, EspFromInside(BOB, PEER, out_of(BOB), 1))
    play.now += LIMITS.one_way_s + 1
    moves(play, IN_1, senders=(BOB,))
    assert play.candidates(PEER, IN_1) == {ALICE}


def test_a_host_met_late_is_offered_no_others_while_it_may_own_what_nothing_announced(play: Playbook) -> None:
    has_tunnels(play, ALICE, IN_1)
    tell(play, EspFromInside(BOB, PEER, out_of(BOB), 1))
    play.now += LIMITS.one_way_s + 1
    moves(play, IN_1, senders=(BOB,))
    assert play.candidates(PEER, IN_1) == {ALICE}


def test_one_host_at_a_time_is_offered_what_others_have(play: Playbook) -> None:
    has_tunnels(play, ALICE, IN_1, IN_2)
    only_sends(play, BOB, CAROL)
    for _ in range(3):
        play.now += LIMITS.one_way_s
        moves(play, IN_1, IN_2, senders=(BOB, CAROL))
    assert play.candidates(PEER, IN_1) == play.candidates(PEER, IN_2) == {ALICE, BOB}


def test_what_a_host_was_not_offered_yet_comes_next() -> None:
    """As many at once as a packet may have copies; Bob says that they are not his, and is offered the rest."""
    play = Playbook(Limits(fan_out_max=2))
    has_tunnels(play, ALICE, IN_1, IN_2, IN_3)
    only_sends(play, BOB)
    play.now += LIMITS.one_way_s + 1
    moves(play, IN_1, IN_2, IN_3, senders=(BOB,))
    offered = {spi for spi in (IN_1, IN_2, IN_3) if BOB in play.candidates(PEER, spi)}
    assert len(offered) == 2
    for spi in offered:
        tell(play, HostDisowned(BOB, PEER, spi, RefusalKind.INVALID_SPI))
        assert play.candidates(PEER, spi) == {ALICE}
    play.now += 2 * LIMITS.one_way_s
    moves(play, IN_1, IN_2, IN_3, senders=(BOB,))
    (rest,) = {IN_1, IN_2, IN_3} - offered
    assert play.candidates(PEER, rest) == {ALICE, BOB}


def sent_to_elsewhere(traffic: Traffic) -> None:
    """Let Bob ask and never be answered."""
    traffic.asks(BOB, Spi(0x20000000))


@pytest.mark.parametrize(("comes_from", "offered_at"), [(0, 10), (11, 30), (31, 70), (71, 150)])
def test_where_there_is_nothing_to_offer_the_next_time_is_after_twice_as_long(
    play: Playbook, comes_from: int, offered_at: int
) -> None:
    has_tunnels(play, ALICE, IN_1)
    only_sends(play, BOB)
    for second in range(1, offered_at + 1):
        assert play.candidates(PEER, IN_1) == {ALICE}, f"before second {second}"
        play.now += 1.0
        moves(play, *([IN_1] if second >= comes_from else []), senders=(BOB,))
    assert play.candidates(PEER, IN_1) == {ALICE, BOB}


def test_an_offer_that_nobody_answers_is_taken_back(play: Playbook) -> None:
    """Alice only listens, as Bob would. After some packets she has the SPI alone again, as before."""
    traffic = power_cut(play, [ALICE])
    traffic.hears(into(ALICE))
    traffic.run(5)
    traffic.start(BOB, 1)
    sent_to_elsewhere(traffic)
    traffic.run(LIMITS.one_way_s + 1)
    assert play.tracker.verdict(PATH, into(ALICE)) == Contested((ALICE, BOB))
    traffic.run(3)
    assert play.candidates(PEER, into(ALICE)) == {ALICE, BOB}, "so soon nothing is known"
    traffic.run(15)
    assert play.tracker.verdict(PATH, into(ALICE)) == Certain(ALICE, Basis.ANSWERS)


def test_who_answers_what_it_was_offered_does_not_take_it_from_who_only_listens(play: Playbook) -> None:
    """Both may have chosen the SPI. That Alice had it alone counts for as much as that Bob answers."""
    traffic = power_cut(play, [ALICE])
    traffic.asked(BOB, into(ALICE))
    traffic.run(5)
    traffic.start(BOB, 1)
    sent_to_elsewhere(traffic)
    traffic.run(40)
    assert play.candidates(PEER, into(ALICE)) == {ALICE, BOB}


def test_two_hosts_found_to_have_one_spi_keep_it_when_one_of_them_only_listens_from_then_on(play: Playbook) -> None:
    """For so long that none of its answers is remembered."""
    traffic = power_cut(play, [ALICE])
    traffic.asked(ALICE, into(ALICE), rate=20.0)
    traffic.run(5)
    traffic.start(BOB, 1)
    sent_to_elsewhere(traffic)
    traffic.asked(BOB, into(ALICE))
    traffic.run(2 * LIMITS.one_way_s)
    assert play.candidates(PEER, into(ALICE)) == {ALICE, BOB}
    traffic.talks.pop()
    traffic.run(1.5 * HISTORY / 20.0)
    assert play.candidates(PEER, into(ALICE)) == {ALICE, BOB}


# Verdicts by answers


def decided(play: Playbook, *hosts: Host) -> Traffic:
    """Let answers decide who has what; return the traffic, which goes on."""
    traffic = power_cut(play, list(hosts))
    for host in hosts:
        traffic.asked(host, into(host))
    traffic.run(20)
    for host in hosts:
        assert play.tracker.verdict(PATH, into(host)) == Certain(host, Basis.ANSWERS)
    return traffic


def begins(host: Host) -> IkeMessageSeen:
    return IkeMessageSeen(host, PEER, 0xBE61, IkeExchange.INITIAL, 0, from_host=True, floated=False)


def test_a_host_that_begins_anew_is_doubted_and_no_other_one(play: Playbook) -> None:
    traffic = power_cut(play, [ALICE, BOB, CAROL, DAVE])
    for host in (ALICE, BOB):
        traffic.asked(host, into(host))
    traffic.run(20)
    assert play.candidates(PEER, into(CAROL)) == {CAROL, DAVE}
    tell(play, begins(ALICE))
    assert play.candidates(PEER, into(ALICE)) == {ALICE, CAROL, DAVE}
    assert play.candidates(PEER, into(BOB)) == {BOB}


@pytest.mark.parametrize("sign", ["known", "answer", "other"])
def test_what_is_no_beginning_of_a_host_makes_nobody_doubt(play: Playbook, sign: str) -> None:
    traffic = power_cut(play, [ALICE, BOB, CAROL])
    traffic.asked(ALICE, into(ALICE))
    traffic.run(20)
    message = {
        "known": IkeMessageSeen(ALICE, PEER, 0x1CE00, IkeExchange.INITIAL, 0, from_host=True, floated=False),
        "answer": IkeMessageSeen(ALICE, PEER, 0xBE61, IkeExchange.INITIAL, 0, from_host=False, floated=False),
        "other": IkeMessageSeen(ALICE, PEER, 0xBE61, IkeExchange.INFORMATIONAL, 0, from_host=True, floated=False),
    }[sign]
    tell(play, message)
    assert play.candidates(PEER, into(ALICE)) == {ALICE}


def test_a_host_that_falls_silent_while_packets_come_is_doubted_once(play: Playbook) -> None:
    traffic = power_cut(play, [ALICE, BOB])
    traffic.asked(ALICE, into(ALICE))
    traffic.asks(BOB, Spi(0x20000000), rate=0.5)
    traffic.run(20)
    assert play.candidates(PEER, into(ALICE)) == {ALICE}
    for is_doubted in (True, False):
        traffic.talks.clear()
        traffic.hears(into(ALICE))
        traffic.run(LIMITS.silence_s - 4)
        assert play.candidates(PEER, into(ALICE)) == {ALICE}
        traffic.run(8)
        assert play.candidates(PEER, into(ALICE)) == ({ALICE, BOB} if is_doubted else {ALICE})
        traffic.talks.clear()
        traffic.asked(ALICE, into(ALICE), rate=10.0)
        traffic.run(30)
        assert play.candidates(PEER, into(ALICE)) == {ALICE}


def test_two_silent_hosts_whose_spis_may_have_been_exchanged_get_both(play: Playbook) -> None:
    """Carol's verdict stands, since she speaks."""
    traffic = decided(play, ALICE, BOB, CAROL)
    traffic.talks.clear()
    for host in (ALICE, BOB):
        traffic.hears(into(host))
    traffic.asked(CAROL, into(CAROL))
    traffic.run(LIMITS.silence_s + 5)
    assert play.candidates(PEER, into(ALICE)) == play.candidates(PEER, into(BOB)) == {ALICE, BOB}
    assert play.candidates(PEER, into(CAROL)) == {CAROL}


def test_a_silent_host_to_which_nothing_comes_is_not_doubted(play: Playbook) -> None:
    traffic = decided(play, ALICE, BOB)
    traffic.talks.clear()
    traffic.run(2 * LIMITS.silence_s)
    for host in (ALICE, BOB):
        assert play.candidates(PEER, into(host)) == {host}


def fall_idle(play: Playbook) -> None:
    play.now += LIMITS.esp_idle_s + LIMITS.sweep_every_s
    tell(play, TimerExpired())
    assert play.mappings == {}


def test_a_verdict_by_answers_that_fell_idle_is_doubted_when_it_is_used_again(play: Playbook) -> None:
    traffic = power_cut(play, [ALICE, BOB, CAROL])
    traffic.asked(ALICE, into(ALICE))
    traffic.run(20)
    fall_idle(play)
    tell(play, begins(ALICE))
    assert play.mappings == {}, "there is nothing to doubt while it is idle"
    tell(play, EspUnclaimed(PATH, into(ALICE), 9))
    assert play.tracker.verdict(PATH, into(ALICE)) == Certain(ALICE, Basis.ANSWERS)
    tell(play, IkeMessageSeen(ALICE, PEER, 0xBE62, IkeExchange.INITIAL, 0, from_host=True, floated=False))
    assert play.candidates(PEER, into(ALICE)) == {ALICE, BOB, CAROL}


def test_a_verdict_by_credits_that_fell_idle_is_as_firm_as_before(play: Playbook) -> None:
    has_tunnels(play, ALICE, IN_1)
    fall_idle(play)
    tell(play, EspUnclaimed(PATH, IN_1, 9))
    has_tunnels(play, BOB, IN_2)
    assert play.tracker.verdict(PATH, IN_1) == Certain(ALICE, Basis.CREDIT)
    assert play.tracker.verdict(PATH, IN_2) == Certain(BOB, Basis.CREDIT)
