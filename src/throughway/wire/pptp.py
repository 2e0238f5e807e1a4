"""PPTP's control channel (RFC 2637 section 2).

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-------------------------------+-------------------------------+
|            Length             |       PPTP Message Type (1)   |
+-------------------------------+-------------------------------+
|                     Magic Cookie 0x1A2B3C4D                   |
+-------------------------------+-------------------------------+
|     Control Message Type      |           Reserved0           |
+-------------------------------+-------------------------------+
|  Call ID, in call messages    |  Peer's Call ID, in replies   |
+-------------------------------+-------------------------------+
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

HEADER_SIZE: Final = 12
MAGIC_COOKIE: Final = 0x1A2B3C4D

NAMES: Final = {
    1: "Start-Control-Connection-Request",
    2: "Start-Control-Connection-Reply",
    3: "Stop-Control-Connection-Request",
    4: "Stop-Control-Connection-Reply",
    5: "Echo-Request",
    6: "Echo-Reply",
    7: "Outgoing-Call-Request",
    8: "Outgoing-Call-Reply",
    9: "Incoming-Call-Request",
    10: "Incoming-Call-Reply",
    11: "Incoming-Call-Connected",
    12: "Call-Clear-Request",
    13: "Call-Disconnect-Notify",
    14: "WAN-Error-Notify",
    15: "Set-Link-Info",
}
"""Control message types (RFC 2637 section 2)."""

_ASSIGNS_CALL: Final = frozenset({7, 8, 9, 10})
"""The messages whose sender chooses a call ID for itself (RFC 2637 sections 2.7 to 2.10)."""

_OUTGOING_CALL_REPLY: Final = 8
_CONNECTED: Final = 1
_RESULT_AT: Final = 16
"""Behind the two call IDs (RFC 2637 section 2.8)."""

_HEADER: Final = Struct("!HHIHH")
_CONTROL: Final = 1


@dataclass(frozen=True, slots=True)
class PptpMessage:
    """One control message. `call_id` is the number its sender gave itself, where the message assigns one."""

    size: int
    message_type: int
    call_id: int | None

    @property
    def name(self) -> str:
        """The name of the message in RFC 2637."""
        return NAMES[self.message_type]


def parse(data: bytes) -> PptpMessage | None:
    """Read the message that begins a stretch of the TCP stream; None where none does. It may be cut off."""
    if len(data) < HEADER_SIZE:
        return None
    size, kind, cookie, message_type, _ = _HEADER.unpack_from(data)
    if cookie != MAGIC_COOKIE or kind != _CONTROL or message_type not in NAMES or size < HEADER_SIZE:
        return None
    has_call = message_type in _ASSIGNS_CALL and len(data) >= HEADER_SIZE + 2
    call_id = int.from_bytes(data[HEADER_SIZE : HEADER_SIZE + 2], "big") if has_call else None
    return PptpMessage(size, message_type, call_id)


def is_connected(data: bytes) -> bool:
    """Whether the message that begins here grants a call that was asked for (RFC 2637 section 2.8)."""
    message = parse(data)
    if message is None or message.message_type != _OUTGOING_CALL_REPLY:
        return False
    return data[_RESULT_AT : _RESULT_AT + 1] == bytes((_CONNECTED,))
