"""A tracker with a book of sessions beside it, driven as the daemon drives them, without a kernel."""

import time
from ipaddress import IPv4Address

from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue_files import shipped
from throughway.control.session_schema import Session, SessionFlow
from throughway.core.events import Event, FlowCount
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Peer
from throughway.core.ports import InstalledFlow, Report
from throughway.core.tracker import Tracker
from throughway.service.book import Book
from throughway.service.sessions import Rows
from throughway.service.telling import Teller
from throughway.sessions.facts import Fact

ALICE, BOB = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11))
PEER = Peer(IPv4Address("203.0.113.9"))
OUTSIDE = IPv4Address("192.0.2.2")
CATALOGUE = Catalogue.of(shipped())


class Desk:
    """The part of the daemon that knows sessions."""

    def __init__(self) -> None:
        self.teller = Teller()
        self.book = Book(CATALOGUE, self.teller, self.tell)
        self.tracker = Tracker()
        self.now = time.monotonic()
        self.facts: list[Fact] = []

    def tell(self, fact: Fact) -> None:
        self.facts.append(fact)
        self.book.on_fact(fact, self.now)

    def happen(self, *events: Event) -> "Desk":
        """Let the tracker decide about events, a second each."""
        for event in events:
            self.now += 1.0
            for command in self.tracker.handle(event, self.now):
                self.book.on_command(command)
        self.book.on_refusals(self.tracker.refusals())
        return self

    def report(self, *reports: Report) -> "Desk":
        for report in reports:
            self.book.on_report(report)
        return self

    def count(self, host: Host, counted: dict[FlowKey, int], last_at: float | None = None) -> "Desk":
        """Read counters of mappings of one host, 100 bytes a packet."""
        at = self.now if last_at is None else last_at
        self.book.on_flows(
            [
                InstalledFlow((host,), FlowCount(key, packets, 100 * packets, at), self.now)
                for key, packets in counted.items()
            ]
        )
        return self.settle()

    def settle(self) -> "Desk":
        """End a reading of counters."""
        for facts in self.book.moved((OUTSIDE,)):
            self.book.tell(facts)
        return self

    def rows(self) -> list[Session]:
        rows = Rows(self.tracker, self.book.noticing, (OUTSIDE,), self.now)
        return [rows.row(entry) for entry in self.book.register.entries()]

    def flows(self) -> list[tuple[str, SessionFlow]]:
        """Return all flows, each with its device."""
        return [(row.device, flow) for row in self.rows() for flow in row.flows]

    def told(self) -> list[str]:
        return [fact.__class__.__name__ for fact in self.facts]
