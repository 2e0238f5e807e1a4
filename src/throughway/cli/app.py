"""`throughway up`, `status`, `sessions` and `down`.

What needs rich is imported by the command that shows it: help and completion answer in half the time.
"""

import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from throughway import __version__
from throughway.cli.start import Attach, PortChoice, become_daemon
from throughway.control.client import ControlClient, choose_gateway
from throughway.control.errors import ControlError, DaemonAbsent
from throughway.control.paths import GATEWAY_DEFAULT, gateways_here

EVERY_S: Final = 1.0
"""Between two documents of `sessions --watch --json`."""

app = typer.Typer(
    name="throughway",
    help="Carry every VPN of every device through this router's NAT.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _interfaces_here() -> list[str]:
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
        autocompletion=gateways_here,
        help="Which gateway, where several run here.",
    ),
]


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
            metavar="IF", autocompletion=_interfaces_here, help="Interface towards the devices; may be repeated."
        ),
    ] = None,
    outside: Annotated[
        str | None,
        typer.Option(metavar="IF", autocompletion=_interfaces_here, help="Interface towards the internet."),
    ] = None,
    outside_address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDR", help="Give devices this address of the outside interface; may be repeated. Default: all."
        ),
    ] = None,
    gateway: Annotated[
        str, typer.Option(metavar="NAME", envvar="THROUGHWAY_GATEWAY", help="The name of this gateway.")
    ] = GATEWAY_DEFAULT,
    attach: Annotated[Attach, typer.Option(help="How BPF programs are attached; auto takes what the kernel has.")] = (
        Attach.AUTO
    ),
    ipv6_ipsec: Annotated[
        bool, typer.Option(help="Let IPsec over IPv6 in to the devices unasked, as RFC 6092 recommends.")
    ] = True,
    ike_port: Annotated[
        PortChoice, typer.Option(help="Keep the devices' port of IKE (500); auto keeps it with peers that need it.")
    ] = PortChoice.AUTO,
    l2tp_port: Annotated[
        PortChoice, typer.Option(help="Keep the devices' port of L2TP (1701); auto as above.")
    ] = PortChoice.AUTO,
    short_path: Annotated[
        bool, typer.Option(help="Let known tunnels go around netfilter while nobody else's rules look there.")
    ] = True,
    configuration: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder of protocols.toml and protocols.d. Default: /etc/throughway."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the tunnels at work when it is stopped.")] = False,
) -> None:
    """Carry VPNs between interfaces until stopped.

    Ctrl-C, SIGTERM and `throughway down` stop it, and leave no rule, program or mapping behind.
    """
    with _explained():
        become_daemon(
            inside or [],
            outside,
            gateway,
            attach,
            keep,
            ipv6_ipsec,
            ike_port,
            l2tp_port,
            outside_address or [],
            short_path,
            configuration,
        )


@app.command()
def status(
    gateway: GatewayOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Tell whether the gateway is well.

    Shows its interfaces and address, tables and memory, packets by reason, and what wants mending.
    """
    with _explained():
        with ControlClient.of_gateway(choose_gateway(gateway)) as client:
            answer = client.status()
        if as_json:
            typer.echo(json.dumps(answer.to_json(), indent=2))
        else:
            from throughway.cli.screen import show_status  # noqa: PLC0415 - rich

            show_status(answer)


@app.command()
def sessions(
    gateway: GatewayOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Redraw every second until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs; with --watch, one document a line.")
    ] = False,
) -> None:
    """List the VPN sessions that pass.

    Each with its device, protocol and peer, the discriminators, packets and bytes each way, how sure
    the gateway is whose it is, its age, and for how long it has been idle.
    """
    with _explained(), _ended_by_interrupt():
        name = choose_gateway(gateway)
        if watch and not as_json:
            from throughway.cli.screen import watch_sessions  # noqa: PLC0415 - rich

            return watch_sessions(name)
        with ControlClient.of_gateway(name) as client:
            if as_json:
                return _print_documents(client, watch)
            from throughway.cli.screen import show_sessions  # noqa: PLC0415 - rich

            return show_sessions(client, name)


@app.command()
def down(
    gateway: GatewayOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the tunnels at work, without the daemon.")] = False,
) -> None:
    """Stop the gateway.

    Returns when every rule, program and mapping that it laid is removed.
    """
    with _explained():
        name = choose_gateway(gateway)
        try:
            with ControlClient.of_gateway(name) as client:
                client.down(keep)
        except DaemonAbsent as absent:
            raise DaemonAbsent(absent.message, "there is nothing to stop" + _others_than(name)) from None
    if keep:
        typer.echo(f"Gateway {name} is stopped. Its tunnels go on; `throughway up` takes them over.")
    else:
        typer.echo(f"Gateway {name} is down. Its rules, programs and mappings are removed.")


def _print_documents(client: ControlClient, every_second: bool) -> None:
    while True:
        document = {"sessions": [session.to_json() for session in client.sessions()]}
        if not every_second:
            typer.echo(json.dumps(document, indent=2))
            return
        sys.stdout.write(json.dumps(document, separators=(",", ":")) + "\n")
        sys.stdout.flush()
        time.sleep(EVERY_S)


def _others_than(gateway: str) -> str:
    others = [other for other in gateways_here() if other != gateway]
    return f"; sockets here: {', '.join(others)}" if others else ""


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what went wrong into the fact, the remedy and exit status 1."""
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
