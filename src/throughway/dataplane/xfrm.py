"""The router's own security associations, as its kernel has them (linux/xfrm.h, by netlink).

Only what tells whose an ESP packet is gets read: addresses, SPI, and whether the packets are inside UDP. The
kernel's answers have the keys of each association too, since whoever may read the one may read the other; they are
in a buffer for as long as it is parsed, and nowhere else.

Messages are parsed by hand, since pyroute2 has no parser for them.
"""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import IntEnum
from errno import ENOBUFS, EPROTONOSUPPORT, ETIMEDOUT
from ipaddress import IPv4Address
from typing import Final

from throughway.core.errors import KernelRefused
from throughway.core.ids import IpProtocol, Spi
from throughway.dataplane.ctnetlink import attributes, messages

ANSWER_TIMEOUT_S: Final = 5.0
"""How long the kernel may take for the next part of an answer."""


class _Message(IntEnum):
    """Kinds of messages (linux/netlink.h, linux/xfrm.h)."""

    ERROR = 2
    DONE = 3
    NEW = 0x10
    DELETE = 0x11
    GET = 0x12
    EXPIRE = 0x18
    UPDATE = 0x1A
    FLUSH = 0x1C
    MIGRATE = 0x21


_NETLINK_XFRM: Final = 6
_REQUEST_DUMP: Final = 0x301
_GROUPS: Final = 1 << 1 | 1 << 2 | 1 << 4
"""Expiry, associations, migration (XFRMNLGRP_EXPIRE, _SA, _MIGRATE)."""
_HEADER: Final = struct.Struct("=IHHII")
_ERROR_NUMBER: Final = struct.Struct("=i")
_INFO: Final = struct.Struct("=56x16s4sB3x16s116xH10x")
"""`struct xfrm_usersa_info`: destination, SPI and protocol of its ID; source; address family."""
_ID: Final = struct.Struct("=16s4sHB1x")
"""`struct xfrm_usersa_id`: destination, SPI, address family, protocol."""
_ENCAPSULATION: Final = 4
_RECEIVE_SIZE: Final = 1 << 16
_RECEIVE_BUFFER: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class EspAssociation:
    """One direction of native ESP between two addresses; the receiver is the one at `destination`."""

    source: IPv4Address
    destination: IPv4Address
    spi: Spi


_Name = tuple[IPv4Address, Spi]
"""Destination and SPI: what names an association (RFC 4301 section 4.1)."""

_Table = dict[_Name, EspAssociation]


def read() -> frozenset[EspAssociation] | None:
    """Read the IPv4 associations of native ESP, of both directions; None where the kernel has no XFRM.

    Some microseconds for each. Raises KernelRefused where the kernel does not let us.
    """
    kernel = _open()
    if kernel is None:
        return None
    with kernel:
        return frozenset(_dump(kernel).values())


async def watch() -> AsyncGenerator[frozenset[EspAssociation], None]:
    """Yield what `read` returns, now and again whenever it differs, until closed. Ends at once without XFRM.

    Raises KernelRefused.
    """
    asking, events = _open(), _open(_GROUPS)
    if asking is None or events is None:
        return
    with asking, events:
        events.setblocking(False)
        # Subscribed before the first look, so that no change falls between the two.
        table = _dump(asking)
        told: frozenset[EspAssociation] | None = None
        while True:
            if told != (found := frozenset(table.values())):
                told = found
                yield found
            if not _apply(table, await _next(events)):
                table = _dump(asking)


def _open(groups: int = 0) -> socket.socket | None:
    """Open a socket to this thread's network namespace; None where the kernel has no XFRM."""
    try:
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_XFRM)
    except OSError as refused:
        if refused.errno == EPROTONOSUPPORT:
            return None
        raise _refusal(refused.errno or 0) from refused
    kernel.settimeout(ANSWER_TIMEOUT_S)
    try:
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        kernel.bind((0, groups))
    except OSError as refused:
        kernel.close()
        raise _refusal(refused.errno or 0) from refused
    return kernel


def _refusal(number: int) -> KernelRefused:
    return KernelRefused("xfrm associations", number, os.strerror(number), "Reading them needs CAP_NET_ADMIN")


def _dump(kernel: socket.socket) -> _Table:
    """Ask for all associations, and take the answer."""
    kernel.send(_HEADER.pack(_HEADER.size, _Message.GET, _REQUEST_DUMP, 1, 0))
    table: _Table = {}
    while True:
        try:
            datagram = kernel.recv(_RECEIVE_SIZE)
        except TimeoutError as error:
            raise _refusal(ETIMEDOUT) from error
        for kind, content in messages(datagram):
            if kind == _Message.DONE:
                return table
            if kind == _Message.ERROR:
                raise _refusal(-int(_ERROR_NUMBER.unpack_from(content)[0]))
            _note(table, content)


async def _next(events: socket.socket) -> bytes:
    """Wait for the next events; empty where some were lost."""
    try:
        return await asyncio.get_running_loop().sock_recv(events, _RECEIVE_SIZE)
    except OSError as problem:
        if problem.errno != ENOBUFS:
            raise _refusal(problem.errno or 0) from problem
        return b""


def _apply(table: _Table, datagram: bytes) -> bool:
    """Follow what happened. Return False where the events do not tell it, and all must be read again."""
    for kind, content in messages(datagram):
        match kind:
            case _Message.NEW | _Message.UPDATE:
                _note(table, content)
            case _Message.DELETE if len(content) >= _ID.size:
                destination, spi, family, protocol = _ID.unpack_from(content)
                _drop(table, _name(destination, spi, family, protocol))
            case _Message.EXPIRE if len(content) > _INFO.size and content[_INFO.size]:
                # The byte says that the hard limit was reached: the association is gone without another message.
                destination, spi, protocol, _, family = _INFO.unpack_from(content)
                _drop(table, _name(destination, spi, family, protocol))
            case _Message.FLUSH | _Message.MIGRATE:
                return False
    return bool(datagram)


def _name(destination: bytes, spi: bytes, family: int, protocol: int) -> _Name | None:
    """Name an association of ESP between IPv4 addresses; None for any other."""
    if family != socket.AF_INET or protocol != IpProtocol.ESP:
        return None
    return IPv4Address(destination[:4]), Spi(int.from_bytes(spi, "big"))


def _drop(table: _Table, name: _Name | None) -> None:
    if name is not None:
        table.pop(name, None)


def _note(table: _Table, content: memoryview) -> None:
    """Put an association into the table where it is native ESP; take it out where its packets are inside UDP now."""
    if len(content) < _INFO.size:
        return
    destination, spi, protocol, source, family = _INFO.unpack_from(content)
    name = _name(destination, spi, family, protocol)
    if name is None:
        return
    if _ENCAPSULATION in attributes(content[_INFO.size :]):
        table.pop(name, None)
    else:
        table[name] = EspAssociation(IPv4Address(source[:4]), *name)
