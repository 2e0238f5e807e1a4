"""`throughway lab`: list and run scenarios, keep the lab up, clean up after a crash."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from throughway.control.errors import ControlError
from throughway.core.errors import SettingsRejected, ThroughwayError
from throughway.lab import leftovers, live, programs
from throughway.lab.every import run_all
from throughway.lab.gateway import GatewayKind
from throughway.lab.progress import Progress
from throughway.lab.run import run_scenario
from throughway.lab.scenarios import LIVE, SCENARIOS, Scenario, named
from throughway.lab.signals import ended_by_signals
from throughway.lab.testbed import Testbed
from throughway.lab.transfer import DEFAULT_BYTES, size_of

FAILED = 1
"""A tunnel did not carry data, or the lab could not do its part."""

USAGE = 2
INTERRUPTED = 130

app = typer.Typer(help="Real VPN clients and servers in network namespaces.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on the standard output.")]


@app.command("list")
def list_scenarios(as_json: AsJson = False) -> None:
    """List the scenarios, and what keeps one from running here."""
    if as_json:
        rows = [
            {"name": one.name, "shows": one.shows, "clients": one.clients, "missing": one.what_is_missing()}
            for one in SCENARIOS.values()
        ]
        typer.echo(json.dumps(rows))
        return
    table = Table()
    for heading in ("scenario", "clients", "shows"):
        table.add_column(heading)
    for one in SCENARIOS.values():
        missing = one.what_is_missing()
        table.add_row(one.name, str(one.clients), f"{one.shows}\n{missing}" if missing else one.shows)
    Console().print(table)


@app.command()
def run(
    scenario: Annotated[str | None, typer.Argument(help="One of `throughway lab list`.")] = None,
    clients: Annotated[int | None, typer.Option(help="How many clients connect to the one server.")] = None,
    gateway: Annotated[
        GatewayKind | None, typer.Option(help="What stands between them: throughway unless told.")
    ] = None,
    transfer: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Also send so much each way through each tunnel, as 10MB.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Run every scenario with both gateways, and send 10 MB through each tunnel.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a scenario and end with status 0 exactly when every tunnel carried data.

    With --all the status is 0 exactly when Throughway passes every scenario, and plain masquerade fails those that it
    cannot do.
    """
    with _explained(), ended_by_signals():
        transfer_bytes = None if transfer is None else size_of(transfer)
        if every:
            _require_alone(SCENARIO=scenario, clients=clients, gateway=gateway)
            has_passed = _run_all(DEFAULT_BYTES if transfer_bytes is None else transfer_bytes, as_json=as_json)
        elif scenario is None:
            raise SettingsRejected("SCENARIO", "name one of `throughway lab list`, or say --all")
        else:
            kind = gateway or GatewayKind.THROUGHWAY
            has_passed = _run_one(*named(scenario, clients), kind, transfer_bytes or 0, as_json=as_json)
    raise typer.Exit(0 if has_passed else FAILED)


@app.command()
def up(
    once: Annotated[bool, typer.Option("--once", help="Print the table once all tunnels carry data, and end.")] = False,
) -> None:
    """Keep the default scenario running and show its tunnels until Ctrl-C, which leaves nothing behind."""
    with _explained(), ended_by_signals():
        for name in LIVE:
            _require(SCENARIOS[name].what_is_missing())
        progress = Progress()
        console = Console()
        with Testbed() as bed:
            with progress:
                rows = live.start_all(bed, progress)
                progress.step("waiting for the tunnels")
                all_carry = live.wait_and_ping(rows, bed.gateway.give_up_s if bed.gateway else 0.0)
            for reboot in bed.reboots():
                progress.say(f"rebooted guest {reboot}")
            down = live.without_data(rows)
            if down:
                progress.say(f"without a working tunnel: {', '.join(down)}")
            if not once:
                progress.say(f"in another terminal: throughway sessions --gateway {bed.prefix}")
                _watch(bed, rows, console)
                return
            console.print(live.table(rows, live.sessions_of(bed), console))
            if not all_carry:
                bed.keep()
                progress.say(f"captures and logs are in {bed.folder}")
        raise typer.Exit(0 if all_carry else FAILED)


@app.command()
def down(
    kept: Annotated[bool, typer.Option("--kept", help="Also remove what failed runs have kept for reading.")] = False,
) -> None:
    """Clean up what a lab that crashed has left; labs that still run are left alone."""
    with _explained():
        _require(None if os.geteuid() == 0 else "namespaces belong to root: run it as root")
        cleaned = leftovers.down(with_kept=kept)
        for prefix in cleaned.ended:
            typer.echo(f"ended {prefix}")
        for prefix in cleaned.running:
            typer.echo(f"{prefix} still runs and was left alone")
        for folder in cleaned.kept:
            typer.echo(f"kept for reading: {folder}")


def _run_one(chosen: Scenario, clients: int, kind: GatewayKind, transfer_bytes: int, *, as_json: bool) -> bool:
    _require(chosen.what_is_missing())
    with Progress() as progress:
        outcome = run_scenario(chosen, clients, kind, progress, transfer_bytes=transfer_bytes)
    if as_json:
        typer.echo(json.dumps(outcome.to_json()))
    else:
        Console().print(outcome.table())
    for remark in outcome.remarks():
        progress.say(remark)
    return outcome.passed


def _run_all(transfer_bytes: int, *, as_json: bool) -> bool:
    _require(programs.what_is_missing(program for one in SCENARIOS.values() for program in one.programs))
    with Progress() as progress:
        summary = run_all(SCENARIOS.values(), transfer_bytes, progress)
    if as_json:
        typer.echo(json.dumps(summary.to_json()))
    else:
        Console().print(summary.table())
    for remark in summary.remarks():
        progress.say(remark)
    return summary.passed


def _require_alone(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise SettingsRejected(name if name.isupper() else f"--{name}", "it does not go with --all, which runs all")


def _watch(bed: Testbed, rows: list[live.Row], console: Console) -> None:
    try:
        live.watch(bed, rows, console)
    except KeyboardInterrupt:
        Progress(console).say("ending everything")


def _require(missing: str | None) -> None:
    if missing is not None:
        typer.echo(missing, err=True)
        raise typer.Exit(FAILED)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors into sentences and a status."""
    try:
        yield
    except SettingsRejected as rejected:
        typer.echo(str(rejected), err=True)
        raise typer.Exit(USAGE) from None
    except (ThroughwayError, ControlError) as failed:
        for line in (str(failed), *getattr(failed, "__notes__", ())):
            typer.echo(line, err=True)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
