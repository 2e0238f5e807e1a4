"""The structs of bpf/head_keys.h as Python values, as `abi` has those of bpf/keys.h."""

from collections.abc import Sequence
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

from throughway.catalogue.protocol import Side
from throughway.core.ids import Host, Peer
from throughway.dataplane.abi import Layout, address_of, layout
from throughway.detect.prefilters import WORD_SIZE, WORDS_MAX, Prefilter, Word
from throughway.sessions.facts import FlowName

HEAD_PACKETS_MAX: Final = 8
HEAD_SIZE_MAX: Final = 1536
HEAD_STREAM_MAX: Final = 2048
HEAD_FILTERS_MAX: Final = 128
HEAD_ASIDE_S: Final = 5
HEAD_WORDS: Final = WORDS_MAX


class HeadState(IntEnum):
    """What is known of a flow; the diagram is in bpf/head_keys.h."""

    WATCHED = 0
    BEGUN = 1
    DONE = 2
    ASIDE = 3


class HeadCount(IntEnum):
    """What was copied, and what was not and why."""

    COPIED = 0
    RING_FULL = 1
    OVER_BUDGET = 2


class FilterFlag(IntFlag):
    """What is special about a filter."""

    PORT_OF_RESPONDER = 1
    SHORT_FITS = 2
    OF_INITIATOR = 4
    OF_RESPONDER = 8


_SIDES: Final = {
    Side.EITHER: FilterFlag(0),
    Side.INITIATOR: FilterFlag.OF_INITIATOR,
    Side.RESPONDER: FilterFlag.OF_RESPONDER,
}

_KEY: Final = layout(
    ("host", "4s"),
    ("peer", "4s"),
    ("host_port", "2s"),
    ("peer_port", "2s"),
    ("protocol", "B"),
    ("zero8", "B"),
    ("zero16", "H"),
)
_WORD: Final = layout(("mask", "8s"), ("value", "8s"), ("offset", "H"), ("like", "H"), ("differs", "I"))
_FILTER: Final = layout(
    ("first", "32s"),
    ("words", f"{HEAD_WORDS * _WORD.size}s"),
    ("size_min", "H"),
    ("size_max", "H"),
    ("port_min", "H"),
    ("port_max", "H"),
    ("needs", "H"),
    ("protocol", "B"),
    ("flags", "B"),
    ("zero32", "I"),
)

LAYOUTS: Final[dict[str, Layout]] = {
    "head_key": _KEY,
    "head_flow": layout(
        ("begins_at", "8s"),
        ("generation", "H"),
        ("state", "B"),
        ("initiator", "B"),
        ("seen", "2s"),
        ("has_begun", "2s"),
    ),
    "head_word": _WORD,
    "head_filter": _FILTER,
    "head_rules": layout(
        ("count", "I"),
        ("generation", "H"),
        ("size_max", "H"),
        ("per_host", "I"),
        ("per_peer", "I"),
        ("filters", f"{HEAD_FILTERS_MAX * _FILTER.size}s"),
    ),
    "head_tls_key": layout(
        ("host", "4s"), ("peer", "4s"), ("responder_port", "2s"), ("initiator", "B"), ("zero8", "B")
    ),
    "head": layout(
        ("key", f"{_KEY.size}s"),
        ("at_ns", "Q"),
        ("stream_at", "I"),
        ("size", "H"),
        ("filled", "H"),
        ("direction", "B"),
        ("initiator", "B"),
        ("is_first", "B"),
        ("is_last", "B"),
        ("tls_port", "2s"),
        ("zero16", "H"),
    ),
}

HEAD: Final[Struct] = LAYOUTS["head"].format
PROTOCOL_AT: Final = _KEY.offset_of("protocol")


def pack_flow_name(flow: FlowName) -> bytes:
    """Write a `struct head_key`."""
    return _KEY.format.pack(
        flow.device.packed,
        flow.peer.packed,
        flow.source.to_bytes(2, "big"),
        flow.destination.to_bytes(2, "big"),
        flow.protocol,
        0,
        0,
    )


def unpack_flow_name(key: bytes) -> FlowName:
    """Read a `struct head_key`."""
    host, peer, source, destination, protocol, _, _ = _KEY.format.unpack(key)
    return FlowName(
        Host(address_of(host)),
        Peer(address_of(peer)),
        protocol,
        int.from_bytes(source, "big"),
        int.from_bytes(destination, "big"),
    )


def ends_of(key: bytes) -> tuple[int, tuple[bytes, int], tuple[bytes, int]]:
    """Read the protocol of a `struct head_key`, and address and port of the device and of the peer."""
    host, peer, source, destination, protocol, _, _ = _KEY.format.unpack(key)
    return protocol, (host, int.from_bytes(source, "big")), (peer, int.from_bytes(destination, "big"))


def pack_flow(state: HeadState, generation: int) -> bytes:
    """Write a `struct head_flow` of which no more than the state counts."""
    return LAYOUTS["head_flow"].format.pack(bytes(8), generation, state, 0, bytes(2), bytes(2))


def pack_rules(filters: Sequence[Prefilter], *, generation: int, size_max: int, per_host: int, per_peer: int) -> bytes:
    """Write a `struct head_rules`; with no filters nothing is looked at. `size_max` is cut to what fits."""
    if len(filters) > HEAD_FILTERS_MAX:
        raise ValueError(f"there is room for {HEAD_FILTERS_MAX} filters, not {len(filters)}")
    packed = b"".join(map(_pack_filter, filters)).ljust(HEAD_FILTERS_MAX * _FILTER.size, b"\0")
    return LAYOUTS["head_rules"].format.pack(
        len(filters), generation, min(size_max, HEAD_SIZE_MAX), per_host, per_peer, packed
    )


def _pack_filter(prefilter: Prefilter) -> bytes:
    first = sum(1 << byte for byte in prefilter.first)
    words = b"".join(map(_pack_word, prefilter.words)).ljust(HEAD_WORDS * _WORD.size, b"\0")
    flags = _SIDES[prefilter.side]
    if prefilter.is_responders_port:
        flags |= FilterFlag.PORT_OF_RESPONDER
    if prefilter.may_be_short:
        flags |= FilterFlag.SHORT_FITS
    return _FILTER.format.pack(
        first.to_bytes(32, "little"),
        words,
        prefilter.size_min,
        prefilter.size_max,
        prefilter.port_min,
        prefilter.port_max,
        prefilter.needs,
        prefilter.transport,
        flags,
        0,
    )


def _pack_word(word: Word) -> bytes:
    mask, value = (each.ljust(WORD_SIZE, b"\0") for each in (word.mask, word.value))
    return _WORD.format.pack(mask, value, word.offset, word.like, word.differs)
