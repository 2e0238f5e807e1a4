"""L2TP over UDP: control messages of both versions on any port, and their data (RFC 2661, RFC 3931)."""

from typing import Final

from throughway.detect.answers import CERTAIN, LIKELY, STRONG, Answer, Datagram, Notes
from throughway.wire import ip
from throughway.wire.l2tp_strict import L2tpControlFront, L2tpDataFront, parse_control, parse_data

PORT: Final = 1701
"""RFC 2661 section 8.1, RFC 3931 section 4.1.2.1."""

_IDS: Final = {2: "l2tpv2", 3: "l2tpv3-udp"}

_MESSAGES: Final = {
    1: "SCCRQ",
    2: "SCCRP",
    3: "SCCCN",
    4: "StopCCN",
    6: "HELLO",
    7: "OCRQ",
    8: "OCRP",
    9: "OCCN",
    10: "ICRQ",
    11: "ICRP",
    12: "ICCN",
    14: "CDN",
    15: "WEN",
    16: "SLI",
}
"""RFC 2661 section 3.2; version 3 has the same numbers (RFC 3931 section 6)."""

_PPP_STARTS: Final = (
    *(b"\xff\x03", b"\xc0\x21", b"\xc0\x23", b"\xc0\x25", b"\xc2\x23", b"\x80\x21", b"\x80\x57", b"\x80\xfd"),
    *(b"\x00\x21", b"\x00\x3d", b"\x00\x57", b"\x00\xfd", b"\x21\x45", b"\x57\x60"),
)
"""PPP with its address field, and without it LCP, PAP, link quality, CHAP, IPCP, IPV6CP, CCP, IPv4, multilink, IPv6,
what is compressed or encrypted; IPv4 and IPv6 with a protocol field of one byte (RFC 1661 sections 2 and 6.5)."""

_PPP_SHORT_STARTS: Final = (b"\x21", b"\x3d", b"\x57", b"\xfd")
"""One byte: too little but in a session that goes on."""

_STUN_COOKIE: Final = 0x2112A442
"""An Allocate request of TURN without attributes has the first bytes of version 3, and this next (RFC 8489 section 5,
RFC 8656 section 17)."""

_COOKIE_AND_SUBLAYER: Final = (0, 4, 8, 12)
"""Bytes that may stand between the session ID and the frame: a cookie of 0, 4 or 8 and a sublayer of 0 or 4
(RFC 3931 sections 4.1, 4.6)."""

_ETHERTYPES: Final = {b"\x08\x00": 4, b"\x86\xdd": 6}
_ARP: Final = b"\x08\x06\x00\x01"
_SESSIONS_MAX: Final = 16
_VERSION_3: Final = 3


class L2tp:
    """One flow's control and data messages."""

    __slots__ = ("_sessions",)

    def __init__(self) -> None:
        self._sessions: dict[tuple[bool, int, int, int], int] = {}

    @staticmethod
    def begins(datagram: Datagram) -> bool:
        """Whether a control message's flags are there, or data's on L2TP's port or of version 3."""
        data = datagram.payload
        if len(data) < 8:
            return False
        if data[0] == 0xC8:
            return data[1] in (2, 3)
        return data[:4] == b"\0\3\0\0" or (datagram.has_port(PORT) and data[1] & 0x0F in (2, 3))

    def look(self, datagram: Datagram, notes: Notes) -> Answer | None:
        """See `Recogniser.look`."""
        control = parse_control(datagram.payload, datagram.size)
        if control:
            return self._control(control, datagram, notes)
        data = parse_data(datagram.payload, datagram.size)
        return self._data(data, datagram, notes) if data else None

    def _control(self, message: L2tpControlFront, datagram: Datagram, notes: Notes) -> Answer | None:
        port = datagram.destination_port if datagram.from_initiator else datagram.source_port
        version = message.version
        if message.message_type is None:
            is_likely = datagram.has_port(PORT)
            words = f"L2TPv{version} acknowledgement, UDP {port}"
            return Answer(_IDS[version], LIKELY, words) if is_likely else None
        name = _MESSAGES.get(message.message_type, f"message {message.message_type}")
        what = "tunnel ID" if version == 2 else "control connection ID"
        for number in (message.assigned_id, message.connection_id):
            if number:
                notes.add(f"{what} {number}")
        return Answer(_IDS[version], CERTAIN, f"L2TPv{version} {name}, {what} {message.connection_id}, UDP {port}")

    def _data(self, message: L2tpDataFront, datagram: Datagram, notes: Notes) -> Answer | None:
        """Judge data by the frame inside; on L2TP's port also by a session that goes on."""
        inner = datagram.payload[message.payload_at :]
        has_frame = _is_ppp(inner) if message.version == 2 else _is_ethernet(inner)
        on_port = datagram.has_port(PORT)
        key = (datagram.from_initiator, message.version, message.tunnel_id, message.session_id)
        seen = self._sessions.get(key, 0)
        if seen or len(self._sessions) < _SESSIONS_MAX:
            self._sessions[key] = seen + 1
        fits = message.version == _VERSION_3 or inner.startswith(_PPP_SHORT_STARTS)
        goes_on = on_port and seen > 0 and fits and message.session_id != _STUN_COOKIE
        if not message.session_id or not (has_frame or goes_on):
            return None
        words = f"session ID {message.session_id}"
        if message.version == 2:
            words = f"tunnel ID {message.tunnel_id}, {words}"
        notes.add(words)
        inside = (", PPP inside" if message.version == 2 else ", Ethernet inside") if has_frame else ""
        return Answer(
            _IDS[message.version], STRONG if has_frame else LIKELY, f"L2TPv{message.version} data, {words}{inside}"
        )


def _is_ppp(data: bytes) -> bool:
    return data.startswith(_PPP_STARTS)


def _is_ethernet(data: bytes) -> bool:
    """Whether an Ethernet frame with an IP packet or ARP stands behind some cookie and sublayer."""
    for at in _COOKIE_AND_SUBLAYER:
        kind = data[at + 12 : at + 14]
        if kind in _ETHERTYPES and ip.front(data, at + 14) and data[at + 14] >> 4 == _ETHERTYPES[kind]:
            return True
        if data[at + 12 : at + 16] == _ARP:
            return True
    return False
