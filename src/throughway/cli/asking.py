"""What all commands that ask the daemon have in common: which gateway, and how what went wrong is said."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from throughway.control.errors import ControlError
from throughway.control.paths import gateways_here

GatewayOption = Annotated[
    str | None,
    typer.Option(
        "--gateway",
        metavar="NAME",
        envvar="THROUGHWAY_GATEWAY",
        autocompletion=gateways_here,
        help="Which gateway, where several run here.",
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@contextmanager
def explained() -> Iterator[None]:
    """Turn what went wrong into the fact, the remedy and exit status 1."""
    try:
        yield
    except ControlError as error:
        typer.secho(f"throughway: {error.message}", err=True, fg="red")
        if error.remedy:
            typer.echo(f"  {error.remedy}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """Let Ctrl-C be the ordinary end of a command that only looks."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
