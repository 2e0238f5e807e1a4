"""The six steps of a session, and how they are taken: in order, each with its evidence and its time."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final


class Step(IntEnum):
    """How far a session got. Each step includes those before it."""

    STARTED = 1
    DETECTED = 2
    TRANSLATED = 3
    FORWARDED = 4
    ESTABLISHED = 5
    CARRYING_DATA = 6

    @property
    def words(self) -> str:
        """Name the step for people."""
        return _WORDS[self]


_WORDS: Final = ("", *(step.name.lower().replace("_", " ") for step in Step))
"""By the number of the step."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A step, when it was taken, and what showed it."""

    step: Step
    at: float
    evidence: str


@dataclass(slots=True)
class Walk:
    """The steps that were taken so far.

    Evidence comes in any order: an answer may be seen before the counters that show the request. A step waits
    for those before it, and is then taken at the later one of the two times, so that the times never go back.
    """

    taken: list[Taken] = field(default_factory=list)
    _early: dict[int, tuple[float, str]] = field(default_factory=dict)
    """What was shown of steps that wait for those before them."""

    @property
    def words(self) -> str:
        """Name the last step that was taken; empty before the first."""
        return self.taken[-1].step.words if self.taken else ""

    def has(self, step: Step) -> bool:
        """Whether a step was taken."""
        return len(self.taken) >= step

    def show(self, step: Step, at: float, evidence: str) -> list[Taken]:
        """Note evidence of a step; the first one counts. Return the steps that are taken by it."""
        if self.has(step):
            return []
        if step > len(self.taken) + 1:
            self._early.setdefault(step, (at, evidence))
            return []
        fresh = [self._take(step, at, evidence)]
        while early := self._early.pop(len(self.taken) + 1, None):
            fresh.append(self._take(Step(len(self.taken) + 1), *early))
        return fresh

    def _take(self, step: Step, at: float, evidence: str) -> Taken:
        taken = Taken(step, max(at, self.taken[-1].at) if self.taken else at, evidence)
        self.taken.append(taken)
        return taken
