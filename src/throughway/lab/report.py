"""What a run of a scenario found, for programs and for people."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Self

from rich.table import Table

from throughway.lab.gateway import GatewayKind
from throughway.lab.leaks import NO_LEAKS, Leaks
from throughway.lab.transfer import Transfer

PINGS: Final = 10
PINGS_ANSWERED_MIN: Final = 8
"""Of the pings of one client. A tunnel that loses more does not carry data; one or two late answers on a machine with
two busy cores are no fault of the gateway, and are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientReport:
    """One client: whether its tunnel came up, which is to say that pings crossed it, and how many did afterwards.

    `first_reply_s` counts from the client's start. `transfer` is what a transfer through it came to, if one was made.
    """

    name: str
    address: str
    tunnel_up: bool
    pings_sent: int
    pings_received: int
    first_reply_s: float | None
    transfer: Transfer | None = None

    @property
    def has_passed(self) -> bool:
        """Whether the tunnel came up and carries data, whole."""
        is_whole = self.transfer is None or self.transfer.intact
        return self.tunnel_up and self.pings_received >= PINGS_ANSWERED_MIN and is_whole

    def to_json(self) -> dict[str, object]:
        """Return the object of a client in what `lab run --json` prints; `transfer` is there when one was made."""
        document = asdict(self)
        if self.transfer is None:
            del document["transfer"]
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run. `leaks` fail our gateway alone; `reboots` and `folder` are for people."""

    scenario: str
    gateway: GatewayKind
    clients: tuple[ClientReport, ...]
    leaks: Leaks = NO_LEAKS
    reboots: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def passed(self) -> bool:
        """Whether every tunnel carries data; and with Throughway, whether no inside address got out."""
        leaks = self.gateway is GatewayKind.THROUGHWAY and bool(self.leaks)
        return all(client.has_passed for client in self.clients) and not leaks

    def kept_in(self, folder: Path) -> Self:
        """Return the report with the folder that has the captures and logs of the run."""
        return replace(self, folder=folder)

    def to_json(self) -> dict[str, object]:
        """Return the object that `lab run --json` prints."""
        return {
            "scenario": self.scenario,
            "gateway": str(self.gateway),
            "clients": [client.to_json() for client in self.clients],
            "passed": self.passed,
        }

    def table(self) -> Table:
        """Return the table that `lab run` prints."""
        table = Table(title=f"{self.scenario} through {self.gateway}")
        for heading in ("client", "address", "tunnel", "pings", "first reply", "transfer"):
            table.add_column(heading)
        for client in self.clients:
            first = "" if client.first_reply_s is None else f"{client.first_reply_s:.2f} s"
            pings = f"{client.pings_received} of {client.pings_sent}" if client.pings_sent else ""
            table.add_row(
                client.name, client.address, "up" if client.tunnel_up else "down", pings, first, _told(client.transfer)
            )
        return table

    def remarks(self) -> list[str]:
        """Return the sentences for people that are not in the table, in a form that script/soak reads."""
        lines = [f"rebooted guest {reboot}" for reboot in self.reboots]
        lines += self.leaks.sentences()
        down = [client.name for client in self.clients if not client.has_passed]
        if down:
            lines.append(f"without a working tunnel: {', '.join(down)}")
        if self.folder is not None:
            lines.append(f"captures and logs are in {self.folder}")
        return lines


def _told(transfer: Transfer | None) -> str:
    if transfer is None:
        return ""
    to_peer, to_inside = transfer.bytes_to_peer / 1e6, transfer.bytes_to_inside / 1e6
    return f"{to_peer:.1f} MB to the peer, {to_inside:.1f} MB back, {'intact' if transfer.intact else 'NOT intact'}"
