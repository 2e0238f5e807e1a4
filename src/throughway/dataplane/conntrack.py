"""Read the kernel's connection tracking in one pass, one message at a time.

A pass costs some 30 milliseconds with an empty table, for the kernel walks through all of its buckets (262,144 on this
machine). So all interests share one. What does not matter is told by two fields at the places where the kernel writes
them, and is not parsed: 100,000 connections take less than half a second.
"""

import struct
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from throughway.core.ids import IpProtocol
from throughway.core.tracked import TrackedCount, TrackedFlow, TrackedTuple
from throughway.dataplane import ctnetlink as nl
from throughway.dataplane.ctnetlink import attribute, attributes


@dataclass(frozen=True, slots=True)
class Interest:
    """A protocol and, for TCP and UDP, the port that the first packet of a flow went to."""

    protocol: IpProtocol
    port: int | None = None


FLOWS_PER_INTEREST_MAX: Final = 4096

_HEAD: Final = struct.Struct("=2xH22xH2xHB3x10xH2s")
"""The kind of the first attribute; of the protocol's part; of its number, with the number; of the port, with the port.

    0  tuple >  4  addresses >  8 source  16 destination
               24  protocol  > 28 number  36 source port  44 destination port
"""

_HEAD_NAMES: Final = (
    nl.TUPLE_ORIGINAL | nl.NESTED,
    nl.TUPLE_PROTOCOL | nl.NESTED,
    nl.PROTOCOL_NUMBER,
    nl.PROTOCOL_DESTINATION,
)


def tracked_flows(
    interests: Iterable[Interest], *, per_interest_max: int = FLOWS_PER_INTEREST_MAX
) -> Iterator[TrackedFlow]:
    """Read the IPv4 flows of interest, in no order, at most so many for each interest.

    Holds one datagram of the kernel's in memory at a time. A flow that comes or goes meanwhile may
    be missing. Blocks for some milliseconds with a full table: not for the event loop's thread.
    Raises KernelRefused.
    """
    now_ns = time.time_ns()
    room = {(int(interest.protocol), interest.port): per_interest_max for interest in interests}
    for message in nl.dump(_filter({protocol for protocol, _ in room})):
        protocol, port = _peek(message)
        left = [name for name in ((protocol, port), (protocol, None)) if room.get(name)]
        flow = parse(message, now_ns) if left else None
        if flow is not None:
            room[left[0]] -= 1
            yield flow
            if not any(room.values()):
                return


def _filter(protocols: Collection[int]) -> bytes:
    """Have the kernel leave out all but one protocol (CTA_FILTER, kernel 5.8), where one is all that is wanted."""
    if len(protocols) != 1:
        return b""
    (protocol,) = protocols
    number = attribute(nl.PROTOCOL_NUMBER, bytes([protocol]))
    return attribute(nl.TUPLE_ORIGINAL | nl.NESTED, attribute(nl.TUPLE_PROTOCOL | nl.NESTED, number)) + attribute(
        nl.FILTER | nl.NESTED, attribute(nl.FILTER_ORIGINAL_FLAGS, struct.pack("=I", nl.FILTER_BY_PROTOCOL))
    )


def _peek(message: memoryview) -> tuple[int, int | None]:
    """Read the protocol and the port that the first packet went to; no port where the protocol has none."""
    if len(message) >= _HEAD.size:
        original, protocol_part, number, protocol, destination, port = _HEAD.unpack_from(message)
        if (original, protocol_part, number, destination) == _HEAD_NAMES:
            return protocol, port[0] << 8 | port[1]
    # Without ports, or a kernel that writes in another order.
    tuple_ = _parse_tuple(attributes(message).get(nl.TUPLE_ORIGINAL))
    return (tuple_[0], None) if tuple_ else (0, None)


def parse(message: memoryview, now_ns: int) -> TrackedFlow | None:
    """Read one connection; None for what has no IPv4 tuples. `now_ns` is the wall clock."""
    top = attributes(message)
    original = _parse_tuple(top.get(nl.TUPLE_ORIGINAL))
    reply = _parse_tuple(top.get(nl.TUPLE_REPLY))
    if original is None or reply is None:
        return None
    protocol, original_tuple = original
    status = int.from_bytes(top.get(nl.STATUS, b""), "big")
    return TrackedFlow(
        protocol=protocol,
        original=original_tuple,
        reply=reply[1],
        sent=_parse_count(top.get(nl.COUNTERS_ORIGINAL)),
        answered=_parse_count(top.get(nl.COUNTERS_REPLY)),
        age_s=_parse_age(top.get(nl.TIMESTAMP), now_ns),
        timeout_s=int.from_bytes(top.get(nl.TIMEOUT, b""), "big"),
        is_answered=bool(status & nl.IS_ANSWERED),
        is_assured=bool(status & nl.IS_ASSURED),
        is_expected=bool(status & nl.IS_EXPECTED),
        helper=_parse_helper(top.get(nl.HELP)),
        is_closed=_parse_tcp_state(top.get(nl.PROTOCOL_INFO)) in nl.TCP_CLOSED,
    )


def _parse_tuple(value: memoryview | None) -> tuple[int, TrackedTuple] | None:
    if value is None:
        return None
    parts = attributes(value)
    addresses = attributes(parts.get(nl.TUPLE_IP, memoryview(b"")))
    protocol = attributes(parts.get(nl.TUPLE_PROTOCOL, memoryview(b"")))
    if nl.IP_SOURCE not in addresses or nl.IP_DESTINATION not in addresses:
        return None
    return int.from_bytes(protocol.get(nl.PROTOCOL_NUMBER, b""), "big"), TrackedTuple(
        source=IPv4Address(bytes(addresses[nl.IP_SOURCE])),
        destination=IPv4Address(bytes(addresses[nl.IP_DESTINATION])),
        source_key=int.from_bytes(protocol.get(nl.PROTOCOL_SOURCE, b""), "big"),
        destination_key=int.from_bytes(protocol.get(nl.PROTOCOL_DESTINATION, b""), "big"),
    )


def _parse_count(value: memoryview | None) -> TrackedCount | None:
    if value is None:
        return None
    packets_bytes = attributes(value)
    return TrackedCount(
        int.from_bytes(packets_bytes.get(1, b""), "big"), int.from_bytes(packets_bytes.get(2, b""), "big")
    )


def _parse_age(value: memoryview | None, now_ns: int) -> float | None:
    """Turn the wall-clock start into an age; a clock that was set back since gives 0."""
    started = attributes(value).get(1) if value is not None else None
    return None if started is None else max(0.0, (now_ns - int.from_bytes(started, "big")) / 1e9)


def _parse_tcp_state(value: memoryview | None) -> int | None:
    tcp = attributes(value).get(nl.TCP_INFO) if value is not None else None
    state = attributes(tcp).get(nl.TCP_STATE) if tcp is not None else None
    return state[0] if state else None


def _parse_helper(value: memoryview | None) -> str:
    name = attributes(value).get(1, b"") if value is not None else b""
    return bytes(name).rstrip(b"\0").decode("ascii", "replace")
