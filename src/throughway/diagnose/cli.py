"""`throughway doctor`: the findings for people, or as JSON for programs."""

import asyncio
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from throughway.core.errors import SettingsRejected
from throughway.core.findings import Finding, Level
from throughway.diagnose.doctor import examine

_WORDS = {Level.OK: "[green]ok     [/]", Level.WARNING: "[yellow]warning[/]", Level.ERROR: "[red]error  [/]"}


def doctor(
    inside: Annotated[
        list[str] | None, typer.Option(metavar="IF", help="An inside interface; may be repeated.")
    ] = None,
    outside: Annotated[str | None, typer.Option(metavar="IF", help="The outside interface.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this machine for what keeps VPN tunnels from passing, and say how to mend it. Changes nothing.

    Exit status: 0 without errors (warnings do not count), 1 with any, 2 when the options are wrong.
    """
    try:
        findings = asyncio.run(examine(inside or [], outside))
    except SettingsRejected as error:
        Console(stderr=True).print(f"[red]error[/] {escape(str(error))}")
        raise typer.Exit(2) from error
    passed = not any(finding.level is Level.ERROR for finding in findings)
    if as_json:
        typer.echo(json.dumps({"passed": passed, "findings": [finding.as_json() for finding in findings]}, indent=2))
    else:
        show(findings, Console(highlight=False))
    raise typer.Exit(0 if passed else 1)


def show(findings: list[Finding], console: Console) -> None:
    """Print a line for each finding, worst last so that it is on the screen, with remedies and commands below.

    Commands are never wrapped: they are to be copied.
    """
    order = list(Level)
    for finding in sorted(findings, key=lambda f: order.index(f.level)):
        console.print(f"{_WORDS[finding.level]} {escape(finding.what)}")
        if finding.remedy:
            console.print(f"        {escape(finding.remedy)}")
        for command in finding.commands:
            console.print(f"        [bold]{escape(command)}[/]", soft_wrap=True)
    errors = sum(finding.level is Level.ERROR for finding in findings)
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    console.print(f"Checks: {len(findings)}. Errors: {errors}. Warnings: {warnings}.")
