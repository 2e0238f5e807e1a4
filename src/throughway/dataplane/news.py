"""News of the packet filter: that somebody changed the rules of this network namespace."""

import socket
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

_NETLINK_NETFILTER: Final = 12
_GROUP: Final = 1 << 6
"""NFNLGRP_NFTABLES, the seventh group, as the bit mask of bind (linux/netfilter/nfnetlink.h)."""

_LEGACY_TABLES: Final = Path("/proc/thread-self/net/ip_tables_names")
_MESSAGE_MAX: Final = 1 << 16


class RulesNews:
    """Becomes readable when a transaction of nftables was carried out, whoever's it was."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER)
        self._socket.bind((0, _GROUP))

    def fileno(self) -> int:
        """Give the descriptor to wait on."""
        return self._socket.fileno()

    def take(self) -> bool:
        """Take all news that are there, and tell whether there were any."""
        were_any = False
        with suppress(BlockingIOError):
            while True:
                were_any = self._take_one() or were_any
        return were_any

    def _take_one(self) -> bool:
        try:
            return bool(self._socket.recv(_MESSAGE_MAX))
        except BlockingIOError:
            raise
        except OSError:
            return True  # ENOBUFS: more than the socket could hold, so something has changed.

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def legacy_tables() -> tuple[str, ...]:
    """Name the tables of iptables-legacy, which nftables does not list and nobody announces."""
    try:
        return tuple(_LEGACY_TABLES.read_text().split())
    except FileNotFoundError:
        return ()
