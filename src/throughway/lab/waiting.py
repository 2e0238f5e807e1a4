"""Wait for a condition, never for a time."""

import time
from collections.abc import Callable
from pathlib import Path

from throughway.lab.errors import GaveUp

LOOK_EVERY_S = 0.02
"""How often a condition is looked at; what it costs is a stat or a poll of a child."""


def holds_within(condition: Callable[[], bool], limit_s: float) -> bool:
    """Wait until the condition holds and return whether it did before the limit.

    It is looked at once more when the time is over, so a limit of 0 asks once.
    """
    until = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() >= until:
            return condition()
        time.sleep(LOOK_EVERY_S)  # the one place that sleeps: between two looks at a condition
    return True


def wait_until(condition: Callable[[], bool], limit_s: float, what: str, log: Path | None = None) -> None:
    """Wait until the condition holds.

    Raises GaveUp, naming `what` and the log to read, when it does not hold within the limit.
    """
    if not holds_within(condition, limit_s):
        raise GaveUp(what, limit_s, log)
