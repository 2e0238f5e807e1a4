"""The structs of bpf/keys.h as Python values: what the maps hold and the rings carry.

Every record is packed and unpacked by one `struct` format, field for field in the order of the C
struct; no format has hidden padding. A test holds LAYOUTS equal to the BTF of the built object, so a
change on one side alone does not pass. Addresses are IPv4Address here and four bytes in network order
there; all numbers are in the machine's order.
"""

import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import lru_cache, reduce
from ipaddress import IPv4Address
from operator import or_
from typing import Final, Self

from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, Peer, UdpPort, hashed

LAYOUT_VERSION: Final = 6
SLOTS_MAX: Final = 16
SHORT_INSIDES_MAX: Final = 16
PROTOCOL_WORDS: Final = 8
FAN_OUT_MAX: Final = 64
TRACE_TIMES: Final = 64
TRACE_GAP_NS: Final = 10_000_000
HELD_PER_FLOW_MAX: Final = 64
FRAME_SMALL: Final = 1664
FRAME_LARGE: Final = 9216
IKE_HEADER_SIZE: Final = 28
CONTROL_MESSAGE_MAX: Final = 512
FRAGMENT_FRESH_NS: Final = 30_000_000_000
FRAGMENT_REUSED_NS: Final = 1_000_000_000
REPORT_AGAIN_NS: Final = 1_000_000_000


class MappingFlag(IntFlag):
    """What is special about a mapping."""

    ACTIVE = 1
    FAN_OUT = 2
    TRACED = 4


class PendingState(IntEnum):
    """Where an undecided flow is; the diagram is in bpf/keys.h."""

    WAITING = 0
    DRAINING = 1
    DONE = 2
    REFUSED = 3


class PuntKind(IntEnum):
    """What a punted packet waits for, if it does."""

    HELD = 0
    """A decision."""
    COPY = 1
    """Nothing: it is the router's own, and went on."""
    FRAGMENT = 2
    """The first fragment of its packet."""
    FIRST_FRAGMENT = 3
    """Nothing: it is that first fragment, which went its way. There is no frame."""


class FragmentState(IntEnum):
    """What is known of a fragmented packet; the diagram is in bpf/keys.h."""

    AWAITED = 0
    KNOWN = 1
    PASSES = 2


class ObservedKind(IntEnum):
    """What a record of the ring `observed` is about."""

    IKE = 0
    CONTROL = 1
    AH = 2
    DISOWNED = 3


class ControlOp(IntEnum):
    """What may be asked of the program `control`."""

    DECIDE = 0
    REFUSE = 1
    WATCHDOG = 2
    TRACE = 3
    UNTRACE = 4
    FORGET = 5


class KeptFlag(IntFlag):
    """Which ports hosts keep with a peer."""

    NONE = 0
    IKE = 1
    L2TP = 2


_KEPT_FLAGS: Final = {UdpPort.IKE: KeptFlag.IKE, UdpPort.L2TP: KeptFlag.L2TP}


def kept_flags(ports: Iterable[UdpPort]) -> KeptFlag:
    """Write ports that are kept as the bits of `kept_ports` and of the configuration."""
    return reduce(or_, (_KEPT_FLAGS[port] for port in ports), KeptFlag.NONE)


@dataclass(frozen=True, slots=True)
class Layout:
    """One C struct: its fields in order, and the `struct` format that reads them."""

    fields: tuple[str, ...]
    format: struct.Struct
    offsets: tuple[int, ...]

    @property
    def size(self) -> int:
        """The bytes of one record."""
        return self.format.size

    def offset_of(self, field: str) -> int:
        """Return where a field begins, in bytes."""
        return self.offsets[self.fields.index(field)]


def layout(*fields: tuple[str, str]) -> Layout:
    """Describe a struct by its fields, each a name and a code of `struct`."""
    codes = [code for _, code in fields]
    offsets = tuple(struct.calcsize("=" + "".join(codes[:at])) for at in range(len(codes)))
    return Layout(tuple(name for name, _ in fields), struct.Struct("=" + "".join(codes)), offsets)


_FLOW_KEY: Final = (
    ("host", "4s"),
    ("peer", "4s"),
    ("discriminator", "Q"),
    ("protocol", "B"),
    ("direction", "B"),
    ("port", "H"),
    ("zero32", "I"),
)
_FLOW_KEY_SIZE: Final = struct.calcsize("=" + "".join(code for _, code in _FLOW_KEY))
_KEY_INSIDE: Final = f"{_FLOW_KEY_SIZE}s"

