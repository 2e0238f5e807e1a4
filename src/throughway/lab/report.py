"""What a run of a scenario found, for programs and for people."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from throughway.lab.detected import Detected
from throughway.lab.gateway import GatewayKind
from throughway.lab.outcome import Outcome
from throughway.lab.transfer import Transfer

PINGS: Final = 10
PINGS_ANSWERED_MIN: Final = 8
"""Of the pings of one client. A tunnel that loses more does not carry data; one or two late answers on a machine with
two busy cores are no fault of the gateway, and are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientReport:
    """One client: whether its tunnel came up, which is to say that pings crossed it, and how many did afterwards.

    `first_reply_s` counts from the client's start. `transfer` is what a transfer through it came to, if one was made.
    `session_fault` is what is missing until the daemon's session of it carries data, all six steps taken and nothing
    said to be wrong: empty when nothing is, None where the gateway knows no sessions.
    """

    name: str
    address: str
    tunnel_up: bool
    pings_sent: int
    pings_received: int
    first_reply_s: float | None
    transfer: Transfer | None = None
    session_fault: str | None = None

    @property
    def has_passed(self) -> bool:
        """Whether the tunnel came up and carries data, whole, and the daemon says so."""
        is_whole = self.transfer is None or self.transfer.intact
        is_told = not self.session_fault
        return self.tunnel_up and self.pings_received >= PINGS_ANSWERED_MIN and is_whole and is_told

    def to_json(self) -> dict[str, object]:
        """Return the object of a client in what `lab run --json` prints, without what there was not."""
        absent = [name for name in ("transfer", "session_fault") if getattr(self, name) is None]
        return {name: value for name, value in asdict(self).items() if name not in absent}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Outcome):
    """One run with real peers. `detected` says by the client's name what its flows are, `expected` what they should be.

    A client that is not in `detected` was not looked at.
    """

    clients: tuple[ClientReport, ...]
    expected: tuple[str, ...] = ()
    detected: Mapping[str, Detected] = field(default_factory=dict)

    @property
    def did_all(self) -> bool:
        """Whether every tunnel carries data; through Throughway, whether each was detected as what it is, too."""
        carries = all(client.has_passed for client in self.clients)
        return carries and not (self.gateway is GatewayKind.THROUGHWAY and self._mistaken())

    def _mistaken(self) -> list[str]:
        """Name the clients that were detected as something else, with what that is."""
        return [
            f"{name} as {found.words()}" for name, found in self.detected.items() if not found.is_just(self.expected)
        ]

    def details(self) -> dict[str, object]:
        """Return what was found of each client."""
        return {
            "clients": [client.to_json() for client in self.clients],
            "detected": {name: list(found.protocols) for name, found in self.detected.items()},
        }

    def table(self) -> Table:
        """Return the table that `lab run` prints."""
        title = f"{self.scenario} through {self.gateway}"
        table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        headings = ("client", "address", "tunnel", "pings", "first\nreply", "transfer", "detected\nas", "session")
        for heading in headings:
            is_long = heading in ("transfer", "session")
            table.add_column(heading, no_wrap=not is_long, min_width=8 if is_long else None, overflow="fold")
        for client in self.clients:
            first = "" if client.first_reply_s is None else f"{client.first_reply_s:.2f} s"
            pings = f"{client.pings_received} of {client.pings_sent}" if client.pings_sent else ""
            up = "up" if client.tunnel_up else "down"
            found = self.detected.get(client.name)
            detected = found.words() if found else ""
            session = "" if client.session_fault is None else client.session_fault or "carries data"
            table.add_row(client.name, client.address, up, pings, first, _told(client.transfer), detected, session)
        return table

    def failure(self) -> str:
        """Name the clients that have not passed: without data, detected as something else, or told of as without."""
        untold = [client for client in self.clients if client.session_fault]
        down = [client.name for client in self.clients if not client.has_passed and client not in untold]
        told = [f"without a working tunnel: {', '.join(down)}"] if down else []
        if mistaken := self._mistaken():
            told.append(f"not detected as just {', '.join(self.expected)}: {'; '.join(mistaken)}")
        told += [f"the session of {client.name} {client.session_fault}" for client in untold]
        return "; ".join(told)


def _told(transfer: Transfer | None) -> str:
    if transfer is None:
        return ""
    to_peer, to_inside = transfer.bytes_to_peer / 1e6, transfer.bytes_to_inside / 1e6
    return f"{to_peer:.1f} MB to the peer, {to_inside:.1f} MB back, {'intact' if transfer.intact else 'NOT intact'}"
