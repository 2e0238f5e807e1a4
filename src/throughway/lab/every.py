"""Run every scenario, with Throughway and with plain masquerade, and sum up."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table

from throughway.control.errors import ControlError
from throughway.core.errors import ThroughwayError
from throughway.lab.gateway import GatewayKind
from throughway.lab.outcome import Outcome
from throughway.lab.progress import Progress
from throughway.lab.run import run_scenario
from throughway.lab.scenarios import Scenario
from throughway.lab.vpn import VpnScenario


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of one scenario: its outcome, or why the lab could not bring it to an end."""

    outcome: Outcome | None
    trouble: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the gateway did what the scenario asks of one."""
        return self.outcome is not None and self.outcome.passed

    @property
    def failed(self) -> bool:
        """Whether the scenario was run to its end and the gateway did not do it."""
        return self.outcome is not None and not self.outcome.passed

    def to_json(self) -> dict[str, object]:
        """Return the object of one run: as `lab run` prints it, or with the trouble in its place."""
        return self.outcome.to_json() if self.outcome else {"passed": False, "trouble": list(self.trouble)}

    def word(self) -> str:
        """Say in a word what came of it."""
        return "passed" if self.passed else "failed" if self.failed else "trouble"

    def remarks(self) -> list[str]:
        """Return the sentences for people about it."""
        return self.outcome.remarks() if self.outcome else list(self.trouble)


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario with both gateways."""

    scenario: Scenario
    throughway: Attempt
    masquerade: Attempt
    seconds: float

    @property
    def clients(self) -> int | None:
        """How many VPN clients there were; None where the packets were our own."""
        return self.scenario.clients if isinstance(self.scenario, VpnScenario) else None

    @property
    def passed(self) -> bool:
        """Whether Throughway passed, and masquerade failed where it cannot do otherwise."""
        return self.throughway.passed and (self.masquerade.failed or not self.scenario.masquerade_fails)

    def to_json(self) -> dict[str, object]:
        """Return the object of one scenario in what `lab run --all --json` prints."""
        return {
            "scenario": self.scenario.name,
            "clients": self.clients,
            "masquerade_fails": self.scenario.masquerade_fails,
            "throughway": self.throughway.to_json(),
            "masquerade": self.masquerade.to_json(),
            "seconds": round(self.seconds, 1),
            "passed": self.passed,
        }

    def remarks(self) -> list[str]:
        """Return what is to be said of a row that did not pass, and of guests that were booted again."""
        told = [f"{self.scenario.name}: {remark}" for remark in self.throughway.remarks()]
        if self.scenario.masquerade_fails and not self.masquerade.failed:
            told.append(
                f"{self.scenario.name}: plain masquerade cannot do this, but its run is: {self.masquerade.word()}"
            )
            told += [f"{self.scenario.name}, masquerade: {remark}" for remark in self.masquerade.remarks()]
        return told


@dataclass(frozen=True, slots=True)
class Summary:
    """All scenarios."""

    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether there were scenarios and all rows passed."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def to_json(self) -> dict[str, object]:
        """Return the object that `lab run --all --json` prints."""
        return {"scenarios": [row.to_json() for row in self.rows], "passed": self.passed}

    def table(self) -> Table:
        """Return the table that `lab run --all` prints."""
        drawn = Table(title="Every scenario")
        for heading in ("scenario", "clients", "throughway", "masquerade"):
            drawn.add_column(heading, no_wrap=True)
        drawn.add_column("seconds", justify="right")
        for row in self.rows:
            expected = " (it cannot)" if row.scenario.masquerade_fails else ""
            drawn.add_row(
                row.scenario.name,
                str(row.clients or "-"),
                row.throughway.word(),
                f"{row.masquerade.word()}{expected}",
                f"{row.seconds:.0f}",
            )
        return drawn

    def remarks(self) -> list[str]:
        """Return the sentences for people that are not in the table."""
        told = [remark for row in self.rows for remark in row.remarks()]
        failed = [row.scenario.name for row in self.rows if not row.passed]
        return [*told, f"not as it should be: {', '.join(failed)}"] if failed else told


def run_all(scenarios: Iterable[Scenario], transfer_bytes: int, progress: Progress) -> Summary:
    """Run scenarios one after the other, each with both gateways and its default number of clients.

    Trouble in one does not keep the others from their run.
    """
    rows = []
    for scenario in scenarios:
        began = time.monotonic()
        throughway = _attempt(scenario, GatewayKind.THROUGHWAY, transfer_bytes, progress)
        masquerade = _attempt(scenario, GatewayKind.MASQUERADE, transfer_bytes, progress)
        row = Row(scenario, throughway, masquerade, time.monotonic() - began)
        rows.append(row)
        progress.say(f"{scenario.name}: throughway {throughway.word()}, masquerade {masquerade.word()}")
    return Summary(tuple(rows))


def _attempt(scenario: Scenario, kind: GatewayKind, transfer_bytes: int, progress: Progress) -> Attempt:
    inner = progress.within(f"{scenario.name} through {kind}")
    try:
        # What masquerade loses needs no captures to be understood.
        is_kept = kind is GatewayKind.THROUGHWAY
        return Attempt(
            run_scenario(scenario, scenario.clients, kind, inner, transfer_bytes=transfer_bytes, is_kept=is_kept)
        )
    except (ThroughwayError, ControlError) as failed:
        return Attempt(None, (str(failed), *getattr(failed, "__notes__", ())))
