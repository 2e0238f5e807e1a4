"""AH: its front (RFC 4302 section 2).

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+---------------+---------------+-------------------------------+
| Next Header   |  Payload Len  |          RESERVED             |
+---------------+---------------+-------------------------------+
|                 Security Parameters Index (SPI)               |
+---------------------------------------------------------------+
|                    Sequence Number                            |
+---------------------------------------------------------------+
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

HEADER_SIZE: Final = 12

_HEADER: Final = Struct("!BxxxII")


@dataclass(frozen=True, slots=True)
class AhHeader:
    """The front of an AH packet; `next_header` is the IP protocol behind it."""

    next_header: int
    spi: int
    sequence: int


def parse(data: bytes) -> AhHeader | None:
    """Read the front of an IP payload of protocol 51, or None where it is too short."""
    return AhHeader(*_HEADER.unpack_from(data)) if len(data) >= HEADER_SIZE else None
