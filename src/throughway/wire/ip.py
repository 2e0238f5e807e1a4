"""The front of any IP packet, read fast: addresses, protocol, and where the payload is (RFC 791, RFC 8200).

For who looks at many packets and keeps few: addresses stay bytes, the payload is not copied. What a packet's header
says of its size counts for `size`; what was captured of it ends at `end`, so that cut-off packets can be read too.
"""

from struct import Struct
from typing import Final, NamedTuple

_IPV4: Final = Struct("!BxHHHxB")
_IPV4_SIZE: Final = 20
_IPV6_SIZE: Final = 40
_EXTENSION: Final = Struct("!BBHI")

_HOP_BY_HOP: Final = 0
_ROUTING: Final = 43
_FRAGMENT: Final = 44
_DESTINATION_OPTIONS: Final = 60
_SKIPPED: Final = frozenset({_HOP_BY_HOP, _ROUTING, _DESTINATION_OPTIONS})
"""Extension headers with a length of their own, in units of 8 bytes (RFC 8200 section 4). AH ends the walk: it is
what we look for."""

_EXTENSIONS_MAX: Final = 8
"""A packet with more of them is not read: no sender needs them, and a hostile one shall not cost us time."""

_MORE_FRAGMENTS: Final = 0x2000
_OFFSET_MASK: Final = 0x1FFF


class IpFront(NamedTuple):
    """The front of one packet. Addresses in network order, 4 or 16 bytes; offsets and sizes in bytes.

    `size` is the payload's as the header says, without extension headers; `end` is where what is there of it ends.
    `fragment_id` is None for a packet that is whole.
    """

    source: bytes
    destination: bytes
    protocol: int
    payload_at: int
    end: int
    size: int
    fragment_id: int | None
    fragment_offset: int
    more_fragments: bool


def front(data: bytes, at: int = 0) -> IpFront | None:
    """Read the packet that begins at an offset, or None where there is none. Checksums are not looked at."""
    if len(data) <= at:
        return None
    version = data[at] >> 4
    if version == 4:
        return _front_v4(data, at)
    return _front_v6(data, at) if version == 6 else None


def _front_v4(data: bytes, at: int) -> IpFront | None:
    if len(data) < at + _IPV4_SIZE:
        return None
    first, total, identification, fragment, protocol = _IPV4.unpack_from(data, at)
    header_size = (first & 0xF) * 4
    # A sender that leaves segmentation to its network card may be captured with a total length of 0.
    total = total or len(data) - at
    if header_size < _IPV4_SIZE or total < header_size or len(data) < at + header_size:
        return None
    is_fragment = fragment & (_MORE_FRAGMENTS | _OFFSET_MASK)
    return IpFront(
        data[at + 12 : at + 16],
        data[at + 16 : at + 20],
        protocol,
        at + header_size,
        min(len(data), at + total),
        total - header_size,
        identification if is_fragment else None,
        (fragment & _OFFSET_MASK) * 8,
        bool(fragment & _MORE_FRAGMENTS),
    )


def _front_v6(data: bytes, at: int) -> IpFront | None:
    if len(data) < at + _IPV6_SIZE:
        return None
    size = int.from_bytes(data[at + 4 : at + 6], "big")
    end = at + _IPV6_SIZE + (size or len(data) - at - _IPV6_SIZE)
    here, following = at + _IPV6_SIZE, data[at + 6]
    fragment_id, offset, more = None, 0, False
    for _ in range(_EXTENSIONS_MAX):
        if offset or (following not in _SKIPPED and following != _FRAGMENT):
            return IpFront(
                data[at + 8 : at + 24],
                data[at + 24 : at + 40],
                following,
                min(here, len(data)),
                min(len(data), end),
                max(0, end - here),
                fragment_id,
                offset,
                more,
            )
        if len(data) < here + 8 or end < here + 8:
            return None
        upper, length, fragment, identification = _EXTENSION.unpack_from(data, here)
        if following == _FRAGMENT:
            fragment_id, offset, more = identification, fragment & 0xFFF8, bool(fragment & 1)
            here += 8
        else:
            here += (length + 1) * 8
        following = upper
    return None
