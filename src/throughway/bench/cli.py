"""`throughway bench`: measure this machine's forwarding, masquerade and Throughway side by side."""

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from throughway.bench import ends, report
from throughway.bench.beginnings import Beginnings
from throughway.bench.run import QUICK, ROUNDS, ROUNDS_MIN, Extent, run, run_flows
from throughway.control.errors import ControlError
from throughway.core.errors import ThroughwayError
from throughway.lab.programs import is_present
from throughway.lab.progress import Progress
from throughway.lab.signals import ended_by_signals

FAILED = 1
INTERRUPTED = 130

NEEDED = ("ip", "nft", "nsenter", "sysctl")


def bench(
    rounds: Annotated[
        int | None, typer.Option(min=ROUNDS_MIN, help=f"Rounds for each size of the table; {ROUNDS} unless told.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure little, in seconds: to see that it works, not for figures.")
    ] = False,
    flows_only: Annotated[
        bool, typer.Option("--flows-only", help="Measure only how new flows of TCP and UDP are recognised.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on the standard output.")] = False,
) -> None:
    """Measure packets a second beside plain forwarding and masquerade, latency, memory, new tunnels and flows a second.

    It works in network namespaces of its own and takes some minutes. What arrives is compared with what was sent:
    when anything is wrong the status is 1 and no figure is printed.
    """
    missing = _what_is_missing()
    if missing:
        typer.echo(missing, err=True)
        raise typer.Exit(FAILED)
    extent = QUICK if quick else Extent()
    if rounds is not None:
        extent = dataclasses.replace(extent, rounds=rounds)
    with _explained(), ended_by_signals():
        with Progress() as progress:
            results = run_flows(extent, progress.step) if flows_only else run(extent, progress.step)
        if as_json:
            typer.echo(json.dumps(results.to_json()))
            return
        console = Console()
        for table in [report.flows(results)] if isinstance(results, Beginnings) else report.tables(results):
            console.print(table)


def _what_is_missing() -> str | None:
    if os.geteuid() != 0:
        return "the bench makes network namespaces: run it as root"
    absent = [program for program in NEEDED if not is_present(program)]
    if absent:
        return f"missing: {', '.join(absent)}; script/setup installs what the bench needs"
    return None if ends.OBJECT.exists() else "the programs of the bench are not built: run script/build-bpf"


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors into sentences and a status."""
    try:
        yield
    except (ThroughwayError, ControlError) as failed:
        typer.echo(str(failed), err=True)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
