"""`throughway sessions` and `throughway sessions show`."""

import json
import sys
import time
from typing import Annotated, Final

import typer

from throughway.cli.asking import GatewayOption, JsonOption, ended_by_interrupt, explained
from throughway.control.client import ControlClient, choose_gateway
from throughway.control.errors import RequestRefused
from throughway.control.schema import Session

EVERY_S: Final = 1.0
"""Between two documents of `sessions --watch --json`."""

_ID_HELP: Final = "As `--json` lists it, or the device's address."

app = typer.Typer(name="sessions")


@app.callback(invoke_without_command=True)
def sessions(
    context: typer.Context,
    gateway: GatewayOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Redraw every second until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs; with --watch, one document a line.")
    ] = False,
) -> None:
    """List the VPN sessions that pass, and how far each has got.

    Each with its device, protocol and peer, the discriminators, packets each way, the step that it reached, how sure
    the gateway is whose it is or what stopped it, and for how long it has been idle.
    """
    if context.invoked_subcommand is not None:
        context.obj = gateway
        return
    with explained(), ended_by_interrupt():
        name = choose_gateway(gateway)
        if watch and not as_json:
            from throughway.cli.screen import watch_sessions  # noqa: PLC0415 - rich

            return watch_sessions(name)
        with ControlClient.of_gateway(name) as client:
            if as_json:
                return _print_documents(client, watch)
            from throughway.cli.screen import show_sessions  # noqa: PLC0415 - rich

            return show_sessions(client, name)


def _ids_here(context: typer.Context) -> list[str]:
    """Complete IDs, where a daemon answers."""
    with ControlClient.of_gateway(choose_gateway(context.params.get("gateway")), answer_s=EVERY_S) as client:
        return [session.id for session in client.sessions()]


@app.command()
def show(
    context: typer.Context,
    session_id: Annotated[str, typer.Argument(metavar="ID", autocompletion=_ids_here, help=_ID_HELP)],
    gateway: GatewayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell all of one session.

    That is: its steps, each with its time and what showed it, its flows, and what is wrong with it.
    """
    with explained():
        with ControlClient.of_gateway(choose_gateway(gateway or context.obj)) as client:
            session = _session(client, session_id)
        if as_json:
            typer.echo(json.dumps(session.to_json(), indent=2))
        else:
            from throughway.cli.screen import show_session  # noqa: PLC0415 - rich

            show_session(session)


def _session(client: ControlClient, words: str) -> Session:
    """Return the session with this ID, or the only one of the device with this address."""
    try:
        return client.session(words)
    except RequestRefused as refused:
        ids = [session.id for session in client.sessions() if session.device == words]
        if not ids:
            raise
        if len(ids) > 1:
            count = f"{words} has {len(ids)} sessions"
            raise RequestRefused(refused.code, count, f"name one of them: {', '.join(ids)}") from None
    return client.session(ids[0])


def _print_documents(client: ControlClient, every_second: bool) -> None:
    while True:
        document = {"sessions": [session.to_json() for session in client.sessions()]}
        if not every_second:
            typer.echo(json.dumps(document, indent=2))
            return
        sys.stdout.write(json.dumps(document, separators=(",", ":")) + "\n")
        sys.stdout.flush()
        time.sleep(EVERY_S)
