"""IKE on UDP 500 and anywhere else, and what shares UDP 4500: IKE behind a marker, and ESP (RFC 3948)."""

from typing import Final

from throughway.detect.answers import CERTAIN, LIKELY, STRONG, Answer, Datagram, Notes
from throughway.detect.esp_udp import EspInUdp
from throughway.wire import ike, ike_payloads
from throughway.wire.udp import IKE_PORT, NAT_T_PORT, NON_ESP_MARKER

ESP_PORTS: Final = frozenset({NAT_T_PORT, 4501})
"""RFC 3948 section 2.1; GlobalProtect has its ESP on 4501, and keys that it gets over TLS."""

_OWN_PORTS: Final = ESP_PORTS | {IKE_PORT}

_CUT_MIN: Final = 20
"""Bytes of a cut-off message that say something: SPIs, next payload, version, exchange type and flags."""

_EXCHANGES: Final[dict[int, dict[int, str]]] = {
    1: {
        1: "Base",
        2: "Main Mode",
        3: "Authentication Only",
        4: "Aggressive Mode",
        5: "Informational",
        6: "Transaction",
        32: "Quick Mode",
        33: "New Group Mode",
    },
    2: {
        34: "IKE_SA_INIT",
        35: "IKE_AUTH",
        36: "CREATE_CHILD_SA",
        37: "INFORMATIONAL",
        38: "IKE_SESSION_RESUME",
        39: "GSA_AUTH",
        40: "GSA_REGISTRATION",
        41: "GSA_REKEY",
        43: "IKE_INTERMEDIATE",
        44: "IKE_FOLLOWUP_KE",
    },
}
"""Names of exchange types (RFC 2408 section 3.1, RFC 2409 appendix A, RFC 7296 section 3.1, IANA)."""

_FLAGS: Final = {1: 0x07, 2: 0x38}
"""The flags that a version has (RFC 2408 section 3.1, RFC 7296 section 3.1)."""

_SIZE_MIN: Final = 20
"""Bytes of the shortest datagram here that says anything: ESP with an ICV and no payload (RFC 4303 section 2)."""

_NO_COOKIES: Final = bytes(16)
_NOTIFICATION, _INFORMATIONAL = 11, 5
_NOTIFICATION_SIZE_MIN: Final = 12
"""Generic header, domain of interpretation, protocol, SPI size and message type (RFC 2408 section 3.14)."""

KEEPALIVE: Final = b"\xff"
"""RFC 3948 section 2.3."""


def describe(message: bytes, size: int, *, on_own_port: bool) -> tuple[float, str, ike.IkeHeader] | None:
    """Judge a datagram as an IKE message: confidence, words and header; None where it is none.

    Off its own ports a message must be exactly as long as it says, and its payloads must be whole. On
    them one of the two is enough, and what broken senders make is read as far as it makes sense.
    """
    if on_own_port and _CUT_MIN <= len(message) < ike.HEADER_SIZE <= size:
        return _describe_front(message, size)
    header = ike.parse(message) or (_mended(message, size) if on_own_port else None)
    if header is None or header.size > size or header.flags & ~_FLAGS[header.major_version]:
        return None
    name = _EXCHANGES[header.major_version].get(header.exchange_type)
    chain = ike_payloads.parse(header, message, header.size)
    is_sound = chain is not None and bool(chain.types or chain.is_encrypted) and (chain.is_whole or chain.is_cut)
    is_exact = header.size == size
    if name is None or not (is_sound or is_exact if on_own_port else is_sound and is_exact):
        return None
    is_request = header.major_version == 1 or not header.flags & ike.FLAG_RESPONSE
    words = f"IKEv{header.major_version} {name}"
    if header.major_version == 2:
        words += " request" if is_request else " response"
    confidence = CERTAIN if is_sound else STRONG
    return confidence, f"{words}, initiator SPI {header.initiator_spi:016x}", header


