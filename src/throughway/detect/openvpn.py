"""OpenVPN on UDP, and on TCP packet by packet: resets, session IDs that answer each other, and counters of data."""

from typing import Final

from throughway.detect.answers import CERTAIN, LIKELY, STRONG, Answer, Datagram, Notes, looks_random, may_be_key
from throughway.wire import openvpn as wire
from throughway.wire.openvpn import Control, Opcode

_RESET_SIZE: Final = 14
"""Bytes of a plain client reset: opcode, session ID, no acknowledgement, packet ID."""

_ANSWER_SIZE: Final = 26
"""Bytes of a plain server reset: it acknowledges one packet, with the client's session ID."""

_REPLAY_SIZE: Final = 8
_WRAPPED_AT: Final = 17
"""Where tls-crypt has its HMAC, and all that is encrypted behind it."""

_KEYED_MIN: Final = 12
_CRYPTED_RESET_SIZE: Final = wire.TLS_CRYPT_OVERHEAD + 5
_CRYPTED_ANSWER_SIZES: Final = (wire.TLS_CRYPT_OVERHEAD + 17, wire.TLS_CRYPT_OVERHEAD + 23)
"""With one acknowledgement, and in newer versions with 6 bytes that negotiate early (ssl_pkt.h)."""

_RETRIES_MAX: Final = 64
"""The replay ID of a reset tells how often it was sent."""

_STEP_MAX: Final = 16
_RUN_LIKELY, _RUN_STRONG = 2, 4
"""Steps of a data counter in a row, each at most _STEP_MAX, that make data alone likely, and more than that. On its own
port one step of version 2 is likely."""

PORT: Final = 1194
"""IANA."""

_PEER_IDS, _NO_PEER_ID = 1 << 16, 0xFFFFFF
"""Servers number their clients from 0, and say so much for none (ssl.c of its source)."""

_SESSION_ZEROS_MAX: Final = 2
"""Bytes of 0 in a session ID, which is random; more are in one of three million."""

_TIME_STEP_MAX_S: Final = 3600
"""Between the times of two packets of one session, which are that of its start."""

_STREAMS_MAX: Final = 16
_SAMPLE: Final = 128
"""Bytes of data, tag and ciphertext, that are looked at for whether they may be encrypted."""

_RESET_BYTES: Final = frozenset({0x08, 0x10, 0x38, 0x40, 0x50})
_OTHER_BYTES: Final = frozenset({*range(0x18, 0x38), *range(0x48, 0x50), *range(0x58, 0x60)})

_LAYOUTS: Final = {None: "with tls-crypt", 0: "plain"}


class Openvpn:
    """One flow's control and data packets. The protection is found by what fits, since no packet names it."""

    __slots__ = ("_counters", "_sessions")

    def __init__(self) -> None:
        self._sessions: dict[tuple[bool, int | None], Control] = {}
        self._counters: dict[tuple[bool, bytes], tuple[int, int]] = {}

    @staticmethod
    def begins(datagram: Datagram) -> bool:
        """Whether the first byte is one of OpenVPN's, and the size one that such a packet may have."""
        if datagram.size < _RESET_SIZE or not datagram.payload:
            return False
        first = datagram.payload[0]
        return first in _OTHER_BYTES or (first in _RESET_BYTES and _fits_reset(datagram.size, first))

    def look(self, datagram: Datagram, notes: Notes) -> Answer | None:
        """See `Recogniser.look`."""
        data = datagram.payload
        kind = wire.opcode(data[0]) if len(data) >= 9 else None
        if kind is None:
            return None
        if kind in wire.DATA:
            return self._data(datagram, kind)
        answer = None
        if data[1:9].count(0) > _SESSION_ZEROS_MAX and not datagram.has_port(PORT):
            return None
        for reading in _readings(data, datagram.size, kind):
            if not _is_keyed(data, reading):
                continue
            found = self._control(datagram, reading, notes)
            if found and (answer is None or found.confidence > answer.confidence):
                answer = found
        return answer

    def _control(self, datagram: Datagram, packet: Control, notes: Notes) -> Answer | None:
        """Judge one reading of a control packet by what it is alone, and by what its flow has shown."""
        mine = (datagram.from_initiator, packet.hmac_size)
        before = self._sessions.get(mine)
        other = self._sessions.get((not datagram.from_initiator, packet.hmac_size))
        self._sessions[mine] = packet
        layout = _LAYOUTS.get(packet.hmac_size, f"with an HMAC of {packet.hmac_size} bytes")
        words = f"OpenVPN P_{packet.opcode.name}, {layout}, session {packet.session_id:016x}"
        if other and packet.remote_session_id == other.session_id:
            confidence, words = CERTAIN, f"{words}, answers session {other.session_id:016x}"
        elif _is_reset_alone(packet, datagram):
            answers = packet.hmac_size is None and packet.opcode in wire.SERVER_RESETS and other is not None
            confidence = CERTAIN if answers else STRONG
        elif before and _goes_on(before, packet):
            confidence = STRONG
        else:
            return None
        notes.add(f"session {packet.session_id:016x}")
        port = datagram.destination_port if datagram.from_initiator else datagram.source_port
        return Answer("openvpn", confidence, f"{words}, port {port}")

    def _data(self, datagram: Datagram, kind: Opcode) -> Answer | None:
        """Judge data packets, which an AEAD cipher counts in clear, by how their counter goes on."""
        head = 4 if kind is Opcode.DATA_V2 else 1
        data = datagram.payload
        if len(data) < head + 4 or datagram.size < head + 4 + 16 or not _may_be_data(datagram, kind):
            return None
        if not looks_random(data[head + 4 : head + 4 + _SAMPLE]):
            return None
        key = (datagram.from_initiator, data[:head])
        number = int.from_bytes(data[head : head + 4], "big")
        before, run = self._counters.get(key, (None, 0))
        if before is None and len(self._counters) >= _STREAMS_MAX:
            return None
        run = run + 1 if before is not None and 0 < number - before <= _STEP_MAX else 0
        self._counters[key] = (number, run)
        needed = _RUN_STRONG if kind is Opcode.DATA_V1 else 1 if datagram.has_port(PORT) else _RUN_LIKELY
        if run < needed:
            return None
        confidence = STRONG if run >= _RUN_STRONG and kind is Opcode.DATA_V2 else LIKELY
        return Answer("openvpn", confidence, f"OpenVPN P_{kind.name}, packet IDs that count on, last {number}")


