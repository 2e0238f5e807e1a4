"""TCP: ports, sequence number, flags and where the payload begins (RFC 9293 section 3.1)."""

from struct import Struct
from typing import Final, NamedTuple

HEADER_SIZE_MIN: Final = 20
SYN: Final = 0x02
ACK: Final = 0x10

_HEADER: Final = Struct("!HHIxxxxBB")


class TcpFront(NamedTuple):
    """The front of one segment; `payload_at` is an offset in bytes into what it was read from."""

    source_port: int
    destination_port: int
    sequence: int
    flags: int
    payload_at: int


def front(data: bytes, at: int = 0) -> TcpFront | None:
    """Read the segment that begins at an offset; None where its header is malformed or cut off."""
    if len(data) < at + HEADER_SIZE_MIN:
        return None
    source_port, destination_port, sequence, offset, flags = _HEADER.unpack_from(data, at)
    header_size = (offset >> 4) * 4
    if header_size < HEADER_SIZE_MIN:
        return None
    return TcpFront(source_port, destination_port, sequence, flags, at + header_size)