def _describe_front(message: bytes, size: int) -> tuple[float, str, ike.IkeHeader] | None:
    """Judge a message that the capture cut off within its header, as if its length were right."""
    front = message[:_CUT_MIN].ljust(ike.HEADER_SIZE - 4, b"\0")
    header = ike.parse(front + size.to_bytes(4, "big"))
    if header is None or header.flags & ~_FLAGS[header.major_version]:
        return None
    name = _EXCHANGES[header.major_version].get(header.exchange_type)
    words = f"IKEv{header.major_version} {name}, cut off, initiator SPI {header.initiator_spi:016x}"
    return (LIKELY, words, header) if name else None


def _mended(message: bytes, size: int) -> ike.IkeHeader | None:
    """Read a header whose length is 0 as if it said the datagram's; its payloads must then fill it."""
    if len(message) < ike.HEADER_SIZE or message[24:28] != bytes(4) or size != len(message):
        return None
    header = ike.parse(message[:24] + size.to_bytes(4, "big"))
    chain = ike_payloads.parse(header, message, size) if header else None
    return header if chain and chain.is_whole and chain.types else None


def _is_stray_notice(data: bytes, size: int) -> bool:
    """Whether this is a notification without cookies, from an end that took a message for no SA of its own."""
    if len(data) < ike.HEADER_SIZE + _NOTIFICATION_SIZE_MIN or not data.startswith(_NO_COOKIES):
        return False
    first, payload = int.from_bytes(data[24:28], "big"), int.from_bytes(data[30:32], "big")
    is_front = data[16:20] == bytes((_NOTIFICATION, 0x10, _INFORMATIONAL, 0))
    return is_front and payload >= _NOTIFICATION_SIZE_MIN and ike.HEADER_SIZE + payload <= first <= size


def note_spis(header: ike.IkeHeader, notes: Notes) -> None:
    """Keep the SPIs of an IKE SA, once each."""
    notes.add(f"initiator SPI {header.initiator_spi:016x}")
    if header.responder_spi:
        notes.add(f"responder SPI {header.responder_spi:016x}")


class Ipsec:
    """IKE, IKE behind the non-ESP marker, and ESP in UDP, all on one flow (RFC 3948 section 2)."""

    __slots__ = ("_esp", "_saw_marker")

    def __init__(self) -> None:
        self._saw_marker = False
        self._esp = EspInUdp()

    @staticmethod
    def begins(datagram: Datagram) -> bool:
        """Whether there is a version and an exchange type where IKE has them, or the port is NAT-T's."""
        if datagram.size < _SIZE_MIN:
            return False
        data = datagram.payload
        if datagram.source_port in _OWN_PORTS or datagram.destination_port in _OWN_PORTS:
            return True
        at = 21 if data[:4] == NON_ESP_MARKER else 17
        return len(data) > at + 10 and data[at] in (0x10, 0x20)

    def look(self, datagram: Datagram, notes: Notes) -> Answer | None:
        """See `Recogniser.look`."""
        data, size = datagram.payload, datagram.size
        port = datagram.destination_port if datagram.from_initiator else datagram.source_port
        if data[:4] == NON_ESP_MARKER:
            on_own_port = datagram.has_port(NAT_T_PORT)
            found = describe(data[4:], size - 4, on_own_port=on_own_port)
            if found:
                self._saw_marker = True
                note_spis(found[2], notes)
                return Answer("ike-natt", found[0], f"{found[1]}, behind the non-ESP marker, UDP {port}")
        on_own_port = datagram.has_port(IKE_PORT)
        found = describe(data, size, on_own_port=on_own_port)
        if found:
            note_spis(found[2], notes)
            return Answer("ike", found[0], f"{found[1]}, UDP {port}")
        if on_own_port and _is_stray_notice(data, size):
            return Answer("ike", LIKELY, f"IKEv1 Informational without cookies, with a notification, UDP {port}")
        has_esp_port = datagram.source_port in ESP_PORTS or datagram.destination_port in ESP_PORTS
        if not self._saw_marker and not has_esp_port:
            return None
        return self._esp.look(datagram, port, notes, is_sure=self._saw_marker)
