"""What a payload must have for a flow to be looked at: masked bytes, sizes, ports and sides, made of a catalogue.

A flow whose packets fit no prefilter has no name, so whoever sees all packets (the kernel) need not show it to
detection. They may say yes too often and never no where a recogniser would have begun, or kept something in mind: a
test shows both the same packets. A payload of UDP is any datagram; of TCP it is the first segment of a stream.
`structures` has those of the recognisers.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Final

from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue.protocol import SIZE_MAX_BYTES, Pattern, Protocol, Side, Transport
from throughway.core.ids import IpProtocol
from throughway.detect.answers import Datagram
from throughway.detect.declared import STRONG_BITS

WORD_SIZE: Final = 8
WORDS_MAX: Final = 3
PREFILTERS_MAX: Final = 128
PAYLOAD_MIN_BYTES: Final = 512
"""So much of a payload is shown at least; all recognisers can do with it."""

ANY_FIRST: Final = frozenset(range(256))
_PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True)
class Word:
    """Up to eight bytes at an offset, of which the mask counts.

    `like` compares them with those at another offset and not with the value; with `differs` they must not be equal.
    """

    offset: int
    mask: bytes
    value: bytes
    like: int = 0
    differs: bool = False

    @property
    def end(self) -> int:
        """Up to where in the payload it reaches."""
        return max(self.offset, self.like) + len(self.mask.rstrip(b"\0"))

    def is_in(self, data: bytes) -> bool:
        """Whether the bytes are there."""
        found = data[self.offset : self.offset + len(self.mask)]
        wanted = data[self.like : self.like + len(self.mask)] if self.like else self.value
        is_equal = all(a & mask == b & mask for a, mask, b in zip(found, self.mask, wanted, strict=False))
        return is_equal is not self.differs


def word(offset: int, value: str, mask: str = "") -> Word:
    """Write a word in hexadecimal; without a mask all bits count."""
    wanted = bytes.fromhex(value)
    return Word(offset, bytes.fromhex(mask) if mask else b"\xff" * len(wanted), wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilter:
    """All of this must be so. Ports are those of either end, or of the responder's alone; sizes are on the wire.

    `may_be_short` lets payloads through that end before the words do: of a stream, more may follow.
    """

    transport: IpProtocol
    words: tuple[Word, ...] = ()
    first: frozenset[int] = ANY_FIRST
    size_min: int = 0
    size_max: int = SIZE_MAX_BYTES
    port_min: int = 0
    port_max: int = _PORT_MAX
    is_responders_port: bool = False
    side: Side = Side.EITHER
    may_be_short: bool = False

    def __post_init__(self) -> None:
        """Refuse more words than the kernel compares."""
        if len(self.words) > WORDS_MAX or any(len(each.mask) > WORD_SIZE for each in self.words):
            raise ValueError(f"a prefilter has {WORDS_MAX} words of {WORD_SIZE} bytes at most")

    @property
    def needs(self) -> int:
        """Bytes of payload that have to be there."""
        return max((each.end for each in self.words), default=1)

    def fits(self, transport: int, datagram: Datagram) -> bool:
        """Whether a payload is let through: what the kernel says of it, said in Python."""
        if transport != self.transport or not self.size_min <= datagram.size <= self.size_max:
            return False
        if self.side is not Side.EITHER and (self.side is Side.INITIATOR) != datagram.from_initiator:
            return False
        ports = (datagram.destination_port, datagram.source_port)
        responders, initiators = ports if datagram.from_initiator else reversed(ports)
        if not self.port_min <= responders <= self.port_max and (
            self.is_responders_port or not self.port_min <= initiators <= self.port_max
        ):
            return False
        if len(datagram.payload) < self.needs:
            return self.may_be_short
        return datagram.payload[0] in self.first and all(each.is_in(datagram.payload) for each in self.words)


@dataclass(frozen=True, slots=True)
class Prefilters:
    """Those of one catalogue, and how many bytes of a payload detection wants to see."""

    all: tuple[Prefilter, ...] = ()
    payload_bytes: int = PAYLOAD_MIN_BYTES

    def fits(self, transport: int, datagram: Datagram) -> bool:
        """Whether any of them lets the payload through."""
        return any(each.fits(transport, datagram) for each in self.all)


def prefilters_of(catalogue: Catalogue, structures: dict[str, tuple[Prefilter, ...]]) -> Prefilters:
    """Make the prefilters of a catalogue, within PREFILTERS_MAX: where there are too many, coarser ones."""
    asked = {name for protocol in catalogue for name in protocol.recognise.structures}
    known = tuple(chain.from_iterable(found for name, found in structures.items() if name in asked))
    own = [protocol for protocol in catalogue if protocol.recognise.is_declared]
    declared = tuple(dict.fromkeys(chain.from_iterable(_of_declared(protocol) for protocol in own)))
    if len(known) + len(declared) > PREFILTERS_MAX:
        declared = tuple(_coarse(declared))
    reach = (each.offset + len(each.wanted) for protocol in own for each in protocol.recognise.patterns)
    return Prefilters(known + declared, max(PAYLOAD_MIN_BYTES, *reach, 0))


def _of_declared(protocol: Protocol) -> Iterable[Prefilter]:
    how = protocol.recognise
    if how.transport is Transport.IP:
        return
    is_tcp = how.transport is Transport.TCP
    transport = IpProtocol.TCP if is_tcp else IpProtocol.UDP
    on_ports = [
        Prefilter(transport=transport, port_min=low, port_max=high, is_responders_port=True)
        for low, high in _ranges(how.ports)
    ]
    if not how.patterns:
        yield from on_ports
    for each in how.patterns:
        # A short pattern counts on the file's ports only, a longer one on all of them.
        places = on_ports if on_ports and each.bits < STRONG_BITS else [Prefilter(transport=transport)]
        for place in places:
            found = replace(place, words=_words_of(each), side=each.side, may_be_short=is_tcp)
            # A stream has no size: it is judged again whenever it grew.
            yield found if is_tcp else replace(found, size_min=each.size_min_bytes, size_max=each.size_max_bytes)


def _words_of(pattern: Pattern) -> tuple[Word, ...]:
    """Cut the front of a pattern into words; what is behind them is left to detection."""
    cuts = range(0, min(len(pattern.wanted), WORD_SIZE * WORDS_MAX), WORD_SIZE)
    return tuple(
        Word(pattern.offset + at, pattern.mask[at : at + WORD_SIZE], pattern.wanted[at : at + WORD_SIZE]) for at in cuts
    )


def _ranges(ports: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Write ports as ranges of neighbours."""
    ordered = sorted(set(ports))
    gaps = [(a, b) for a, b in pairwise(ordered) if b > a + 1]
    starts, ends = [*ordered[:1], *(b for _, b in gaps)], [*(a for a, _ in gaps), *ordered[-1:]]
    return zip(starts, ends, strict=True)


def _coarse(found: Iterable[Prefilter]) -> Iterable[Prefilter]:
    """Put one in the place of all of a transport: everything between the lowest port and the highest."""
    by_transport: dict[IpProtocol, list[Prefilter]] = {}
    for each in found:
        by_transport.setdefault(each.transport, []).append(each)
    for transport, those in by_transport.items():
        yield Prefilter(
            transport=transport,
            port_min=min(each.port_min for each in those),
            port_max=max(each.port_max for each in those),
        )
