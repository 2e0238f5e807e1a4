"""Tell people what the lab is doing, on the standard error output."""

from copy import copy
from types import TracebackType
from typing import Self

from rich.console import Console


class Progress:
    """One line for each step; on a terminal the present step has a spinner."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._about = ""
        self._status = self.console.status("") if self.console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def within(self, about: str) -> "Progress":
        """Return a progress that tells the same console of the steps of one part, whose name goes before each."""
        part = copy(self)
        part._about = f"{about}: "
        return part

    def step(self, text: str) -> None:
        """Say what is done now."""
        text = f"{self._about}{text}"
        if self._status is not None:
            self._status.update(text)
        else:
            self.console.print(text, soft_wrap=True, markup=False)

    def say(self, text: str) -> None:
        """Say what is to stay on the screen."""
        self.console.print(text, soft_wrap=True, markup=False)
