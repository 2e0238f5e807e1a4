"""IKE: the chain of payloads behind the header (RFC 2408 section 3.2, RFC 7296 section 3.2).

Each payload begins with the type of the next one, 8 bits of which IKEv2 uses one, and its length with this header.
The chain ends with type 0, or with an encrypted payload of IKEv2, whose own "next" is inside it.
"""

from dataclasses import dataclass
from typing import Final

from throughway.wire.ike import HEADER_SIZE, IkeHeader

_PAYLOAD_HEADER_SIZE: Final = 4
_PAYLOADS_MAX: Final = 64
_ENCRYPTED_V1: Final = 0x01
"""The flag that says that all behind the header is encrypted (RFC 2408 section 3.1)."""

_SK, _SKF = 46, 53
"""Encrypted and Authenticated, and its fragment (RFC 7296 section 3.14, RFC 7383 section 2.5)."""

_KNOWN: Final = {
    # RFC 2408 section 3.1, with those of RFC 3547, RFC 3947 and its drafts (130, 131), and Cisco's fragments (132).
    1: frozenset(range(1, 34)) | frozenset(range(128, 256)),
    # RFC 7296 section 3.2 and IANA's registry.
    2: frozenset(range(33, 60)) | frozenset(range(128, 256)),
}


@dataclass(frozen=True, slots=True)
class Chain:
    """The types of the payloads, in order. `is_whole` where the chain ends just where the message does.

    `is_cut` where the capture ended before the message did; what there is of the chain is sound.
    """

    types: tuple[int, ...]
    is_whole: bool
    is_cut: bool
    is_encrypted: bool


def parse(header: IkeHeader, message: bytes, message_size: int) -> Chain | None:
    """Walk the chain of a message of `message_size` bytes, of which `message` is what was captured.

    None where a payload has an impossible type or length, which no sender makes.
    """
    if header.major_version == 1 and header.flags & _ENCRYPTED_V1:
        return Chain((), True, len(message) < message_size, True)
    known = _KNOWN[header.major_version]
    types: list[int] = []
    at, following = HEADER_SIZE, header.next_payload
    while following and len(types) < _PAYLOADS_MAX:
        if following not in known:
            return None
        types.append(following)
        if at + _PAYLOAD_HEADER_SIZE > len(message):
            return Chain(tuple(types), False, True, False) if len(message) < message_size else None
        size = int.from_bytes(message[at + 2 : at + 4], "big")
        if size < _PAYLOAD_HEADER_SIZE or at + size > message_size:
            return None
        if header.major_version == 2 and following in (_SK, _SKF):
            return Chain(tuple(types), at + size == message_size, len(message) < message_size, True)
        following = message[at]
        at += size
    return Chain(tuple(types), not following and at == message_size, len(message) < message_size, False)
