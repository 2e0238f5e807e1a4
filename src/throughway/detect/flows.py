"""Flows as detection sees them: both directions of one conversation, in a table of bounded size."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, NamedTuple

from throughway.core.ids import IpProtocol
from throughway.detect.answers import Answer, Notes
from throughway.detect.connections import Connections
from throughway.detect.recogniser import Recogniser
from throughway.detect.streams import Stream

HAVE_PORTS: Final = frozenset({IpProtocol.TCP, IpProtocol.UDP})


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much detection may keep.

    `flows` in the table; the first `datagrams` of a flow are looked at until it has a name, and with `follow` those
    behind them too, for further discriminators of the named; `notes` discriminators a flow.
    """

    flows: int = 65_536
    datagrams: int = 16
    notes: int = 64
    follow: bool = True


class FlowKey(NamedTuple):
    """Both directions of a conversation have the same key: the lower end first. Addresses in network order.

    Ports are 0 where there are none; PPTP's GRE and plain GRE between the same ends are two flows, told apart by
    `variant`.
    """

    protocol: int
    low: bytes
    low_port: int
    high: bytes
    high_port: int
    variant: int = 0


class Flow:
    """One conversation: who began it, how much it carried, and what it is.

    `source` is the initiator: who sent the SYN of a TCP connection, else who sent the first packet seen. `bytes` are
    those of IP packets, headers included, as their headers say. `answer` is None while nothing is known, and stays so
    for what is no VPN; `is_open` is true while more packets may change that.
    """

    __slots__ = (
        "answer",
        "bytes",
        "connections",
        "destination",
        "destination_port",
        "first_at",
        "is_open",
        "is_recent",
        "key",
        "last_at",
        "looked_at",
        "namer",
        "notes",
        "packets",
        "protocol",
        "recognisers",
        "source",
        "source_port",
        "stream",
    )

    def __init__(
        self, key: FlowKey, source: bytes, destination: bytes, ports: tuple[int, int], at: float, notes_max: int
    ) -> None:
        self.key = key
        self.protocol = key.protocol
        self.source, self.destination = source, destination
        self.source_port, self.destination_port = ports
        self.first_at = self.last_at = at
        self.packets = self.bytes = self.looked_at = 0
        self.answer: Answer | None = None
        self.notes = Notes(notes_max)
        self.is_open = True
        self.is_recent = False
        self.recognisers: dict[type[Recogniser], Recogniser] = {}
        self.namer: Recogniser | None = None
        self.stream: Stream | None = None
        self.connections: Connections | None = None

    @property
    def has_ports(self) -> bool:
        """Whether the flow's protocol has ports."""
        return self.protocol in HAVE_PORTS

    def source_text(self) -> str:
        """Write the initiator's address."""
        return str(ip_address(self.source))

    def destination_text(self) -> str:
        """Write the responder's address."""
        return str(ip_address(self.destination))

    def is_from_initiator(self, source: bytes, port: int) -> bool:
        """Whether a packet from this end came from the initiator."""
        return source == self.source and port == self.source_port


class FlowTable:
    """Flows by key. When it is full, a flow that has been silent since the last round is evicted, oldest first."""

    def __init__(self, capacity: int, on_evicted: Callable[[Flow], None] | None) -> None:
        self._capacity = capacity
        self._on_evicted = on_evicted
        # A plain dict finds its first key ever more slowly when others before it were removed.
        self._flows: OrderedDict[FlowKey, Flow] = OrderedDict()

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[Flow]:
        return iter(self._flows.values())

    def get(self, key: FlowKey) -> Flow | None:
        """Return the flow with this key."""
        flow = self._flows.get(key)
        if flow is not None:
            flow.is_recent = True
        return flow

    def add(self, flow: Flow) -> None:
        """Keep a new flow, and evict one for it where there is no room."""
        if len(self._flows) >= self._capacity:
            self._evict()
        self._flows[flow.key] = flow

    def _evict(self) -> None:
        # Second chance: who was used since it last came to the front goes to the back once. It ends, since each
        # flow that it passes over is no longer recent.
        while True:
            key, flow = self._flows.popitem(last=False)
            if not flow.is_recent:
                break
            flow.is_recent = False
            self._flows[key] = flow
        if self._on_evicted:
            self._on_evicted(flow)


def key_of(protocol: int, source: bytes, source_port: int, destination: bytes, port: int, variant: int = 0) -> FlowKey:
    """Build the key that a packet and its answer share."""
    if (source, source_port) <= (destination, port):
        return FlowKey(protocol, source, source_port, destination, port, variant)
    return FlowKey(protocol, destination, port, source, source_port, variant)
