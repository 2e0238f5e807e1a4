"""GRE: version, key and what else its flags announce (RFC 2784 section 2, RFC 2890 section 2, RFC 2637 section 4.1).

    0                   1                   2                   3
    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
   +---------------------------------------------------------------+
   |C| |K|S|         Reserved      | Ver |       Protocol Type     |
   +---------------------------------------------------------------+
   |      Checksum (with C)        |       Reserved1 (with C)      |
   +---------------------------------------------------------------+
   |                          Key (with K)                         |
   +---------------------------------------------------------------+
   |                    Sequence Number (with S)                   |
   +---------------------------------------------------------------+

Version 1 is PPTP's: its key field holds payload length and call ID (RFC 2637 section 4.1), is always there,
and comes first, since C is 0.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

HEADER_SIZE_MIN: Final = 4

VERSION_PPTP: Final = 1

_BASE: Final = Struct("!HH")
_WORD: Final = Struct("!I")

_CHECKSUM: Final = 0x8000
_ROUTING: Final = 0x4000
_KEY: Final = 0x2000
_SEQUENCE: Final = 0x1000
_VERSION_MASK: Final = 0x0007
_CALL_ID_MASK: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class GreHeader:
    """The front of a GRE packet. `key` is None where there is none; in version 1 it has `call_id` in its low half."""

    version: int
    payload_type: int
    key: int | None

    @property
    def call_id(self) -> int | None:
        """The call of PPTP that the packet belongs to, by its receiver's number; 0 is a valid one."""
        return self.key & _CALL_ID_MASK if self.version == VERSION_PPTP and self.key is not None else None


def parse(data: bytes) -> GreHeader | None:
    """Read the front of an IPv4 payload of protocol 47, up to the key; None where it is too short or no GRE we know.

    Refused: versions other than 0 and 1, version 1 without its key field, and the source routes of
    RFC 1701, which receivers must discard (RFC 2784 section 2.3).
    """
    if len(data) < HEADER_SIZE_MIN:
        return None
    flags, payload_type = _BASE.unpack_from(data)
    version, has_key = flags & _VERSION_MASK, bool(flags & _KEY)
    if version > VERSION_PPTP or flags & _ROUTING or (version == VERSION_PPTP and (not has_key or flags & _CHECKSUM)):
        return None
    if not has_key:
        return GreHeader(version, payload_type, None)
    at = HEADER_SIZE_MIN + (_WORD.size if flags & _CHECKSUM else 0)
    if len(data) < at + _WORD.size:
        return None
    key: int = _WORD.unpack_from(data, at)[0]
    return GreHeader(version, payload_type, key)


def payload_offset(data: bytes) -> int | None:
    """Say where the payload of a version 0 packet begins, behind what its flags announce, in bytes."""
    if len(data) < HEADER_SIZE_MIN:
        return None
    flags: int = _BASE.unpack_from(data)[0]
    words = sum(bool(flags & flag) for flag in (_CHECKSUM, _KEY, _SEQUENCE))
    return HEADER_SIZE_MIN + words * _WORD.size
