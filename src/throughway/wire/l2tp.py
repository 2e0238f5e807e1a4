"""L2TP over UDP (RFC 2661, RFC 3931 section 4.1.2): control messages of both versions.

Version 2, behind the UDP header (RFC 2661 section 3.1); T, L and S are 1 in a control message:

    0                   1                   2                   3
    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
   +---------------------------------------------------------------+
   |T|L|x|x|S|x|O|P|x|x|x|x|  Ver  |             Length            |
   +-------------------------------+-------------------------------+
   |           Tunnel ID           |           Session ID          |
   +-------------------------------+-------------------------------+
   |               Ns              |               Nr              |
   +-------------------------------+-------------------------------+

The tunnel ID is that which the receiver has assigned, and 0 before it has. Attributes are written as in version 3
(RFC 2661 section 4.1), and a control message of version 3 has the header that it has over IP.
"""

from struct import Struct
from typing import Final

from throughway.core.events import L2tpControl
from throughway.wire import l2tpv3

HEADER_SIZE: Final = 12
ASSIGNED_TUNNEL_ID: Final = 9
"""RFC 2661 section 4.4.3."""

_HEADER: Final = Struct("!HHHHHH")
_FLAGS_AND_VERSION_MASK: Final = 0xC80F
_CONTROL_VERSION_2: Final = 0xC802
_VERSION_MASK: Final = 0x000F

_VALUE_SIZES: Final = {l2tpv3.MESSAGE_TYPE: 2, ASSIGNED_TUNNEL_ID: 2}


def parse_control(message: bytes) -> L2tpControl | None:
    """Read a control message of either version from behind the UDP header; None where it is none.

    As in `l2tpv3.parse_control` the message may be cut off, an AVP that makes no sense ends the reading, and
    the first of two counts.
    """
    if len(message) < HEADER_SIZE:
        return None
    flags, size, tunnel_id, _, _, _ = _HEADER.unpack_from(message)
    if flags & _VERSION_MASK == 3:
        return l2tpv3.parse_control(message)
    if flags & _FLAGS_AND_VERSION_MASK != _CONTROL_VERSION_2 or size < HEADER_SIZE:
        return None
    values: dict[int, int] = {}
    for attribute, value in l2tpv3.avps(message[HEADER_SIZE:size]):
        if len(value) == _VALUE_SIZES.get(attribute):
            values.setdefault(attribute, int.from_bytes(value, "big"))
    return L2tpControl(
        control_connection_id=tunnel_id,
        message_type=values.get(l2tpv3.MESSAGE_TYPE),
        assigned_connection_id=values.get(ASSIGNED_TUNNEL_ID),
        version=2,
    )
