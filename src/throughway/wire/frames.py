"""Link layers: where in a captured frame the IP packet begins.

Link types are those of capture files (https://www.tcpdump.org/linktypes.html). Behind Ethernet's type may stand VLAN
tags (IEEE 802.1Q, 802.1ad), MPLS labels (RFC 3032) and PPPoE with PPP (RFC 2516, RFC 1661), in any order.
"""

from collections.abc import Callable
from typing import Final

_ETHERTYPE_IP: Final = frozenset({0x0800, 0x86DD})
_ETHERTYPE_VLAN: Final = frozenset({0x8100, 0x88A8, 0x9100})
_ETHERTYPE_MPLS: Final = frozenset({0x8847, 0x8848})
_ETHERTYPE_PPPOE: Final = 0x8864
_PPP_IP: Final = frozenset({0x0021, 0x0057})
"""PPP's numbers of IPv4 and IPv6 (RFC 1332 section 2, RFC 5072 section 2)."""

_SNAP: Final = b"\xaa\xaa\x03"
_LENGTH_MAX: Final = 1500
"""Up to this, Ethernet's type is a length, and LLC follows (IEEE 802.3 section 3.2.6)."""

_NFLOG_HEADER_SIZE, _NFLOG_ATTRIBUTE_SIZE, _NFLOG_PAYLOAD = 4, 4, 9
_IEEE_802_11 = 105
_LAYERS_MAX: Final = 12
"""Tags and labels in one frame, so that a crafted one ends."""

_WIFI_DATA_MASK: Final = 0x0C
_WIFI_DATA: Final = 0x08
_WIFI_NO_DATA: Final = 0x40
_WIFI_QOS: Final = 0x80
_WIFI_BOTH_DS: Final = 0x03
_WIFI_PROTECTED: Final = 0x40
_WIFI_ORDER: Final = 0x80


def ip_offset(link_type: int, frame: bytes) -> int | None:
    """Say where the IP packet of a frame begins, in bytes; None where there is none or the link type is unknown."""
    read = _READERS.get(link_type)
    at = None if read is None else read(frame)
    return None if at is None or at >= len(frame) else at


def is_known(link_type: int) -> bool:
    """Whether frames of this link type can be read."""
    return link_type in _READERS


def _number(frame: bytes, at: int) -> int:
    """Read 16 bits; what is cut off reads as 0, which is no protocol's number."""
    return int.from_bytes(frame[at : at + 2], "big") if len(frame) >= at + 2 else 0


def _behind_ethertype(frame: bytes, at: int) -> int | None:
    """Follow the Ethernet type at an offset through tags and labels to an IP packet."""
    return _behind_type(frame, _number(frame, at), at + 2)


def _behind_type(frame: bytes, kind: int, at: int) -> int | None:
    """Follow an Ethernet type, whose payload is at an offset, to an IP packet."""
    for _ in range(_LAYERS_MAX):
        if kind in _ETHERTYPE_IP:
            return at
        if kind in _ETHERTYPE_VLAN:
            kind, at = _number(frame, at + 2), at + 4
        elif kind in _ETHERTYPE_MPLS:
            return _behind_labels(frame, at)
        elif kind == _ETHERTYPE_PPPOE:
            return at + 8 if _number(frame, at + 6) in _PPP_IP else None
        elif kind <= _LENGTH_MAX and frame[at : at + 3] == _SNAP:
            kind, at = _number(frame, at + 6), at + 8
        else:
            return None
    return None


def _behind_labels(frame: bytes, at: int) -> int | None:
    """Skip MPLS labels. What follows is not told by them: an IP version is taken for IP, else Ethernet is tried."""
    for _ in range(_LAYERS_MAX):
        if len(frame) < at + 5:
            return None
        is_last = frame[at + 2] & 1
        at += 4
        if is_last:
            if frame[at] >> 4 in (4, 6):
                return at
            # A pseudowire has a control word of 4 bytes, whose first half byte is 0 (RFC 4385 section 3).
            return _behind_ethertype(frame, at + (4 if frame[at] >> 4 == 0 else 0) + 12)
    return None


def _ethernet(frame: bytes) -> int | None:
    return _behind_ethertype(frame, 12)


def _raw(frame: bytes) -> int | None:
    return 0 if frame and frame[0] >> 4 in (4, 6) else None


def _family(frame: bytes) -> int | None:
    """The BSD loopbacks: an address family in the byte order of the capturing machine, then IP."""
    return 4 if len(frame) > 4 and frame[4] >> 4 in (4, 6) else None


