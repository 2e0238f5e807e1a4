"""Nebula's header (header/header.go of its source).

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-------+-------+---------------+-------------------------------+
|Ver (1)| Type  |    Subtype    |          Reserved (0)         |
+-------+-------+---------------+-------------------------------+
|                         Remote index                          |
+---------------------------------------------------------------+
|                 Message counter, 64 bits                      |
+---------------------------------------------------------------+
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

HEADER_SIZE: Final = 16
HANDSHAKE: Final = 0
HANDSHAKE_SIZE_MIN: Final = HEADER_SIZE + 32 + 16
"""A Noise message begins with a public key of 32 bytes, and more follows."""

NAMES: Final = {
    0: "handshake",
    1: "message",
    2: "receive error",
    3: "lighthouse",
    4: "test",
    5: "close tunnel",
    6: "control",
}

_HEADER: Final = Struct("!BBHIQ")
_SUBTYPE_MAX: Final = 1
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class NebulaHeader:
    """The header of one packet."""

    type: int
    subtype: int
    remote_index: int
    counter: int


def parse(data: bytes) -> NebulaHeader | None:
    """Read the header of a packet, or None where version, type, subtype or reserved bits are not Nebula's."""
    if len(data) < HEADER_SIZE or data[0] >> 4 != _VERSION:
        return None
    first, subtype, reserved, index, counter = _HEADER.unpack_from(data)
    if reserved or subtype > _SUBTYPE_MAX or first & 0xF not in NAMES:
        return None
    return NebulaHeader(first & 0xF, subtype, index, counter)
