"""The statistics of answers: what they find, and what must not fool them."""

from collections.abc import Callable
from math import comb, log
from random import Random

import pytest

from throughway.core.answers import (
    CERTAIN,
    DELAYS_S,
    ECHO_WINDOW_S,
    SUSPECT,
    _chernoff,
    echo,
    starts,
    surprise,
    without,
)

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
@pytest.mark.parametrize(("low_s", "high_s"), [(0.001, 0.003), (0.009, 0.015)])
def test_a_host_that_answers_half_of_what_comes_is_found(seed: int, low_s: float, high_s: float) -> None:
    random = dice(seed)
    asked, asks = poisson(random, 5), poisson(random, 5)
    inward = seen(asked, later(random, asks, 0.040, 0.045))
    assert surprise(inward, seen(asks, later(random, asked, low_s, high_s)), ROUND_TRIP_S)[0] > CERTAIN


@pytest.mark.parametrize("seed", SEEDS)
def test_a_host_that_says_nothing_but_rare_answers_is_found(seed: int) -> None:
    """Nothing else comes within a second of what it sends, so there is no other delay to stand out from."""
    asked = [n * 2.5 for n in range(12)]
    assert surprise(asked, later(dice(seed), asked, 0.001, 0.003, loss=0.0), ROUND_TRIP_S)[0] > CERTAIN


@pytest.mark.parametrize("seed", SEEDS)
def test_answers_to_what_half_keeps_time_are_found(seed: int) -> None:
    """Questions 100 or 140 ms apart: half as often as each is answered, the next one is at either delay."""
    random = dice(seed)
    asked = [0.0]
    while asked[-1] < SECONDS:
        asked.append(asked[-1] + random.choice((0.100, 0.140)))
    assert surprise(asked, later(random, asked, 0.001, 0.003), ROUND_TRIP_S)[0] > CERTAIN


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rate", [10, 20])
def test_a_stranger_is_not(seed: int, rate: float) -> None:
    random = dice(seed)
    inward, outward = seen(poisson(random, rate)), seen(poisson(random, rate))
    assert surprise(inward, outward, ROUND_TRIP_S) == (0.0, 0.0)
    assert echo(inward, outward) == 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_few_answers_make_a_host_suspect_and_one_does_not(seed: int) -> None:
    """It says something else every second, and answers so many of ten questions."""
    random = dice(seed)
    asked = [0.3 + n * 1.9 for n in range(10)]
    told = {}
    for count in (1, 4):
        outward = seen(later(random, asked[2 : 2 + count], 0.001, 0.003, loss=0.0), [n * 1.0 for n in range(20)])
        told[count] = surprise(asked, outward, ROUND_TRIP_S)
    assert told[1] == (0.0, 0.0)
    assert SUSPECT <= told[4][1] < CERTAIN


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


def by_the_clock(random: Random) -> tuple[list[float], list[float]]:
    """What comes keeps strict time, and the host sends by the same clock, at one tick in three as it happens."""
    ticks = [n * 0.080 for n in range(int(4 * SECONDS / 0.080))]
    return ticks, [at + random.uniform(0.001, 0.003) for at in ticks if random.random() < 0.3]


def by_its_own_timer(random: Random) -> tuple[list[float], list[float]]:
    """A host sends pairs through the peer to another one, which is much further away than the peer is."""
    first = [1.0]
    while first[-1] < 4 * SECONDS:
        first.append(first[-1] + random.uniform(0.1, 0.4))
    sent = sorted(at + after for at in first for after in (0.0, random.uniform(0.029, 0.031)))
    return [at + 0.027 for at in sent], sent


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("traffic", [by_the_clock, by_its_own_timer])
def test_what_stands_out_neither_from_other_delays_nor_from_its_own_is_no_answer(
    seed: int, traffic: Callable[[Random], tuple[list[float], list[float]]]
) -> None:
    """One of the two guards sees each of these, and no other guard does: they are only suspected."""
    sure, suspected = surprise(*traffic(dice(seed)), 0.001)
    assert sure == 0.0
    assert suspected > CERTAIN


