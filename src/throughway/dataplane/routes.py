"""By which interface the kernel would send a packet: its own answer, with its rules for routing, by rtnetlink."""

import socket
import struct
import sys
from ipaddress import IPv4Address
from types import TracebackType
from typing import Final, Self

from throughway.dataplane.ctnetlink import attribute, attributes, messages

ANSWER_TIMEOUT_S: Final = 5.0

# linux/rtnetlink.h
_NEW_ROUTE, _GET_ROUTE = 24, 26
_REQUEST: Final = 0x001
_HEADER: Final = struct.Struct("=IHHII")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_DESTINATION, _INTERFACE = 1, 4


class Routes:
    """Asks for routes in the network namespace of the thread that opened it, and remembers the answers."""

    def __init__(self) -> None:
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._kernel.settimeout(ANSWER_TIMEOUT_S)
        self._known: dict[IPv4Address, int | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kernel.close()

    def interface_to(self, address: IPv4Address) -> int | None:
        """Return the index of the interface that a packet of the router to the address leaves by; None for no way.

        Some microseconds. Raises OSError where the kernel does not answer.
        """
        if address not in self._known:
            self._known[address] = self._ask(address)
        return self._known[address]

    def _ask(self, address: IPv4Address) -> int | None:
        body = _ROUTE.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0) + attribute(_DESTINATION, address.packed)
        self._kernel.send(_HEADER.pack(_HEADER.size + len(body), _GET_ROUTE, _REQUEST, 1, 0) + body)
        for kind, content in messages(self._kernel.recv(1 << 16)):
            found = attributes(content[_ROUTE.size :]).get(_INTERFACE) if kind == _NEW_ROUTE else None
            if found is not None:
                return int.from_bytes(found, sys.byteorder)
        return None
