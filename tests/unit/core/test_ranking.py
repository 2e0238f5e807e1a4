"""The order of candidates: whose beginning an SPI fits best."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook, ike, ikev2_start, to_inside
from throughway.core.bindings import Binding, PeerState
from throughway.core.credits import HostAtPeer
from throughway.core.events import CountersRead, EspFromInside, EspUnclaimed, FlowCount, IkeExchange, IkeMessageSeen
from throughway.core.ids import Host, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.ranking import time_answer, timing

PEER = Peer(IPv4Address("203.0.113.9"))
HOSTS = [Host(IPv4Address("192.168.1.10") + n) for n in range(60)]
ROUND_TRIP_S = 0.040


def a_host(**moments: float) -> HostAtPeer:
    host = HostAtPeer(HOSTS[0], last_seen_at=0.0, unseen_until=0.0)
    for name, at in moments.items():
        setattr(host, name, at)
    return host


def fit(host: HostAtPeer, at: float = 100.0, *, is_first: bool = True) -> float:
    return timing(host, at, ROUND_TRIP_S, is_first=is_first)


def test_a_peer_uses_a_security_association_when_the_exchange_ends() -> None:
    just_now, earlier = a_host(said_at=99.95, agreed_at=99.999), a_host(said_at=99.85, agreed_at=99.9)
    assert fit(just_now) > fit(earlier) > fit(a_host(said_at=40.0, agreed_at=40.1))


def test_or_answers_the_first_packet_one_round_trip_later() -> None:
    answered = a_host(said_at=99.8, agreed_at=99.9, began_at=100.0 - ROUND_TRIP_S)
    assert fit(answered) > fit(a_host(said_at=99.8, agreed_at=99.9, began_at=99.98))


def test_the_last_message_of_an_exchange_counts_whoever_said_it() -> None:
    """The peer's own message is its beginning; to the host's, it comes a round trip later."""
    assert fit(a_host(said_at=99.5, agreed_at=99.999)) > fit(a_host(said_at=99.96, agreed_at=99.97))
    assert fit(a_host(agreed_at=99.90, said_at=99.96)) > fit(a_host(agreed_at=99.98, said_at=99.99))


def test_the_peer_may_be_a_little_closer_than_its_work_on_ike_made_it_look_and_no_further_away() -> None:
    sooner, exactly, later = (fit(a_host(began_at=100.0 - share * ROUND_TRIP_S)) for share in (0.85, 1.0, 1.15))
    assert sooner == pytest.approx(exactly)
    assert later < exactly


def test_what_others_overtook_comes_some_milliseconds_late_and_no_more() -> None:
    soon, late, later = (fit(a_host(said_at=90.0, agreed_at=100.0 - miss_s)) for miss_s in (0.02, 0.03, 0.04))
    assert soon - late > 2 * (late - later) > 0.0


@pytest.mark.parametrize("moment", ["said_at", "agreed_at", "began_at"])
def test_what_meets_no_beginning_is_likelier_of_who_began_anything_lately(moment: str) -> None:
    long_ago = {"said_at": -900.0, "agreed_at": -899.0, "began_at": -898.0}
    lately, earlier, never = (fit(a_host(**(long_ago | {moment: at}))) for at in (99.0, 0.0, long_ago[moment]))
    assert lately > earlier + 2.0
    assert earlier > never + 1.0


def test_quick_mode_ends_with_a_message_of_the_host() -> None:
    assert fit(a_host(agreed_at=99.94, said_at=99.96)) > fit(a_host(agreed_at=99.90, said_at=99.92))


def test_who_still_waits_for_the_peers_answer_fits_better_than_who_had_it_as_far_off() -> None:
    """The answer may be lost, and the peer uses what it agreed on as soon as its work is done."""
    asking, answered = a_host(said_at=99.914), a_host(said_at=99.8, agreed_at=99.958)
    assert fit(asking) > fit(answered)


def test_with_the_first_packet_lost_a_beginning_says_little() -> None:
    met, missed = a_host(said_at=99.95, agreed_at=99.999), a_host(said_at=99.85, agreed_at=99.9)
    assert fit(met) - fit(missed) > 3 * (fit(met, is_first=False) - fit(missed, is_first=False))


def test_after_a_power_cut_the_likely_candidates_get_the_copies(play: Playbook) -> None:
    """Sixty hosts negotiate 5 ms apart; each SPI comes when its host's exchange ends, before the next one's does."""
    for number, host in enumerate(HOSTS):
        for message in ikev2_start(host, PEER, 0x1CE00 + number)[:3]:
            play >> message
    right = 0
    copies = []
    for number, host in enumerate(HOSTS):
        play.now += 0.005
        for message in ike(host, PEER, 0x1CE00 + number, IkeExchange.FIRST_CHILD, 1, "<"):
            play >> message
        play >> EspUnclaimed(Path(PEER), Spi(0x10000 + number), 1)
    for number, host in enumerate(HOSTS):
        hosts = play.mappings[to_inside(PEER, Spi(0x10000 + number))]
        right += host in hosts
        copies.append(len(hosts))
    assert right == len(HOSTS)
    assert max(copies) <= Limits().fan_out_first_max


def test_a_tunnel_whose_first_packet_was_lost_goes_to_more_hosts(play: Playbook) -> None:
    """Of more than may have copies the packet of the first one is lost: what comes later goes to those not met yet."""
    crowd = [Host(IPv4Address("192.168.1.10") + n) for n in range(200)]
    for number, host in enumerate(crowd):
        for message in ikev2_start(host, PEER, 0x1CE00 + number)[:3]:
            play >> message
    for number, host in enumerate(crowd):
        play.now += 0.005
        for message in ike(host, PEER, 0x1CE00 + number, IkeExchange.FIRST_CHILD, 1, "<"):
            play >> message
        if number:
            play >> EspUnclaimed(Path(PEER), Spi(0x10000 + number), 1)
    play.now += 0.02
    play >> EspUnclaimed(Path(PEER), Spi(0x10000), 2)
    hosts = play.mappings[to_inside(PEER, Spi(0x10000))]
    assert HOSTS[0] in hosts
    assert Limits().fan_out_first_max < len(hosts) <= Limits().fan_out_late_max


def test_a_flood_of_candidates_is_bounded() -> None:
    play = Playbook(Limits(candidates_max=20))
    for host in HOSTS:
        play >> EspFromInside(host, PEER, Spi(0xA0000), 1)
    play >> EspUnclaimed(Path(PEER), Spi(0x10000), 1)
    assert len(play.candidates(PEER, Spi(0x10000))) == 20


def asked(exchange_id: int, *, from_host: bool = True, exchange: IkeExchange = IkeExchange.CHILD) -> IkeMessageSeen:
    return IkeMessageSeen(HOSTS[0], PEER, 0xA, exchange, exchange_id, from_host, floated=False)


def test_an_answer_tells_how_far_away_the_peer_is_unless_it_was_asked_twice() -> None:
    state, host = PeerState(Path(PEER)), a_host()
    for at, message in ((10.0, asked(1)), (10.5, asked(1)), (10.51, asked(1, from_host=False))):
        time_answer(state, host, message, at)
    assert state.round_trip_s == 1.0, "it may be the answer to either"
    for at, message in ((20.0, asked(2)), (20.01, asked(9, from_host=False)), (20.25, asked(2, from_host=False))):
        time_answer(state, host, message, at)
    assert state.round_trip_s == 0.25, "the other message answers something else"
    time_answer(state, host, asked(2, from_host=False), 20.26)
    assert state.round_trip_s == 0.25


def test_a_copy_of_a_question_does_not_hide_how_far_away_the_peer_is() -> None:
    """What comes again at once was copied on its way. Law 6: it changes nothing."""
    state, host = PeerState(Path(PEER)), a_host()
    for at, message in ((10.0, asked(1)), (10.0, asked(1)), (10.01, asked(1)), (10.25, asked(1, from_host=False))):
        time_answer(state, host, message, at)
    assert state.round_trip_s == 0.25
    for at, message in ((20.0, asked(2)), (20.1, asked(2, from_host=False)), (20.1, asked(2)), (20.1, asked(2))):
        time_answer(state, host, message, at)
    time_answer(state, host, asked(2, from_host=False), 20.1)
    assert state.round_trip_s == pytest.approx(0.1), "what was answered and is copied then asks nothing"


def test_what_the_peer_asks_and_its_copies_time_nothing() -> None:
    """The answer of a host is no question, and the peer's copies of its own one are no answers."""
    state, host = PeerState(Path(PEER)), a_host()
    theirs = [asked(number, from_host=False) for number in (1, 2)]
    answers = [asked(number) for number in (1, 2)]
    for at, message in enumerate([*theirs, *theirs, *answers, *theirs, *answers, *theirs]):
        time_answer(state, host, message, 10.0 + at / 100)
    assert state.round_trip_s == 1.0


