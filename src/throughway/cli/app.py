"""`throughway up`, `status`, `sessions` and `down`."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from throughway import __version__
from throughway.cli.start import Attach

if TYPE_CHECKING:
    from rich.console import Console

PIPED_COLUMNS: Final = 200
"""The width of what is not printed on a terminal: one line a session, fit for grep."""

app = typer.Typer(
    name="throughway",
    help="Carry every VPN of every device through this router's NAT.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _complete_gateway() -> list[str]:
    from throughway.control.paths import gateways_here

    return gateways_here()


def _complete_interface() -> list[str]:
    import socket

    return [name for _, name in socket.if_nameindex()]


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"throughway {__version__}")
        raise typer.Exit


GatewayOption = Annotated[
    str | None,
    typer.Option(
        "--gateway",
        metavar="NAME",
        envvar="THROUGHWAY_GATEWAY",
        autocompletion=_complete_gateway,
        help="Which gateway, where several run here.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.callback()
def _throughway(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the release and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def up(
    inside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IF", autocompletion=_complete_interface, help="Interface towards the devices; may be repeated."
        ),
    ] = None,
    outside: Annotated[
        str | None,
        typer.Option(metavar="IF", autocompletion=_complete_interface, help="Interface towards the internet."),
    ] = None,
    gateway: Annotated[
        str, typer.Option(metavar="NAME", envvar="THROUGHWAY_GATEWAY", help="The name of this gateway.")
    ] = "default",
    attach: Annotated[Attach, typer.Option(help="How BPF programs are attached; auto takes what the kernel has.")] = (
        Attach.AUTO
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the tunnels at work when it is stopped.")] = False,
) -> None:
    """Carry VPNs between the interfaces until stopped with Ctrl-C, SIGTERM or `throughway down`."""
    from throughway.cli.start import become_daemon

    with _explained():
        become_daemon(inside or [], outside, gateway, attach, keep)


@app.command()
def status(gateway: GatewayOption = None, as_json: JsonOption = False) -> None:
    """Tell whether the gateway is well: interfaces, tables, memory, packets by reason, and what to mend."""
    from throughway.control.client import ControlClient, choose_gateway

    with _explained(), ControlClient.of_gateway(choose_gateway(gateway)) as client:
        answer = client.status()
    if as_json:
        typer.echo(json.dumps(answer.to_json(), indent=2))
        return
    from throughway.cli.status_view import print_status

    print_status(answer, _console())


@app.command()
def sessions(
    gateway: GatewayOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Redraw every second until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs; with --watch, one document a line.")
    ] = False,
) -> None:
    """List the VPN sessions that pass: device, protocol, peer, discriminators, verdict, traffic, age."""
    with _explained(), _ended_by_interrupt():
        from throughway.control.client import ControlClient, choose_gateway

        name = choose_gateway(gateway)
        with ControlClient.of_gateway(name) as client:
            if watch and as_json:
                from throughway.cli.watch import watch_sessions_as_json

                watch_sessions_as_json(client)
            elif watch:
                from throughway.cli.watch import watch_sessions

                watch_sessions(client, name, _console())
            elif as_json:
                rows = [session.to_json() for session in client.sessions()]
                typer.echo(json.dumps({"sessions": rows}, indent=2))
            else:
                from throughway.cli.sessions_view import print_sessions

                print_sessions(client, name, _console())


@app.command()
def down(
    gateway: GatewayOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the tunnels at work without the daemon.")] = False,
) -> None:
    """Stop the gateway and remove every rule, program and mapping that it laid."""
    from throughway.control.client import ControlClient, choose_gateway

    with _explained():
        name = choose_gateway(gateway)
        with ControlClient.of_gateway(name) as client:
            client.down(keep)
    if keep:
        typer.echo(f"Gateway {name} is stopped. Its tunnels go on; `throughway up` takes them over.")
    else:
        typer.echo(f"Gateway {name} is down. Its rules, programs and mappings are removed.")


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what went wrong into the fact, the remedy and exit status 1."""
    from throughway.control.errors import ControlError

    try:
        yield
    except ControlError as error:
        typer.secho(f"throughway: {error.message}", err=True, fg="red")
        if error.remedy:
            typer.echo(f"  {error.remedy}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """Let Ctrl-C be the ordinary end of a command that only looks."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _console() -> "Console":
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=PIPED_COLUMNS, soft_wrap=False)