def _may_be_data(datagram: Datagram, kind: Opcode) -> bool:
    """Whether version 2 has a peer ID that servers give; version 1 has so little that its own port must speak."""
    if kind is Opcode.DATA_V1:
        return datagram.has_port(PORT)
    peer_id = int.from_bytes(datagram.payload[1:4], "big")
    return peer_id < _PEER_IDS or peer_id == _NO_PEER_ID


def _fits_reset(size: int, first: int) -> bool:
    """Whether a reset may have this size: they carry nothing but themselves, and a wrapped key in version 3."""
    if first == 0x50:
        return size > _CRYPTED_RESET_SIZE
    for plain in (_RESET_SIZE, _ANSWER_SIZE):
        if size == plain or size - plain - _REPLAY_SIZE in wire.HMAC_SIZES:
            return True
    return size == _CRYPTED_RESET_SIZE or size in _CRYPTED_ANSWER_SIZES


def _readings(data: bytes, size: int, kind: Opcode) -> list[Control]:
    """Read a control packet in every way that fits."""
    if kind in wire.RESETS:
        hmacs = [h for h in wire.HMAC_SIZES if size - h - (_REPLAY_SIZE if h else 0) in (_RESET_SIZE, _ANSWER_SIZE)]
    else:
        hmacs = list(wire.HMAC_SIZES)
    found = [packet for h in hmacs if (packet := wire.parse_control(data, size, h))]
    wrapped = wire.parse_wrapped(data, size)
    return [*found, wrapped] if wrapped else found


def _is_keyed(data: bytes, packet: Control) -> bool:
    """Whether an HMAC, and what tls-crypt encrypts behind it, look like that, as far as the capture has them."""
    if packet.hmac_size == 0:
        return True
    keyed = data[_WRAPPED_AT : _WRAPPED_AT + _SAMPLE] if packet.hmac_size is None else data[9 : 9 + packet.hmac_size]
    return len(keyed) < _KEYED_MIN or may_be_key(keyed)


def _is_reset_alone(packet: Control, datagram: Datagram) -> bool:
    """Whether a packet is a reset in every byte that a reset has fixed."""
    if packet.opcode not in wire.RESETS:
        return False
    size = datagram.size
    if packet.hmac_size is None:
        number = (packet.replay_id or 0) & 0xFFFF
        if packet.opcode is Opcode.RESET_CLIENT_V3:
            is_cut = len(datagram.payload) < size
            return number <= _RETRIES_MAX and (is_cut or wire.wrapped_key_fits(datagram.payload, size))
        sizes = (_CRYPTED_RESET_SIZE,) if packet.opcode in wire.CLIENT_RESETS else _CRYPTED_ANSWER_SIZES
        return number <= _RETRIES_MAX and size in sizes
    if packet.packet_id != 0 or (packet.replay_id or 0) > _RETRIES_MAX:
        return False
    overhead = packet.hmac_size + (_REPLAY_SIZE if packet.hmac_size else 0)
    if packet.opcode in wire.CLIENT_RESETS:
        return not packet.acknowledged and size == _RESET_SIZE + overhead
    return packet.acknowledged == (0,) and size == _ANSWER_SIZE + overhead


def _goes_on(before: Control, packet: Control) -> bool:
    """Whether two packets of one direction are of one session, and their numbers count on."""
    if before.session_id != packet.session_id:
        return False
    if abs((packet.replay_time or 0) - (before.replay_time or 0)) > _TIME_STEP_MAX_S:
        return False
    if before.replay_id is not None and packet.replay_id is not None:
        return 0 < packet.replay_id - before.replay_id <= _STEP_MAX
    if before.packet_id is not None and packet.packet_id is not None:
        return 0 < packet.packet_id - before.packet_id <= _STEP_MAX
    # Acknowledgements have no number of their own: those that they acknowledge count on.
    return 0 < max(packet.acknowledged, default=0) - max(before.acknowledged, default=0) <= _STEP_MAX
