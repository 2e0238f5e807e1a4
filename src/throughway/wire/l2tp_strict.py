"""L2TP over UDP, versions 2 and 3, read strictly to recognise it (RFC 2661 section 3.1, RFC 3931 section 4.1.2).

    0                   1                   2                   3
    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
   +-------------------------------+-------------------------------+
   |T|L|x|x|S|x|O|P|x|x|x|x|  Ver  |        Length (with L)        |
   +-------------------------------+-------------------------------+
   |  v2: Tunnel ID, Session ID    |  v3: Control Connection ID    |
   +-------------------------------+-------------------------------+
   |          Ns (with S)          |          Nr (with S)          |
   +-------------------------------+-------------------------------+
   |  AVPs of a control message (T), of which the first is the Message Type (RFC 2661 section 4.4.1)

Data of version 3 has 16 reserved bits behind its first 16, and then the session ID.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

HEADER_SIZE_CONTROL: Final = 12

_HEADER: Final = Struct("!HHHHHH")
_AVP: Final = Struct("!HHH")
_MESSAGE_TYPE_AVP_SIZE: Final = 8

_CONTROL: Final = {0xC802: 2, 0xC803: 3}
_TYPE, _LENGTH, _SEQUENCE, _OFFSET = 0x8000, 0x4000, 0x0800, 0x0200
_RESERVED_V2: Final = 0x34F0
_VERSION_MASK: Final = 0x000F
_AVP_SIZE_MASK: Final = 0x03FF
_AVP_RESERVED: Final = 0x3C00
_MESSAGE_TYPE_MAX: Final = 28
"""The highest message type at IANA for either version."""


@dataclass(frozen=True, slots=True)
class L2tpControlFront:
    """A control message. `connection_id` is v2's tunnel ID or v3's control connection ID; a ZLB has no message type."""

    version: int
    connection_id: int
    session_id: int
    message_type: int | None
    assigned_id: int | None


@dataclass(frozen=True, slots=True)
class L2tpDataFront:
    """A data message. `tunnel_id` is 0 in version 3; `payload_at` is an offset in bytes."""

    version: int
    tunnel_id: int
    session_id: int
    payload_at: int


def parse_control(data: bytes, size: int) -> L2tpControlFront | None:
    """Read a datagram of `size` bytes as a control message; None unless all of its AVPs that are here are sound."""
    if len(data) < HEADER_SIZE_CONTROL:
        return None
    flags, length, high, low, _, _ = _HEADER.unpack_from(data)
    version = _CONTROL.get(flags)
    if version is None or not HEADER_SIZE_CONTROL <= length <= size:
        return None
    connection_id, session_id = (high, low) if version == 2 else (high << 16 | low, 0)
    if length == HEADER_SIZE_CONTROL:
        return L2tpControlFront(version, connection_id, session_id, None, None)
    message = _message_type(data)
    if message is None or not _are_sound(data, length):
        return None
    return L2tpControlFront(version, connection_id, session_id, message, _assigned(data, length, version))


def parse_data(data: bytes, size: int) -> L2tpDataFront | None:
    """Read a datagram of `size` bytes as data of either version; a weak test, for a second look at what is likely."""
    if len(data) < 8:
        return None
    flags = int.from_bytes(data[:2], "big")
    if flags == 3:
        return L2tpDataFront(3, 0, int.from_bytes(data[4:8], "big"), 8) if data[2:4] == b"\0\0" else None
    if flags & (_TYPE | _RESERVED_V2 | _VERSION_MASK) != 2:
        return None
    at = 2
    if flags & _LENGTH:
        if int.from_bytes(data[2:4], "big") != size:
            return None
        at = 4
    tunnel_id, session_id = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
    at += 4 + (4 if flags & _SEQUENCE else 0)
    if flags & _OFFSET:
        at += 2 + int.from_bytes(data[at : at + 2], "big")
    return L2tpDataFront(2, tunnel_id, session_id, at) if tunnel_id and session_id and at <= len(data) else None


def _message_type(data: bytes) -> int | None:
    """Read the first AVP, which must be a Message Type: 8 bytes, of the IETF, not hidden."""
    if len(data) < HEADER_SIZE_CONTROL + _MESSAGE_TYPE_AVP_SIZE:
        return None
    flags, vendor, attribute = _AVP.unpack_from(data, HEADER_SIZE_CONTROL)
    if flags & ~0x8000 != _MESSAGE_TYPE_AVP_SIZE or vendor or attribute:
        return None
    number = int.from_bytes(data[HEADER_SIZE_CONTROL + 6 : HEADER_SIZE_CONTROL + 8], "big")
    return number if 0 < number <= _MESSAGE_TYPE_MAX else None


def _are_sound(data: bytes, length: int) -> bool:
    at = HEADER_SIZE_CONTROL
    while at < length and at + _AVP.size <= len(data):
        flags = int.from_bytes(data[at : at + 2], "big")
        if flags & _AVP_RESERVED or flags & _AVP_SIZE_MASK < _AVP.size:
            return False
        at += flags & _AVP_SIZE_MASK
    return at == length or (at < length and len(data) < length) or (at > len(data) and at <= length)


def _assigned(data: bytes, length: int, version: int) -> int | None:
    """Read the ID that the sender gives itself: Assigned Tunnel ID (9) or Assigned Control Connection ID (61)."""
    wanted, size = (9, 2) if version == 2 else (61, 4)
    at, end = HEADER_SIZE_CONTROL, min(length, len(data))
    while at + _AVP.size <= end:
        flags, vendor, attribute = _AVP.unpack_from(data, at)
        avp = flags & _AVP_SIZE_MASK
        if not vendor and attribute == wanted and avp == _AVP.size + size and at + avp <= end:
            return int.from_bytes(data[at + _AVP.size : at + avp], "big")
        at += avp
    return None
