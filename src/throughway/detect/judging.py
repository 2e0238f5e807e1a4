"""Judging one flow by its datagrams or its streams, whoever keeps the flows. `engine` does for packets, live or not;
the daemon does for the heads that the kernel copies to it.
"""

from typing import Final

from throughway.catalogue.catalogue import Catalogue
from throughway.core.ids import IpProtocol
from throughway.detect.answers import STRONG, TAKEN_BACK, Answer, Datagram, better
from throughway.detect.companions import Companions
from throughway.detect.connections import Connections
from throughway.detect.declared import Declared
from throughway.detect.flows import Bounds, Flow
from throughway.detect.recogniser import Recogniser
from throughway.detect.registry import udp_recognisers
from throughway.detect.streams import Stream

NAMED_FROM: Final = 0.5
"""The confidence from which an answer names a flow."""

_SETTLED_FROM: Final = STRONG


class Judge:
    """Names flows of one catalogue, within the bounds for each flow."""

    def __init__(self, catalogue: Catalogue, bounds: Bounds) -> None:
        self._bounds: Final = bounds
        self._companions: Final = Companions(bounds.flows)
        self._udp: Final = udp_recognisers(catalogue)
        self._known: Final = catalogue.ids
        self.declared: Final = Declared(catalogue)

    def look(self, flow: Flow, datagram: Datagram) -> None:
        """Show a datagram to whoever may know it: all recognisers of an open flow, else the one that named it."""
        if not flow.is_open:
            answer = flow.namer.look(datagram, flow.notes) if flow.namer else None
            if answer and answer.confidence >= NAMED_FROM:
                flow.answer = better(flow.answer, answer)
            return
        flow.looked_at += 1
        for kind in self._udp:
            recogniser = flow.recognisers.get(kind)
            if recogniser is None:
                if not kind.begins(datagram):
                    continue
                recogniser = flow.recognisers[kind] = kind()
            answer = recogniser.look(datagram, flow.notes)
            if answer:
                self.take(flow, answer, recogniser)
        declared = self.declared.judge(IpProtocol.UDP, datagram)
        if declared:
            self.take(flow, declared, None)
        if flow.looked_at >= self._bounds.datagrams or self._is_settled(flow):
            self.close(flow)

    def push(self, flow: Flow, sequence: int, payload: bytes, *, from_initiator: bool, at: float) -> None:
        """Take a segment of an open flow of TCP in, and look at the stream if its head grew."""
        stream = self.stream_of(flow)
        if stream.head(from_initiator).push(sequence, payload):
            self._look_at_stream(flow, stream, at, from_initiator)

    @staticmethod
    def stream_of(flow: Flow) -> Stream:
        """Return the heads of an open flow of TCP, which begin empty."""
        if flow.stream is None:
            flow.stream = Stream(flow.destination_port)
        return flow.stream

    def on_tls(self, flow: Flow) -> None:
        """Remember a connection that began with TLS; it explains DTLS between the same ends."""
        self._companions.on_tls(flow)

    def take(self, flow: Flow, answer: Answer, recogniser: Recogniser | None) -> None:
        """Let an answer name the flow if it is good enough, and better than the one before."""
        if answer.confidence == TAKEN_BACK:
            if flow.namer is recogniser and flow.answer and flow.answer.protocol == answer.protocol:
                flow.answer = flow.namer = None
            return
        answer = self._companions.judge(flow, answer)
        if answer.confidence < NAMED_FROM or answer.protocol not in self._known:
            return
        best = better(flow.answer, answer)
        if best is answer:
            flow.answer, flow.namer = answer, recogniser

    def close(self, flow: Flow) -> None:
        """Look at the flow no more; the recogniser that named it goes on where the bounds want that."""
        flow.is_open = False
        flow.recognisers = {}
        flow.stream = flow.connections = None
        if not self._bounds.follow:
            flow.namer = None

    def _is_settled(self, flow: Flow) -> bool:
        return flow.answer is not None and flow.answer.confidence > _SETTLED_FROM

    def _look_at_stream(self, flow: Flow, stream: Stream, at: float, from_initiator: bool) -> None:
        flow.looked_at += 1
        connections = flow.connections
        if connections is None:
            connections = flow.connections = Connections()
        answer = connections.look(stream, at, from_initiator, flow.notes)
        head = stream.head(from_initiator)
        declared = self.declared.judge(
            IpProtocol.TCP,
            Datagram(at, bytes(head.data), len(head.data), from_initiator, flow.source_port, flow.destination_port),
        )
        for found in (answer, declared):
            if found:
                self.take(flow, found, None)
        if connections.is_tls:
            self.on_tls(flow)
        is_over = not connections.is_interested and not self.declared.wants_tcp
        # A stream that has its name is read on: what assigns its discriminators comes later.
        if is_over or flow.looked_at >= self._bounds.datagrams or head.is_full:
            self.close(flow)
