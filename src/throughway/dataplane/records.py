"""The records of the rings and of the tables of fragments and traces, as Python values; `abi` has their layouts."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Self

from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, Peer
from throughway.dataplane.abi import LAYOUTS, TRACE_TIMES, FragmentState, ObservedKind, PuntKind, address_of, unpack_key


@dataclass(frozen=True, slots=True)
class FragmentName:
    """What all fragments of one packet share: a `struct fragment_key`. `identification` is in network order."""

    source: IPv4Address
    destination: IPv4Address
    identification: bytes
    protocol: int
    direction: Direction

    def pack(self) -> bytes:
        """Write a `struct fragment_key`."""
        return LAYOUTS["fragment_key"].format.pack(
            self.source.packed, self.destination.packed, self.identification, self.protocol, self.direction
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a `struct fragment_key`."""
        source, destination, identification, protocol, direction = LAYOUTS["fragment_key"].format.unpack(data)
        return cls(IPv4Address(source), IPv4Address(destination), identification, protocol, Direction(direction))


@dataclass(frozen=True, slots=True)
class FragmentRecord:
    """The value of `fragments`. It says nothing after `until_ns`, unless the first fragment is awaited."""

    key: FlowKey | None
    until_ns: int
    seen: int
    total: int
    state: FragmentState

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a `struct fragment`. There is no key while the first fragment is awaited."""
        key, until_ns, seen, total, state, _ = LAYOUTS["fragment"].format.unpack(data)
        known = FragmentState(state)
        return cls(None if known is FragmentState.AWAITED else unpack_key(key), until_ns, seen, total, known)


@dataclass(frozen=True, slots=True)
class PuntRecord:
    """One record of the ring `punts`. `frame` begins with the link header; a copy may be cut to FRAME_SMALL bytes.

    `fragment` is there for the two kinds that are about fragments. A later fragment's key has no discriminator.
    `slot` is that of our address which the router sent a copy from.
    """

    kind: PuntKind
    sequence: int
    link_header_size: int
    at_ns: int
    key: FlowKey
    fragment: FragmentName | None
    slot: int
    frame: bytes

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a `struct punt` and the frame behind it."""
        layout = LAYOUTS["punt"]
        kind, sequence, size, link_header_size, at_ns, key, name, slot = layout.format.unpack_from(data)
        fragment = FragmentName.unpack(name) if kind in (PuntKind.FRAGMENT, PuntKind.FIRST_FRAGMENT) else None
        frame = bytes(data[layout.size : layout.size + size])
        return cls(PuntKind(kind), sequence, link_header_size, at_ns, unpack_key(key), fragment, slot, frame)


@dataclass(frozen=True, slots=True)
class ObservedRecord:
    """One record of the ring `observed`. `size` is that of the whole message, `message` what was copied of it.

    A message is there for IKE and control messages, `floated` for IKE, `discriminator` and `code` for DISOWNED.
    `slot` is that of our address which the router sent it from.
    """

    kind: ObservedKind
    host: Host
    peer: Peer
    direction: Direction
    protocol: int
    at_ns: int
    size: int
    floated: bool
    discriminator: int
    code: int
    slot: int
    host_port: int
    message: bytes

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a `struct observed` and the message behind it."""
        layout = LAYOUTS["observed"]
        kind, host, peer, size, filled, discriminator, at_ns, protocol, direction, floated, code, slot, host_port = (
            layout.format.unpack_from(data)
        )
        return cls(
            ObservedKind(kind),
            Host(address_of(host)),
            Peer(address_of(peer)),
            Direction(direction),
            protocol,
            at_ns,
            size,
            bool(floated),
            discriminator,
            code,
            slot,
            host_port,
            bytes(data[layout.size : layout.size + filled]),
        )


def pack_trace() -> bytes:
    """Write a `struct trace` in which nothing is noted yet."""
    return bytes(LAYOUTS["trace"].size)


def unpack_trace(data: bytes) -> tuple[int, ...]:
    """Read the times of a `struct trace`, in nanoseconds of CLOCK_MONOTONIC, the latest last."""
    _, noted, _, times = LAYOUTS["trace"].format.unpack(data)
    ring = struct.unpack(f"={TRACE_TIMES}Q", times)
    if noted <= TRACE_TIMES:
        return ring[:noted]
    latest = noted % TRACE_TIMES
    return ring[latest:] + ring[:latest]
