"""What reading connection tracking and deleting from it have in common: netlink messages of ctnetlink.

Messages are parsed by hand: the few attributes that are needed cost some ten microseconds, a general
parser ten times that.
"""

import os
import socket
import struct
from collections.abc import Iterator
from errno import ETIMEDOUT
from typing import Final

from throughway.core.errors import KernelRefused

ANSWER_TIMEOUT_S: Final = 5.0
"""How long the kernel may take for the next part of an answer."""

# linux/netlink.h, linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h
_NETLINK_NETFILTER: Final = 12
REQUEST_ONE, REQUEST_DUMP, REQUEST_ANSWERED = 0x001, 0x301, 0x005
CONNTRACK_GET, CONNTRACK_DELETE = 1 << 8 | 1, 1 << 8 | 2
MESSAGE_ERROR, _MESSAGE_DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")
FAMILY: Final = struct.Struct("!BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR_NUMBER: Final = struct.Struct("=i")
_TYPE_MASK: Final = 0x3FFF
_RECEIVE_SIZE: Final = 1 << 16

NESTED: Final = 0x8000
TUPLE_ORIGINAL, TUPLE_REPLY, STATUS, PROTOCOL_INFO, HELP, TIMEOUT = 1, 2, 3, 4, 5, 7
COUNTERS_ORIGINAL, COUNTERS_REPLY, ID, ZONE, TIMESTAMP, FILTER = 9, 10, 12, 18, 20, 25
TUPLE_IP, TUPLE_PROTOCOL = 1, 2
IP_SOURCE, IP_DESTINATION = 1, 2
TCP_INFO, TCP_STATE = 1, 1
TCP_CLOSED = frozenset({6, 7, 8})
"""LAST_ACK, TIME_WAIT and CLOSE (linux/netfilter/nf_conntrack_tcp.h)."""
PROTOCOL_NUMBER, PROTOCOL_SOURCE, PROTOCOL_DESTINATION = 1, 2, 3
FILTER_ORIGINAL_FLAGS, FILTER_REPLY_FLAGS = 1, 2
FILTER_BY_DESTINATION, FILTER_BY_PROTOCOL = 1 << 1, 1 << 3
FILTER_BY_SOURCE_PORT, FILTER_BY_DESTINATION_PORT = 1 << 4, 1 << 5
IS_EXPECTED, IS_ANSWERED, IS_ASSURED, IS_SOURCE_NAT, IS_DESTINATION_NAT = 1 << 0, 1 << 1, 1 << 2, 1 << 4, 1 << 5


def open_socket() -> socket.socket:
    """Open a netlink socket to the packet filter of this thread's network namespace."""
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    kernel.settimeout(ANSWER_TIMEOUT_S)
    return kernel


def message(kind: int, flags: int, body: bytes) -> bytes:
    """Write a message about IPv4 connections."""
    family = FAMILY.pack(socket.AF_INET, 0, 0)
    return _HEADER.pack(_HEADER.size + len(family) + len(body), kind, flags, 1, 0) + family + body


def dump(body: bytes) -> Iterator[memoryview]:
    """Yield the attributes of each connection that matches. A socket for each dump, so that it can be broken off.

    Raises KernelRefused.
    """
    with open_socket() as kernel:
        kernel.send(message(CONNTRACK_GET, REQUEST_DUMP, body))
        while True:
            for kind, content in received(kernel, "conntrack dump"):
                if kind == _MESSAGE_DONE:
                    return
                if kind == MESSAGE_ERROR:
                    number = error_number(content)
                    raise KernelRefused(
                        "conntrack dump", number, os.strerror(number), "It needs CAP_NET_ADMIN and kernel 5.8 or newer"
                    )
                yield content[FAMILY.size :]


def received(kernel: socket.socket, what: str) -> Iterator[tuple[int, memoryview]]:
    """Wait for the next datagram, and yield the kind and the content of each of its messages. Raises KernelRefused."""
    try:
        datagram = kernel.recv(_RECEIVE_SIZE)
    except TimeoutError as error:
        raise KernelRefused(
            what, ETIMEDOUT, f"no answer for {ANSWER_TIMEOUT_S:g} s", "Try again when the machine is less busy"
        ) from error
    yield from messages(datagram)


def messages(datagram: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield the kind and the content of each message of a datagram."""
    rest = memoryview(datagram)
    while len(rest) >= _HEADER.size:
        size, kind, *_ = _HEADER.unpack_from(rest)
        if size < _HEADER.size:
            return
        yield kind, rest[_HEADER.size : size]
        rest = rest[_padded(size) :]


def error_number(content: memoryview) -> int:
    """Read the errno of an error message, which is 0 when it only says that something is done."""
    return -int(_ERROR_NUMBER.unpack_from(content)[0])


def attributes(data: memoryview) -> dict[int, memoryview]:
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


def attribute(kind: int, value: bytes | memoryview) -> bytes:
    """Write one attribute; `kind` has NESTED where the value is attributes again."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + bytes(value) + bytes(_padded(size) - size)


def _padded(size: int) -> int:
    return (size + 3) & ~3
