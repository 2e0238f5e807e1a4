"""Conversations about credits: how many SPIs a host may own after what it said, and who may own one without."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook, ike, ikev2_child, ikev2_start, to_inside
from throughway.core import credits
from throughway.core.commands import InstallMapping, Refuse, Reinject
from throughway.core.events import EspFromInside, EspUnclaimed, Event, IkeExchange, IkeMessageSeen
from throughway.core.ids import Host, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.core.verdicts import Basis, Certain

ALICE, BOB = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11))
PEER = Peer(IPv4Address("203.0.113.9"))
IKE_A, IKE_B, NEW_IKE_A = 0xA11CE, 0xB0B, 0xA11CE2
OLD = 5000
"""A sequence number of a security association that began before our watch."""
CHILD, FIRST = IkeExchange.CHILD, IkeExchange.FIRST_CHILD
LIMITS = Limits()


def tell(play: Playbook, *events: Event) -> None:
    for event in events:
        play >> event


def sends(host: Host, number: int, sequence: int = 1) -> EspFromInside:
    return EspFromInside(host, PEER, Spi(0xA0000000 + number), sequence)


def start(play: Playbook, *messages: IkeMessageSeen) -> None:
    """Let Alice begin an IKE SA before our eyes, and say in it what is given."""
    tell(play, *ike(ALICE, PEER, IKE_A, IkeExchange.INITIAL, 0, "><"), *messages)


def children(*exchange_ids: int) -> list[IkeMessageSeen]:
    return [message for exchange_id in exchange_ids for message in ikev2_child(ALICE, PEER, IKE_A, exchange_id)]


def say_in_a_new_ike_sa(play: Playbook, exchange_id: int = 0, ike_sa: int = NEW_IKE_A) -> None:
    """Let Alice speak in an IKE SA that no IKE_SA_INIT began: the old one was rekeyed (RFC 7296 section 1.3.2)."""
    tell(play, *ike(ALICE, PEER, ike_sa, IkeExchange.INFORMATIONAL, exchange_id, "><"))


def credits_left(play: Playbook) -> int:
    """Count how many more SPIs are Alice's by credit; she is the only host, so that one more is hers for that."""
    for number in range(10):
        spi = Spi(0x77000000 + len(list(play.tracker.bindings())))
        play >> EspUnclaimed(Path(PEER), spi, 1)
        if play.tracker.verdict(Path(PEER), spi) != Certain(ALICE, Basis.CREDIT):
            return number
    raise AssertionError("credits without end")


@pytest.mark.parametrize(
    ("exchanges", "sent", "expected"),
    [(0, 1, 1), (0, 2, 2), (1, 0, 1), (1, 1, 1), (1, 2, 2), (1, 3, 3), (2, 2, 2), (2, 3, 3), (3, 1, 3)],
)
def test_an_spi_that_a_host_sends_is_a_credit_where_no_exchange_explains_it(
    play: Playbook, exchanges: int, sent: int, expected: int
) -> None:
    start(play, *children(*range(exchanges)))
    tell(play, *(sends(ALICE, number) for number in range(sent)))
    assert credits_left(play) == expected


def test_an_spi_older_than_our_watch_is_a_credit_beside_that_of_an_exchange(play: Playbook) -> None:
    start(play, *children(1))
    tell(play, sends(ALICE, 1, OLD), sends(ALICE, 2, 1))
    assert credits_left(play) == 2


def test_an_spi_to_the_inside_uses_up_no_credit_for_what_the_host_sends(play: Playbook) -> None:
    start(play, *children(1))
    tell(play, EspUnclaimed(Path(PEER), Spi(1), 1), sends(ALICE, 1), sends(ALICE, 2))
    assert credits_left(play) == 1


def test_what_came_to_a_host_that_we_met_late_explains_as_many_that_it_sends(play: Playbook) -> None:
    """Each SPI that comes to it shows an exchange that we did not see; of those it sends, one more is of another."""
    tell(play, *ike(ALICE, PEER, IKE_A, IkeExchange.INFORMATIONAL, 9, "><"))
    tell(play, *(EspUnclaimed(Path(PEER), Spi(number), 1) for number in (1, 2, 3)))
    tell(play, *(sends(ALICE, number) for number in range(4)))
    play.now += LIMITS.unseen_s
    assert credits_left(play) == 1


def test_a_negotiated_spi_makes_its_host_no_candidate_of_what_is_older(play: Playbook) -> None:
    tell(play, sends(ALICE, 1, OLD), EspUnclaimed(Path(PEER), Spi(1), OLD))
    tell(play, *ikev2_start(BOB, PEER, IKE_B), sends(BOB, 2))
    assert play.candidates(PEER, Spi(1)) == {ALICE}


def unanswered(play: Playbook) -> None:
    """Let so much time pass that an exchange without an answer brought nothing."""
    play.wait_until(play.now + 2 * LIMITS.exchange_unanswered_s)


def test_only_the_exchange_without_an_answer_is_given_up_and_once(play: Playbook) -> None:
    start(play, *children(1, 2), *ike(ALICE, PEER, IKE_A, CHILD, 3, ">>>"), *children(4))
    unanswered(play)
    unanswered(play)
    assert credits_left(play) == 3


