"""Packets from values: IPv4 and what is in it, as the scenarios send them. The opposite of `wire`.

Nothing here knows what a gateway does, so that what comes out of one is compared with what was built without it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from struct import Struct, pack
from typing import Final, Self

from throughway.wire import ipv4

_HEADER: Final = Struct("!BBHHHBBH4s4s")
_VERSION_AND_SIZE: Final = 0x45
_DONT_FRAGMENT: Final = 0x4000
_MORE_FRAGMENTS: Final = 0x2000
_OFFSET_UNIT: Final = 8
_OFFSET_MASK: Final = 0x1FFF

UDP: Final = 17

_GRE_KEY_PRESENT: Final = 0x2000
_GRE_PAYLOAD: Final = 0x0800

_L2TP_CONTROL: Final = 0xC803
"""Type, length and sequence bits set, version 3 (RFC 3931 section 3.2.1)."""

_L2TP_CONTROL_SIZE: Final = 12

IKE_PORT: Final = 500
IKE_SA_INIT: Final = 34
IKE_AUTH: Final = 35
CREATE_CHILD_SA: Final = 36
_IKE_INITIATOR: Final = 0x08
_IKE_RESPONSE: Final = 0x20
_IKE_HEADER: Final = Struct("!QQBBBBII")


@dataclass(frozen=True, slots=True)
class Packet:
    """An IPv4 packet or fragment without options. The offset is in bytes, and equal packets have equal bytes."""

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    payload: bytes
    identification: int = 1
    ttl: int = 64
    dont_fragment: bool = False
    more_fragments: bool = False
    fragment_offset: int = 0
    service: int = 0
    """The octet of DSCP and ECN: routers send their ICMP errors with precedence (RFC 1812 section 4.3.2.5)."""

    def to_bytes(self) -> bytes:
        """Write the packet, with its header checksum."""
        flags = _DONT_FRAGMENT * self.dont_fragment | _MORE_FRAGMENTS * self.more_fragments
        header = _HEADER.pack(
            _VERSION_AND_SIZE,
            self.service,
            _HEADER.size + len(self.payload),
            self.identification,
            flags | self.fragment_offset // _OFFSET_UNIT,
            self.ttl,
            self.protocol,
            0,
            self.source.packed,
            self.destination.packed,
        )
        return header[:10] + pack("!H", ipv4.checksum(header)) + header[12:] + self.payload

    @classmethod
    def read(cls, data: bytes) -> Self | None:
        """Read a packet; None where it could not have been written here, a wrong header checksum included."""
        parsed = ipv4.parse(data)
        if parsed is None:
            return None
        packet = cls(
            source=parsed.source,
            destination=parsed.destination,
            protocol=parsed.protocol,
            payload=bytes(parsed.payload),
            identification=parsed.identification,
            ttl=parsed.ttl,
            dont_fragment=parsed.dont_fragment,
            more_fragments=parsed.more_fragments,
            fragment_offset=parsed.fragment_offset,
            service=data[1],
        )
        return packet if packet.to_bytes() == data[: parsed.total_size] else None

    def after(
        self, hops: int, *, source: IPv4Address | None = None, destination: IPv4Address | None = None
    ) -> "Packet":
        """Return the packet as it is after so many routers, one of which may have replaced an address."""
        return replace(
            self,
            ttl=self.ttl - hops,
            source=source or self.source,
            destination=destination or self.destination,
        )

    def carrying(self, payload: bytes) -> "Packet":
        """Return the packet with another payload."""
        return replace(self, payload=payload)

    def unfragmentable(self) -> "Packet":
        """Return the packet with the bit that forbids routers to cut it (RFC 791 section 3.1)."""
        return replace(self, dont_fragment=True)

    def cut(self, parts: int) -> list["Packet"]:
        """Cut the packet into so many fragments of about the same size, in the order of their offsets."""
        units = -(-len(self.payload) // (parts * _OFFSET_UNIT))
        size = units * _OFFSET_UNIT
        pieces = [
            replace(
                self,
                payload=self.payload[at : at + size],
                fragment_offset=at,
                more_fragments=at + size < len(self.payload),
            )
            for at in range(0, len(self.payload), size)
        ]
        if len(pieces) != parts:
            raise ValueError(f"{len(self.payload)} bytes cannot be cut into {parts} fragments")
        return pieces


def joined(packets: Iterable[Packet]) -> list[Packet]:
    """Put fragments together, and return the packets that are whole, each once; those that were whole as they are."""
    parts: dict[tuple[IPv4Address, IPv4Address, int, int], dict[int, Packet]] = {}
    whole: list[Packet] = []
    for packet in packets:
        if not packet.more_fragments and packet.fragment_offset == 0:
            whole.append(packet)
        else:
            name = (packet.source, packet.destination, packet.protocol, packet.identification)
            parts.setdefault(name, {})[packet.fragment_offset] = packet
    return whole + [put for pieces in parts.values() if (put := _join(pieces)) is not None]


def repeated(packets: Iterable[Packet]) -> int:
    """Count the packets that came once more than they had to."""
    return sum(count - 1 for count in Counter(packets).values())


def _join(pieces: dict[int, Packet]) -> Packet | None:
    payload = b""
    for offset in sorted(pieces):
        if offset != len(payload):
            return None
        payload += pieces[offset].payload
    if pieces[max(pieces)].more_fragments:
        return None
    first = pieces[0]
    return replace(first, payload=payload, more_fragments=False)


def filler(size: int, seed: int) -> bytes:
    """Make bytes in which nothing repeats soon, different for each seed: a piece at a wrong place is noticed."""
    return b"".join(pack("!HH", seed & 0xFFFF, at & 0xFFFF) for at in range(-(-size // 4)))[:size]


def esp(spi: int, sequence: int, body: bytes) -> bytes:
    """Make the payload of protocol 50 (RFC 4303 section 2)."""
    return pack("!II", spi, sequence) + body


def gre(key: int | None, body: bytes) -> bytes:
    """Make the payload of protocol 47, version 0 (RFC 2784 section 2), with a key or without (RFC 2890 section 2)."""
    if key is None:
        return pack("!HH", 0, _GRE_PAYLOAD) + body
    return pack("!HHI", _GRE_KEY_PRESENT, _GRE_PAYLOAD, key) + body


def l2tpv3(session: int, body: bytes) -> bytes:
    """Make a data message of protocol 115 (RFC 3931 section 4.1.1.1)."""
    return pack("!I", session) + body


def l2tpv3_control(connection: int, avps: Sequence[bytes]) -> bytes:
    """Make a control message of protocol 115: session ID 0 before the header (RFC 3931 section 4.1.1.2)."""
    body = b"".join(avps)
    return pack("!IHHIHH", 0, _L2TP_CONTROL, _L2TP_CONTROL_SIZE + len(body), connection, 0, 0) + body


def avp(attribute: int, value: bytes) -> bytes:
    """Make a mandatory attribute of an L2TPv3 control message (RFC 3931 section 5.1)."""
    return pack("!HHH", 0x8000 | 6 + len(value), 0, attribute) + value


def udp(source: IPv4Address, destination: IPv4Address, ports: tuple[int, int], body: bytes) -> bytes:
    """Make the payload of protocol 17 with its checksum (RFC 768); ports are those of source and destination."""
    size = 8 + len(body)
    pseudo = source.packed + destination.packed + pack("!HH", UDP, size)
    bare = pack("!HHHH", *ports, size, 0) + body
    # A checksum of 0 says that there is none, so 0 is sent as all ones.
    return bare[:6] + pack("!H", ipv4.checksum(pseudo + bare) or 0xFFFF) + bare[8:]


def ike(spis: tuple[int, int], exchange: int, message: int, *, answers: bool, body: bytes = b"") -> bytes:
    """Make a message of IKEv2 in which the initiator asks, or the responder answers (RFC 7296 section 3.1).

    `spis` are those of initiator and responder. The body stands for the payloads, which nobody on the way can read.
    """
    flags = _IKE_RESPONSE if answers else _IKE_INITIATOR
    return _IKE_HEADER.pack(*spis, 46, 0x20, exchange, flags, message, _IKE_HEADER.size + len(body)) + body


def icmp(kind: int, code: int, body: bytes, rest: int = 0) -> bytes:
    """Make the payload of protocol 1; `rest` are the 32 bits behind the checksum (RFC 792)."""
    bare = pack("!BBHI", kind, code, 0, rest) + body
    return bare[:2] + pack("!H", ipv4.checksum(bare)) + bare[4:]
