"""AnyConnect's DTLS: Cisco's own version number, or a ClientHello that names a session agreed on over TLS.

The client learns a session on its TLS connection and then begins DTLS with the session's ID (draft-mavrogiannopoulos-
openconnect, section 2.2): 32 bytes, where clients of WebRTC and CoAP have none at first. With newer servers, all of its
cipher suites are for a key that both ends derive from the TLS connection.
"""

from typing import Final

from throughway.detect.answers import CERTAIN, STRONG, Answer, Datagram, Notes
from throughway.wire import dtls as wire

SUSPECTED: Final = 0.3
"""Below what names a flow: it takes a TLS connection of the same two ends beside it."""

_SESSION_ID_SIZE: Final = 32
_SRTP, _SERVER_NAME = 14, 0
"""Extensions of clients that are not AnyConnect (RFC 5764 section 4.1.1, RFC 6066 section 3)."""

_STEP_MAX: Final = 64

_VERSION_BYTES: Final = (b"\xfe\xff", b"\xfe\xfd", b"\x01\x00")


class Anyconnect:
    """One flow of DTLS."""

    __slots__ = ("_sequences",)

    def __init__(self) -> None:
        self._sequences: dict[bool, int] = {}

    @staticmethod
    def begins(datagram: Datagram) -> bool:
        """Whether a record of DTLS begins."""
        data = datagram.payload
        return len(data) >= wire.RECORD_HEADER_SIZE and 20 <= data[0] <= 23 and data[1:3] in _VERSION_BYTES

    def look(self, datagram: Datagram, notes: Notes) -> Answer | None:
        """See `Recogniser.look`."""
        record = wire.parse_record(datagram.payload, datagram.size)
        if record is None:
            return None
        port = datagram.destination_port if datagram.from_initiator else datagram.source_port
        if record.version == wire.VERSION_CISCO:
            return self._cisco(datagram, record, port)
        hello = wire.parse_client_hello(datagram.payload)
        if hello is None or len(hello.session_id) != _SESSION_ID_SIZE or hello.cookie_size:
            return None
        if {_SRTP, _SERVER_NAME} & set(hello.extensions) or not hello.suites:
            return None
        notes.add(f"session {hello.session_id.hex()}")
        words = f"DTLS ClientHello with session {hello.session_id.hex()[:16]}…"
        if wire.PSK_SUITES.issuperset(hello.suites) and not wire.PSK_GCM.isdisjoint(hello.suites):
            return Answer("anyconnect", STRONG, f"{words} and nothing but shared-key suites, UDP {port}")
        return Answer("anyconnect", SUSPECTED, f"{words}, UDP {port}")

    def _cisco(self, datagram: Datagram, record: wire.DtlsRecord, port: int) -> Answer | None:
        """Judge a record of Cisco's version: a handshake says it all, data only when its sequence numbers count on."""
        words = "DTLS of Cisco's own version 0x0100"
        if record.type == wire.HANDSHAKE and record.epoch == 0:
            return Answer("anyconnect", CERTAIN, f"{words}, handshake, UDP {port}")
        before = self._sequences.get(datagram.from_initiator)
        self._sequences[datagram.from_initiator] = record.sequence
        if before is None or not 0 < record.sequence - before <= _STEP_MAX:
            return Answer("anyconnect", SUSPECTED, f"{words}, one record, UDP {port}")
        return Answer("anyconnect", STRONG, f"{words}, sequence numbers {before} and {record.sequence}, UDP {port}")
