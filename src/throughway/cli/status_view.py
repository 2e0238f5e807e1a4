"""The gateway at a glance, for people."""

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from throughway import __version__
from throughway.cli.human import duration, plural, printable, size
from throughway.control.schema import Finding, Level, Status

_PORT_WORDS: Final = {"auto": "translated where peers answer to that", "keep": "kept", "translate": "translated"}
_LEVELS: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


def print_status(status: Status, console: Console) -> None:
    """Print the facts, then the counts, then what wants attention, each with its remedy."""
    console.print(Text(f"Gateway {printable(status.gateway)} is up, for {duration(status.uptime_s)} now", style="bold"))
    facts = _grid()
    for name, value in _facts(status):
        facts.add_row(Text(name, style="dim"), Text(printable(value)))
    console.print(facts)
    counted = {name: number for name, number in status.reasons.items() if number}
    console.print()
    if counted:
        console.print(Text("Packets by reason", style="bold"))
        counts = _grid("right")
        for name, number in counted.items():
            counts.add_row(Text(f"{number:,}"), Text(printable(name)))
        console.print(counts)
    else:
        console.print("No packet of a VPN has come by yet.")
    for finding in sorted(status.findings, key=lambda finding: list(Level).index(finding.level)):
        console.print()
        _print_finding(finding, console)


def _facts(status: Status) -> list[tuple[str, str]]:
    address = (
        ", ".join(status.outside_addresses)
        or status.outside_address
        or "no IPv4 address; nothing is translated until it has one"
    )
    release = status.version
    if status.version != __version__:
        release += f"; this command is {__version__}: restart the daemon to bring them together"
    return [
        ("Inside", ", ".join(status.inside)),
        ("Outside", f"{status.outside}, {address}"),
        ("Sessions", str(status.sessions)),
        ("Mappings", _mappings(status)),
        ("Ports", _ports(status)),
        ("Attached by", status.attached_by),
        *([("Path", status.path)] if status.path else []),
        *([("Recognised", _recognised(status))] if status.heads else []),
        ("Memory", size(status.memory_bytes)),
        ("Daemon", f"process {status.pid}, release {release}"),
    ]


def _recognised(status: Status) -> str:
    """Say which flows were recognised, and what was not looked at though it may have been a VPN's."""
    by_count = sorted(status.detected.items(), key=lambda one: (-one[1], one[0]))
    flows = plural(sum(status.detected.values()), "flow")
    words = f"{flows} ({', '.join(f'{name} {count:,}' for name, count in by_count)})" if by_count else flows
    words += f" by {plural(status.heads.get('copied', 0), 'first packet')}"
    why = {"ring-full": "the daemon did not keep up", "over-budget": "a sender began too many flows"}
    lost = [f"{status.heads[name]:,} lost because {cause}" for name, cause in why.items() if status.heads.get(name)]
    return ", ".join([words, *lost])


def _ports(status: Status) -> str:
    words = f"IKE's {_PORT_WORDS.get(status.ike_port, status.ike_port)}"
    words += f", L2TP's {_PORT_WORDS.get(status.l2tp_port, status.l2tp_port)}"
    return f"{words}; kept with {', '.join(status.ports_kept)}" if status.ports_kept else words


def _mappings(status: Status) -> str:
    words = f"{status.mappings:,} installed, {plural(status.pending, 'tunnel')} undecided"
    return f"{words}, {status.adopted:,} taken over from an earlier run" if status.adopted else words


def _print_finding(finding: Finding, console: Console) -> None:
    console.print(Text.assemble((f"{finding.level}: ", f"bold {_LEVELS[finding.level]}"), printable(finding.what)))
    if finding.remedy:
        console.print(Text(f"  {printable(finding.remedy)}"))
    for command in finding.commands:
        # Not wrapped: it is copied.
        console.print(Text(f"  {printable(command)}", style="bold"), soft_wrap=True)


def _grid(first: str = "left") -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right" if first == "right" else "left", no_wrap=True)
    table.add_column(overflow="fold")
    return table
