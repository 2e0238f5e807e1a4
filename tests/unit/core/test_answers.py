"""The statistics of answers: what they find, and what must not fool them."""

from collections.abc import Callable
from random import Random

import pytest

from throughway.core.answers import CERTAIN, SUSPECT, echo, starts, surprise, without

SECONDS = 12.0
GAP_S = 0.01
ROUND_TRIP_S = 0.027
SEEDS = range(8)


def dice(seed: int) -> Random:
    """Begin a stream of chance that is the same every time."""
    return Random(seed)  # noqa: S311 - a model, no secret


def poisson(random: Random, rate: float) -> list[float]:
    times = [random.expovariate(rate)]
    while times[-1] < SECONDS:
        times.append(times[-1] + random.expovariate(rate))
    return times


def later(random: Random, times: list[float], low_s: float, high_s: float, loss: float = 0.01) -> list[float]:
    return [at + random.uniform(low_s, high_s) for at in times if random.random() >= loss]


def seen(*streams: list[float]) -> list[float]:
    return starts(sorted(at for stream in streams for at in stream), GAP_S)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_host_that_answers_half_of_what_comes_is_found(seed: int) -> None:
    random = dice(seed)
    asked, asks = poisson(random, 5), poisson(random, 5)
    inward = seen(asked, later(random, asks, 0.040, 0.045))
    assert surprise(inward, seen(asks, later(random, asked, 0.001, 0.003)), ROUND_TRIP_S)[0] > CERTAIN


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stranger_is_not(seed: int) -> None:
    random = dice(seed)
    assert surprise(seen(poisson(random, 10)), seen(poisson(random, 10)), ROUND_TRIP_S)[0] == 0.0


def strictly_regular(random: Random) -> tuple[list[float], list[float]]:
    """Two streams at 20 packets a second that know nothing of each other, and happen to follow at 2 ms."""
    times = [n / 20 for n in range(int(20 * SECONDS))]
    return times, [at + 0.002 for at in times]


def relayed(random: Random) -> list[float]:
    """What a host sends to another one through the peer: now and then two packets, 30 ms apart by its own timer."""
    return sorted(at + after for at in poisson(random, 4) for after in (0.0, 0.030))


def relayed_one_way(random: Random) -> tuple[list[float], list[float]]:
    """The round trip takes 27 ms, so the second of each two packets follows the first one's copy by 3 ms."""
    sent = relayed(random)
    return sorted(later(random, sent, 0.027, 0.0275)), sent


def regular_in_spurts(random: Random) -> tuple[list[float], list[float]]:
    """Speech through the peer to another host: every 20 ms, with silence in between."""
    sent = [at + n * 0.020 for at in range(0, int(SECONDS), 2) for n in range(60)]
    return later(random, sent, 0.057, 0.0575), sent


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("traffic", [strictly_regular, relayed_one_way, regular_in_spurts])
def test_what_looks_like_answers_is_none(
    seed: int, traffic: Callable[[Random], tuple[list[float], list[float]]]
) -> None:
    inward, outward = traffic(dice(seed))
    assert surprise(seen(inward), seen(outward), ROUND_TRIP_S)[0] == 0.0


def test_the_traps_would_work_without_their_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("throughway.core.answers._stands_out", lambda count, delays: True)
    monkeypatch.setattr("throughway.core.answers._not_relayed", lambda inward, outward, round_trip_s: inward)
    for traffic in (strictly_regular, relayed_one_way, regular_in_spurts):
        inward, outward = traffic(dice(1))
        assert surprise(seen(inward), seen(outward), ROUND_TRIP_S)[0] > CERTAIN, traffic.__name__


@pytest.mark.parametrize("seed", SEEDS)
def test_an_echo_shows_who_is_answered(seed: int) -> None:
    random = dice(seed)
    asks = poisson(random, 5)
    inward = seen(later(random, asks, 0.060, 0.062), poisson(random, 5))
    assert echo(inward, seen(asks)) > SUSPECT
    assert echo(inward, seen(poisson(random, 5))) < SUSPECT


def test_nothing_is_said_of_too_little() -> None:
    for inward, outward in (([], []), ([1.0], []), ([], [1.0]), ([1.0], [1.0]), ([1.0, 2.0], [5.0, 6.0])):
        assert surprise(inward, outward, ROUND_TRIP_S) == (0.0, 0.0)
        assert echo(inward, outward) == 0.0


def test_a_burst_counts_once() -> None:
    assert starts([1.0, 1.005, 1.012, 1.03, 2.0], GAP_S) == [1.0, 1.03, 2.0]
    assert without([1.0, 2.0, 3.0], [2.02]) == [1.0, 3.0]
