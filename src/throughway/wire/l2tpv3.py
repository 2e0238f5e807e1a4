"""L2TPv3 over IP: session ID, control message header and attributes (RFC 3931 sections 3.2.1, 4.1.1, 5.1).

Behind the IP header, protocol 115:

    0                   1                   2                   3
    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
   +---------------------------------------------------------------+
   |               Session ID (0: a control message)               |
   +---------------------------------------------------------------+
   |T|L|x|x|S|x|x|x|x|x|x|x|  Ver  |             Length            |
   +---------------------------------------------------------------+
   |                     Control Connection ID                     |
   +-------------------------------+-------------------------------+
   |               Ns              |               Nr              |
   +-------------------------------+-------------------------------+

The length counts from T on. T, L and S are 1, Ver is 3. Then come attribute value pairs (AVPs):

   +-+-+-------+-------------------+-------------------------------+
   |M|H| rsvd  |      Length       |           Vendor ID           |
   +-+-+-------+-------------------+-------------------------------+
   |         Attribute Type        |  Value ...                    |
   +-------------------------------+-------------------------------+

A hidden value (H) is encrypted (RFC 3931 section 5.3); such an AVP counts as absent.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final

from throughway.core.events import L2tpControl

SESSION_ID_SIZE: Final = 4
HEADER_SIZE: Final = 12
"""Bytes of the control message header, behind the session ID."""

MESSAGE_TYPE: Final = 0
ASSIGNED_CONNECTION_ID: Final = 61
LOCAL_SESSION_ID: Final = 63
REMOTE_SESSION_ID: Final = 64
"""Attribute types (RFC 3931 sections 5.4.1, 5.4.3, 5.4.4)."""

_SESSION_ID: Final = Struct("!I")
_HEADER: Final = Struct("!HHIHH")
_AVP: Final = Struct("!HHH")

_FLAGS_AND_VERSION_MASK: Final = 0xC80F
_CONTROL_VERSION_3: Final = 0xC803
_HIDDEN: Final = 0x4000
_AVP_SIZE_MASK: Final = 0x03FF
_VENDOR_IETF: Final = 0

_VALUE_SIZES: Final = {MESSAGE_TYPE: 2, ASSIGNED_CONNECTION_ID: 4, LOCAL_SESSION_ID: 4, REMOTE_SESSION_ID: 4}


def session_id(payload: bytes) -> int | None:
    """Read what begins an IPv4 payload of protocol 115: 0 for a control message; None where it is too short."""
    if len(payload) < SESSION_ID_SIZE:
        return None
    number: int = _SESSION_ID.unpack_from(payload)[0]
    return number


def parse_control(message: bytes) -> L2tpControl | None:
    """Read a control message from its header on, behind the session ID; None where it is none.

    The message may be cut off behind any byte of its AVPs, and then what is there of them counts. An AVP
    that makes no sense ends the reading. Where one comes twice, the first counts.
    """
    if len(message) < HEADER_SIZE:
        return None
    flags, size, connection_id, _, _ = _HEADER.unpack_from(message)
    if flags & _FLAGS_AND_VERSION_MASK != _CONTROL_VERSION_3 or size < HEADER_SIZE:
        return None
    values: dict[int, int] = {}
    for attribute, value in avps(message[HEADER_SIZE:size]):
        if len(value) == _VALUE_SIZES.get(attribute):
            values.setdefault(attribute, int.from_bytes(value, "big"))
    return L2tpControl(
        control_connection_id=connection_id,
        message_type=values.get(MESSAGE_TYPE),
        assigned_connection_id=values.get(ASSIGNED_CONNECTION_ID),
        local_session_id=values.get(LOCAL_SESSION_ID),
        remote_session_id=values.get(REMOTE_SESSION_ID),
    )


def avps(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of the AVPs that are whole, not hidden and not a vendor's own (RFC 3931 section 5.1)."""
    at = 0
    while at + _AVP.size <= len(data):
        flags, vendor, attribute = _AVP.unpack_from(data, at)
        end = at + (flags & _AVP_SIZE_MASK)
        if end < at + _AVP.size or end > len(data):
            return
        if vendor == _VENDOR_IETF and not flags & _HIDDEN:
            yield attribute, data[at + _AVP.size : end]
        at = end
