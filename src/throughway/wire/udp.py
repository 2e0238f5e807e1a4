"""UDP: ports and payload (RFC 768), and what shares port 4500 (RFC 3948 section 2)."""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from throughway.wire import ipv4

HEADER_SIZE: Final = 8
IKE_PORT: Final = 500
"""RFC 7296 section 2, RFC 2408 section 2.5.1."""

NAT_T_PORT: Final = 4500
"""RFC 3948 section 2, RFC 7296 section 2.23."""

NON_ESP_MARKER: Final = bytes(4)
"""What stands before IKE on port 4500, where ESP has its SPI, which is never 0 (RFC 3948 section 2.2)."""

_HEADER: Final = Struct("!HHHH")
_PROTOCOL: Final = 17
_CHECKSUM_OFFSET: Final = 6


@dataclass(frozen=True, slots=True)
class UdpDatagram:
    """One datagram. `size` is in bytes with the header, as the header says; `payload` is what is there of it."""

    source_port: int
    destination_port: int
    size: int
    payload: bytes

    @property
    def is_whole(self) -> bool:
        """Whether all of the payload is here; not so in a first fragment."""
        return HEADER_SIZE + len(self.payload) == self.size


def parse(data: bytes) -> UdpDatagram | None:
    """Read the front of an IPv4 payload of protocol 17, or None where it is malformed.

    A payload that is shorter than the header says is no error: the first fragment of a large IKE
    message looks like that. The checksum is not looked at.
    """
    if len(data) < HEADER_SIZE:
        return None
    source_port, destination_port, size, _ = _HEADER.unpack_from(data)
    if size < HEADER_SIZE:
        return None
    return UdpDatagram(source_port, destination_port, size, bytes(data[HEADER_SIZE:size]))


def with_checksum(packet: bytes) -> bytes:
    """Return an IPv4 packet with the checksum of its datagram written, where its sender left that to the hardware.

    Such a sender writes the sum over the pseudo header alone (RFC 768), not complemented. Everything else comes
    back as it is: what has no checksum or a wrong one, and fragments, which never are such packets.
    """
    outer = ipv4.parse(packet)
    if outer is None or outer.protocol != _PROTOCOL or outer.is_fragment or len(outer.payload) < HEADER_SIZE:
        return packet
    datagram = outer.payload
    pseudo = outer.source.packed + outer.destination.packed + _HEADER.pack(0, 0, _PROTOCOL, len(datagram))
    written = datagram[_CHECKSUM_OFFSET:HEADER_SIZE]
    is_left_out = written == (ipv4.checksum(pseudo) ^ 0xFFFF).to_bytes(2, "big")
    if not is_left_out or ipv4.checksum(pseudo + datagram) == 0:
        return packet
    bare = datagram[:_CHECKSUM_OFFSET] + bytes(2) + datagram[HEADER_SIZE:]
    right = ipv4.checksum(pseudo + bare) or 0xFFFF
    at = outer.header_size + _CHECKSUM_OFFSET
    return packet[:at] + right.to_bytes(2, "big") + packet[at + 2 :]


def strip_non_esp_marker(payload: bytes) -> bytes | None:
    """Return the IKE message in a datagram of port 4500; None for ESP and keepalives (RFC 3948 section 2)."""
    if not payload.startswith(NON_ESP_MARKER):
        return None
    return payload[len(NON_ESP_MARKER) :]
