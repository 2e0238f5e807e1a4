"""Medians with intervals, from few and noisy rounds. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median with the interval that covers the true one in at least 95 of 100 such measurements.

    With fewer than six values no interval can promise that; it is the whole range then.
    """

    median: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return a form for programs."""
        return {"median": self.median, "low": self.low, "high": self.high}


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the median by order statistics: nothing is assumed about how the values are distributed.

    Each value is below the true median with probability 1/2, so how many of them are is binomial. The interval
    goes from the k-th lowest to the k-th highest value, with the largest k that keeps the confidence: of 20 values
    from the 6th to the 15th. Raises ValueError when there are none.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("there is nothing to estimate from")
    rank = _rank(len(ordered))
    return Estimate(median(ordered), ordered[rank], ordered[-1 - rank])


def _rank(count: int) -> int:
    """Return how many values at each end the interval leaves out."""
    rank, tail = 0, 0.0
    while rank < count // 2:
        tail += math.comb(count, rank) / 2**count
        if 2 * tail > 1 - CONFIDENCE:
            break
        rank += 1
    return max(0, rank - 1)


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """Divide what was measured in the same round: what slows a round down slows both."""
    return [one / other for one, other in zip(of, to, strict=True)]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of all values does not exceed (nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("there is nothing to rank")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
