"""Protocols and switches on a screen. Whoever imports this pays for rich."""

import sys
from collections.abc import Iterator, Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from throughway.cli.human import plural, printable
from throughway.control.protocols_schema import OverrideRow, Position, ProtocolRow, Protocols

PIPED_COLUMNS: Final = 200
"""The width of what is not printed on a terminal: one line a protocol, fit for grep."""

_COLOURS: Final = {Position.ON: "green", Position.OFF: "red", Position.UNASSISTED: "yellow"}

_CARRIED_BY: Final = {
    "masquerade": "connection tracking, by ports",
    "helper": "the kernel's helper",
    "tracker": "Throughway, by what names its tunnels",
    "nothing": "nothing: no NAT can carry it",
}


def console() -> Console:
    """Make the console for what is printed."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_COLUMNS)


def show_list(found: Protocols, note: str) -> None:
    """Print a line for each protocol, by family, and below them the overrides."""
    out = console()
    families = dict.fromkeys(row.family for row in found.protocols)
    out.print(
        Text(
            f"{plural(len(found.protocols), 'protocol')} in {plural(len(families), 'family', 'families')}, "
            f"{sum(row.position is Position.OFF for row in found.protocols)} off",
            style="bold",
        )
    )
    has_flows = any(row.flows is not None for row in found.protocols)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("Family", overflow="fold")
    table.add_column("Protocol", overflow="fold")
    table.add_column("Switch", no_wrap=True)
    if has_flows:
        table.add_column("Flows", justify="right")
        table.add_column("Blocked", justify="right")
    table.add_column("What it is", overflow="fold")
    for family in families:
        own = [row for row in found.protocols if row.family == family]
        for number, row in enumerate(own):
            counts = (f"{row.flows:,}", f"{row.blocked:,}") if has_flows else ()
            name = printable(row.name) + (" (yours)" if row.file else "")
            table.add_row(family if not number else "", row.id, _switch(row), *counts, name)
    out.print(table)
    if found.overrides:
        out.print(Text("Set for single devices and peers", style="bold"))
        for line in _overrides(found.overrides):
            out.print(Text("  "), line, sep="")
    if note:
        out.print(note, style="dim")


def show_one(name: str, found: Protocols, note: str) -> None:
    """Print all about a protocol, or about the protocols of a family. There must be one."""
    out = console()
    for number, row in enumerate(chosen(name, found)):
        if number:
            out.print()
        out.print(Text(f"{row.id} - {printable(row.name)}", style="bold"))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for word, value in _facts(row):
            table.add_row(f"  {word}", value)
        for override in _overrides([one for one in found.overrides if one.name in (row.id, row.family)]):
            table.add_row("  except that", override)
        out.print(table)
    if note:
        out.print(note, style="dim")


def chosen(name: str, found: Protocols) -> list[ProtocolRow]:
    """Return the protocols of a family, or the one with this ID."""
    return [row for row in found.protocols if row.family == name] or [row for row in found.protocols if row.id == name]


def _facts(row: ProtocolRow) -> Iterator[tuple[str, Text]]:
    yield "switch", _switch(row)
    if row.flows is not None:
        yield "flows", Text(f"{plural(row.flows, 'flow')} known, {row.blocked:,} blocked")
    for word, value in (
        ("what it is", row.summary),
        ("recognised by", row.recognised_by),
        ("carried by", _CARRIED_BY.get(row.carried_by, row.carried_by)),
        ("needs of NAT", row.needs),
        ("off blocks", row.off_blocks),
        *(("mind", quirk) for quirk in row.quirks),
        ("good to know", row.tell),
        ("family", row.family),
        ("file", row.file or "comes with Throughway"),
    ):
        if value:
            yield word, Text(printable(value))


def _switch(row: ProtocolRow) -> Text:
    why = f" (by {row.decided_by})" if row.decided_by not in ("", row.id) else ""
    return Text.assemble((row.position.value, _COLOURS[row.position]), why)


def _overrides(overrides: Sequence[OverrideRow]) -> list[Text]:
    return [
        Text.assemble(f"{one.name} is ", (one.position.value, _COLOURS[one.position]), f" for {_place(one)}")
        for one in overrides
    ]


def _place(one: OverrideRow) -> str:
    device = one.device or "every device"
    return f"{device} with {one.peer}" if one.peer else device
