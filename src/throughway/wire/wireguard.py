"""WireGuard's four messages (https://www.wireguard.com/protocol/, whitepaper section 5.4).

    type 1, 148 bytes   initiation: sender index 4, ephemeral 32, static 48, timestamp 28, mac1 16, mac2 16
    type 2,  92 bytes   response: sender index 4, receiver index 4, ephemeral 32, empty 16, mac1 16, mac2 16
    type 3,  64 bytes   cookie reply: receiver index 4, nonce 24, cookie 32
    type 4, from 32     transport data: receiver index 4, counter 8, packet padded to 16 bytes, tag 16

Each begins with its type and three bytes of 0; numbers are little-endian. There are servers that use the three bytes to
tell their customers apart, who fill them then.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

INITIATION, RESPONSE, COOKIE_REPLY, DATA = 1, 2, 3, 4
SIZES: Final = {INITIATION: 148, RESPONSE: 92, COOKIE_REPLY: 64}
DATA_SIZE_MIN: Final = 32
COUNTER_MAX: Final = (1 << 64) - (1 << 13) - 1
"""REJECT_AFTER_MESSAGES (whitepaper section 6.1)."""

_ZEROS: Final = bytes(3)
_INDEX: Final = Struct("<I")
_RESPONSE: Final = Struct("<II")
_DATA: Final = Struct("<IQ")


@dataclass(frozen=True, slots=True)
class WireguardMessage:
    """The clear front of a message; what it does not have is None. `is_plain` where the three bytes are 0."""

    type: int
    sender: int | None
    receiver: int | None
    counter: int | None
    is_plain: bool = True


def parse(data: bytes, size: int) -> WireguardMessage | None:
    """Read a datagram of `size` bytes, of which the first 16 are enough; None where type or size are wrong.

    The three bytes behind the type must be 0, save in an initiation and its response, which can be told by each other.
    """
    if len(data) < 16:
        return None
    kind = data[0]
    is_plain = data[1:4] == _ZEROS
    if not is_plain and kind not in (INITIATION, RESPONSE):
        return None
    if kind == DATA:
        if size < DATA_SIZE_MIN:
            return None
        receiver, counter = _DATA.unpack_from(data, 4)
        return WireguardMessage(DATA, None, receiver, counter) if counter <= COUNTER_MAX else None
    if SIZES.get(kind) != size:
        return None
    if kind == RESPONSE:
        sender, receiver = _RESPONSE.unpack_from(data, 4)
        return WireguardMessage(kind, sender, receiver, None, is_plain)
    index: int = _INDEX.unpack_from(data, 4)[0]
    if kind == INITIATION:
        return WireguardMessage(kind, index, None, None, is_plain)
    return WireguardMessage(kind, None, index, None)
