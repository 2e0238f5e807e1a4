"""`throughway up`, `status`, `sessions`, `events` and `down`.

What needs rich is imported by the command that shows it: help and completion answer in half the time.
"""

import json
import socket
from pathlib import Path
from typing import Annotated

import typer

from throughway import __version__
from throughway.cli.asking import GatewayOption, explained
from throughway.cli.events_app import events
from throughway.cli.sessions_app import app as sessions_app
from throughway.cli.start import Attach, PortChoice, become_daemon
from throughway.control.client import ControlClient, choose_gateway
from throughway.control.errors import DaemonAbsent
from throughway.control.paths import GATEWAY_DEFAULT, gateways_here

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
    with explained():
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
    with explained():
        with ControlClient.of_gateway(choose_gateway(gateway)) as client:
            answer = client.status()
        if as_json:
            typer.echo(json.dumps(answer.to_json(), indent=2))
        else:
            from throughway.cli.screen import show_status  # noqa: PLC0415 - rich

            show_status(answer)


app.add_typer(sessions_app)
app.command()(events)


@app.command()
def down(
    gateway: GatewayOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the tunnels at work, without the daemon.")] = False,
) -> None:
    """Stop the gateway.

    Returns when every rule, program and mapping that it laid is removed.
    """
    with explained():
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


def _others_than(gateway: str) -> str:
    others = [other for other in gateways_here() if other != gateway]
    return f"; sockets here: {', '.join(others)}" if others else ""
