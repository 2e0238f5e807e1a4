"""ESP in UDP 4500 where no IKE is seen beside it: an SPI and a number are little to go by, so the packets of a flow are
compared.

What else may come to the port looks alike at times: a DNS query begins with an ID and then a small number, and so do
calls of RPC, and RTP. They differ in that ESP keeps its SPI, counts on, and is encrypted.
"""

from typing import Final

from throughway.core.ids import SPI_RESERVED_MAX
from throughway.detect.answers import LIKELY, STRONG, TAKEN_BACK, Answer, Datagram, Notes, looks_encrypted
from throughway.wire.esp import HEADER_SIZE, EspHeader, parse

_SIZE_MIN: Final = 20
"""SPI, sequence number, and at least an ICV of 12 bytes (RFC 4303 section 2)."""

_ALIGNMENT: Final = 4
"""Bytes in which all of an ESP packet counts (RFC 4303 section 2.4)."""

_YOUNG: Final = 1 << 10
"""Below this the sequence number of one packet alone speaks for ESP. Chance makes it once in four million."""

_FIRST_OF_ALL: Final = 16
"""Up to this number, and between 4500 and 4500, a payload need not look encrypted: little else has both ports."""

_FIRST: Final = 4
"""The packets of a flow that are judged so, since chance has a try with each."""

_STEP_MAX: Final = 512
"""Between the sequence numbers of two packets that follow each other here; a capture may have lost some."""

_JUMP: Final = 1 << 14
"""Between the first two numbers of an SPI, more than this is no count of packets."""

_STEPS_IN_CLEAR: Final = 2
"""So many steps of one make up for a payload that does not look encrypted, as with NULL encryption (RFC 2410)."""

_SPIS_MAX: Final = 32

_ICV_SIZES: Final = (12, 16, 24, 32)
"""HMAC-MD5 and SHA-1, HMAC-SHA-256 and GMAC, HMAC-SHA-384, HMAC-SHA-512 (RFC 2403, 2404, 4868, 4543)."""

_TRAILER_SIZE: Final = 2
_NEXT_HEADERS: Final = frozenset({1, 4, 6, 17, 41, 47, 58, 115})
"""What ESP carries: IP, its transports, ICMP, and tunnels in it."""

_OPENVPN_DATA_V2: Final = 9
_PEER_IDS: Final = 64


class EspInUdp:
    """Compares the packets of one flow."""

    __slots__ = ("_last", "_looked_at", "_sequences")

    def __init__(self) -> None:
        self._looked_at = 0
        self._last: dict[bool, int] = {}
        self._sequences: dict[tuple[bool, int], tuple[int, int]] = {}

    def look(self, datagram: Datagram, port: int, notes: Notes, *, is_sure: bool) -> Answer | None:
        """Judge one more datagram. `is_sure` says that the flow is IPsec's anyway, so that its SPIs only are wanted."""
        self._looked_at += 1
        header = _header(datagram)
        if header is None:
            return None
        words = f"SPI {header.spi:#010x}"
        if is_sure:
            notes.add(words)
            return None
        before, steps = self._sequences.get((datagram.from_initiator, int(header.spi)), (None, 0))
        if before is None:
            return self._first_of_its_spi(datagram, header, port, notes)
        is_encrypted = looks_encrypted(datagram.payload[HEADER_SIZE:])
        if not is_encrypted and not _is_in_clear(datagram):
            return None
        if not steps and header.sequence - before > _JUMP:
            return Answer("esp-udp", TAKEN_BACK, "the numbers do not count on")
        steps = steps + 1 if 0 < header.sequence - before <= (_STEP_MAX if is_encrypted else 1) else 0
        self._sequences[datagram.from_initiator, int(header.spi)] = (header.sequence, steps)
        if steps < (1 if is_encrypted else _STEPS_IN_CLEAR):
            return None
        notes.add(words)
        numbers = f"sequence numbers {before} and {header.sequence}"
        return Answer("esp-udp", STRONG, f"ESP in UDP {port}, {words}, {numbers}")

    def _first_of_its_spi(self, datagram: Datagram, header: EspHeader, port: int, notes: Notes) -> Answer | None:
        """Judge a packet with an SPI that is new here: by its number, and by whether the SPI before was kept."""
        last = self._last.get(datagram.from_initiator)
        self._last[datagram.from_initiator] = int(header.spi)
        if len(self._sequences) < _SPIS_MAX:
            self._sequences[datagram.from_initiator, int(header.spi)] = (header.sequence, 0)
        if last is not None:
            _, steps = self._sequences.get((datagram.from_initiator, last), (0, 0))
            return None if steps else Answer("esp-udp", TAKEN_BACK, "no SPI is kept")
        # What is the datagram's size, or that without some header, is a length and no count.
        is_length = 0 <= datagram.size - header.sequence <= HEADER_SIZE
        is_young = header.sequence < _YOUNG and self._looked_at <= _FIRST and not is_length
        is_first = header.sequence <= _FIRST_OF_ALL and datagram.source_port == datagram.destination_port
        if not is_young or not (is_first or looks_encrypted(datagram.payload[HEADER_SIZE:])):
            return None
        words = f"SPI {header.spi:#010x}"
        notes.add(words)
        return Answer("esp-udp", LIKELY, f"ESP in UDP {port}, {words}, sequence number {header.sequence}")


def _header(datagram: Datagram) -> EspHeader | None:
    """Read SPI and sequence number, where they and the size are possible."""
    header = parse(datagram.payload)
    if header is None or header.spi <= SPI_RESERVED_MAX or not header.sequence:
        return None
    if datagram.size < _SIZE_MIN or datagram.size % _ALIGNMENT or _is_openvpn_data(int(header.spi)):
        return None
    # The front half of a number of 64 bits with a flag above, as Mosh has it; a length behind a version, as in IPFIX.
    if not header.spi & 0xFFFFFF or header.spi & 0xFFFF == datagram.size:
        return None
    return header


def _is_in_clear(datagram: Datagram) -> bool:
    """Whether this is ESP without encryption (RFC 2410): before the ICV stand the padding, its length, the next header.

    Padding counts from 1 (RFC 4303 section 2.4).
    """
    data = datagram.payload
    if len(data) < datagram.size:
        return False
    for icv in _ICV_SIZES:
        end = len(data) - icv
        if end < HEADER_SIZE + _TRAILER_SIZE or data[end - 1] not in _NEXT_HEADERS:
            continue
        padding = data[end - 2]
        begin = end - _TRAILER_SIZE - padding
        if begin >= HEADER_SIZE and data[begin : end - _TRAILER_SIZE] == bytes(range(1, padding + 1)):
            return True
    return False


def _is_openvpn_data(spi: int) -> bool:
    """Whether what would be an SPI is OpenVPN's data opcode with a peer ID that servers give: low ones, or none.

    What follows counts on in both protocols. Of real SPIs, about one in eight million is lost by this.
    """
    return spi >> 27 == _OPENVPN_DATA_V2 and (spi & 0xFFFFFF < _PEER_IDS or spi & 0xFFFFFF == 0xFFFFFF)
