"""VPNs on TCP: PPTP's control channel, IKE in TCP, OpenVPN, and those that show their request in clear."""

from collections.abc import Iterator
from typing import Final

from throughway.detect.answers import CERTAIN, STRONG, Answer, Datagram, Notes, better
from throughway.detect.ipsec import describe, note_spis
from throughway.detect.openvpn import Openvpn
from throughway.detect.streams import Stream
from throughway.wire import esp, pptp
from throughway.wire import openvpn as openvpn_wire
from throughway.wire.udp import NON_ESP_MARKER

_IKE_TCP_PREFIX: Final = b"IKETCP"
"""RFC 9329 section 4."""

_REQUESTS: Final = {
    b"SSTP_DUPLEX_POST ": ("sstp", "SSTP"),
    b"CONNECT /CSCOSSLC/tunnel": ("anyconnect", "AnyConnect"),
    b"POST /vpnsvc/": ("softether", "SoftEther"),
}
"""Requests of VPNs over HTTP ([MS-SSTP] section 3.2.4.1; openconnect's cstp.c; Cedar/Protocol.c of SoftEther's
source). They are inside TLS, and seen where something in front has taken the TLS off."""

_METHODS: Final = (b"POST ", b"GET ", b"CONNECT ")
_ANYCONNECT_HEADERS: Final = (b"\r\nX-CSTP-Version:", b"\r\nX-Aggregate-Auth:")
"""Headers of its client's requests (openconnect's cstp.c and auth.c)."""

_TLS_HELLO: Final = (b"\x16\x03\x01", b"\x16\x03\x03", b"\x16\x03\x02", b"\x16\x03\x00")
_UNDECIDED_BELOW: Final = 24
"""Bytes of a head that begin like one of ours and may yet turn out to be one."""


class Connections:
    """Looks at the two heads of one TCP connection for all of these protocols."""

    __slots__ = ("_at", "_openvpn", "is_interested", "is_tls")

    def __init__(self) -> None:
        self._openvpn: Openvpn | None = None
        self._at = {True: 0, False: 0}
        self.is_tls = False
        self.is_interested = True

    def look(self, stream: Stream, at: float, from_initiator: bool, notes: Notes) -> Answer | None:
        """Judge after a head grew; `is_interested` turns false when what began can be none of ours."""
        data = bytes(stream.head(from_initiator).data)
        if data.startswith(_TLS_HELLO):
            self.is_tls, self.is_interested = True, False
            return None
        for read in (_pptp, _ike_in_tcp, _ike_in_tcp_frame, _request):
            answer = read(data, stream.server_port, notes)
            if answer:
                return answer
        answer = self._framed(data, stream.server_port, at, from_initiator, notes)
        self.is_interested = answer is not None or self._openvpn is not None or _may_still(data)
        return answer

    def _framed(self, data: bytes, port: int, at: float, from_initiator: bool, notes: Notes) -> Answer | None:
        """Judge OpenVPN's packets, each behind its length."""
        if self._openvpn is None and not _begins_openvpn(data):
            return None
        self._openvpn = self._openvpn or Openvpn()
        ports = (0, port) if from_initiator else (port, 0)
        answer: Answer | None = None
        while frame := next(_frames(data, self._at[from_initiator]), None):
            self._at[from_initiator] += 2 + len(frame)
            found = self._openvpn.look(Datagram(at, frame, len(frame), from_initiator, *ports), notes)
            answer = better(answer, found) if found else answer
        return answer


def _frames(data: bytes, at: int) -> Iterator[bytes]:
    """Yield the packet behind the length at an offset, if it is there in full."""
    size = int.from_bytes(data[at : at + 2], "big")
    if size and at + 2 + size <= len(data):
        yield data[at + 2 : at + 2 + size]


def _begins_openvpn(data: bytes) -> bool:
    """Whether a length and an opcode are there that a packet may have."""
    if len(data) < 3 or not 14 <= int.from_bytes(data[:2], "big") <= 4096:
        return False
    return openvpn_wire.opcode(data[2]) is not None


def _may_still(data: bytes) -> bool:
    if len(data) < pptp.HEADER_SIZE:
        return True
    if data[2:6] == NON_ESP_MARKER:
        return True
    starts = (_IKE_TCP_PREFIX, *_REQUESTS)
    return len(data) < _UNDECIDED_BELOW and any(start.startswith(data[: len(start)]) for start in starts)


def _pptp(data: bytes, port: int, notes: Notes) -> Answer | None:
    message = first = pptp.parse(data)
    at = 0
    while message:
        if message.call_id is not None:
            notes.add(f"call {message.call_id}")
        at += message.size
        message = pptp.parse(data[at:])
    if first is None:
        return None
    return Answer("pptp", CERTAIN, f"PPTP {first.name}, magic cookie 0x1a2b3c4d, TCP {port}")


def _ike_in_tcp(data: bytes, port: int, notes: Notes) -> Answer | None:
    if not data.startswith(_IKE_TCP_PREFIX):
        return None
    message = data[len(_IKE_TCP_PREFIX) + 2 :]
    words = f"IKE in TCP, stream prefix IKETCP, TCP {port}"
    if message.startswith(NON_ESP_MARKER):
        size = int.from_bytes(data[len(_IKE_TCP_PREFIX) : len(_IKE_TCP_PREFIX) + 2], "big") - 2
        found = describe(message[4:], size - 4, on_own_port=True)
        if found:
            note_spis(found[2], notes)
            words = f"{found[1]}, stream prefix IKETCP, TCP {port}"
    elif header := esp.parse(message):
        notes.add(f"SPI {header.spi:#010x}")
    return Answer("ike-tcp", CERTAIN, words)


def _ike_in_tcp_frame(data: bytes, port: int, notes: Notes) -> Answer | None:
    """Judge a stream from its middle: a message of IKE behind its length and a marker (RFC 9329 section 3)."""
    if data[2:6] != NON_ESP_MARKER:
        return None
    size = int.from_bytes(data[:2], "big") - 2
    found = describe(data[6 : 2 + size], size - 4, on_own_port=False)
    if found is None:
        return None
    note_spis(found[2], notes)
    return Answer("ike-tcp", found[0], f"{found[1]}, behind its length and a marker, TCP {port}")


def _request(data: bytes, port: int, notes: Notes) -> Answer | None:
    for start, (protocol, name) in _REQUESTS.items():
        if data.startswith(start):
            return Answer(protocol, STRONG, f"{name}'s request in clear, TCP {port}")
    if data.startswith(_METHODS) and any(header in data for header in _ANYCONNECT_HEADERS):
        return Answer("anyconnect", STRONG, f"AnyConnect's headers in a request in clear, TCP {port}")
    return None
