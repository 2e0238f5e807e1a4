"""Chance, from one seed and the same on every machine.

Each host has streams of its own, seeded by name, so that what one of them draws changes nothing for the others.
"""

from math import exp, sqrt
from random import Random
from typing import Final

_LARGE_MEAN: Final = 50.0
"""From here on the normal distribution stands for Poisson's."""


def stream(seed: int, *names: object) -> Random:
    """Begin a stream of random numbers. Names are words and numbers."""
    return Random("/".join(str(part) for part in (seed, *names)))  # noqa: S311 - a model, no secret


def poisson(chance: Random, mean: float) -> int:
    """Draw how many events there are where there are so many on average."""
    if mean <= 0.0:
        return 0
    if mean >= _LARGE_MEAN:
        return max(0, round(chance.gauss(mean, sqrt(mean))))
    point, count, share = chance.random(), 0, exp(-mean)
    below = share
    while point > below and share > 0.0:
        count += 1
        share *= mean / count
        below += share
    return count


def between(chance: Random, low: float, high: float) -> float:
    """Draw a number, all equally likely."""
    return low + (high - low) * chance.random()


def about(chance: Random, middle: float, share: float) -> float:
    """Draw a number that is up to a share more or less than the middle."""
    return middle * between(chance, 1.0 - share, 1.0 + share)
