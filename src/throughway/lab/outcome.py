"""What every run of a scenario ends in, whatever the scenario looked at."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from rich.table import Table

from throughway.lab.gateway import GatewayKind
from throughway.lab.leaks import NO_LEAKS, Leaks


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(ABC):
    """One run, for programs and for people. `leaks` fail our gateway alone; `reboots` and `folder` are for people."""

    scenario: str
    gateway: GatewayKind
    leaks: Leaks = NO_LEAKS
    reboots: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def passed(self) -> bool:
        """Whether the gateway did all that the scenario asks of one; with Throughway, without any leak."""
        return self.did_all and not (self.gateway is GatewayKind.THROUGHWAY and self.leaks)

    @property
    @abstractmethod
    def did_all(self) -> bool:
        """Whether all that was looked at is as it should be, apart from leaks."""

    @abstractmethod
    def details(self) -> dict[str, object]:
        """Return what `lab run --json` prints of this kind of run alone."""

    @abstractmethod
    def table(self) -> Table:
        """Return the table that `lab run` prints."""

    @abstractmethod
    def failure(self) -> str:
        """Say in a sentence what did not work; empty when all did. script/soak reads it."""

    def kept_in(self, folder: Path) -> Self:
        """Return the outcome with the folder that has the captures and logs of the run."""
        return replace(self, folder=folder)

    def to_json(self) -> dict[str, object]:
        """Return the object that `lab run --json` prints; `leaks` is there when there were any."""
        return {
            "scenario": self.scenario,
            "gateway": str(self.gateway),
            **self.details(),
            **({"leaks": list(self.leaks.sentences())} if self.leaks else {}),
            "passed": self.passed,
        }

    def remarks(self) -> list[str]:
        """Return the sentences for people that are not in the table."""
        lines = [f"rebooted guest {reboot}" for reboot in self.reboots]
        lines += self.leaks.sentences()
        if failure := self.failure():
            lines.append(failure)
        if self.folder is not None:
            lines.append(f"captures and logs are in {self.folder}")
        return lines
