"""The table of sessions, as wide as the screen is.

There are two layouts. The wide one has one line a session and every value in a column of its own;
the narrow one has two lines a session and fits into 80 columns. Which one is used is measured.
"""

from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from throughway.cli.human import count, duration, plural, printable, shortened, size
from throughway.control.schema import Session, Verdict

_VERDICTS: Final = {
    Verdict.CERTAIN: ("✓", "+", "green"),
    Verdict.CONTESTED: ("?", "?", "yellow"),
    Verdict.WAITING: ("…", ".", "cyan"),
    Verdict.TRACKED: ("=", "=", "blue"),
}
"""For each verdict a sign, a sign for terminals of ASCII only, and a colour. The word always stands beside them."""

_LINES_AROUND: Final = 7
"""Of the summary, the table's head, the count of what is left out, and the prompt."""

_UNBOUNDED: Final = 1000
"""Columns; more than any table of ours needs."""


class SessionsView:
    """Sessions as a table that fits where it is printed.

    `height` bounds the lines on a screen that is redrawn in place; what does not fit is counted below.
    """

    def __init__(self, gateway: str, sessions: Sequence[Session], height: int | None = None, note: str = "") -> None:
        self._gateway = gateway
        self._sessions = sorted(sessions, key=_order)
        self._height = height
        self._note = note

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay out for the width of the console."""
        yield Text(self.summary(), style="bold")
        if not self._sessions:
            return
        for gap in (2, 1):
            table = self._wide(options.ascii_only, self._shown(1), gap)
            if Measurement.get(console, options.update(width=_UNBOUNDED), table).maximum <= options.max_width:
                break
        else:
            table = self._narrow(options.ascii_only, self._shown(2))
        yield table
        left_out = len(self._sessions) - table.row_count
        if left_out:
            yield Text(f"and {left_out} more: `throughway sessions` lists all", style="dim")

    def summary(self) -> str:
        """Return the state in one line: how many sessions of how many devices, and how sure we are."""
        verdicts = Counter(session.verdict for session in self._sessions)
        devices = len({session.device for session in self._sessions})
        parts = [
            f"Gateway {printable(self._gateway)}",
            f"{plural(len(self._sessions), 'session')} of {plural(devices, 'device')}",
            ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in Verdict if verdicts[verdict]),
            self._note,
        ]
        return " - ".join(part for part in parts if part)

    def _shown(self, lines_each: int) -> Sequence[Session]:
        if self._height is None:
            return self._sessions
        return self._sessions[: max(1, (self._height - _LINES_AROUND) // lines_each)]

    def _wide(self, ascii_only: bool, sessions: Sequence[Session], gap: int) -> Table:
        table = _empty_table(gap)
        for heading in ("Device", "Protocol", "Peer", "To peer"):
            table.add_column(heading, no_wrap=True)
        table.add_column("Packets", justify="right", no_wrap=True)
        table.add_column("Bytes", justify="right", no_wrap=True)
        table.add_column("To inside", no_wrap=True)
        table.add_column("Packets", justify="right", no_wrap=True)
        table.add_column("Bytes", justify="right", no_wrap=True)
        table.add_column("Verdict", no_wrap=True)
        table.add_column("Age", justify="right", no_wrap=True)
        table.add_column("Idle", justify="right", no_wrap=True)
        for session in sessions:
            table.add_row(
                Text(printable(session.device)),
                Text(printable(session.protocol)),
                Text(printable(session.peer)),
                Text(shortened(session.discriminators_to_peer, 1)),
                count(session.packets_to_peer),
                size(session.bytes_to_peer),
                Text(shortened(session.discriminators_to_inside, 1)),
                count(session.packets_to_inside),
                size(session.bytes_to_inside),
                _verdict(session, ascii_only),
                duration(session.age_s),
                duration(session.idle_s),
            )
        return table

    def _narrow(self, ascii_only: bool, sessions: Sequence[Session]) -> Table:
        table = _empty_table()
        arrow = "->" if ascii_only else "→"
        table.add_column(f"Device\n{arrow} peer", overflow="fold")
        table.add_column("Protocol", overflow="fold")
        table.add_column("To peer\npackets, bytes", overflow="fold")
        table.add_column("To inside\npackets, bytes", overflow="fold")
        table.add_column("Verdict\nage, idle", overflow="fold")
        for session in sessions:
            table.add_row(
                _two_lines(printable(session.device), f"{arrow} {printable(session.peer)}"),
                Text(printable(session.protocol)),
                _two_lines(
                    shortened(session.discriminators_to_peer, 1),
                    f"{count(session.packets_to_peer)}, {size(session.bytes_to_peer)}",
                ),
                _two_lines(
                    shortened(session.discriminators_to_inside, 1),
                    f"{count(session.packets_to_inside)}, {size(session.bytes_to_inside)}",
                ),
                Group(
                    _verdict(session, ascii_only),
                    Text(f"{duration(session.age_s)}, {duration(session.idle_s)}", style="dim"),
                ),
            )
        return table


def _empty_table(gap: int = 2) -> Table:
    # The box has one column between cells already; rich draws it with dashes where there is only ASCII.
    return Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0), header_style="bold")


def _two_lines(first: str, second: str) -> Text:
    return Text.assemble(first, "\n", (second, "dim"))


def _verdict(session: Session, ascii_only: bool) -> Text:
    sign, ascii_sign, colour = _VERDICTS[session.verdict]
    words = f"{ascii_sign if ascii_only else sign} {session.verdict}"
    if session.verdict is Verdict.CONTESTED:
        words += f" ({session.candidates})"
    return Text(words, style=colour)


def _order(session: Session) -> tuple[bool, int, str, str, str]:
    try:
        address = int(ip_address(session.device))
    except ValueError:
        return (False, 0, session.device, session.protocol, session.peer)
    return (True, address, session.device, session.protocol, session.peer)
