"""Read the kernel's connection tracking, filtered by the kernel, one message at a time.

Each interest is a dump of its own with a filter (CTA_FILTER, kernel 5.8), so that of a hundred
thousand connections only those that matter are copied and parsed. Messages are parsed by hand: the
few attributes that are needed cost some ten microseconds, a general parser ten times that.
"""

import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from errno import ETIMEDOUT
from ipaddress import IPv4Address
from typing import Final

from throughway.core.errors import KernelRefused
from throughway.core.ids import IpProtocol
from throughway.core.tracked import TrackedCount, TrackedFlow, TrackedTuple


@dataclass(frozen=True, slots=True)
class Interest:
    """A protocol and, for TCP and UDP, the port that the first packet of a flow went to."""

    protocol: IpProtocol
    port: int | None = None


INTERESTS: Final = (
    Interest(IpProtocol.UDP, 500),  # IKE
    Interest(IpProtocol.UDP, 4500),  # IKE and ESP in UDP
    Interest(IpProtocol.UDP, 1701),  # L2TP
    Interest(IpProtocol.UDP, 1194),  # OpenVPN
    Interest(IpProtocol.UDP, 51820),  # WireGuard
    Interest(IpProtocol.TCP, 1723),  # PPTP control
    Interest(IpProtocol.TCP, 1194),  # OpenVPN
    Interest(IpProtocol.GRE),
    Interest(IpProtocol.ESP),  # the router's own; that of hosts is not tracked
    Interest(IpProtocol.AH),
    Interest(IpProtocol.L2TPV3),
    Interest(IpProtocol.TCP, 443),  # SSTP and AnyConnect, among everything else
)
"""What VPNs use, the least telling last."""

FLOWS_PER_INTEREST_MAX: Final = 4096
DUMP_TIMEOUT_S: Final = 5.0
"""How long the kernel may take for the next part of a dump."""

