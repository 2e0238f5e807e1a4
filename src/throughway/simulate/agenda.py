"""What happens next: a clock that jumps from one appointed moment to the next."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final


class Agenda:
    """Calls what is due, in order of time; at the same moment, in the order in which it was asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: Final[list[tuple[float, int, Callable[..., None], tuple[Any, ...]]]] = []
        self._count = 0

    def at(self, moment: float, act: Callable[..., None], *about: Any) -> None:
        """Call `act` at a moment, in seconds; one that has passed is now."""
        self._count += 1
        heappush(self._due, (moment, self._count, act, about))

    def run(self, until: float) -> None:
        """Let everything happen up to and including a moment."""
        due = self._due
        while due and due[0][0] <= until:
            moment, _, act, about = heappop(due)
            if moment > self.now:
                self.now = moment
            act(*about)
        self.now = max(self.now, until)
