"""Live detection: what the flows of TCP and UDP are, by the heads that the kernel copies.

    kernel: heads that a prefilter lets through ──ring──> Live: a Judge for each flow ──facts──> listeners
           ^── flows that are decided ────────────────────┘

A flow is known here from its first head on, until it is decided or makes room for a newer one. What was recognised is
remembered, so that a flow which the kernel begins to show again is not told again, and its name stands against weaker
answers. Protocols without ports need no heads: the tracker knows them.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from throughway.catalogue.catalogue import Catalogue
from throughway.core.errors import KernelRefused
from throughway.core.flows import Direction
from throughway.core.ids import IpProtocol
from throughway.core.limits import Limits
from throughway.dataplane import head_abi
from throughway.dataplane.head_abi import HEAD, PROTOCOL_AT
from throughway.detect import granted
from throughway.detect.answers import Answer, Datagram
from throughway.detect.flows import Bounds, Flow, key_of
from throughway.detect.judging import Judge
from throughway.detect.prefilters import Prefilters
from throughway.detect.structures import prefilters
from throughway.sessions.facts import Answered, Detected, Fact, FlowName

PAUSE_S: Final = 0.01
"""Before the ring is looked at again once it was empty: heads come in batches then."""

BURST_S: Final = 0.02
"""After so long of the processor's time a backlog rests for as long: recognising takes half of a processor at most."""

_NOTES_MAX: Final = 8
_TO_PEER: Final = int(Direction.TO_PEER)
_STREAM_BEGINS: Final = (1 << 32) - 1
"""The sequence number of a SYN whose stream begins at 0, as the kernel counts it."""


class HeadsPort(Protocol):
    """What is wanted of `dataplane.heads.Heads`, which says more."""

    def use(self, prefilters: Prefilters) -> None:
        """Have heads copied that these let through."""

    def fileno(self) -> int:
        """Give what becomes readable when there is a head."""

    def read(self, limit: int) -> list[bytes]:
        """Take out at most so many heads."""

    def finish(self, keys: Iterable[bytes]) -> None:
        """Have nothing more of these flows copied."""

    def forget(self, key: bytes) -> None:
        """Have a flow looked at anew."""


class _Flow(Flow):
    """A flow that is looked at, and what was told of it."""

    __slots__ = ("is_granted", "told")

    def __init__(self, key: bytes, is_by_device: bool, at: float) -> None:
        protocol, inside, outside = head_abi.ends_of(key)
        (source, source_port), (destination, port) = (inside, outside) if is_by_device else (outside, inside)
        both = key_of(protocol, source, source_port, destination, port)
        super().__init__(both, source, destination, (source_port, port), at, _NOTES_MAX)
        self.told: str | None = None
        self.is_granted = False


