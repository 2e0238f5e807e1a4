"""The engine: IP packets in, flows with what they are out. One for live traffic and for capture files.

    packet -> its flow, by addresses, protocol and ports -> recognisers -> the best answer so far

Structure beats port: a recogniser names a flow by its packets, whatever the port, and ports only make a weak structure
enough. Each datagram is shown to the recognisers of which `begins` says that it may be theirs; after the first
`Bounds.datagrams` a flow without a name is closed, and its packets are only counted. The engine takes no clock: times
come with the packets, and serve for the flows' own times alone.

Tunnels inside tunnels: IP in IP is a flow, and what it carries in clear are flows too. Nothing else is taken apart.
"""

from collections.abc import Callable, Iterator
from typing import Final

from throughway.catalogue.catalogue import Catalogue
from throughway.core.ids import IpProtocol
from throughway.detect import portless
from throughway.detect.answers import Datagram
from throughway.detect.flows import Bounds, Flow, FlowKey, FlowTable, key_of
from throughway.detect.fragments import Fragments
from throughway.detect.judging import Judge
from throughway.wire import ip, tcp

_IP_IN_IP: Final = frozenset({4, 41})
_DEPTH_MAX: Final = 3
_GRE_VERSION_MASK: Final = 7
_UDP_HEADER_SIZE: Final = 8


class Detector:
    """Names the flows of the packets that it is given, within its bounds. Packets never make it raise."""

    def __init__(
        self,
        catalogue: Catalogue,
        bounds: Bounds | None = None,
        on_evicted: Callable[[Flow], None] | None = None,
    ) -> None:
        """Detect the protocols of a catalogue. `on_evicted` gets each flow that has to leave a full table."""
        self._bounds = bounds or Bounds()
        self._table = FlowTable(self._bounds.flows, on_evicted)
        self._fragments = Fragments()
        self._judge = Judge(catalogue, self._bounds)

    def flows(self) -> Iterator[Flow]:
        """Return the flows in the table, in the order in which they came."""
        return iter(self._table)

    def on_packet(self, at: float, data: bytes, offset: int = 0, depth: int = 0) -> Flow | None:
        """Take in one IP packet, which begins at an offset and may be cut off; its flow, where it has one.

        `at` is in seconds. `depth` is how many IP headers are around it. A caller for whom the first packets are
        enough may stop when the flow's `is_open` is false.
        """
        front = ip.front(data, offset)
        if front is None:
            return None
        size_bytes = front.payload_at - offset + front.size
        if front.fragment_id is not None and front.fragment_offset:
            return self._fragments.later(front, size_bytes)
        if front.protocol == IpProtocol.UDP:
            flow = self._on_udp(at, data, front)
        elif front.protocol == IpProtocol.TCP:
            flow = self._on_tcp(at, data, front)
        else:
            flow = self._on_portless(at, data, front)
        if flow is None:
            return None
        flow.packets += 1
        flow.bytes += size_bytes
        flow.last_at = at
        if front.fragment_id is not None:
            self._fragments.first(front, flow)
        elif front.protocol in _IP_IN_IP and flow.answer is not None and depth < _DEPTH_MAX:
            self.on_packet(at, data, front.payload_at, depth + 1)
        return flow

    def _on_udp(self, at: float, data: bytes, front: ip.IpFront) -> Flow | None:
        begin = front.payload_at
        if front.end < begin + _UDP_HEADER_SIZE:
            return None
        source_port, port = data[begin] << 8 | data[begin + 1], data[begin + 2] << 8 | data[begin + 3]
        size = (data[begin + 4] << 8 | data[begin + 5]) - _UDP_HEADER_SIZE
        flow = self._flow(front, source_port, port, at)
        if (flow.is_open or flow.namer is not None) and size > 0:
            payload = data[begin + _UDP_HEADER_SIZE : min(front.end, begin + _UDP_HEADER_SIZE + size)]
            from_initiator = flow.is_from_initiator(front.source, source_port)
            self._judge.look(flow, Datagram(at, payload, size, from_initiator, source_port, port))
        return flow

    def _on_tcp(self, at: float, data: bytes, front: ip.IpFront) -> Flow | None:
        segment = tcp.front(data[: front.end], front.payload_at)
        if segment is None:
            return None
        is_answer = segment.flags & (tcp.SYN | tcp.ACK) == tcp.SYN | tcp.ACK
        flow = self._flow(front, segment.source_port, segment.destination_port, at, is_answer)
        if not flow.is_open:
            return flow
        from_initiator = flow.is_from_initiator(front.source, segment.source_port)
        if segment.flags & tcp.SYN:
            self._judge.stream_of(flow).head(from_initiator).began(segment.sequence)
        else:
            payload = data[segment.payload_at : front.end]
            self._judge.push(flow, segment.sequence, payload, from_initiator=from_initiator, at=at)
        return flow

    def _on_portless(self, at: float, data: bytes, front: ip.IpFront) -> Flow:
        is_gre = front.protocol == IpProtocol.GRE and front.end >= front.payload_at + 2
        variant = data[front.payload_at + 1] & _GRE_VERSION_MASK if is_gre else 0
        flow = self._flow(front, 0, 0, at, variant=variant)
        if flow.is_open:
            payload = data[front.payload_at : front.end]
            datagram = Datagram(at, payload, front.size, flow.is_from_initiator(front.source, 0), 0, 0)
            answer = portless.judge(front.protocol, datagram, flow.notes, len(front.source) == 4)
            for found in (answer, self._judge.declared.judge(front.protocol, datagram)):
                if found:
                    self._judge.take(flow, found, None)
            flow.looked_at += 1
            if flow.looked_at >= self._bounds.datagrams and (flow.answer is None or not self._bounds.follow):
                self._judge.close(flow)
        return flow

    def _flow(
        self, front: ip.IpFront, source_port: int, port: int, at: float, is_answer: bool = False, variant: int = 0
    ) -> Flow:
        """Find a packet's flow or make it; the answer to a SYN that was not seen makes its receiver the initiator."""
        key: FlowKey = key_of(front.protocol, front.source, source_port, front.destination, port, variant)
        flow = self._table.get(key)
        if flow is None:
            ends = (front.source, front.destination, (source_port, port))
            if is_answer:
                ends = (front.destination, front.source, (port, source_port))
            flow = Flow(key, *ends, at, self._bounds.notes)
            self._table.add(flow)
        return flow