# linux/netlink.h, linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h
_NETLINK_NETFILTER: Final = 12
_REQUEST_DUMP: Final = 0x301
_CONNTRACK_GET: Final = 1 << 8 | 1
_MESSAGE_ERROR, _MESSAGE_DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")
_FAMILY: Final = struct.Struct("!BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF
_TUPLE_ORIGINAL, _TUPLE_REPLY, _STATUS, _HELP, _TIMEOUT = 1, 2, 3, 5, 7
_COUNTERS_ORIGINAL, _COUNTERS_REPLY, _TIMESTAMP, _FILTER = 9, 10, 20, 25
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_IP_SOURCE, _IP_DESTINATION = 1, 2
_PROTOCOL_NUMBER, _PROTOCOL_SOURCE, _PROTOCOL_DESTINATION = 1, 2, 3
_FILTER_ORIGINAL_FLAGS: Final = 1
_FILTER_BY_PROTOCOL, _FILTER_BY_DESTINATION_PORT = 1 << 3, 1 << 5
_IS_EXPECTED, _IS_ANSWERED, _IS_ASSURED = 1 << 0, 1 << 1, 1 << 2
_RECEIVE_SIZE: Final = 1 << 16


def tracked_flows(
    interests: Iterable[Interest] = INTERESTS, *, per_interest_max: int = FLOWS_PER_INTEREST_MAX
) -> Iterator[TrackedFlow]:
    """Read the IPv4 flows of interest, in no order, at most so many for each interest.

    Holds one datagram of the kernel's in memory at a time. A flow that comes or goes meanwhile may
    be missing. Blocks for some milliseconds with a full table: not for the event loop's thread.
    Raises KernelRefused.
    """
    now_ns = time.time_ns()
    for interest in interests:
        taken = 0
        for message in _dump(interest):
            flow = _parse(message, now_ns)
            if flow is None:
                continue
            yield flow
            taken += 1
            if taken >= per_interest_max:
                break


def _dump(interest: Interest) -> Iterator[memoryview]:
    """Yield the attributes of each connection that matches. A socket for each dump, so that it can be broken off."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as kernel:
        kernel.settimeout(DUMP_TIMEOUT_S)
        kernel.send(_request(interest))
        while True:
            try:
                datagram = memoryview(kernel.recv(_RECEIVE_SIZE))
            except TimeoutError as error:
                raise KernelRefused(
                    "conntrack dump",
                    ETIMEDOUT,
                    f"no answer for {DUMP_TIMEOUT_S:g} s",
                    "Try again when the machine is less busy",
                ) from error
            while len(datagram) >= _HEADER.size:
                size, kind, *_ = _HEADER.unpack_from(datagram)
                if kind == _MESSAGE_DONE:
                    return
                if kind == _MESSAGE_ERROR:
                    _raise_error(datagram)
                yield datagram[_HEADER.size + _FAMILY.size : size]
                datagram = datagram[_padded(size) :]


def _request(interest: Interest) -> bytes:
    protocol = _attribute(_PROTOCOL_NUMBER, bytes([interest.protocol]))
    flags = _FILTER_BY_PROTOCOL
    if interest.port is not None:
        protocol += _attribute(_PROTOCOL_DESTINATION, interest.port.to_bytes(2, "big"))
        flags |= _FILTER_BY_DESTINATION_PORT
    body = (
        _FAMILY.pack(socket.AF_INET, 0, 0)
        + _attribute(_TUPLE_ORIGINAL | _NESTED, _attribute(_TUPLE_PROTOCOL | _NESTED, protocol))
        + _attribute(_FILTER | _NESTED, _attribute(_FILTER_ORIGINAL_FLAGS, struct.pack("=I", flags)))
    )
    return _HEADER.pack(_HEADER.size + len(body), _CONNTRACK_GET, _REQUEST_DUMP, 1, 0) + body


def _parse(message: memoryview, now_ns: int) -> TrackedFlow | None:
    """Read one connection; None for what has no IPv4 tuples."""
    top = _attributes(message)
    original = _parse_tuple(top.get(_TUPLE_ORIGINAL))
    reply = _parse_tuple(top.get(_TUPLE_REPLY))
    if original is None or reply is None:
        return None
    protocol, original_tuple = original
    status = int.from_bytes(top.get(_STATUS, b""), "big")
    return TrackedFlow(
        protocol=protocol,
        original=original_tuple,
        reply=reply[1],
        sent=_parse_count(top.get(_COUNTERS_ORIGINAL)),
        answered=_parse_count(top.get(_COUNTERS_REPLY)),
        age_s=_parse_age(top.get(_TIMESTAMP), now_ns),
        timeout_s=int.from_bytes(top.get(_TIMEOUT, b""), "big"),
        is_answered=bool(status & _IS_ANSWERED),
        is_assured=bool(status & _IS_ASSURED),
        is_expected=bool(status & _IS_EXPECTED),
        helper=_parse_helper(top.get(_HELP)),
    )


def _parse_tuple(value: memoryview | None) -> tuple[int, TrackedTuple] | None:
    if value is None:
        return None
    parts = _attributes(value)
    addresses = _attributes(parts.get(_TUPLE_IP, memoryview(b"")))
    protocol = _attributes(parts.get(_TUPLE_PROTOCOL, memoryview(b"")))
    if _IP_SOURCE not in addresses or _IP_DESTINATION not in addresses:
        return None
    return int.from_bytes(protocol.get(_PROTOCOL_NUMBER, b""), "big"), TrackedTuple(
        source=IPv4Address(bytes(addresses[_IP_SOURCE])),
        destination=IPv4Address(bytes(addresses[_IP_DESTINATION])),
        source_key=int.from_bytes(protocol.get(_PROTOCOL_SOURCE, b""), "big"),
        destination_key=int.from_bytes(protocol.get(_PROTOCOL_DESTINATION, b""), "big"),
    )


def _parse_count(value: memoryview | None) -> TrackedCount | None:
    if value is None:
        return None
    packets_bytes = _attributes(value)
    return TrackedCount(
        int.from_bytes(packets_bytes.get(1, b""), "big"), int.from_bytes(packets_bytes.get(2, b""), "big")
    )


def _parse_age(value: memoryview | None, now_ns: int) -> float | None:
    """Turn the wall-clock start into an age; a clock that was set back since gives 0."""
    started = _attributes(value).get(1) if value is not None else None
    return None if started is None else max(0.0, (now_ns - int.from_bytes(started, "big")) / 1e9)


def _parse_helper(value: memoryview | None) -> str:
    name = _attributes(value).get(1, b"") if value is not None else b""
    return bytes(name).rstrip(b"\0").decode("ascii", "replace")


def _attributes(data: memoryview) -> dict[int, memoryview]:
    """Split netlink attributes, by type. What is cut short ends the list: the kernel does not send it."""
    found: dict[int, memoryview] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[at + _ATTRIBUTE.size : at + size]
        at += _padded(size)
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(_padded(size) - size)


def _padded(size: int) -> int:
    return (size + 3) & ~3


def _raise_error(message: Sequence[int]) -> None:
    number = -struct.unpack_from("=i", bytes(message[_HEADER.size : _HEADER.size + 4]))[0]
    raise KernelRefused("conntrack dump", number, os.strerror(number), "It needs CAP_NET_ADMIN and kernel 5.8 or newer")
