"""The heads of a TCP connection's two streams, put together in order and within a bound."""

from typing import Final

HEAD_SIZE_MAX: Final = 2048
"""Bytes kept of each direction: a handshake of any protocol here shows itself in fewer."""

_HELD_MAX: Final = 4
"""Segments kept that came before those in front of them."""

_UNKNOWN: Final = -1
_HALF: Final = 1 << 31
_WRAP: Final = (1 << 32) - 1


class Head:
    """The first bytes of one direction. Sequence numbers wrap (RFC 9293 section 3.4)."""

    __slots__ = ("_expected", "_held", "data")

    def __init__(self) -> None:
        self.data = bytearray()
        self._expected = _UNKNOWN
        self._held: dict[int, bytes] = {}

    @property
    def is_full(self) -> bool:
        """Whether no more bytes will be kept."""
        return len(self.data) >= HEAD_SIZE_MAX

    def began(self, sequence: int) -> None:
        """Take the sequence number of the first byte from a SYN."""
        if not self.data:
            self._expected = (sequence + 1) & _WRAP

    def push(self, sequence: int, payload: bytes) -> bool:
        """Take a segment in, and say whether the head grew. Where no SYN was seen, the first segment begins it."""
        if not payload or self.is_full:
            return False
        if self._expected == _UNKNOWN:
            self._expected = sequence
        if self._ahead(sequence) > 0:
            if len(self._held) < _HELD_MAX:
                self._held[sequence] = payload
            return False
        before = len(self.data)
        self._append(sequence, payload)
        for held in sorted(self._held, key=self._ahead):
            if self._ahead(held) <= 0:
                self._append(held, self._held.pop(held))
        return len(self.data) > before

    def _ahead(self, sequence: int) -> int:
        """How many bytes are missing before a segment; negative where it repeats some."""
        distance = (sequence - self._expected) & _WRAP
        return distance - (1 << 32) if distance >= _HALF else distance

    def _append(self, sequence: int, payload: bytes) -> None:
        fresh = payload[-self._ahead(sequence) :] if self._ahead(sequence) else payload
        self.data += fresh[: HEAD_SIZE_MAX - len(self.data)]
        self._expected = (self._expected + len(fresh)) & _WRAP


class Stream:
    """Both heads of one connection, by direction: from the initiator, and to it."""

    __slots__ = ("server_port", "to_initiator", "to_responder")

    def __init__(self, server_port: int) -> None:
        self.to_responder = Head()
        self.to_initiator = Head()
        self.server_port = server_port

    def head(self, from_initiator: bool) -> Head:
        """Return the head of a direction."""
        return self.to_responder if from_initiator else self.to_initiator
