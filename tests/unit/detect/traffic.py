"""Packets for detection, and a play of a conversation: who says what, and what the flow is then."""

import random
from struct import pack
from typing import Self

from tests.heads import TO_INSIDE, TO_PEER, Kernel, Seen
from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue_files import read_catalogue
from throughway.core.ids import IpProtocol
from throughway.core.limits import Limits
from throughway.dataplane.head_abi import HEAD_PACKETS_MAX
from throughway.detect.answers import Answer
from throughway.detect.engine import Detector
from throughway.detect.flows import Bounds, Flow
from throughway.service.live import Live
from throughway.sessions.facts import Detected, Fact
from throughway.wire.tcp import ACK, SYN

CLIENT = bytes((10, 0, 0, 2))
SERVER = bytes((198, 51, 100, 10))
SHIPPED = read_catalogue(None)


def ipv4(protocol: int, payload: bytes, source: bytes = CLIENT, destination: bytes = SERVER) -> bytes:
    size = 20 + len(payload)
    return pack("!BBHHHBBH4s4s", 0x45, 0, size, 1, 0, 64, protocol, 0, source, destination) + payload


def udp(source_port: int, port: int, payload: bytes) -> bytes:
    return pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload


def tcp(source_port: int, port: int, sequence: int, flags: int, payload: bytes) -> bytes:
    return pack("!HHIIBBHHH", source_port, port, sequence & 0xFFFFFFFF, 0, 0x50, flags, 8192, 0, 0) + payload


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes as ciphertext has them, the same in each run."""
    return random.Random(seed).randbytes(size)  # noqa: S311


class Shadow:
    """Live detection beside the engine: no prefilter may hide what the engine names from a flow's first packets."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._kernel = Kernel()
        self._live = Live(self._kernel, catalogue, Limits())
        self._passed = {TO_PEER: 0, TO_INSIDE: 0}
        self._told: list[str] = []
        self._expected: list[str] = []

    def sees(self, seen: Seen) -> None:
        """Let a packet pass, and before the first one of a direction of TCP its SYN."""
        data = seen.data
        if data[9] == IpProtocol.TCP and not self._passed[seen.direction]:
            sequence = int.from_bytes(data[24:28], "big") - 1
            flags = SYN | (ACK if any(self._passed.values()) else 0)
            ports = int.from_bytes(data[20:22], "big"), int.from_bytes(data[22:24], "big")
            syn = ipv4(IpProtocol.TCP, tcp(*ports, sequence, flags, b""), data[12:16], data[16:20])
            self._kernel.passes(seen._replace(data=syn))
        self._passed[seen.direction] += 1
        self._kernel.passes(seen)
        self._live.read(self._take)

    def _take(self, fact: Fact) -> None:
        if isinstance(fact, Detected):
            self._told.append(fact.protocol)

    def agrees_with(self, answer: Answer | None) -> None:
        """Compare what was told with what the engine has said so far; an answer that it takes back was told."""
        if answer and answer.protocol not in self._expected[-1:]:
            self._expected.append(answer.protocol)
        if max(self._passed.values()) <= HEAD_PACKETS_MAX:
            assert self._told == self._expected


class Conversation:
    """One flow between a client and a server, datagram by datagram or segment by segment."""

    def __init__(
        self, port: int, source_port: int = 40000, catalogue: Catalogue = SHIPPED, bounds: Bounds | None = None
    ) -> None:
        self.port, self.source_port = port, source_port
        self.detector = Detector(catalogue, bounds)
        self.shadow = Shadow(catalogue) if bounds is None else None
        self._at = 0.0
        self._sequences = {True: 1000, False: 5000}

    def up(self, payload: bytes) -> Self:
        """The client sends a datagram."""
        return self._packet(ipv4(17, udp(self.source_port, self.port, payload)))

    def down(self, payload: bytes) -> Self:
        """The server sends a datagram."""
        return self._packet(ipv4(17, udp(self.port, self.source_port, payload), SERVER, CLIENT))

    def says(self, payload: bytes, *, client: bool = True) -> Self:
        """One of them sends a TCP segment; the next one follows it."""
        sequence = self._sequences[client]
        self._sequences[client] += len(payload)
        ports = (self.source_port, self.port) if client else (self.port, self.source_port)
        ends = (CLIENT, SERVER) if client else (SERVER, CLIENT)
        return self._packet(ipv4(6, tcp(*ports, sequence, 0x18, payload), *ends))

    def _packet(self, data: bytes) -> Self:
        self._at += 0.01
        self.detector.on_packet(self._at, data)
        if self.shadow is not None:
            self.shadow.sees(Seen(self._at, data, TO_PEER if data[12:16] == CLIENT else TO_INSIDE))
            self.shadow.agrees_with(self.answer)
        return self

    @property
    def flow(self) -> Flow:
        (flow,) = self.detector.flows()
        return flow

    @property
    def answer(self) -> Answer | None:
        return self.flow.answer

    @property
    def protocol(self) -> str | None:
        return self.answer.protocol if self.answer else None
