"""ESP: what is in clear at its front (RFC 4303 section 2).

    0                   1                   2                   3
    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
   +---------------------------------------------------------------+
   |               Security Parameters Index (SPI)                 |
   +---------------------------------------------------------------+
   |                      Sequence Number                          |
   +---------------------------------------------------------------+
   |              initialisation vector, ciphertext, ICV           |
   ~                                                               ~

With extended sequence numbers only the low 32 bits are sent (RFC 4303 section 2.2.1), so that the
number of a young security association is small either way.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from throughway.core.ids import SPI_RESERVED_MAX, Spi

HEADER_SIZE: Final = 8
"""Bytes in clear: SPI and sequence number. Just what the shortest ICMP error quotes (RFC 792)."""

_HEADER: Final = Struct("!II")


@dataclass(frozen=True, slots=True)
class EspHeader:
    """The clear front of an ESP packet."""

    spi: Spi
    sequence: int

    @property
    def is_reserved(self) -> bool:
        """Whether the SPI can name no security association (RFC 4303 section 2.1)."""
        return self.spi <= SPI_RESERVED_MAX


def parse(data: bytes) -> EspHeader | None:
    """Read the front of an IPv4 payload of protocol 50, or None where it is too short."""
    if len(data) < HEADER_SIZE:
        return None
    spi, sequence = _HEADER.unpack_from(data)
    return EspHeader(Spi(spi), sequence)
