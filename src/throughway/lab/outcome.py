"""What every run of a scenario ends in, whatever the scenario looked at."""

from pathlib import Path
from typing import Protocol, Self

from rich.table import Table

from throughway.lab.gateway import GatewayKind


class Outcome(Protocol):
    """One run, for programs and for people."""

    @property
    def scenario(self) -> str:
        """The scenario's name."""
        ...

    @property
    def gateway(self) -> GatewayKind:
        """What stood between the two ends."""
        ...

    @property
    def passed(self) -> bool:
        """Whether the gateway did all that the scenario asks of one."""
        ...

    def kept_in(self, folder: Path) -> Self:
        """Return the outcome with the folder that has the captures and logs of the run."""
        ...

    def to_json(self) -> dict[str, object]:
        """Return the object that `lab run --json` prints; it has `scenario`, `gateway` and `passed`."""
        ...

    def table(self) -> Table:
        """Return the table that `lab run` prints."""
        ...

    def remarks(self) -> list[str]:
        """Return the sentences for people that are not in the table."""
        ...
