"""What a router sees of an exchange, with and without losses."""

import pytest

from throughway.simulate.chances import stream
from throughway.simulate.negotiation import TIMEOUTS_S, Negotiator, Way

LAN_S, PATH_S = 0.004, 0.020


def negotiator(seed: int = 1, lan_loss: float = 0.0, path_loss: float = 0.0) -> Negotiator:
    return Negotiator(Way(LAN_S, PATH_S, lan_loss, path_loss), stream(seed))


@pytest.mark.parametrize("from_host", [True, False])
def test_a_request_and_its_answer_pass_the_router_once_each(from_host: bool) -> None:
    timeline = negotiator().ask(100.0, from_host)
    assert [who for _, who in timeline.seen] == [from_host, not from_host]
    (asked_at, _), (answered_at, _) = timeline.seen
    assert asked_at == pytest.approx(100.0 + (LAN_S if from_host else PATH_S) / 2)
    assert timeline.initiator_at is not None
    assert asked_at < timeline.responder_at < answered_at < timeline.initiator_at
    assert timeline.initiator_at >= 100.0 + LAN_S + PATH_S


def test_a_request_that_is_lost_before_the_router_is_not_seen_and_comes_again() -> None:
    lost = next(
        timeline
        for timeline in (negotiator(seed, path_loss=0.5).ask(0.0, from_host=False) for seed in range(100))
        if timeline.seen and timeline.seen[0][0] > TIMEOUTS_S[0]
    )
    at, from_host = lost.seen[0]
    assert at == pytest.approx(TIMEOUTS_S[0] + PATH_S / 2)
    assert not from_host


def test_a_request_that_is_lost_behind_the_router_is_seen_twice() -> None:
    timeline = next(
        timeline
        for timeline in (negotiator(seed, path_loss=0.5).ask(0.0, from_host=True) for seed in range(100))
        if [who for _, who in timeline.seen] == [True, True, False]
    )
    (first_at, _), (second_at, _), _ = timeline.seen
    assert second_at - first_at == pytest.approx(TIMEOUTS_S[0])


def test_an_end_that_never_gets_an_answer_gives_up() -> None:
    timeline = negotiator(path_loss=1.0).ask(0.0, from_host=True)
    assert timeline.initiator_at is None
    assert [at for at, _ in timeline.seen] == pytest.approx(
        [LAN_S / 2 + sum(TIMEOUTS_S[:number]) for number in range(len(TIMEOUTS_S))]
    )
    assert timeline.responder_at == pytest.approx(sum(TIMEOUTS_S))


def test_the_third_message_of_a_quick_mode_makes_the_responder_ready() -> None:
    one = negotiator()
    timeline = one.ask(0.0, from_host=True)
    assert timeline.initiator_at is not None
    one.confirm(timeline, timeline.initiator_at, from_host=True)
    assert [who for _, who in timeline.seen] == [True, False, True]
    assert timeline.responder_at == pytest.approx(timeline.initiator_at + (LAN_S + PATH_S) / 2)


def test_without_the_third_message_the_second_comes_again() -> None:
    seen = []
    for seed in range(100):
        one = negotiator(seed, path_loss=0.4)
        timeline = one.ask(0.0, from_host=True)
        if timeline.initiator_at is not None and len(timeline.seen) == 2:
            one.confirm(timeline, timeline.initiator_at, from_host=True)
            seen.append([who for _, who in timeline.seen])
    assert [True, False, True] in seen
    assert [True, False, True, False, True] in seen


def test_questions_to_a_host_that_is_gone_are_repeated_and_never_answered() -> None:
    timeline = negotiator().tell(0.0, from_host=False, times=3)
    assert [who for _, who in timeline.seen] == [False] * 3
    assert timeline.responder_at == pytest.approx(sum(TIMEOUTS_S[:3]))
