"""Scenarios that are no VPN clients with pings: packets of our own, and a list of what was looked at.

Such a scenario is a function which gets a testbed with its networks made, captures running and no gateway yet. It adds
what devices, peers and guests it needs, starts the gateway, and yields one Check for each thing it has looked at:

    def hairpin(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
        device, address = bed.topology.device("device")
        bed.start_gateway(kind)
        yield Check("a device reaches the shared address", reaches(device, bed.topology.router_outside))

Whoever runs it counts the leaks, keeps the folder of a run that failed, and ends everything.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Final

from rich.table import Table

from throughway.lab import programs
from throughway.lab.gateway import GatewayKind
from throughway.lab.outcome import Outcome
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed

CLIENTS: Final = 1
"""What `--clients` may say to such a scenario: it has the devices that it needs."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what should be, whether it is, and what was found, in words or numbers."""

    what: str
    passed: bool
    found: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedScenario:
    """A scenario that yields checks. `masquerade_fails` says that a plain Linux router cannot pass it."""

    name: str
    shows: str
    checks: Callable[[Testbed, GatewayKind, Progress], Iterable[Check]]
    masquerade_fails: bool
    programs: tuple[str, ...] = ()
    clients: int = CLIENTS
    clients_max: int = CLIENTS

    def what_is_missing(self) -> str | None:
        """Say what keeps this scenario from running here, with the remedy; None when nothing does."""
        return programs.what_is_missing(self.programs)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport(Outcome):
    """One run of a scenario that yields checks."""

    checks: tuple[Check, ...]

    @property
    def did_all(self) -> bool:
        """Whether there were checks and all passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def details(self) -> dict[str, object]:
        """Return the checks."""
        return {"checks": [asdict(check) for check in self.checks]}

    def table(self) -> Table:
        """Return the table that `lab run` prints."""
        table = Table(title=f"{self.scenario} through {self.gateway}")
        for heading in ("check", "result", "found"):
            table.add_column(heading)
        for check in self.checks:
            table.add_row(check.what, "passed" if check.passed else "failed", check.found)
        return table

    def failure(self) -> str:
        """Name the checks that failed."""
        failed = [check.what for check in self.checks if not check.passed]
        return f"failed: {'; '.join(failed)}" if failed else ""