_FRAGMENT_KEY: Final = (("source", "4s"), ("destination", "4s"), ("id", "2s"), ("protocol", "B"), ("direction", "B"))
_FRAGMENT_KEY_INSIDE: Final = f"{struct.calcsize('=' + ''.join(code for _, code in _FRAGMENT_KEY))}s"

LAYOUTS: Final[dict[str, Layout]] = {
    "flow_key": layout(*_FLOW_KEY),
    "mapping": layout(
        ("host", "4s"),
        ("flags", "I"),
        ("packets", "Q"),
        ("bytes", "Q"),
        ("last_ns", "Q"),
        ("created_ns", "Q"),
        ("slot", "I"),
        ("zero32", "I"),
    ),
    "fan_out": layout(("count", "I"), ("hosts", f"{4 * FAN_OUT_MAX}s")),
    "trace": layout(("last_ns", "Q"), ("noted", "I"), ("zero32", "I"), ("times_ns", f"{8 * TRACE_TIMES}s")),
    "pending": layout(
        ("lock", "4x"),
        ("state", "I"),
        ("punted", "I"),
        ("reinjected", "I"),
        ("dropped", "I"),
        ("drain_cap", "I"),
        ("since_ns", "Q"),
        ("until_ns", "Q"),
    ),
    "sender_key": layout(
        ("peer", "4s"), ("protocol", "H"), ("port", "H"), ("discriminator", "Q"), ("slot", "I"), ("zero32", "I")
    ),
    "fragment_key": layout(*_FRAGMENT_KEY),
    "fragment": layout(
        ("key", _KEY_INSIDE), ("until_ns", "Q"), ("seen", "I"), ("total", "I"), ("state", "I"), ("zero32", "I")
    ),
    "budget": layout(("tokens", "I"), ("by_host", "I"), ("refilled_ns", "Q")),
    "share": layout(("flows", "I"), ("ring_before", "I"), ("ring_now", "I"), ("zero32", "I"), ("ring_until", "Q")),
    "config": layout(
        ("layout_version", "I"),
        ("slot_count", "I"),
        ("addresses", f"{4 * SLOTS_MAX}s"),
        ("outside_ifindex", "I"),
        ("link_header_size", "I"),
        ("mark_mask", "I"),
        ("mark_carried", "I"),
        ("mark_reinjected", "I"),
        ("punts_per_peer", "I"),
        ("punts_per_host", "I"),
        ("ike_per_address", "I"),
        ("fragments_per_address", "I"),
        ("ports_kept", "I"),
        ("check_source", "I"),
        ("pending_max", "I"),
        ("short_until_ns", "Q"),
        ("insides", f"{4 * SHORT_INSIDES_MAX}s"),
        ("unassisted", f"{4 * PROTOCOL_WORDS}s"),
    ),
    "punt": layout(
        ("kind", "I"),
        ("sequence", "I"),
        ("size", "I"),
        ("link_header_size", "I"),
        ("at_ns", "Q"),
        ("key", _KEY_INSIDE),
        ("fragment", _FRAGMENT_KEY_INSIDE),
        ("slot", "I"),
    ),
    "observed": layout(
        ("kind", "I"),
        ("host", "4s"),
        ("peer", "4s"),
        ("size", "H"),
        ("filled", "H"),
        ("discriminator", "Q"),
        ("at_ns", "Q"),
        ("protocol", "B"),
        ("direction", "B"),
        ("floated", "B"),
        ("code", "B"),
        ("slot", "H"),
        ("host_port", "H"),
    ),
    "report_key": layout(("host", "4s"), ("peer", "4s"), ("discriminator", "Q"), ("kind", "I"), ("protocol", "I")),
    "control_request": layout(
        ("op", "I"),
        ("count", "I"),
        ("key", _KEY_INSIDE),
        ("hosts", f"{4 * FAN_OUT_MAX}s"),
        ("until_ns", "Q"),
        ("expected", "I"),
        ("slot", "I"),
    ),
}


def _hosts_packed(hosts: Sequence[Host]) -> bytes:
    if not 1 <= len(hosts) <= FAN_OUT_MAX:
        raise ValueError(f"a flow has 1 to {FAN_OUT_MAX} hosts, not {len(hosts)}")
    return b"".join(host.packed for host in hosts).ljust(4 * FAN_OUT_MAX, b"\0")


