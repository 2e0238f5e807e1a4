"""The table of sessions, as wide as the screen is.

There are two layouts. The wide one has one line a session; the narrow one has two lines a session, and fits into 80
columns. Which one is used is measured. Below the table stands what is wrong, and what to do about it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from textwrap import wrap
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from throughway.cli.human import count, duration, plural, printable, shortened, size
from throughway.control.schema import Session, Verdict

_VERDICTS: Final = {
    Verdict.CERTAIN: ("✓", "+", "green"),
    Verdict.CONTESTED: ("?", "?", "yellow"),
    Verdict.WAITING: ("…", ".", "cyan"),
    Verdict.TRACKED: ("=", "=", "blue"),
    Verdict.REFUSED: ("✗", "x", "red"),
}
"""For each verdict a sign, a sign for terminals of ASCII only, and a colour. The word always stands beside them."""

_STOPPED: Final = ("✗", "x", "red")
_ENDED: Final = ("-", "-", "dim")

_WIDE: Final[tuple[tuple[str, str], ...]] = (
    ("Device", "left"),
    ("Protocol", "left"),
    ("Peer", "left"),
    ("To peer", "left"),
    ("Packets", "right"),
    ("To inside", "left"),
    ("Packets", "right"),
    ("Step", "left"),
    ("State", "left"),
    ("Idle", "right"),
)
"""The columns of the wide layout. Packets belong to the direction before them."""

_STATE_COLUMN: Final = 8

_NOTE_LINES_MAX: Final = 4
"""Lines that say what is wrong, on a screen that is redrawn in place."""

_LINES_AROUND: Final = 7
"""Of the summary, the table's head, the count of what is left out, and the prompt."""


