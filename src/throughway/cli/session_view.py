"""One session in full: its steps, its flows, and what is wrong with it."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from throughway.cli.human import count, duration, printable, size
from throughway.control.session_schema import Session, SessionFlow


def print_session(session: Session, console: Console) -> None:
    """Print what it is, then the timeline, then the flows; last what is wrong, and what to do."""
    console.print(Text(printable(session.id), style="bold"))
    for line in _facts(session):
        console.print(Text(printable(line)))
    console.print()
    console.print(Text("Timeline, UTC", style="bold"))
    console.print(_timeline(session))
    console.print(Text("Flows", style="bold"))
    for flow in session.flows:
        _print_flow(flow, console)
    if session.diagnosis is not None:
        console.print()
        console.print(Text(printable(session.diagnosis.fact), style="red"))
        console.print(Text(printable(session.diagnosis.remedy)))


def _facts(session: Session) -> list[str]:
    seen_as = f", which sees {session.address}" if session.address else ""
    protocols = ", ".join(session.protocols)
    named = protocols if protocols == session.family else f"{session.family} ({protocols})"
    return [
        f"{session.device} with {session.peer}{seen_as}",
        f"{named}; {duration(session.age_s)} old, idle for {duration(session.idle_s)}",
    ]


def _timeline(session: Session) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for step in session.steps:
        table.add_row(Text(_clock(step.at), style="dim"), Text(step.step), Text(printable(step.evidence)))
    if session.diagnosis is not None:
        what = Text("stopped", style="red")
        table.add_row(Text(_clock(session.diagnosis.at), style="dim"), what, Text(printable(session.diagnosis.code)))
    if session.ended:
        table.add_row(Text(_clock(session.ended_at), style="dim"), Text("ended"), Text(printable(session.ended)))
    return table


def _clock(at: str) -> str:
    """Return the time of day of `2026-11-22T17:09:28.456Z`."""
    return printable(at.partition("T")[2].removesuffix("Z") or at)


def _print_flow(flow: SessionFlow, console: Console) -> None:
    names = {"to peer": flow.discriminators_to_peer, "to inside": flow.discriminators_to_inside}
    gone = ", gone" if flow.is_gone else ""
    console.print(Text(printable(f"{flow.protocol}: {flow.verdict}, carried by {flow.carried_by}{gone}")))
    sent = f"{count(flow.packets_to_peer)} packets, {size(flow.bytes_to_peer)}"
    came = f"{count(flow.packets_to_inside)} packets, {size(flow.bytes_to_inside)}"
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for (direction, words), counted in zip(names.items(), (sent, came), strict=True):
        table.add_row(Text(f"  {direction}"), Text(counted), Text(printable(", ".join(words) or "-")))
    console.print(table)
    for sentence in (flow.evidence, flow.reason):
        if sentence:
            console.print(Text(printable(f"  {sentence}"), style="dim"))
