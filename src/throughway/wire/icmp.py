"""ICMP errors and the packets that they quote (RFC 792, RFC 1812 section 4.3, RFC 4884).

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+---------------+---------------+-------------------------------+
|     Type      |     Code      |           Checksum            |
+---------------+---------------+-------------------------------+
| pointer (12)  | quote length  |     next-hop MTU (3, code 4)  |
+---------------+---------------+-------------------------------+
|      IPv4 header and at least 8 bytes of its payload          |
~                                                               ~
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from throughway.core.events import RefusalKind
from throughway.wire import ipv4

HEADER_SIZE: Final = 8
QUOTED_PAYLOAD_MIN: Final = 8
"""Bytes of the quoted packet's payload: 64 bits (RFC 792)."""

_HEADER: Final = Struct("!BBHBBH")
_QUOTE_UNIT: Final = 4
_QUOTE_SIZE_MIN: Final = 128
"""Bytes that a quote has at least where its length is given and extensions follow it (RFC 4884 section 3)."""


class IcmpErrorType(IntEnum):
    """The types that quote a packet and concern a tunnel (RFC 792). Redirects are not forwarded by routers."""

    DESTINATION_UNREACHABLE = 3
    SOURCE_QUENCH = 4
    TIME_EXCEEDED = 11
    PARAMETER_PROBLEM = 12


_PROTOCOL_UNREACHABLE: Final = 2
_PORT_UNREACHABLE: Final = 3
_FRAGMENTATION_NEEDED: Final = 4

_HAS_QUOTE_SIZE: Final = frozenset(
    {IcmpErrorType.DESTINATION_UNREACHABLE, IcmpErrorType.TIME_EXCEEDED, IcmpErrorType.PARAMETER_PROBLEM}
)


@dataclass(frozen=True, slots=True)
class IcmpError:
    """One ICMP error. `quoted` is the packet it is about, as its sender's side of the path saw it."""

    type: IcmpErrorType
    code: int
    next_hop_mtu: int | None
    quoted: ipv4.Ipv4Packet

    @property
    def refusal(self) -> RefusalKind | None:
        """Say how the sender refused the quoted packet, or None where it did not (RFC 1122 section 3.2.2.1)."""
        if self.type is not IcmpErrorType.DESTINATION_UNREACHABLE:
            return None
        if self.code == _PROTOCOL_UNREACHABLE:
            return RefusalKind.PROTOCOL_UNREACHABLE
        return RefusalKind.PORT_UNREACHABLE if self.code == _PORT_UNREACHABLE else None


def parse(data: bytes) -> IcmpError | None:
    """Read the whole payload of an IPv4 packet of protocol 1, or None where it is no error, malformed or corrupt.

    `next_hop_mtu` is in bytes, given with fragmentation-needed only, and 0 from routers older than
    RFC 1191 (its section 5). A quote without the first 8 bytes of its payload names no tunnel and is
    malformed.
    """
    if len(data) < HEADER_SIZE or ipv4.checksum(data) != 0:
        return None
    number, code, _, _, quote_units, mtu = _HEADER.unpack_from(data)
    if number not in IcmpErrorType.__members__.values():
        return None
    kind = IcmpErrorType(number)
    quoted = ipv4.parse_quoted(_quote(kind, quote_units, data))
    if quoted is None or len(quoted.payload) < QUOTED_PAYLOAD_MIN:
        return None
    is_too_big = kind is IcmpErrorType.DESTINATION_UNREACHABLE and code == _FRAGMENTATION_NEEDED
    return IcmpError(kind, code, mtu if is_too_big else None, quoted)


def _quote(kind: IcmpErrorType, units: int, data: bytes) -> bytes:
    """Cut off the extensions behind the quote where the header gives its length (RFC 4884 sections 4, 5)."""
    size = units * _QUOTE_UNIT
    if kind in _HAS_QUOTE_SIZE and size >= _QUOTE_SIZE_MIN:
        return data[HEADER_SIZE : HEADER_SIZE + size]
    return data[HEADER_SIZE:]
