"""News of who else judges packets: nftables, IPsec policies, settings of interfaces, in this network namespace."""

import socket
import struct
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

_NETLINK_ROUTE: Final = 0
_NETLINK_XFRM: Final = 6
_NETLINK_NETFILTER: Final = 12
_GROUP_POLICY: Final = 1 << 3
"""XFRMNLGRP_POLICY, the fourth group, as the bit mask of bind (linux/xfrm.h)."""
_GROUP_NETCONF: Final = 1 << 23
"""RTNLGRP_IPV4_NETCONF, the 24th (linux/rtnetlink.h)."""
_GROUP_NFTABLES: Final = 1 << 6
"""NFNLGRP_NFTABLES, the seventh (linux/nfnetlink.h)."""
_TABLES_AND_CHAINS: Final = frozenset(0x0A00 | kind for kind in (0, 2, 3, 5))
"""NFT_MSG_NEWTABLE, DELTABLE, NEWCHAIN, DELCHAIN of the subsystem nftables (linux/netfilter/nf_tables.h)."""

_LEGACY_TABLES: Final = Path("/proc/thread-self/net/ip_tables_names")
_MESSAGE_MAX: Final = 1 << 17


class News:
    """Becomes readable when something was changed, whoever did it."""

    def __init__(self, protocol: int, group: int, kinds: Collection[int] = ()) -> None:
        """Listen to a netlink group, for messages of these kinds alone where any are named."""
        self._kinds: Final = frozenset(kinds)
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        self._socket.bind((0, group))

    def fileno(self) -> int:
        """Give the descriptor to wait on."""
        return self._socket.fileno()

    def take(self) -> bool:
        """Take all news that are there, and tell whether there were any of those wanted."""
        were_any = False
        with suppress(BlockingIOError):
            while True:
                were_any = self._take_one() or were_any
        return were_any

    def _take_one(self) -> bool:
        try:
            data, _, flags, _ = self._socket.recvmsg(_MESSAGE_MAX)
        except BlockingIOError:
            raise
        except OSError:
            return True  # ENOBUFS: more than the socket could hold, so something has changed.
        return not self._kinds or bool(flags & socket.MSG_TRUNC) or not self._kinds.isdisjoint(_kinds_of(data))

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def chain_news() -> News:
    """Listen for tables and chains that come and go. Rules and elements of sets do so with every tunnel."""
    return News(_NETLINK_NETFILTER, _GROUP_NFTABLES, _TABLES_AND_CHAINS)


def source_check_news() -> News:
    """Listen for settings of interfaces such as rp_filter."""
    return News(_NETLINK_ROUTE, _GROUP_NETCONF)


def policy_news() -> News | None:
    """Listen for IPsec policies; None where the kernel has no IPsec."""
    try:
        return News(_NETLINK_XFRM, _GROUP_POLICY)
    except OSError:
        return None


def legacy_tables() -> tuple[str, ...]:
    """Name the tables of iptables-legacy, which nftables does not list and nobody announces."""
    try:
        return tuple(_LEGACY_TABLES.read_text().split())
    except FileNotFoundError:
        return ()


def _kinds_of(data: bytes) -> set[int]:
    """Read the kinds of the messages in one datagram (`struct nlmsghdr`: length, type, ...)."""
    kinds, at = set(), 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        kinds.add(kind)
        at += max(16, (length + 3) & ~3)
    return kinds
