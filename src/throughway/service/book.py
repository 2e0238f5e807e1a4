"""The sessions of the daemon: facts are made here of what it sees anyway, and what follows from them is told."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Address
from typing import Final

import structlog

from throughway.catalogue.catalogue import Catalogue
from throughway.core.addresses import Slots
from throughway.core.commands import Command
from throughway.core.errors import KernelRefused
from throughway.core.events import AdoptedFlow
from throughway.core.ports import InstalledFlow, Report
from throughway.core.tunnels import Refusal
from throughway.service.counting import Counting
from throughway.service.noticing import Noticing
from throughway.service.telling import Teller
from throughway.service.tracking import Tracking
from throughway.sessions.facts import Fact, OutsideAddresses
from throughway.sessions.register import Register

log = structlog.get_logger()

JUDGE_EVERY_S: Final = 1.0
"""How often sessions are looked at for what silence alone shows."""

SWEEP_EVERY: Final = 30
"""After so many of these, what belongs to forgotten sessions is looked for."""

READ_EVERY_S: Final = 2.0
"""How often connection tracking is asked what the flows of sessions have carried."""

READ_REST: Final = 20
"""Reading rests for this many times as long as it took: ten thousand sessions cost 5 % of a core, and not all of it."""

SETTLED_AT_ONCE: Final = 100
"""Flows that are told of at a time when a reading is over: some milliseconds."""


class Book:
    """The register with all that feeds it. A listener of facts, its own among them."""

    def __init__(self, catalogue: Catalogue, teller: Teller, tell: Callable[[Fact], None]) -> None:
        """Keep sessions by a catalogue. `tell` gives a fact to all listeners, this one included."""
        self.register: Final = Register()
        self.noticing: Final = Noticing(self.register, catalogue)
        self._counting: Final = Counting(self.register)
        self._tracking: Final = Tracking(self.register)
        self._teller: Final = teller
        self._tell: Final = tell
        self._problem = ""

    def use(self, catalogue: Catalogue) -> None:
        """Name protocols by this catalogue from now on."""
        self.noticing.use(catalogue)

    def close(self) -> None:
        """End it."""
        self._tracking.close()

    def on_fact(self, fact: Fact, now: float) -> None:
        """Take note of a fact, whoever found it, and tell what follows."""
        for told in self.register.handle(fact, now):
            self._teller.tell(told.name, session=told.session, **told.fields)

    # What the daemon sees

    def on_report(self, report: Report) -> None:
        """Take note of what the data plane reports, before the tracker decides about it."""
        self.tell(self.noticing.on_report(report))

    def on_command(self, command: Command) -> None:
        """Take note of a command that was carried out."""
        self.tell(self.noticing.on_command(command))
        self.tell(self._counting.on_command(command))

    def on_flows(self, flows: Iterable[InstalledFlow]) -> None:
        """Take note of counters of mappings, a piece of a reading; `moved` says what it showed.

        One that nobody told of is there since an earlier run.
        """
        flows = tuple(flows)
        now = time.monotonic()
        for flow in flows:
            self.tell(self.noticing.on_going(flow.count, flow.hosts, now))
        self._counting.on_flows(flows)

    def moved(self, slots: Slots) -> Iterator[list[Fact]]:
        """Say what the pieces of a reading showed, for `tell`, so much at a time that packets wait for milliseconds.

        It is for the end of a reading: what has come of a flow may be in another piece than what was sent, and a
        reading may take long enough for that to look like silence.
        """
        while facts := self._counting.moved(slots, SETTLED_AT_ONCE):
            yield facts

    def tell(self, facts: Iterable[Fact]) -> None:
        """Tell facts to all listeners, this one included."""
        for fact in facts:
            self._tell(fact)

    def on_adopted(self, flows: Iterable[AdoptedFlow]) -> None:
        """Take note of what an earlier run left at work."""
        now = time.monotonic()
        for flow in flows:
            self.tell(self.noticing.on_going(flow.count, flow.hosts, now))

    def on_addresses(self, addresses: Sequence[IPv4Address]) -> None:
        """Take note of our addresses outside."""
        self._tell(OutsideAddresses(tuple(addresses)))

    def on_refusals(self, refusals: Iterable[Refusal]) -> None:
        """Take note of what the tracker has refused lately: all that it remembers."""
        self.tell(self.noticing.on_refusals(refusals))

    # Time

    async def judge(self, refusals: Callable[[], list[Refusal]]) -> None:
        """Say each second what is wrong with sessions, until cancelled."""
        count = 0
        while True:
            self.on_refusals(refusals())
            self._judge_now()
            count += 1
            if count % SWEEP_EVERY == 0:
                self._counting.sweep()
            await asyncio.sleep(JUDGE_EVERY_S)

    def _judge_now(self) -> None:
        for told in self.register.judge(time.monotonic()):
            self._teller.tell(told.name, session=told.session, **told.fields)

    async def follow(self, outside: Callable[[], Sequence[IPv4Address]], catch_up: Callable[[], None]) -> None:
        """Read what connection tracking has of the sessions' flows again and again, until cancelled."""
        while True:
            began = time.monotonic()
            await self.read_tracked(outside(), catch_up)
            # What a reading shows is said at once: a person may wait 15 s, of which a silence takes 12 and a reading 2.
            self._judge_now()
            spent = time.monotonic() - began
            await asyncio.sleep(max(READ_EVERY_S, spent * READ_REST))

    async def read_tracked(self, outside: Sequence[IPv4Address], catch_up: Callable[[], None]) -> None:
        """Read it once. `catch_up` has the daemon take what was reported meanwhile: IKE on a flow is not its data."""
        try:
            async for facts in self._tracking.read(outside):
                catch_up()
                self.tell(facts)
        except (KernelRefused, OSError) as problem:
            if str(problem) != self._problem:
                log.warning("tracked.unreadable", problem=str(problem))
            self._problem = str(problem)