def pack_key(key: FlowKey) -> bytes:
    """Write a `struct flow_key`. Its first field is the host towards the peer, and the slot towards the inside."""
    is_inward = key.direction is Direction.TO_INSIDE
    first = struct.pack("=I", key.slot) if is_inward else key.host.packed
    return LAYOUTS["flow_key"].format.pack(
        first, key.peer.packed, key.discriminator, key.protocol, key.direction, key.port, 0
    )


@lru_cache(maxsize=1 << 16)
def address_of(packed: bytes) -> IPv4Address:
    """Make an address, the same object for the same bytes, which is quick to be looked up.

    A table of a million flows has few addresses, and a thousand new flows a second have them in a dozen tables each.
    """
    return hashed(Host(IPv4Address(packed)))


def unpack_key(data: bytes) -> FlowKey:
    """Read a `struct flow_key`. A direction that we never write is a ValueError."""
    first, packed_peer, discriminator, protocol, direction, port, _ = LAYOUTS["flow_key"].format.unpack(data)
    peer = Peer(address_of(packed_peer))
    if Direction(direction) is Direction.TO_INSIDE:
        slot = int.from_bytes(first, sys.byteorder)
        return FlowKey(Direction.TO_INSIDE, protocol, peer, discriminator, slot=slot, port=port)
    return FlowKey(Direction.TO_PEER, protocol, peer, discriminator, Host(address_of(first)), port=port)


def pack_sender_key(key: FlowKey, slot: int) -> bytes:
    """Write the `struct sender_key` under which ICMP errors find the host of a flow sent from this slot's address."""
    return LAYOUTS["sender_key"].format.pack(key.peer.packed, key.protocol, key.port, key.discriminator, slot, 0)


@dataclass(frozen=True, slots=True)
class MappingRecord:
    """The value of `mappings`. Times are nanoseconds of CLOCK_MONOTONIC; `slot` is that of a flow to the peer."""

    host: Host
    flags: MappingFlag
    packets: int = 0
    octets: int = 0
    last_ns: int = 0
    created_ns: int = 0
    slot: int = 0

    def pack(self) -> bytes:
        """Write a `struct mapping`."""
        return LAYOUTS["mapping"].format.pack(
            self.host.packed,
            self.flags,
            self.packets,
            self.octets,
            self.last_ns,
            self.created_ns,
            self.slot,
            0,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a `struct mapping`."""
        host, flags, packets, size, last_ns, created_ns, slot, _ = LAYOUTS["mapping"].format.unpack(data)
        return cls(Host(address_of(host)), MappingFlag(flags), packets, size, last_ns, created_ns, slot)


def pack_fan_out(hosts: Sequence[Host]) -> bytes:
    """Write a `struct fan_out`; the last host gets the original packet."""
    return LAYOUTS["fan_out"].format.pack(len(hosts), _hosts_packed(hosts))


def unpack_fan_out(data: bytes) -> tuple[Host, ...]:
    """Read the hosts of a `struct fan_out`."""
    count, hosts = LAYOUTS["fan_out"].format.unpack(data)
    return tuple(Host(address_of(hosts[4 * i : 4 * i + 4])) for i in range(min(count, FAN_OUT_MAX)))


@dataclass(frozen=True, slots=True)
class PendingRecord:
    """The value of `pending`."""

    state: PendingState
    punted: int
    reinjected: int
    dropped: int
    drain_cap: int
    since_ns: int
    until_ns: int

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a `struct pending`, without its lock."""
        state, *rest = LAYOUTS["pending"].format.unpack(data)
        return cls(PendingState(state), *rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRequest:
    """One request to the program `control`. Which fields count depends on `op`."""

    op: ControlOp
    key: FlowKey
    hosts: tuple[Host, ...] = ()
    until_ns: int = 0
    expected: int = 0
    slot: int = 0

    def pack(self) -> bytes:
        """Write the packet of the test run: a `struct control_request` behind 14 bytes of link header."""
        hosts = _hosts_packed(self.hosts) if self.hosts else bytes(4 * FAN_OUT_MAX)
        return bytes(14) + LAYOUTS["control_request"].format.pack(
            self.op, len(self.hosts), pack_key(self.key), hosts, self.until_ns, self.expected, self.slot
        )
