"""What is shown to people. Whoever imports this pays for rich."""

import sys
import time
from typing import Final

from rich.console import Console
from rich.live import Live

from throughway.cli.human import printable
from throughway.cli.session_view import print_session
from throughway.cli.sessions_view import SessionsView
from throughway.cli.status_view import print_status
from throughway.control.client import ControlClient
from throughway.control.errors import DaemonAbsent, DaemonSilent
from throughway.control.schema import Session, Status

EVERY_S: Final = 1.0
"""Between two looks at the sessions."""

PIPED_COLUMNS: Final = 200
"""The width of what is not printed on a terminal: one line a session, fit for grep."""

_WATCHING: Final = "Ctrl-C ends"


def show_status(status: Status) -> None:
    """Print the gateway at a glance."""
    print_status(status, _console())


def show_sessions(client: ControlClient, gateway: str) -> None:
    """Print the sessions once; where there is none, the fact and what to do."""
    sessions = list(client.sessions())
    console = _console()
    if sessions:
        console.print(SessionsView(gateway, sessions))
        return
    inside = ", ".join(printable(interface) for interface in client.status().inside)
    console.print(f"No VPN passes gateway {printable(gateway)} at the moment.")
    console.print(
        f"Start one on a device behind {inside}: it is listed here from its first packet on. "
        "If it is not, `throughway doctor` says what is in the way."
    )


def show_session(session: Session) -> None:
    """Print all of one session."""
    print_session(session, _console())


def watch_sessions(gateway: str) -> None:
    """Redraw the sessions in place until interrupted. A daemon that goes away meanwhile is waited for.

    Where the output is no terminal, one table follows the other.
    """
    console = _console()
    sessions = _look(gateway)
    if not console.is_terminal:
        while True:
            console.print(SessionsView(gateway, sessions))
            time.sleep(EVERY_S)
            sessions = _look(gateway)
    seen_at = time.monotonic()
    note = _WATCHING
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(SessionsView(gateway, sessions, console.size.height, note), refresh=True)
            time.sleep(EVERY_S)
            try:
                sessions, seen_at, note = _look(gateway), time.monotonic(), _WATCHING
            except (DaemonAbsent, DaemonSilent):
                note = f"as seen {time.monotonic() - seen_at:.0f} s ago; the daemon is gone, waiting for it"


def _look(gateway: str) -> list[Session]:
    # A connection for each look, so that a daemon which was restarted is found again.
    with ControlClient.of_gateway(gateway) as client:
        return list(client.sessions())


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_COLUMNS)
