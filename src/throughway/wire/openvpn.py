"""OpenVPN's packets (openvpn.net's protocol documents; ssl_pkt.h and tls_crypt.h of its source).

The first byte is an opcode (5 bits) and a key ID (3 bits). A control packet goes on, by the protection in use:

    plain       session ID 8, acknowledgements, packet ID 4, TLS records
    tls-auth    session ID 8, HMAC 16 to 64, replay ID 4, time 4, acknowledgements, packet ID 4, TLS records
    tls-crypt   session ID 8, replay ID 4, time 4, HMAC 32, all the rest encrypted

Acknowledgements are a count of at most 8, so many packet IDs of 4 bytes, and, where there are any, the other end's
session ID. A plain P_ACK_V1 has no packet ID of its own. Data of version 2 has a peer ID of 3 bytes behind the first
one; with an AEAD cipher, the packet ID comes next, in clear. On TCP each packet has its length in 16 bits before it.
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final


class Opcode(IntEnum):
    """What a packet is, from its first five bits."""

    RESET_CLIENT_V1 = 1
    RESET_SERVER_V1 = 2
    SOFT_RESET = 3
    CONTROL = 4
    ACK = 5
    DATA_V1 = 6
    RESET_CLIENT_V2 = 7
    RESET_SERVER_V2 = 8
    DATA_V2 = 9
    RESET_CLIENT_V3 = 10
    CONTROL_WKC = 11


DATA: Final = frozenset({Opcode.DATA_V1, Opcode.DATA_V2})
CLIENT_RESETS: Final = frozenset({Opcode.RESET_CLIENT_V1, Opcode.RESET_CLIENT_V2, Opcode.RESET_CLIENT_V3})
SERVER_RESETS: Final = frozenset({Opcode.RESET_SERVER_V1, Opcode.RESET_SERVER_V2})
RESETS: Final = CLIENT_RESETS | SERVER_RESETS

HMAC_SIZES: Final = (0, 20, 32, 64, 16, 28, 48)
"""Bytes of the HMAC: none, SHA-1, SHA-256, SHA-512, MD5, SHA-224, SHA-384, the usual ones first."""

CONTROL_SIZE_MIN: Final = 14
TLS_CRYPT_OVERHEAD: Final = 49
"""Opcode 1, session ID 8, replay ID 4, time 4, HMAC 32 (tls_crypt.h)."""

_SESSION: Final = Struct("!Q")
_NUMBER: Final = Struct("!I")
_REPLAY: Final = Struct("!II")

_ACKS_MAX: Final = 8
"""RELIABLE_ACK_SIZE of its source."""

_PACKET_ID_MAX: Final = 1 << 16
"""Packet IDs count control packets of one key from 0; a handshake needs dozens."""

_TIME_FROM, _TIME_TO = 0x30000000, 0xC0000000
"""Seconds since 1970: 1995 to 2072."""

_EARLY_NEGOTIATION: Final = 0xFFFF0000
"""tls-crypt-v2 clients that can negotiate early begin the replay ID high, at 0x0f000000 in releases (ssl_pkt.h)."""


@dataclass(frozen=True, slots=True)
class Control:
    """A control packet as far as it is in clear. `hmac_size` is None for tls-crypt, whose acknowledgements are not.

    `replay_time` is in seconds since 1970, and that of the sender's start rather than the packet's.
    """

    opcode: Opcode
    key_id: int
    session_id: int
    hmac_size: int | None
    replay_id: int | None
    acknowledged: tuple[int, ...]
    remote_session_id: int | None
    packet_id: int | None
    replay_time: int | None = None


def opcode(first: int) -> Opcode | None:
    """Read the opcode of a packet by its first byte, or None where there is no such."""
    number = first >> 3
    return Opcode(number) if 1 <= number <= 11 else None


def parse_control(data: bytes, size: int, hmac_size: int) -> Control | None:
    """Read a packet of `size` bytes, plain with an HMAC of 0 bytes, else with tls-auth; None where it does not fit."""
    kind = opcode(data[0]) if len(data) >= CONTROL_SIZE_MIN else None
    if kind is None or kind in DATA or (kind in RESETS and data[0] & 7):
        return None
    session_id: int = _SESSION.unpack_from(data, 1)[0]
    at, replay_id, time = 9, None, None
    if hmac_size:
        at += hmac_size
        if len(data) < at + _REPLAY.size:
            return None
        replay_id, time = _REPLAY.unpack_from(data, at)
        if not 0 < replay_id < _PACKET_ID_MAX or not _TIME_FROM < time < _TIME_TO:
            return None
        at += _REPLAY.size
    if len(data) <= at or data[at] > _ACKS_MAX or not session_id:
        return None
    count = data[at]
    at += 1
    behind = at + 4 * count + (8 if count else 0)
    has_id = kind is not Opcode.ACK
    if len(data) < behind + (4 if has_id else 0) or (not has_id and (not count or size != behind)):
        return None
    acknowledged = tuple(_NUMBER.unpack_from(data, at + 4 * n)[0] for n in range(count))
    remote = _SESSION.unpack_from(data, behind - 8)[0] if count else None
    packet_id = _NUMBER.unpack_from(data, behind)[0] if has_id else None
    if any(number >= _PACKET_ID_MAX for number in (*acknowledged, packet_id or 0)):
        return None
    return Control(kind, data[0] & 7, session_id, hmac_size, replay_id, acknowledged, remote, packet_id, time)


def parse_wrapped(data: bytes, size: int) -> Control | None:
    """Read a packet of `size` bytes as one with tls-crypt; None where it does not fit."""
    kind = opcode(data[0]) if len(data) >= 17 else None
    if kind is None or kind in DATA or size < TLS_CRYPT_OVERHEAD + 5 or (kind in RESETS and data[0] & 7):
        return None
    session_id: int = _SESSION.unpack_from(data, 1)[0]
    replay_id, time = _REPLAY.unpack_from(data, 9)
    if not session_id or not _TIME_FROM < time < _TIME_TO:
        return None
    is_early = replay_id & _EARLY_NEGOTIATION and replay_id >> 24 <= 0x0F
    number = replay_id & ~_EARLY_NEGOTIATION if is_early else replay_id
    if not 0 < number < _PACKET_ID_MAX:
        return None
    return Control(kind, data[0] & 7, session_id, None, replay_id, (), None, None, time)


def wrapped_key_fits(data: bytes, size: int) -> bool:
    """Whether a tls-crypt-v2 reset ends with a wrapped client key of the length that it says (tls_crypt.h)."""
    if len(data) < size or size < TLS_CRYPT_OVERHEAD + 5 + 2:
        return False
    return TLS_CRYPT_OVERHEAD + 5 + int.from_bytes(data[size - 2 : size], "big") == size
