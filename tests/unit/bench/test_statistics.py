"""Medians and their intervals."""

import math

import pytest

from throughway.bench.statistics import estimate, percentile, ratios


def test_twenty_values_give_the_sixth_and_the_fifteenth() -> None:
    values = [float(number) for number in range(1, 21)]
    found = estimate(values[::-1])
    assert (found.median, found.low, found.high) == (10.5, 6.0, 15.0)


@pytest.mark.parametrize("count", range(6, 60))
def test_the_interval_keeps_its_promise_and_the_next_narrower_one_does_not(count: int) -> None:
    """How many values are below the true median is binomial; the interval misses it when too few or too many are."""
    found = estimate([float(number) for number in range(count)])
    left_out = int(found.low)
    assert found.high == count - 1 - left_out

    def miss(rank: int) -> float:
        return 2 * float(sum(math.comb(count, below) for below in range(rank + 1))) / float(2**count)

    assert miss(left_out) <= 0.05 < miss(left_out + 1)


@pytest.mark.parametrize("count", range(1, 6))
def test_few_values_give_their_range(count: int) -> None:
    found = estimate([float(number) for number in range(count)])
    assert (found.low, found.high) == (0.0, count - 1)


def test_one_round_that_went_wrong_does_not_move_the_interval() -> None:
    quiet = [1.2 + number / 1000 for number in range(20)]
    disturbed = [0.01, *quiet[1:]]
    assert estimate(disturbed) == estimate(quiet)


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="argument 2"):
        ratios([1.0], [1.0, 2.0])


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.99), percentile(values, 0.5), percentile([7.0], 0.99)) == (99.0, 50.0, 7.0)


def test_nothing_cannot_be_estimated() -> None:
    with pytest.raises(ValueError, match="nothing"):
        estimate([])
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)
