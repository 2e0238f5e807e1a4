"""Chance is the same everywhere, and as it should be on average."""

import pytest

from throughway.simulate.chances import about, between, poisson, stream


def test_a_stream_is_the_same_on_every_machine() -> None:
    """Numbers written down once: Python's generator and its seeding by a word are fixed."""
    assert [stream(1, "host", 7).getrandbits(32), stream(2, "host", 7).getrandbits(32)] == [3187750562, 2622167831]


def test_streams_of_two_names_differ() -> None:
    assert stream(1, "host", 12).random() != stream(1, "host", 1, 2).random()


@pytest.mark.parametrize("mean", [0.01, 3.0, 20.0, 49.9, 50.1, 400.0])
def test_poisson_has_its_mean_and_variance(mean: float) -> None:
    chance = stream(1, "poisson")
    drawn = [poisson(chance, mean) for _ in range(20_000)]
    average = sum(drawn) / len(drawn)
    variance = sum((count - average) ** 2 for count in drawn) / len(drawn)
    assert average == pytest.approx(mean, rel=0.03, abs=0.004)
    assert variance == pytest.approx(mean, rel=0.06, abs=0.004)
    assert min(drawn) >= 0


def test_nothing_happens_where_nothing_can() -> None:
    assert poisson(stream(1), 0.0) == 0


def test_numbers_stay_in_their_range() -> None:
    chance = stream(1)
    assert all(2.0 <= between(chance, 2.0, 3.0) < 3.0 for _ in range(1000))
    assert all(540.0 <= about(chance, 600.0, 0.1) <= 660.0 for _ in range(1000))