@pytest.mark.parametrize(
    ("directions", "expected"), [("><", 1), (">>", 0), ("<>", 1), ("<<", 0)], ids=["ours", "no", "theirs", "not-ours"]
)
def test_an_exchange_is_answered_by_the_other_end_whoever_began_it(
    play: Playbook, directions: str, expected: int
) -> None:
    start(play, *ike(ALICE, PEER, IKE_A, CHILD, 1, directions))
    unanswered(play)
    assert credits_left(play) == expected


def test_an_exchange_that_was_given_up_explains_nothing_that_its_host_sends(play: Playbook) -> None:
    start(play, *ike(ALICE, PEER, IKE_A, CHILD, 1, ">>>"))
    unanswered(play)
    tell(play, *children(2), sends(ALICE, 1))
    assert credits_left(play) == 1
    tell(play, sends(ALICE, 2))
    assert credits_left(play) == 1


def test_an_exchange_whose_spi_the_host_sends_was_answered_elsewhere(play: Playbook) -> None:
    start(play, *ike(ALICE, PEER, IKE_A, CHILD, 1, ">>>"))
    tell(play, sends(ALICE, 1))
    unanswered(play)
    assert credits_left(play) == 1


def test_an_exchange_whose_spi_came_to_the_host_was_answered_elsewhere(play: Playbook) -> None:
    """It is not given up beside the one that comes later."""
    start(play, *ike(ALICE, PEER, IKE_A, CHILD, 1, ">>>"))
    tell(play, EspUnclaimed(Path(PEER), Spi(1), 1))
    unanswered(play)
    tell(play, *children(2))
    assert credits_left(play) == 1


def asks_at(play: Playbook, way: str, *moments: float) -> None:
    """Let the end that began say its request at these moments, which count from now."""
    began_at = play.now
    for moment in moments:
        play.wait_until(began_at + moment)
        tell(play, *ike(ALICE, PEER, IKE_A, CHILD, 1, way))


@pytest.mark.parametrize("ways", ["><", "<>"], ids=["ours", "theirs"])
def test_an_exchange_that_is_repeated_is_waited_for_from_its_last_message_on(play: Playbook, ways: str) -> None:
    """These are the moments at which strongSwan says it again; it gives up 165 s after the first one."""
    start(play)
    asks_at(play, ways[0], 0, 4, 11, 24, 47, 89)
    play.wait_until(play.now + LIMITS.exchange_unanswered_s - 1)
    assert credits_left(play) == 1


@pytest.mark.parametrize("ways", ["><", ">>", "<>", "<<"], ids=["answer", "again", "their-answer", "theirs-again"])
def test_a_credit_that_was_given_up_comes_back_once_with_the_next_message(play: Playbook, ways: str) -> None:
    start(play)
    asks_at(play, ways[0], 0)
    unanswered(play)
    tell(play, *ike(ALICE, PEER, IKE_A, CHILD, 1, ways[1] * 2))
    assert credits_left(play) == 1


def test_a_credit_that_came_back_is_given_up_again(play: Playbook) -> None:
    start(play, *ike(ALICE, PEER, IKE_A, CHILD, 1, ">"))
    for _ in range(2):
        unanswered(play)
        tell(play, *ike(ALICE, PEER, IKE_A, CHILD, 1, ">"))
    unanswered(play)
    assert credits_left(play) == 0


def test_a_credit_that_came_back_with_the_answer_stays(play: Playbook) -> None:
    start(play, *ike(ALICE, PEER, IKE_A, CHILD, 1, ">"))
    unanswered(play)
    tell(play, *ike(ALICE, PEER, IKE_A, CHILD, 1, "<"))
    unanswered(play)
    assert credits_left(play) == 1


def test_a_rekeyed_ike_sa_gives_back_one_credit_in_each_direction(play: Playbook) -> None:
    start(play, *children(1, 2, 3))
    play.now += 60
    say_in_a_new_ike_sa(play)
    tell(play, *(sends(ALICE, number) for number in range(3)))
    assert credits_left(play) == 3, "two that were announced, and one that nothing explains"