class Live:
    """Names the flows of one gateway as they begin. Not thread safe, and nothing in it waits but `run`."""

    def __init__(self, heads: HeadsPort, catalogue: Catalogue, limits: Limits) -> None:
        """Detect the protocols of a catalogue from now on."""
        self._heads: Final = heads
        self._limits: Final = limits
        self._bounds: Final = Bounds(
            flows=limits.heads_looked_at_max,
            datagrams=2 * head_abi.HEAD_PACKETS_MAX,
            notes=_NOTES_MAX,
            follow=False,
        )
        self._flows: Final[OrderedDict[bytes, _Flow]] = OrderedDict()
        self._named: Final[OrderedDict[bytes, Answer]] = OrderedDict()
        self._finished: Final[set[bytes]] = set()
        self._catalogue = Catalogue(())
        self.detected: Final[Counter[str]] = Counter()
        """How many flows were recognised since the start, by protocol; one that was renamed counts as both."""
        self.use(catalogue)

    def use(self, catalogue: Catalogue) -> None:
        """Detect other protocols from now on. Flows of UDP that go on are looked at anew.

        What was named stands, save by protocols that were changed or removed.
        """
        for key in [key for key, answer in self._named.items() if self._is_changed(answer.protocol, catalogue)]:
            del self._named[key]
        self._flows.clear()
        self._catalogue = catalogue
        self._families = {protocol.id: protocol.family for protocol in catalogue}
        self._judge = Judge(catalogue, self._bounds)
        self._heads.use(prefilters(catalogue))

    def _is_changed(self, protocol: str, coming: Catalogue) -> bool:
        return self._catalogue.get(protocol) != coming.get(protocol)

    def forget(self, flow: FlowName) -> None:
        """Forget what a flow is, so that it is decided anew by its next packets; one of TCP, by its next connection."""
        key = head_abi.pack_flow_name(flow)
        self._flows.pop(key, None)
        self._named.pop(key, None)
        with suppress(KernelRefused):
            self._heads.forget(key)

    def is_looked_at(self, flow: FlowName) -> bool:
        """Whether packets that come may still change what the flow is said to be."""
        found = self._flows.get(head_abi.pack_flow_name(flow))
        return found is not None and found.is_open

    async def run(self, tell: Callable[[Fact], None]) -> None:
        """Tell facts as heads come, until cancelled."""
        while True:
            await self._has_heads()
            began = time.thread_time()
            while self.read(tell) >= self._limits.heads_per_read_max:
                spent = time.thread_time() - began
                await asyncio.sleep(0.0 if spent < BURST_S else spent)
                began = began if spent < BURST_S else time.thread_time()
            await asyncio.sleep(PAUSE_S)

    async def _has_heads(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        with _reading(loop, self._heads.fileno(), ready.set):
            await ready.wait()

    def read(self, tell: Callable[[Fact], None]) -> int:
        """Take a bounded batch of heads, tell what they show, and return how many they were."""
        records = self._heads.read(self._limits.heads_per_read_max)
        for record in records:
            for fact in self._facts_of(record):
                tell(fact)
        if self._finished:
            # What the kernel does not note costs a few copies more, which are passed over.
            with suppress(KernelRefused):
                self._heads.finish(self._finished)
            self._finished.clear()
        return len(records)

    def _facts_of(self, record: bytes) -> list[Fact]:
        key, at_ns, stream_at, size, _, direction, initiator, is_first, is_last, tls_port, _ = HEAD.unpack_from(record)
        at, from_initiator, facts = at_ns / 1e9, direction == initiator, []
        is_tcp = key[PROTOCOL_AT] == IpProtocol.TCP
        flow = self._flows.get(key)
        if flow is None or is_first:
            flow = self._begin(key, initiator, at, is_tcp)
        if flow.is_open:
            payload, evidence = record[HEAD.size :], None
            if is_tcp:
                self._judge.push(flow, stream_at, payload, from_initiator=from_initiator, at=at)
                evidence = granted.by_stream(flow)
            else:
                ports = flow.source_port, flow.destination_port
                datagram = Datagram(at, payload, size, from_initiator, *(ports if from_initiator else ports[::-1]))
                facts = self._look(flow, key, datagram, int.from_bytes(tls_port, "big"))
                evidence = granted.by_datagram(flow, datagram)
            facts += self._news(flow, key)
            if evidence and not flow.is_granted:
                flow.is_granted = True
                facts.append(Answered(head_abi.unpack_flow_name(key), evidence))
        if is_last or not flow.is_open:
            flow.is_open = False
            self._finished.add(key)
        return facts

    def _begin(self, key: bytes, initiator: int, at: float, is_tcp: bool) -> _Flow:
        """Begin to look at a flow. A connection is a new one; a name of UDP stands until there is a better one."""
        flow = _Flow(key, initiator == _TO_PEER, at)
        if is_tcp:
            self._named.pop(key, None)
            for from_initiator in (True, False):
                self._judge.stream_of(flow).head(from_initiator).began(_STREAM_BEGINS)
        elif named := self._named.get(key):
            flow.answer, flow.told = named, named.protocol
        self._flows.pop(key, None)
        self._flows[key] = flow
        if len(self._flows) > self._limits.heads_looked_at_max:
            self._flows.popitem(last=False)
        return flow

    def _look(self, flow: _Flow, key: bytes, datagram: Datagram, tls_port: int) -> list[Fact]:
        """Judge a datagram, and name the TLS beside it, of which the kernel says the port, where it explains that."""
        if not tls_port or flow.answer is not None:
            self._judge.look(flow, datagram)
            return []
        name = head_abi.unpack_flow_name(key)
        is_by_device = flow.source == name.device.packed
        ends = (tls_port, name.destination) if is_by_device else (name.source, tls_port)
        beside_key = head_abi.pack_flow_name(FlowName(name.device, name.peer, IpProtocol.TCP, *ends))
        beside = _Flow(beside_key, is_by_device, datagram.at)
        self._judge.on_tls(beside)
        self._judge.look(flow, datagram)
        return self._news(beside, beside_key)

    def _news(self, flow: _Flow, key: bytes) -> list[Fact]:
        """Tell what a flow is, unless that was told."""
        answer = flow.answer
        if answer is None or answer.protocol == flow.told:
            return []
        flow.told = answer.protocol
        self.detected[answer.protocol] += 1
        self._named[key] = answer
        self._named.move_to_end(key)
        if len(self._named) > self._limits.heads_named_max:
            self._named.popitem(last=False)
        return [
            Detected(
                head_abi.unpack_flow_name(key),
                answer.protocol,
                self._families[answer.protocol],
                answer.confidence,
                answer.evidence,
            )
        ]


@contextmanager
def _reading(loop: asyncio.AbstractEventLoop, descriptor: int, on_ready: Callable[[], None]) -> Iterator[None]:
    loop.add_reader(descriptor, on_ready)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
