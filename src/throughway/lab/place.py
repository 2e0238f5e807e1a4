"""Where a program runs, a namespace here or a guest, is one thing to those who start it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from throughway.lab.errors import LabFailed
from throughway.lab.waiting import wait_until


class Task(Protocol):
    """A program that was started somewhere."""

    @property
    def label(self) -> str:
        """What to call it in messages: where, and which program."""
        ...

    def status(self) -> int | None:
        """Return the exit status, or None while the program runs."""
        ...

    def output(self) -> str:
        """Return what the program has written so far, errors included."""
        ...

    def interrupt(self) -> None:
        """Ask the program to end, as Ctrl-C does."""
        ...


class Place(Protocol):
    """Somewhere with a network of its own where programs can be started."""

    @property
    def name(self) -> str:
        """What people call the place."""
        ...

    def start(self, *argv: str, environment: Mapping[str, str] | None = None) -> Task:
        """Start a program and return at once."""
        ...


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended."""

    status: int
    output: str


def run(place: Place, *argv: str, limit_s: float = 15.0, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a program to its end and return what came of it, whatever its status.

    Raises GaveUp when it does not end within the limit; it is interrupted then.
    """
    task = place.start(*argv, environment=environment)
    try:
        wait_until(lambda: task.status() is not None, limit_s, f"{task.label} to end")
    except BaseException:
        task.interrupt()
        raise
    status = task.status()
    assert status is not None  # noqa: S101 - it ended: that was waited for
    return Finished(status, task.output())


def must(place: Place, *argv: str, limit_s: float = 15.0, environment: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return its output.

    Raises LabFailed with the program's words when its status is not 0, and GaveUp when it does not end.
    """
    finished = run(place, *argv, limit_s=limit_s, environment=environment)
    if finished.status != 0:
        raise LabFailed(f"{' '.join(argv)} in {place.name}: status {finished.status}: {finished.output.strip()}")
    return finished.output