def said_again_behind(random: Random, distance_s: float) -> tuple[list[float], list[float]]:
    """What comes in is at a distance of about so much behind what the host sends, and then it says more at once."""
    sent = [2.0 * n + random.random() for n in range(40)]
    came = [at + distance_s * random.uniform(0.8, 1.2) for at in sent]
    return came, sorted([*sent, *later(random, came, 0.001, 0.003)])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("round_trip_s", [0.005, 0.027, 0.080])
def test_what_may_be_the_hosts_own_packet_counts_for_nothing_however_well_it_is_followed(
    seed: int, round_trip_s: float
) -> None:
    """It sends to a neighbour through the peer, and speaks again when that one has it. That is no answer."""
    assert surprise(*said_again_behind(dice(seed), round_trip_s), round_trip_s) == (0.0, 0.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_comes_two_round_trips_behind_the_hosts_own_packet_is_none_of_its_own(seed: int) -> None:
    assert surprise(*said_again_behind(dice(seed), 0.160), 0.080)[0] > CERTAIN


def tail(hits: int, trials: int, chance: float) -> float:
    """Say how unlikely so many hits or more are, exactly: -ln of the binomial distribution's tail."""
    return -log(sum(comb(trials, n) * chance**n * (1.0 - chance) ** (trials - n) for n in range(hits, trials + 1)))


@pytest.mark.parametrize("chance", [0.003, 0.05, 0.4])
@pytest.mark.parametrize("trials", [1, 7, 90])
def test_the_bound_is_never_above_what_the_binomial_distribution_says_and_close_to_it(
    trials: int, chance: float
) -> None:
    for hits in range(trials + 1):
        exact, bound = tail(hits, trials, chance), _chernoff(hits, trials, chance)
        assert 0.0 <= bound <= exact + 1e-9
        assert exact <= bound + log(trials + 1) or hits <= chance * trials


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("round_trip_s", [0.0005, 0.061, 0.5, 0.99])
def test_an_echo_shows_who_is_answered(seed: int, round_trip_s: float) -> None:
    """By no more than counting allows, where all delays up to a second were looked at, and by not much less."""
    random = dice(seed)
    asks = [1000.0 + at for at in poisson(random, 5)]
    inward = seen(later(random, asks, round_trip_s, round_trip_s + 0.002), [1000.0 + at for at in poisson(random, 5)])
    outward = seen(asks)
    chance = ECHO_WINDOW_S * len(outward) / (outward[-1] - outward[0])
    allowed = tail(len(outward), len(inward), chance) - log(DELAYS_S / ECHO_WINDOW_S)
    assert SUSPECT < allowed / 2 < echo(inward, outward) < allowed
    assert echo(inward, seen([1000.0 + at for at in poisson(random, 5)])) < SUSPECT


def test_one_packet_that_comes_behind_another_is_no_echo() -> None:
    assert echo([1.0, 3.0], [0.9, 3.5]) == 0.0


def test_nothing_is_said_of_too_little() -> None:
    for inward, outward in (
        ([], []),
        ([1.0], []),
        ([], [1.0]),
        ([1.0], [1.0]),
        ([1.0, 2.0], [5.0, 6.0]),
        ([1.0, 5.0], [5.0, 6.0]),
        ([1.0, 5.0], [0.5, 5.0]),
    ):
        for round_trip_s in (ROUND_TRIP_S, 0.08):
            assert surprise(inward, outward, round_trip_s) == (0.0, 0.0)
        assert echo(inward, outward) == 0.0


def test_a_burst_counts_once() -> None:
    assert starts([1.0, 1.005, 1.012, 1.03, 2.0], GAP_S) == [1.0, 1.03, 2.0]
    assert starts([1.0, 1.25, 1.375], 0.25) == [1.0, 1.25]
    assert without([1.0, 2.0, 3.0], [2.02]) == [1.0, 3.0]
