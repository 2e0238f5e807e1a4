"""WireGuard, and Tailscale, which is WireGuard with discovery messages of its own on the same ports."""

from typing import Final

from throughway.detect.answers import CERTAIN, LIKELY, STRONG, Answer, Datagram, Notes, looks_random
from throughway.wire import wireguard as wire

PORT: Final = 51820
DISCO_MAGIC: Final = b"TS\xf0\x9f\x92\xac"
"""Tailscale's discovery messages begin so, then a key of 32 bytes and a nonce of 24 (disco/disco.go of its source)."""

_DISCO_SIZE_MIN: Final = len(DISCO_MAGIC) + 32 + 24
_NO_COOKIE: Final = bytes(16)
"""mac2 of a message to a peer that is not under load (whitepaper section 5.4.4)."""

_INDEX_MIN: Final = 1 << 16
"""Indices are random, or begin with random bits; what is below is a count of something else, but for one in 65,536."""

_SAMPLE: Final = 128
"""Bytes of a message that are looked at for whether they may be keys or ciphertext."""

_STEP_MAX: Final = 256
_INDICES_MAX: Final = 32
_YOUNG: Final = 1 << 32

_NAMES: Final = {
    wire.INITIATION: "handshake initiation",
    wire.RESPONSE: "handshake response",
    wire.COOKIE_REPLY: "cookie reply",
    wire.DATA: "transport data",
}


class Wireguard:
    """WireGuard by its four messages, and Tailscale by its discovery."""

    __slots__ = ("_counters", "_senders")

    def __init__(self) -> None:
        self._senders: set[tuple[bool, int]] = set()
        self._counters: dict[tuple[bool, int], int] = {}

    @staticmethod
    def begins(datagram: Datagram) -> bool:
        """Whether type and zeros of a message are there, or discovery's magic."""
        data = datagram.payload
        if len(data) < 16:
            return False
        if data[0] <= wire.DATA:
            return data[0] > 0 and (data[1:4] == b"\0\0\0" or datagram.size == wire.SIZES.get(data[0]))
        return data[0] == 0x54 and data[:6] == DISCO_MAGIC

    def look(self, datagram: Datagram, notes: Notes) -> Answer | None:
        """See `Recogniser.look`."""
        data = datagram.payload
        port = datagram.destination_port if datagram.from_initiator else datagram.source_port
        if data[:6] == DISCO_MAGIC:
            if datagram.size < _DISCO_SIZE_MIN or len(data) < 38:
                return None
            notes.add(f"discovery key {data[6:38].hex()}")
            return Answer("tailscale", CERTAIN, f"Tailscale discovery message, UDP {port}")
        message = wire.parse(data, datagram.size)
        if message is None:
            return None
        words = f"WireGuard {_NAMES[message.type]}, {datagram.size} bytes"
        if message.type == wire.DATA:
            return self._data(datagram, message, words, port, notes)
        return self._handshake(datagram, message, words, port, notes)

    def _handshake(
        self, datagram: Datagram, message: wire.WireguardMessage, words: str, port: int, notes: Notes
    ) -> Answer | None:
        answers = message.receiver is not None and (not datagram.from_initiator, message.receiver) in self._senders
        body = datagram.payload[12 : datagram.size - 16]
        if not answers and not datagram.has_port(PORT):
            if not looks_random(body):
                return None
            if not message.is_plain or not _is_alone_enough(datagram, message):
                self._remember(datagram, message)
                return None
        # Whatever has its size and begins with a 3 may be one; little else has WireGuard's port at both ends.
        is_between_both = datagram.source_port == datagram.destination_port
        if message.type == wire.COOKIE_REPLY and not (answers or is_between_both or looks_random(body)):
            return None
        if message.sender is not None:
            if len(self._senders) < _INDICES_MAX:
                self._senders.add((datagram.from_initiator, message.sender))
            notes.add(f"index {message.sender:#010x}")
        if answers:
            return Answer("wireguard", CERTAIN, f"{words}, to index {message.receiver:#010x}, UDP {port}")
        if not message.is_plain:
            return None
        confidence = STRONG if looks_random(body) and _is_alone_enough(datagram, message) else LIKELY
        index = message.sender if message.sender is not None else message.receiver
        return Answer("wireguard", confidence, f"{words}, index {index:#010x}, UDP {port}")

    def _remember(self, datagram: Datagram, message: wire.WireguardMessage) -> None:
        """Remember an initiation that says too little alone; it takes a response to its index to name the flow.

        With its three bytes filled it has no fixed byte but the first, so that its mac2 must be zero.
        """
        is_initiation = message.type == wire.INITIATION and (message.is_plain or _has_no_cookie(datagram))
        if is_initiation and message.sender is not None and len(self._senders) < _INDICES_MAX:
            self._senders.add((datagram.from_initiator, message.sender))

    def _data(
        self, datagram: Datagram, message: wire.WireguardMessage, words: str, port: int, notes: Notes
    ) -> Answer | None:
        """Judge transport data: to an index of the handshake, or by counters that go on."""
        if message.receiver is None or message.counter is None:
            return None
        answers = (not datagram.from_initiator, message.receiver) in self._senders
        if not answers and (message.receiver < _INDEX_MIN or not looks_random(datagram.payload[16 : 16 + _SAMPLE])):
            return None
        key = (datagram.from_initiator, message.receiver)
        before = self._counters.get(key)
        if before is not None or len(self._counters) < _INDICES_MAX:
            self._counters[key] = message.counter
        words += f" to index {message.receiver:#010x}"
        goes_on = before is not None and 0 < message.counter - before <= _STEP_MAX
        if answers or goes_on:
            notes.add(f"index {message.receiver:#010x}")
            how = "as in the handshake" if answers else f"counters {before} and {message.counter}"
            return Answer("wireguard", CERTAIN if answers else STRONG, f"{words}, {how}, UDP {port}")
        is_likely = datagram.has_port(PORT) and message.counter < _YOUNG
        return Answer("wireguard", LIKELY, f"{words}, UDP {port}") if is_likely else None


def _has_no_cookie(datagram: Datagram) -> bool:
    """Whether the message ends with a mac2 of zero, or was cut off before it."""
    return len(datagram.payload) < datagram.size or datagram.payload[-16:] == _NO_COOKIE


def _is_alone_enough(datagram: Datagram, message: wire.WireguardMessage) -> bool:
    """Whether a handshake message shows 16 bytes of zero where a peer that is not under load leaves them."""
    return message.type in (wire.INITIATION, wire.RESPONSE) and _has_no_cookie(datagram)
