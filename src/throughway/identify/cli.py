"""`throughway identify`: the flows of capture files for people, or as lines of JSON for programs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from throughway.catalogue_files import OPERATOR_FOLDER, read_catalogue
from throughway.core.errors import SettingsRejected
from throughway.detect.flows import Flow
from throughway.identify.reading import Outcome
from throughway.identify.reading import identify as identify_file

_TRANSPORTS = {6: "tcp", 17: "udp"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def identify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Capture files, pcap or pcapng.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print each flow as a line of JSON.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show flows that are no VPN, too.")] = False,
    protocols: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder with protocols of your own.")
    ] = OPERATOR_FOLDER,
) -> None:
    """Name the VPN protocols in capture files, flow by flow, with the evidence. Needs no privileges.

    Exit status: 0 when all files were read to their end, 1 when one was not, 2 when a protocol's file is wrong.
    """
    errors = Console(stderr=True, highlight=False)
    try:
        catalogue = read_catalogue(protocols)
    except SettingsRejected as error:
        errors.print(f"[red]error[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from error
    failed = False
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        for path in files:
            task = progress.add_task(escape(path.name), total=None)
            show = _Json(path) if as_json else _People(path, everything)
            outcome = identify_file(
                path,
                catalogue,
                show.flow,
                lambda done, of, task=task: progress.update(task, completed=done, total=of),  # type: ignore[misc]
            )
            progress.remove_task(task)
            show.end(outcome)
            for problem in outcome.problems:
                errors.print(f"[red]error[/] {escape(str(path))}: {escape(problem)}", soft_wrap=True)
            failed = failed or bool(outcome.problems)
    raise typer.Exit(1 if failed else 0)


class _Json:
    """Prints each flow as one line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def flow(self, flow: Flow) -> None:
        typer.echo(json.dumps(as_json(str(self._path), flow), ensure_ascii=False))

    def end(self, outcome: Outcome) -> None:
        """Print nothing: the lines are all there is."""


class _People:
    """Prints three lines for each VPN flow: what it is, by what evidence, and what names its tunnels."""

    def __init__(self, path: Path, everything: bool) -> None:
        self._path = path
        self._everything = everything

    def flow(self, flow: Flow) -> None:
        if flow.answer is None and not self._everything:
            return
        record = as_json(str(self._path), flow)
        ends = f"{_end(record, 'src', 'sport')} -> {_end(record, 'dst', 'dport')}"
        carried = f"{record['packets']} packets, {_size(record['bytes'])}"
        transport = _TRANSPORTS.get(flow.protocol, f"ip-{flow.protocol}")
        name = record["protocol"] or "-"
        sure = f"{flow.answer.confidence:.0%}" if flow.answer else ""
        typer.echo(f"{name:<11}{sure:>4}  {ends}  {transport}  {carried}")
        if flow.answer:
            typer.echo(f"{'':17}{flow.answer.evidence}")
        if record["discriminators"]:
            typer.echo(f"{'':17}{', '.join(record['discriminators'])}")

    def end(self, outcome: Outcome) -> None:
        typer.echo(f"{self._path}: {outcome.named} VPN flows of {outcome.flows}, {outcome.frames} frames")


def as_json(file: str, flow: Flow) -> dict[str, Any]:
    """Return what is told of a flow to programs. Ports are None where the protocol has none."""
    answer = flow.answer
    return {
        "file": file,
        "src": flow.source_text(),
        "sport": flow.source_port if flow.has_ports else None,
        "dst": flow.destination_text(),
        "dport": flow.destination_port if flow.has_ports else None,
        "ip_proto": flow.protocol,
        "protocol": answer.protocol if answer else None,
        "confidence": answer.confidence if answer else 0.0,
        "packets": flow.packets,
        "bytes": flow.bytes,
        "discriminators": list(flow.notes.words()) if answer else [],
        "evidence": answer.evidence if answer else "",
    }


def _end(record: dict[str, Any], address: str, port: str) -> str:
    text = str(record[address])
    if record[port] is None:
        return text
    return f"[{text}]:{record[port]}" if ":" in text else f"{text}:{record[port]}"


def _size(number: float) -> str:
    for unit in _UNITS[:-1]:
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} {_UNITS[-1]}"