@pytest.mark.parametrize(
    ("messages", "later_s", "why"),
    [
        (ike(ALICE, PEER, IKE_A, FIRST, 1, "><"), 60, "IKE_AUTH rekeys nothing"),
        (ike(ALICE, PEER, IKE_A, CHILD, 1, ">"), 30, "what the peer has not answered rekeyed nothing"),
        (ike(ALICE, PEER, IKE_A, CHILD, 1, "><"), 5, "the host may be about to use its child SA"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_new_ike_sa_gives_back_no_credit_of_something_else(
    play: Playbook, messages: list[IkeMessageSeen], later_s: float, why: str
) -> None:
    start(play, *messages)
    play.now += later_s
    say_in_a_new_ike_sa(play)
    assert credits_left(play) == 1, why


def test_an_ike_sa_of_before_our_watch_replaces_none(play: Playbook) -> None:
    """Both ends count their requests from 0 in a new one (RFC 7296 section 2.2)."""
    start(play, *children(1, 2))
    play.now += 60
    say_in_a_new_ike_sa(play, 7)
    say_in_a_new_ike_sa(play, 1 << 32 | 1, NEW_IKE_A + 1)
    assert credits_left(play) == 2


def test_it_does_not_hide_the_one_that_does(play: Playbook) -> None:
    start(play, *children(1, 2))
    play.now += 1
    say_in_a_new_ike_sa(play, 1 << 32)
    say_in_a_new_ike_sa(play, 7, NEW_IKE_A + 1)
    play.wait_until(play.now + 2 * LIMITS.sweep_every_s)
    assert credits_left(play) == 1


def test_a_new_ike_sa_takes_no_credit_of_another_exchange_than_its_own(play: Playbook) -> None:
    """The child SA of Alice's second IKE SA is not used yet; that of the exchange is, and one was replaced before."""
    start(play, *children(1))
    tell(play, sends(ALICE, 1), EspUnclaimed(Path(PEER), Spi(1), 1), *children(2))
    play.now += 60
    say_in_a_new_ike_sa(play)
    tell(play, *ikev2_start(ALICE, PEER, IKE_B))
    play.now += 60
    say_in_a_new_ike_sa(play, 0, NEW_IKE_A + 1)
    assert credits_left(play) == 1


def test_an_ike_sa_that_goes_on_after_its_child_was_not_rekeyed(play: Playbook) -> None:
    start(play, *children(1, 2))
    play.now += 60
    tell(play, *ike(ALICE, PEER, IKE_A, IkeExchange.INFORMATIONAL, 3, "><"))
    assert credits_left(play) == 2


def test_an_ike_sa_that_begins_before_our_eyes_replaces_none(play: Playbook) -> None:
    start(play, *children(1, 2))
    play.now += 60
    tell(play, *ike(ALICE, PEER, NEW_IKE_A, IkeExchange.INITIAL, 0, "><"))
    assert credits_left(play) == 2


def test_a_child_sa_whose_spi_the_host_sends_was_no_rekey_of_the_ike_sa(play: Playbook) -> None:
    start(play, *children(1))
    tell(play, sends(ALICE, 1))
    play.now += 60
    say_in_a_new_ike_sa(play)
    assert credits_left(play) == 1


def test_a_child_sa_whose_spi_came_was_no_rekey_of_the_ike_sa(play: Playbook) -> None:
    start(play, *children(1))
    tell(play, EspUnclaimed(Path(PEER), Spi(1), 1))
    play.now += 60
    say_in_a_new_ike_sa(play)
    tell(play, *children(2))
    assert credits_left(play) == 1


def test_a_host_that_floated_gets_nothing_that_no_credit_announced(play: Playbook) -> None:
    """Its IKE SA floated, and a message that still comes on UDP 500 does not take it back (RFC 3947 section 4)."""
    tell(play, sends(ALICE, 1, OLD))
    tell(play, *ike(BOB, PEER, IKE_B, IkeExchange.INITIAL, 0, "><"))
    tell(play, *ike(BOB, PEER, IKE_B, FIRST, 1, "><", floated=True))
    tell(play, *ike(BOB, PEER, IKE_B, IkeExchange.INITIAL, 0, "<"))
    key = to_inside(PEER, Spi(1))
    play >> EspUnclaimed(Path(PEER), Spi(1), OLD) << InstallMapping(key, ALICE) << Reinject(key)


def test_a_host_that_floated_and_was_met_late_has_no_credit_for_native_esp(play: Playbook) -> None:
    tell(play, *ikev2_start(ALICE, PEER, IKE_A))
    tell(play, *ike(BOB, PEER, IKE_B, IkeExchange.INFORMATIONAL, 7, "><", floated=True))
    play >> EspUnclaimed(Path(PEER), Spi(1), 1)
    assert play.candidates(PEER, Spi(1)) == {ALICE}


@pytest.mark.parametrize("sequence", [1, OLD], ids=["new", "old"])
def test_a_host_without_a_word_for_long_gets_nothing_new(play: Playbook, sequence: int) -> None:
    tell(play, sends(ALICE, 1, sequence))
    play.now += LIMITS.candidate_idle_s
    play >> EspUnclaimed(Path(PEER), Spi(1), sequence)
    assert play.candidates(PEER, Spi(1)) == {ALICE}, "so long it may be silent"
    play.now += 1
    play >> EspUnclaimed(Path(PEER), Spi(2), sequence) << Refuse(to_inside(PEER, Spi(2)), Reason.NO_CANDIDATE)


def test_exchanges_are_remembered_within_bounds_the_latest_ones(
    play: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credits, "EXCHANGES_REMEMBERED", 3)
    start(play, *children(1, 2, 3), *children(1, 2, 3))
    assert credits_left(play) == 3, "said twice, credited once"
    tell(play, *children(4), *children(4, 3, 2))
    assert credits_left(play) == 1
    tell(play, *children(1))
    assert credits_left(play) == 1, "it was forgotten"
