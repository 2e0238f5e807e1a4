"""Sessions that are looked at for longer than a moment."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.live import Live

from throughway.cli.sessions_view import SessionsView
from throughway.control.client import ControlClient
from throughway.control.errors import ControlError, DaemonAbsent, DaemonSilent
from throughway.control.schema import Session

EVERY_S: Final = 1.0


def watch_sessions(client: ControlClient, gateway: str, console: Console) -> None:
    """Redraw the table in place until interrupted. A daemon that is gone for a while is waited for.

    Where the output is no terminal, one table follows the other.
    """
    view = SessionsView(gateway, list(client.sessions()))
    if not console.is_terminal:
        console.print(view)
        for sessions in _each_second(client):
            console.print(SessionsView(gateway, sessions))
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        sessions = list(client.sessions())
        while True:
            live.update(_screen(gateway, sessions, console, "Ctrl-C ends"), refresh=True)
            time.sleep(EVERY_S)
            try:
                sessions = list(client.sessions())
            except (DaemonAbsent, DaemonSilent):
                client.close()
                client = _reconnected(gateway, sessions, console, live)
                sessions = list(client.sessions())


def watch_sessions_as_json(client: ControlClient) -> None:
    """Print one document a second, each on its own line, until interrupted or the daemon is gone."""
    print_json_line(list(client.sessions()))
    for sessions in _each_second(client):
        print_json_line(sessions)


def print_json_line(sessions: list[Session]) -> None:
    """Print the sessions as one line that is out at once, also into a pipe."""
    document = {"sessions": [session.to_json() for session in sessions]}
    sys.stdout.write(json.dumps(document, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def _each_second(client: ControlClient) -> Iterator[list[Session]]:
    while True:
        time.sleep(EVERY_S)
        yield list(client.sessions())


def _reconnected(gateway: str, last_seen: list[Session], console: Console, live: Live) -> ControlClient:
    gone_at = time.monotonic()
    while True:
        gone_s = time.monotonic() - gone_at
        note = f"as last seen: the daemon does not answer since {gone_s:.0f} s, waiting for it; Ctrl-C ends"
        live.update(_screen(gateway, last_seen, console, note), refresh=True)
        time.sleep(EVERY_S)
        try:
            return ControlClient.of_gateway(gateway)
        except ControlError:
            continue


def _screen(gateway: str, sessions: list[Session], console: Console, note: str) -> SessionsView:
    return SessionsView(gateway, sessions, console.size.height, note)
