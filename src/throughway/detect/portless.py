"""Protocols that the IP header names: ESP, AH, GRE, L2TPv3, IP in IP, and what is in clear behind it."""

from collections.abc import Callable
from typing import Final

from throughway.core.ids import SPI_RESERVED_MAX
from throughway.detect.answers import CERTAIN, LIKELY, STRONG, Answer, Datagram, Notes
from throughway.wire import ah, esp, gre, ip, l2tpv3

_PPP: Final = 0x880B
"""Protocol type of PPTP's GRE (RFC 2637 section 4.1)."""

_EOIP: Final = 0x6400
"""Protocol type of RouterOS's Ethernet over IP, in a header of version 1 with its key field."""

GRE_IN_UDP_PORT: Final = 4754
"""RFC 8086 section 8."""

_INNER: Final = {0x0800: 4, 0x86DD: 6}
_IP_SIZES: Final = {4: 20, 6: 40}


def judge(protocol: int, datagram: Datagram, notes: Notes, is_ipv4: bool) -> Answer | None:
    """Say what a packet of an IP protocol is, by number and structure; None for protocols that are no VPN's."""
    reader = _READERS.get(protocol)
    return reader(datagram, notes, is_ipv4) if reader else None


def is_named(protocol: int) -> bool:
    """Whether the IP protocol is one of those judged here."""
    return protocol in _READERS


def _esp(datagram: Datagram, notes: Notes, is_ipv4: bool) -> Answer | None:
    header = esp.parse(datagram.payload)
    if header is None:
        return Answer("esp", LIKELY, "IP protocol 50, cut off before its SPI")
    notes.add(f"SPI {header.spi:#010x}")
    confidence = LIKELY if header.spi <= SPI_RESERVED_MAX else CERTAIN
    return Answer("esp", confidence, f"ESP, SPI {header.spi:#010x}, sequence number {header.sequence}")


def _ah(datagram: Datagram, notes: Notes, is_ipv4: bool) -> Answer | None:
    header = ah.parse(datagram.payload)
    if header is None:
        return Answer("ah", LIKELY, "IP protocol 51, cut off before its SPI")
    notes.add(f"SPI {header.spi:#010x}")
    confidence = LIKELY if header.spi <= SPI_RESERVED_MAX else CERTAIN
    return Answer("ah", confidence, f"AH, SPI {header.spi:#010x}, before IP protocol {header.next_header}")


def _gre(datagram: Datagram, notes: Notes, is_ipv4: bool) -> Answer | None:
    header = gre.parse(datagram.payload)
    if header is None:
        return _gre_in_part(datagram)
    if header.version == gre.VERSION_PPTP:
        if header.payload_type == _EOIP and header.key is not None:
            # Behind the payload's length stands the tunnel's ID, and that little-endian.
            tunnel_id = (header.key & 0xFF) << 8 | header.key >> 8 & 0xFF
            notes.add(f"tunnel ID {tunnel_id}")
            return Answer("gre", STRONG, f"GRE as EoIP has it, tunnel ID {tunnel_id}")
        if header.payload_type != _PPP:
            return None
        notes.add(f"call {header.call_id}")
        return Answer("pptp-gre", CERTAIN, f"GRE version 1 with PPP, call {header.call_id}")
    if header.key is not None:
        notes.add(f"key {header.key:#x}")
    key = "no key" if header.key is None else f"key {header.key:#x}"
    return Answer("gre", STRONG, f"GRE, {key}, protocol type {header.payload_type:#06x}")


def _gre_in_part(datagram: Datagram) -> Answer | None:
    """Judge what the parser refuses: cut off, or of version 0 with the source routes of RFC 1701."""
    data = datagram.payload
    if len(data) < gre.HEADER_SIZE_MIN and len(data) < datagram.size:
        return Answer("gre", LIKELY, "IP protocol 47, cut off before its protocol type")
    is_version_0 = len(data) >= gre.HEADER_SIZE_MIN and not data[1] & 0x07
    return Answer("gre", LIKELY, "GRE version 0, with source routes or cut off") if is_version_0 else None


def _l2tpv3(datagram: Datagram, notes: Notes, is_ipv4: bool) -> Answer | None:
    session_id = l2tpv3.session_id(datagram.payload)
    if session_id is None:
        return Answer("l2tpv3", LIKELY, "IP protocol 115, cut off before its session ID")
    if session_id:
        notes.add(f"session ID {session_id}")
        return Answer("l2tpv3", STRONG, f"L2TPv3 data, session ID {session_id}")
    control = l2tpv3.parse_control(datagram.payload[l2tpv3.SESSION_ID_SIZE :])
    if control is None:
        return Answer("l2tpv3", LIKELY, "IP protocol 115, session ID 0 and no control message behind it")
    for number in (control.control_connection_id, control.assigned_connection_id):
        if number:
            notes.add(f"control connection ID {number}")
    return Answer("l2tpv3", CERTAIN, f"L2TPv3 control message, connection ID {control.control_connection_id}")


def _ipip(datagram: Datagram, notes: Notes, is_ipv4: bool) -> Answer | None:
    return _inner(datagram, 4, "ipip", "IPv4 in IP")


def _sixin4(datagram: Datagram, notes: Notes, is_ipv4: bool) -> Answer | None:
    return _inner(datagram, 6, "6in4" if is_ipv4 else "ipip", "IPv6 in IP")


def _inner(datagram: Datagram, version: int, protocol: str, words: str) -> Answer | None:
    """Judge what the IP header calls IP: a packet of that version must be inside, and fit."""
    data = datagram.payload
    inner = ip.front(data)
    if inner is None and 0 < len(data) < min(datagram.size, _IP_SIZES[version]) and data[0] >> 4 == version:
        return Answer(protocol, LIKELY, f"{words}, cut off")
    if inner is None or data[0] >> 4 != version or inner.payload_at + inner.size > datagram.size:
        return None
    return Answer(protocol, STRONG, f"{words}, with IP protocol {inner.protocol} inside")


_READERS: Final[dict[int, Callable[[Datagram, Notes, bool], Answer | None]]] = {
    4: _ipip,
    41: _sixin4,
    47: _gre,
    50: _esp,
    51: _ah,
    115: _l2tpv3,
}
"""By IP protocol number (RFC 2003, RFC 4213, RFC 2784, RFC 4303, RFC 4302, RFC 3931)."""


class GreInUdp:
    """GRE in UDP 4754 (RFC 8086), where it carries an IP packet that just fits: the header alone is too little."""

    __slots__ = ()

    @staticmethod
    def begins(datagram: Datagram) -> bool:
        """Whether the port is that of GRE in UDP."""
        return GRE_IN_UDP_PORT in (datagram.source_port, datagram.destination_port)

    def look(self, datagram: Datagram, notes: Notes) -> Answer | None:
        """See `Recogniser.look`."""
        data = datagram.payload
        header = gre.parse(data)
        at = gre.payload_offset(data)
        if header is None or header.version or header.payload_type not in _INNER or at is None:
            return None
        inner = ip.front(data, at)
        if inner is None or data[at] >> 4 != _INNER[header.payload_type]:
            return None
        if inner.payload_at + inner.size != datagram.size:
            return None
        if header.key is not None:
            notes.add(f"key {header.key:#x}")
        return Answer("gre", STRONG, f"GRE in UDP {GRE_IN_UDP_PORT}, with IP protocol {inner.protocol} inside")
