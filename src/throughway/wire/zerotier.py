"""ZeroTier's packets (node/Packet.hpp of its source).

    packet ID 8 | destination 5 | source 5 | flags, cipher and hops 1 | MAC 8 | verb 1 | ...

A HELLO is in clear: protocol version 1, major 1, minor 1, revision 2, time 8 in milliseconds since 1970, and the
sender's identity, which begins with its address of 5 bytes and a type. A fragment has 0xff behind its destination.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

HEADER_SIZE: Final = 28
_HELLO: Final = 1
_VERB_MASK: Final = 0x1F
_CIPHER_MASK: Final = 0x38
_CIPHER_MAC_ONLY: Final = 0
_HELLO_FRONT: Final = Struct("!BBBHQ5sB")
_PROTOCOL_MAX: Final = 32
_TIME_FROM_MS, _TIME_TO_MS = 1_300_000_000_000, 3_300_000_000_000
_IDENTITY_TYPES: Final = (0, 1)
_RESERVED_FIRST: Final = (0x00, 0xFF)
"""Addresses that begin so name no node (node/Address.hpp)."""


@dataclass(frozen=True, slots=True)
class ZerotierPacket:
    """The front of one packet. Addresses are 5 bytes; `hello_version` is the protocol's, in a HELLO only."""

    packet_id: bytes
    destination: bytes
    source: bytes
    hello_version: int | None


def parse(data: bytes) -> ZerotierPacket | None:
    """Read a packet that is no fragment; None where its addresses are impossible. All else may look so by chance."""
    if len(data) < HEADER_SIZE or data[8] in _RESERVED_FIRST or data[13] in _RESERVED_FIRST:
        return None
    destination, source = data[8:13], data[13:18]
    if destination == source:
        return None
    return ZerotierPacket(data[:8], destination, source, _hello_version(data, source))


def _hello_version(data: bytes, source: bytes) -> int | None:
    if len(data) < HEADER_SIZE + _HELLO_FRONT.size or data[27] & _VERB_MASK != _HELLO:
        return None
    protocol, _, _, _, time_ms, identity, kind = _HELLO_FRONT.unpack_from(data, HEADER_SIZE)
    is_hello = (
        data[18] & _CIPHER_MASK == _CIPHER_MAC_ONLY
        and 0 < protocol <= _PROTOCOL_MAX
        and _TIME_FROM_MS < time_ms < _TIME_TO_MS
        and identity == source
        and kind in _IDENTITY_TYPES
    )
    return protocol if is_hello else None
