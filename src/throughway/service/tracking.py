"""The flows of sessions that the kernel's connection tracking carries: what they have carried, and which are gone.

Each is asked for by its own name, so that a table full of other people's connections costs nothing. The calls of PPTP
are found beside their control connection: the kernel's helper tracks them by call IDs that only it knows.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import islice
from typing import Final

from throughway.core.ids import ROUTER, Host, IpProtocol, Peer
from throughway.core.tracked import TrackedCount, TrackedFlow, TrackedTuple
from throughway.dataplane import conntrack
from throughway.dataplane.conntrack import Interest
from throughway.dataplane.ctlookup import Lookup
from throughway.detect.answers import CERTAIN
from throughway.sessions.facts import Counted, Detected, Fact, FlowGone, FlowName, Traffic
from throughway.sessions.register import Register
from throughway.sessions.session import Flow

SLICE: Final = 64
"""Flows that are asked for before packets have their turn: about 2 ms."""

CALLS_EVERY_S: Final = 2.0
"""How often the calls of a PPTP session are looked for while it has none that carries anything."""

CALLS_AGAIN_S: Final = 10.0
"""How often afterwards: a call may be replaced by another one."""

CLOSED: Final = "the connection was closed"
FORGOTTEN: Final = "idle: connection tracking has forgotten it"

Look = Callable[[Iterable[tuple[int, TrackedTuple]]], list[TrackedFlow | None]]


def calls_of(flows: Iterable[TrackedFlow], outside: Sequence[IPv4Address]) -> Iterator[FlowName]:
    """Name the calls of PPTP among tracked GRE, as their device sends them. Often the server speaks first."""
    for flow in flows:
        one = flow.original
        if flow.is_expected and one.destination in outside and flow.reply.source not in outside:
            one = flow.reply
        elif flow.reply.destination not in outside or one.source in outside:
            continue
        yield FlowName(Host(one.source), Peer(one.destination), IpProtocol.GRE, one.source_key, one.destination_key)


class Tracking:
    """Makes facts of what connection tracking says of the flows that the register follows."""

    def __init__(self, register: Register, look: Look | None = None) -> None:
        self._register: Final = register
        self._lookup: Lookup | None = None
        self._look: Final = look or self._ask_kernel
        self._calls_looked_at: dict[tuple[Host, Peer], float] = {}

    def close(self) -> None:
        """End it."""
        if self._lookup is not None:
            self._lookup.close()
            self._lookup = None

    def _ask_kernel(self, wanted: Iterable[tuple[int, TrackedTuple]]) -> list[TrackedFlow | None]:
        if self._lookup is None:
            self._lookup = Lookup()
        try:
            return self._lookup.find(wanted)
        except BaseException:
            # Answers that are still to come would be taken for those of the next question.
            self.close()
            raise

    async def read(self, outside: Sequence[IPv4Address]) -> AsyncIterator[list[Fact]]:
        """Yield the facts of all flows, in slices, and let packets be handled between them. Raises KernelRefused."""
        wanted_calls = self._calls_wanted(time.monotonic())
        if wanted_calls:
            flows = await asyncio.to_thread(lambda: list(conntrack.tracked_flows([Interest(IpProtocol.GRE)])))
            yield self._found_calls(calls_of(flows, outside), wanted_calls)
        own = next(iter(outside), None)
        left = iter(list(self._followed()))
        while names := list(islice(left, SLICE)):
            found = self._look([(name.protocol, _tuple(name, own)) for name in names])
            now = time.monotonic()
            yield [fact for name, flow in zip(names, found, strict=True) for fact in self._facts(name, flow, now)]
            await asyncio.sleep(0)

    def _followed(self) -> Iterator[FlowName]:
        """All flows with ports or call IDs, as far as connection tracking may have them.

        Of UDP those too that are gone: what goes on after a long silence is the same flow, and no head tells of it.
        """
        for entry in self._register.entries():
            for name, flow in entry.session.flows.items():
                if name.protocol == IpProtocol.UDP:
                    is_wanted = flow.is_tracked or not flow.is_gone
                else:
                    has_names = name.protocol == IpProtocol.TCP or flow.protocol == "pptp-gre"
                    is_wanted = has_names and not flow.is_gone and entry.ended_at is None
                if is_wanted and flow.protocol:
                    yield name

    def _facts(self, name: FlowName, flow: TrackedFlow | None, now: float) -> list[Fact]:
        """Say what one flow has carried, if that is news, and whether it is gone."""
        entry = self._register.of_flow(name)
        known = entry.session.flows.get(name) if entry is not None else None
        if known is None:
            return []
        if flow is None:
            # One that was never seen there is not tracked at all: its port is kept, or its first packet was dropped.
            return [FlowGone(name, FORGOTTEN)] if known.is_tracked and not known.is_gone else []
        facts: list[Fact] = []
        if entry is not None and (known.is_gone or entry.ended_at is not None):
            if flow.sent == TrackedCount(known.to_peer.packets, known.to_peer.bytes):
                return []
            facts.append(Detected(name, known.protocol, entry.session.family, known.confidence, known.evidence))
            known = Flow(name, now)
        if flow.original.destination != name.peer:
            flow = _turned(flow)
        sent, came = _moved(known.to_peer, flow.sent, now), _moved(known.to_inside, flow.answered, now)
        if (sent, came) != (known.to_peer, known.to_inside) or not known.translated_to:
            facts.append(Counted(name, sent, came, _translated(name, flow), is_tracked=True))
        return [*facts, FlowGone(name, CLOSED)] if flow.is_closed else facts

    def _calls_wanted(self, now: float) -> set[tuple[Host, Peer]]:
        """Which devices and peers have a control connection of PPTP whose calls are to be looked for now."""
        wanted: set[tuple[Host, Peer]] = set()
        pairs: dict[tuple[Host, Peer], float] = {}
        for entry in self._register.entries():
            session = entry.session
            if session.family != "pptp" or entry.ended_at is not None:
                continue
            pair = (session.device, session.peer)
            calls = [flow for flow in session.data_flows() if flow.to_inside.packets and not flow.is_gone]
            looked_at = self._calls_looked_at.get(pair)
            every = CALLS_AGAIN_S if calls else CALLS_EVERY_S
            if looked_at is None or now - looked_at >= every:
                wanted.add(pair)
                looked_at = now
            pairs[pair] = looked_at
        self._calls_looked_at = pairs
        return wanted

    def _found_calls(self, names: Iterable[FlowName], wanted: set[tuple[Host, Peer]]) -> list[Fact]:
        return [
            Detected(name, "pptp-gre", "pptp", CERTAIN, f"GRE version 1, call {name.destination}, IP protocol 47")
            for name in names
            if (name.device, name.peer) in wanted and not self._register.follows(name)
        ]


def _tuple(name: FlowName, own: IPv4Address | None) -> TrackedTuple:
    source = own if name.device == ROUTER and own is not None else name.device
    return TrackedTuple(source, name.peer, name.source, name.destination)


def _turned(flow: TrackedFlow) -> TrackedFlow:
    return replace(flow, original=flow.reply, reply=flow.original, sent=flow.answered, answered=flow.sent)


def _moved(known: Traffic, count: TrackedCount | None, now: float) -> Traffic:
    """Make a reading of one direction. Connection tracking does not tell when a packet came, so it is now or before."""
    if count is None or (count.packets, count.bytes) == (known.packets, known.bytes):
        return known
    return Traffic(count.packets, count.bytes, now)


def _translated(name: FlowName, flow: TrackedFlow) -> str:
    """Say what the peer sees, if that is not the device itself."""
    seen = flow.reply.destination
    if seen == name.device:
        return ""
    what = "call" if name.protocol == IpProtocol.GRE else "port"
    return f"{seen} {what} {flow.reply.destination_key}"