def test_a_copy_of_an_older_question_leaves_both_timed_from_their_first() -> None:
    state, host = PeerState(Path(PEER)), a_host()
    for at, message in ((10.0, asked(1)), (10.1, asked(2)), (10.2, asked(1)), (10.5, asked(1, from_host=False))):
        time_answer(state, host, message, at)
    assert state.round_trip_s == 0.5
    time_answer(state, host, asked(2, from_host=False), 10.55)
    assert state.round_trip_s == pytest.approx(0.45)


def test_with_many_requests_under_way_each_is_timed_from_its_first() -> None:
    """An IKEv2 window may have many open (RFC 7296 section 2.3)."""
    state, host = PeerState(Path(PEER)), a_host()
    for number in range(32):
        time_answer(state, host, asked(number), 10.0)
    for at, message in ((10.3, asked(0)), (10.31, asked(0, from_host=False))):
        time_answer(state, host, message, at)
    assert state.round_trip_s == 1.0, "it may be the answer to either"
    time_answer(state, host, asked(1, from_host=False), 10.4)
    assert state.round_trip_s == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("exchange", "is_lost"),
    [(IkeExchange.INITIAL, False), (IkeExchange.INFORMATIONAL, False), (IkeExchange.CHILD, True)],
    ids=lambda value: getattr(value, "value", None),
)
def test_what_is_said_again_in_other_exchanges_means_no_lost_answer(exchange: IkeExchange, is_lost: bool) -> None:
    """Main Mode has six messages with one number, 0 (RFC 2409 section 5): the third and fifth repeat nothing."""
    state, host = PeerState(Path(PEER), round_trip_s=ROUND_TRIP_S), a_host(agreed_at=5.0, said_at=10.0)
    binding = Binding(Spi(1), 10.0 + ROUND_TRIP_S, 10.0, is_credited=True, candidates={HOSTS[0]: -8.0, HOSTS[1]: 0.0})
    state.keep(binding)
    for at, from_host in ((11.0, True), (11.04, False), (11.5, True)):
        time_answer(state, host, asked(0, from_host=from_host, exchange=exchange), at)
    assert (binding.candidates[HOSTS[0]] > -8.0) == is_lost


def test_an_spi_that_came_when_a_lost_answer_was_due_may_be_of_who_repeats_the_question(play: Playbook) -> None:
    """The peer uses the SA at once and its answer is lost. The next hosts' exchanges end when the SPI comes."""
    for number, host in enumerate(HOSTS):
        for message in ikev2_start(host, PEER, 0x1CE00 + number)[:2]:
            play >> message
    play.now += 5.0
    asking = ike(HOSTS[0], PEER, 0x1CE00, IkeExchange.FIRST_CHILD, 1, ">")[0]
    play >> asking
    for number, host in enumerate(HOSTS[1:], 1):
        play.now += 0.0005
        for message in ike(host, PEER, 0x1CE00 + number, IkeExchange.FIRST_CHILD, 1, "><"):
            play >> message
    play.now += 0.002
    play >> EspUnclaimed(Path(PEER), Spi(0x10000), 1)
    key = to_inside(PEER, Spi(0x10000))
    assert HOSTS[0] not in play.mappings[key]
    play.now += 1.0
    play >> asking
    play >> CountersRead((FlowCount(key, 5, 500, play.now),))
    assert HOSTS[0] in play.mappings[key]
