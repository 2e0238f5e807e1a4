"""What detection says: a protocol, how sure it is, and by what evidence."""

from dataclasses import dataclass
from typing import Final, NamedTuple

CERTAIN: Final = 0.99
"""Both ends tied together by numbers that one chose and the other repeated, or a magic of 32 bits and more in its
place."""

STRONG: Final = 0.9
"""A structure that no other protocol is known to have, and chance makes less than once in 2^32."""

LIKELY: Final = 0.7
"""A structure that chance makes seldom, or one that only begins to show."""

DECLARED: Final = 0.5
"""What an operator's file says of a port or a protocol number, with nothing in the packets to check."""


TAKEN_BACK: Final = 0.0
"""Not an answer: what the same recogniser said before of the same protocol is refuted by what came since."""


class Datagram(NamedTuple):
    """What a recogniser is shown: the payload of one UDP datagram, IP packet without ports, or framed TCP message.

    `at` is seconds, of whatever clock. `size` is the payload's on the wire; `payload` is what was captured of it.
    Ports are 0 where there are none.
    """

    at: float
    payload: bytes
    size: int
    from_initiator: bool
    source_port: int
    destination_port: int

    def has_port(self, port: int) -> bool:
        """Whether either end uses the port."""
        return port in (self.source_port, self.destination_port)


@dataclass(frozen=True, slots=True)
class Answer:
    """One protocol with its evidence, in words for people. `protocol` is an ID of the catalogue."""

    protocol: str
    confidence: float
    evidence: str


_SAMPLE_MIN, _SAMPLE = 12, 128

_BETTER: Final = frozenset({("esp-udp", "ike-natt"), ("ike", "ike-natt"), ("wireguard", "tailscale")})
"""What is more exact than what, of equal or of lesser confidence: IKE on a flow of ESP in UDP makes it NAT-T's, and
Tailscale's discovery on a flow of WireGuard makes it Tailscale."""


def better(held: Answer | None, new: Answer) -> Answer:
    """Return which of two answers about the same flow stands."""
    if held is None or (held.protocol, new.protocol) in _BETTER:
        return new
    if (new.protocol, held.protocol) in _BETTER:
        return held
    return new if new.confidence > held.confidence else held


def looks_random(data: bytes) -> bool:
    """Whether bytes may be keys or ciphertext: over half as many different values as random bytes would have.

    Of 32 random bytes about 30 differ, of 128 about 101.
    """
    expected = 256 * (1 - (255 / 256) ** len(data))
    return len(set(data)) > 0.75 * expected


def may_be_key(data: bytes) -> bool:
    """Whether bytes may be a key, a hash or a short ciphertext: they look random, and some have their highest bit set.

    Of 16 random bytes about one in 4,000 is refused, and of more, fewer. Names and other text are.
    """
    return looks_random(data) and sum(byte >> 7 for byte in data) >= max(2, len(data) // 10)


def looks_encrypted(data: bytes) -> bool:
    """Whether bytes may be ciphertext: they look random, and their highest bits are set about every second time."""
    sample = data[:_SAMPLE]
    if len(sample) < _SAMPLE_MIN:
        return False
    high = sum(byte >> 7 for byte in sample)
    return len(sample) < 4 * high < 3 * len(sample) and looks_random(sample)


class Notes:
    """The discriminators seen on a flow: words, in the order in which they came, and no more than the bound."""

    __slots__ = ("_bound", "_seen")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._seen: dict[str, None] = {}

    def add(self, words: str) -> None:
        """Keep one, if it is new and there is room."""
        if words not in self._seen and len(self._seen) < self._bound:
            self._seen[words] = None

    def words(self) -> tuple[str, ...]:
        """Return what was kept."""
        return tuple(self._seen)
