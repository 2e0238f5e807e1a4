"""The table of `lab up`: one line for each tunnel, as wide as the screen is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from throughway.control.schema import Session, Verdict

_TITLE: Final = "Tunnels through one public address"

_UNBOUNDED: Final = 1 << 16
"""More columns, and more names, than there ever are."""

_LAYOUTS: Final = (_UNBOUNDED, 1)
"""How many names of a tunnel are shown in each direction: the first number for which the screen has room, else none."""

_NEGOTIATING: Final = frozenset({"ike", "pptp"})
"""Sessions that set a tunnel up, while another one beside them carries its packets."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What the lab itself knows of one tunnel, in words."""

    scenario: str
    device: str
    peer: str
    state: str
    pings: str


def table(tunnels: Sequence[Tunnel], sessions: Iterable[Session], console: Console) -> Table:
    """Draw a line for each tunnel, with what the daemon says of the session that carries it.

    What names it (SPIs, ports, call IDs) is shown as far as the console is wide enough, so that nothing is cut.
    """
    listed = list(sessions)
    rows = [(tunnel, _carrying(tunnel, listed)) for tunnel in tunnels]
    for names_max in _LAYOUTS:
        drawn = _drawn(rows, names_max)
        if Measurement.get(console, console.options.update(width=_UNBOUNDED), drawn).maximum <= console.width:
            return drawn
    return _drawn(rows, 0)


def _drawn(rows: Iterable[tuple[Tunnel, Session | None]], names_max: int) -> Table:
    drawn = Table(title=_TITLE, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    names = ("to peer", "to inside") if names_max else ()
    for heading in ("device", "peer", "protocol", "tunnel", "pings", *names, "verdict"):
        drawn.add_column(heading, no_wrap=True)
    for tunnel, session in rows:
        words = (session.discriminators_to_peer, session.discriminators_to_inside) if session else ((), ())
        drawn.add_row(
            tunnel.device,
            tunnel.peer,
            session.protocol if session else tunnel.scenario,
            tunnel.state,
            tunnel.pings,
            *(_shortened(each, names_max) for each in words if names_max),
            _verdict(session),
        )
    return drawn


def _carrying(tunnel: Tunnel, sessions: Iterable[Session]) -> Session | None:
    """Find the session between the device and the server that carries packets rather than negotiates."""
    own = [session for session in sessions if (session.device, session.peer) == (tunnel.device, tunnel.peer)]
    return max(
        own,
        key=lambda session: (session.protocol not in _NEGOTIATING, session.packets_to_peer, session.protocol),
        default=None,
    )


def _shortened(words: Sequence[str], shown: int) -> str:
    """Return the first words and how many are left out, as `throughway sessions` does."""
    left_out = len(words) - shown
    listed = ", ".join(words[:shown]) or "-"
    return f"{listed} +{left_out}" if left_out > 0 else listed


def _verdict(session: Session | None) -> str:
    if session is None:
        return "-"
    return f"{session.verdict} ({session.candidates})" if session.verdict is Verdict.CONTESTED else str(session.verdict)