class SessionsView:
    """Sessions as a table that fits where it is printed.

    `height` bounds the lines on a screen that is redrawn in place; what does not fit is counted below.
    """

    def __init__(self, gateway: str, sessions: Sequence[Session], height: int | None = None, note: str = "") -> None:
        self._gateway = gateway
        several = len({session.address for session in sessions if session.address}) > 1
        self._sessions = sorted((_by_address(session) if several else session for session in sessions), key=_order)
        self._height = height
        self._note = note

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay out for the width of the console."""
        yield Text(self.summary(), style="bold")
        if not self._sessions:
            return
        notes = self._notes(options.max_width)
        shown = self._shown(1, len(notes))
        lines = _wide_lines(shown, options)
        if lines is not None:
            yield from lines
        else:
            shown = self._shown(2, len(notes))
            yield _narrow_table(shown, options.ascii_only)
        for note in notes:
            yield Text(note, style=_STOPPED[2])
        left_out = len(self._sessions) - len(shown)
        if left_out:
            yield Text(f"and {left_out:,} more: `throughway sessions` lists all", style="dim")

    def summary(self) -> str:
        """Return the state in one line: how many sessions of how many devices, and how they are."""
        states = Counter(_summed(session) for session in self._sessions)
        devices = len({session.device for session in self._sessions})
        parts = [
            f"Gateway {printable(self._gateway)}",
            f"{plural(len(self._sessions), 'session')} of {plural(devices, 'device')}"
            if self._sessions
            else "no VPN passes at the moment",
            ", ".join(f"{states[state]:,} {state}" for state in _SUMS if states[state]),
            self._note,
        ]
        return " - ".join(part for part in parts if part)

    def _shown(self, lines_each: int, note_lines: int) -> Sequence[Session]:
        if self._height is None:
            return self._sessions
        # What has ended makes room first.
        going_on_first = sorted(self._sessions, key=lambda session: bool(session.ended))
        return going_on_first[: max(1, (self._height - _LINES_AROUND - note_lines) // lines_each)]

    def _notes(self, width: int) -> list[str]:
        """Return lines that say what is wrong with sessions and what to do, no more than there is room for."""
        lines = [
            line
            for session in self._sessions
            if (words := _what_is_wrong(session))
            for line in wrap(printable(f"{session.device} {session.protocol} {session.peer}: {words}"), width)
        ]
        return lines if self._height is None else lines[:_NOTE_LINES_MAX]


def _wide_lines(sessions: Sequence[Session], options: ConsoleOptions) -> list[Text] | None:
    """Return the wide layout, or None where it has no room.

    It is put together here since a rich table takes seconds for thousands of rows.
    """
    rows = [_cells(session, options.ascii_only) for session in sessions]
    headings = tuple(heading for heading, _ in _WIDE)
    widths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    room = options.max_width - sum(widths)
    gap = min(2, room // (len(widths) - 1))
    if gap < 1:
        return None
    rule = ("-" if options.ascii_only else "─") * (sum(widths) + gap * (len(widths) - 1))
    state_at = sum(widths[:_STATE_COLUMN]) + gap * _STATE_COLUMN
    lines = [Text(_line(headings, widths, gap), style="bold"), Text(rule)]
    for session, row in zip(sessions, rows, strict=True):
        line = Text(_line(row, widths, gap), no_wrap=True)
        line.stylize(_look(session)[2], state_at, state_at + len(row[_STATE_COLUMN]))
        lines.append(line)
    return lines


def _line(cells: Sequence[str], widths: Sequence[int], gap: int) -> str:
    padded = []
    for (_, justify), cell, width in zip(_WIDE, cells, widths, strict=True):
        padding = " " * (width - cell_len(cell))
        padded.append(padding + cell if justify == "right" else cell + padding)
    return (" " * gap).join(padded).rstrip()


def _narrow_table(sessions: Sequence[Session], ascii_only: bool) -> Table:
    arrow = "->" if ascii_only else "→"
    # The box has one column between cells already.
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in (
        f"Device\n{arrow} peer",
        "Protocol\nstep",
        "To peer\npackets, bytes",
        "To inside\npackets, bytes",
        "State\nidle",
    ):
        table.add_column(heading, overflow="fold")
    for session in sessions:
        device, protocol, peer, sent_as, sent, got_as, got, step, state, idle = _cells(session, ascii_only)
        if session.diagnosis is not None and not session.ended:
            # What it is stands below the table; its code has no room here.
            state = f"{state.split()[0]} stopped"
        table.add_row(
            _two_lines(device, f"{arrow} {peer}"),
            _two_lines(protocol, step),
            _two_lines(sent_as, f"{sent}, {size(session.bytes_to_peer)}"),
            _two_lines(got_as, f"{got}, {size(session.bytes_to_inside)}"),
            _two_lines(state, idle, _look(session)[2]),
        )
    return table


def _cells(session: Session, ascii_only: bool) -> tuple[str, ...]:
    """Return the values of a session as they are shown, in the order of the wide layout."""
    sign, ascii_sign, _ = _look(session)
    others = [protocol for protocol in session.protocols if protocol != session.protocol]
    return (
        printable(session.device),
        shortened((session.protocol, *others), 1),
        printable(session.peer),
        shortened(session.discriminators_to_peer, 1),
        count(session.packets_to_peer),
        shortened(session.discriminators_to_inside, 1),
        count(session.packets_to_inside),
        printable(session.step) or "-",
        f"{ascii_sign if ascii_only else sign} {_state(session)}",
        duration(session.idle_s),
    )


def _look(session: Session) -> tuple[str, str, str]:
    """Return the sign, the sign in ASCII and the colour of how a session is."""
    if session.ended:
        return _ENDED
    return _STOPPED if session.diagnosis is not None else _VERDICTS[session.verdict]


def _state(session: Session) -> str:
    """Say in a word or two how a session is: what stopped it, else how sure we are whose it is."""
    if session.ended:
        return "ended"
    if session.diagnosis is not None:
        return printable(session.diagnosis.code)
    is_contested = session.verdict is Verdict.CONTESTED
    return f"{session.verdict} ({session.candidates})" if is_contested else str(session.verdict)


_SUMS: Final = ("carrying data", "contested", "on the way", "stopped", "ended")


def _summed(session: Session) -> str:
    """Say under which word of the summary a session is counted."""
    if session.ended:
        return "ended"
    if session.diagnosis is not None or session.verdict is Verdict.REFUSED:
        return "stopped"
    if session.verdict is Verdict.CONTESTED:
        return "contested"
    return session.step if session.step == "carrying data" else "on the way"


def _what_is_wrong(session: Session) -> str:
    """Say the fact and then the remedy; nothing of a session that ended."""
    if session.ended:
        return ""
    diagnosis = session.diagnosis
    return session.reason if diagnosis is None else f"{diagnosis.fact} {diagnosis.remedy}"


def _by_address(session: Session) -> Session:
    """Say beside the peer which address of ours it sees; only of use where it has more than one."""
    return replace(session, peer=f"{session.peer} by {session.address}") if session.address else session


def _two_lines(first: str, second: str, style: str = "") -> Text:
    # Text and not str, in which rich would look for its markup.
    return Text.assemble((first, style), "\n", (second, "dim"))


def _order(session: Session) -> tuple[bool, int, str, str, str]:
    try:
        address = int(ip_address(session.device))
    except ValueError:
        return (False, 0, session.device, session.protocol, session.peer)
    return (True, address, session.device, session.protocol, session.peer)
