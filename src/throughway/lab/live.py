"""Keep the default scenarios running, and show each tunnel with what the daemon says of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from throughway.control.errors import ControlError
from throughway.control.schema import Session
from throughway.lab import tunnel_table
from throughway.lab.gateway import GatewayKind, Throughway
from throughway.lab.peers.client import Client
from throughway.lab.ping import FirstReply, Pinging
from throughway.lab.progress import Progress
from throughway.lab.run import start_clients, wait_for_tunnels
from throughway.lab.scenarios import LIVE, VPNS
from throughway.lab.testbed import Testbed
from throughway.lab.tunnel_table import Tunnel
from throughway.lab.waiting import holds_within

PING_EVERY_S: Final = 1.0
REFRESH_S: Final = 1.0
DOWN_AFTER_PINGS: Final = 3
"""Unanswered in a row, before a tunnel that was up is shown as down."""


@dataclass
class Row:
    """One tunnel in the table."""

    scenario: str
    client: Client
    reply: FirstReply
    pinging: Pinging | None = None

    def state(self) -> str:
        """Say in a word whether pings cross the tunnel now."""
        if self.pinging is None:
            return "down"
        tally = self.pinging.tally()
        return "up" if tally.sent - max(tally.answered, default=0) < DOWN_AFTER_PINGS else "down"

    def pings(self) -> str:
        """Say how many pings of those sent were answered, since the tunnel came up."""
        if self.pinging is None:
            return ""
        tally = self.pinging.tally()
        return f"{len(tally.answered)} of {tally.sent}"

    def tunnel(self) -> Tunnel:
        """Say all of it in words."""
        return Tunnel(self.scenario, str(self.client.address), str(self.client.server), self.state(), self.pings())


def start_all(bed: Testbed, progress: Progress, names: Sequence[str] = LIVE) -> list[Row]:
    """Start the gateway and these scenarios side by side, each with its default number of clients."""
    chosen = [VPNS[name] for name in names]
    peers = [scenario.peers(bed, scenario.clients) for scenario in chosen]
    bed.capture()
    if bed.guests:
        progress.step(f"booting {', '.join(guest.name for guest in bed.guests)}")
        bed.boot()
    progress.step("starting throughway")
    bed.start_gateway(GatewayKind.THROUGHWAY)
    rows = []
    for scenario, group in zip(chosen, peers, strict=True):
        progress.step(f"starting {scenario.name}, {scenario.clients} clients")
        group.server()
        started = zip(*start_clients(group, scenario.clients), strict=True)
        rows += [Row(scenario.name, client, reply) for client, reply in started]
    return rows


def wait_and_ping(rows: Sequence[Row], give_up_s: float) -> bool:
    """Wait until all tunnels are up and an answer has come through each since; return whether that was in time."""
    are_up = wait_for_tunnels([row.reply for row in rows], give_up_s)
    for row in rows:
        if row.reply.reply_s is not None:
            row.pinging = Pinging(row.client.place, row.client.device, row.client.target, interval_s=PING_EVERY_S)
    carrying = [row.pinging for row in rows if row.pinging is not None]
    carry = holds_within(lambda: all(ping.tally().answered for ping in carrying), give_up_s)
    return are_up and carry


def sessions_of(bed: Testbed) -> list[Session]:
    """Ask the daemon for its sessions; none when it does not answer, which the table then shows."""
    try:
        return bed.gateway.sessions() if isinstance(bed.gateway, Throughway) else []
    except ControlError:
        return []


def table(rows: Sequence[Row], sessions: Iterable[Session], console: Console) -> Table:
    """Draw the tunnels as wide as the console is."""
    return tunnel_table.table([row.tunnel() for row in rows], sessions, console)


def without_data(rows: Sequence[Row]) -> list[str]:
    """Name the tunnels that carry nothing."""
    return [row.client.name for row in rows if row.pinging is None or not row.pinging.tally().answered]


def watch(bed: Testbed, rows: Sequence[Row], console: Console) -> None:
    """Show the table, renewed each second, until Ctrl-C raises KeyboardInterrupt out of it.

    Where the console is no terminal, the table is printed once.
    """
    if not console.is_terminal:
        console.print(table(rows, sessions_of(bed), console))
    with Live(console=console, auto_refresh=False, screen=False) as shown:
        while True:
            if console.is_terminal:
                shown.update(table(rows, sessions_of(bed), console), refresh=True)
            holds_within(lambda: False, REFRESH_S)
