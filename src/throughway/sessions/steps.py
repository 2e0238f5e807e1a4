"""The six steps of a session, and how they are taken: in order, each with its evidence and its time."""

from dataclasses import dataclass, field
from enum import IntEnum


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
        return self.name.lower().replace("_", " ")


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
    _shown: dict[Step, tuple[float, str]] = field(default_factory=dict)

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
        self._shown.setdefault(step, (at, evidence))
        fresh: list[Taken] = []
        while (following := len(self.taken) + 1) <= Step.CARRYING_DATA and Step(following) in self._shown:
            shown_at, words = self._shown.pop(Step(following))
            before = self.taken[-1].at if self.taken else shown_at
            self.taken.append(Taken(Step(following), max(before, shown_at), words))
            fresh.append(self.taken[-1])
        return fresh
