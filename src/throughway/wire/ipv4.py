"""IPv4: the header, fragments, and the payload behind them (RFC 791 section 3.1).

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-------+-------+---------------+-------------------------------+
|Version|  IHL  |Type of Service|          Total Length         |
+-------+-------+---------------+-----+-------------------------+
|         Identification        |0 D M|     Fragment Offset     |
+---------------+---------------+-----+-------------------------+
|  Time to Live |    Protocol   |        Header Checksum        |
+---------------+---------------+-------------------------------+
|                         Source Address                        |
+---------------------------------------------------------------+
|                      Destination Address                      |
+---------------------------------------------------------------+
|                 Options, up to 40 bytes, padded               |
+---------------------------------------------------------------+
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from struct import Struct, unpack
from typing import Final

HEADER_SIZE_MIN: Final = 20
"""Bytes of a header without options (RFC 791 section 3.1, IHL 5)."""

_HEADER: Final = Struct("!BBHHHBBH4s4s")
_DONT_FRAGMENT: Final = 0x4000
_MORE_FRAGMENTS: Final = 0x2000
_OFFSET_MASK: Final = 0x1FFF
_OFFSET_UNIT: Final = 8
_CHECKSUM_OFFSET: Final = 10
_SOURCE_OFFSET: Final = 12
_DESTINATION_OFFSET: Final = 16


@dataclass(frozen=True, slots=True)
class Ipv4Packet:
    """One IPv4 packet or fragment. Sizes and the fragment offset are in bytes.

    `total_size` is what the header says; `payload` is what is there of it, without the padding of
    the link, and shorter than the header says in what an ICMP error quotes.
    """

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    identification: int
    ttl: int
    header_size: int
    total_size: int
    fragment_offset: int
    more_fragments: bool
    dont_fragment: bool
    payload: bytes

    @property
    def is_fragment(self) -> bool:
        """Whether this is a part of a packet (RFC 791 section 3.2)."""
        return self.more_fragments or self.fragment_offset > 0

    @property
    def has_first_bytes(self) -> bool:
        """Whether the payload begins with the header of its protocol: it is whole, or a first fragment."""
        return self.fragment_offset == 0


def parse(data: bytes) -> Ipv4Packet | None:
    """Read a packet that is here in full, or None where it is malformed or cut off.

    The header checksum is not looked at: the kernel has done so before we see a packet.
    """
    packet = parse_quoted(data)
    if packet is None or len(data) < packet.total_size:
        return None
    return packet


def parse_quoted(data: bytes) -> Ipv4Packet | None:
    """Read as much of a packet as an ICMP error quotes: its header and any part of the payload.

    RFC 792 asks for the header and 64 bits behind it, RFC 1812 section 4.3.2.3 for as much as fits.
    """
    if len(data) < HEADER_SIZE_MIN:
        return None
    version_ihl, _, total_size, identification, fragment, ttl, protocol, _, source, destination = _HEADER.unpack_from(
        data
    )
    header_size = (version_ihl & 0xF) * 4
    if version_ihl >> 4 != 4 or not HEADER_SIZE_MIN <= header_size <= min(total_size, len(data)):
        return None
    return Ipv4Packet(
        source=IPv4Address(source),
        destination=IPv4Address(destination),
        protocol=protocol,
        identification=identification,
        ttl=ttl,
        header_size=header_size,
        total_size=total_size,
        fragment_offset=(fragment & _OFFSET_MASK) * _OFFSET_UNIT,
        more_fragments=bool(fragment & _MORE_FRAGMENTS),
        dont_fragment=bool(fragment & _DONT_FRAGMENT),
        payload=bytes(data[header_size:total_size]),
    )


def checksum(data: bytes) -> int:
    """Compute the Internet checksum (RFC 1071 section 1), 0 over data that holds its right checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def with_source(packet: bytes, source: IPv4Address) -> bytes:
    """Return the packet, or what there is of it, from another source address, with its header checksum mended."""
    return _with_address(packet, _SOURCE_OFFSET, source)


def with_destination(packet: bytes, destination: IPv4Address) -> bytes:
    """Return the packet, or what there is of it, to another destination address, with its header checksum mended."""
    return _with_address(packet, _DESTINATION_OFFSET, destination)


def _with_address(packet: bytes, offset: int, address: IPv4Address) -> bytes:
    header_size = (packet[0] & 0xF) * 4
    header = bytearray(packet[:header_size])
    header[offset : offset + 4] = address.packed
    header[_CHECKSUM_OFFSET : _CHECKSUM_OFFSET + 2] = bytes(2)
    header[_CHECKSUM_OFFSET : _CHECKSUM_OFFSET + 2] = checksum(bytes(header)).to_bytes(2, "big")
    return bytes(header) + packet[header_size:]