def _cooked(frame: bytes) -> int | None:
    return _behind_ethertype(frame, 14)


def _cooked_2(frame: bytes) -> int | None:
    # Its protocol stands first, and 20 bytes of header before the packet or what tags it.
    return _behind_type(frame, _number(frame, 0), 20)


def _ppp(frame: bytes) -> int | None:
    at = 2 if frame.startswith(b"\xff\x03") else 0
    if frame[at : at + 1] in (b"\x21", b"\x57"):  # The protocol field may be one byte (RFC 1661 section 6.5).
        return at + 1
    return at + 2 if _number(frame, at) in _PPP_IP else None


def _pppoe(frame: bytes) -> int | None:
    return 8 if _number(frame, 6) in _PPP_IP else None


def _cisco_hdlc(frame: bytes) -> int | None:
    return _behind_ethertype(frame, 2)


def _wifi(frame: bytes, at: int = 0) -> int | None:
    """IEEE 802.11: data frames that are not encrypted, with LLC and SNAP."""
    if len(frame) < at + 2:
        return None
    control, flags = frame[at], frame[at + 1]
    if control & _WIFI_DATA_MASK != _WIFI_DATA or control & _WIFI_NO_DATA or flags & _WIFI_PROTECTED:
        return None
    size = 30 if flags & _WIFI_BOTH_DS == _WIFI_BOTH_DS else 24
    if control & _WIFI_QOS:
        size += 6 if flags & _WIFI_ORDER else 2
    at += size
    return _behind_ethertype(frame, at + 6) if frame[at : at + 3] == _SNAP else None


def _radiotap(frame: bytes) -> int | None:
    return _wifi(frame, int.from_bytes(frame[2:4], "little")) if len(frame) >= 4 else None


def _ppp_with_direction(frame: bytes) -> int | None:
    """A byte says who sent the frame; it stands before PPP, or in the place of its address field."""
    if frame[1:2] == b"\x03":
        return 4 if _number(frame, 2) in _PPP_IP else None
    at = _ppp(frame[1:])
    return None if at is None else at + 1


def _llc(frame: bytes) -> int | None:
    return _behind_ethertype(frame, 6) if frame[:3] == _SNAP else None


def _pflog(frame: bytes) -> int | None:
    """OpenBSD's packet filter: the first byte is the header's length, padded to four bytes."""
    return _raw_at(frame, (frame[0] + 3) & ~3) if frame else None


def _enc(frame: bytes) -> int | None:
    return _raw_at(frame, 12)


def _ppi(frame: bytes) -> int | None:
    """Per-packet information, most often of 802.11: version, flags, length and link type, little-endian."""
    if len(frame) < 8:
        return None
    at, link_type = int.from_bytes(frame[2:4], "little"), int.from_bytes(frame[4:8], "little")
    if link_type == _IEEE_802_11:
        return _wifi(frame, at)
    inner = ip_offset(link_type, frame[at:]) if at >= 8 and link_type != 192 else None
    return None if inner is None else at + inner


def _nflog(frame: bytes) -> int | None:
    """Linux's log of its packet filter: attributes with length and type, little-endian as a rule; one is the packet."""
    at = _NFLOG_HEADER_SIZE
    for _ in range(_LAYERS_MAX * 2):
        size, kind = (int.from_bytes(frame[at + n : at + n + 2], "little") for n in (0, 2))
        if kind & 0x7FFF == _NFLOG_PAYLOAD:
            return _raw_at(frame, at + _NFLOG_ATTRIBUTE_SIZE)
        if size < _NFLOG_ATTRIBUTE_SIZE:
            return None
        at += (size + 3) & ~3
    return None


def _raw_at(frame: bytes, at: int) -> int | None:
    return at if len(frame) > at and frame[at] >> 4 in (4, 6) else None


_READERS: Final[dict[int, Callable[[bytes], int | None]]] = {
    0: _family,
    1: _ethernet,
    9: _ppp,
    12: _raw,
    14: _raw,
    50: _ppp,
    51: _pppoe,
    100: _llc,
    101: _raw,
    104: _cisco_hdlc,
    105: _wifi,
    108: _family,
    109: _enc,
    113: _cooked,
    117: _pflog,
    127: _radiotap,
    166: _ppp_with_direction,
    192: _ppi,
    204: _ppp_with_direction,
    228: _raw,
    229: _raw,
    239: _nflog,
    276: _cooked_2,
}
