"""Interfaces of the current network namespace: what they are, and when they change. By rtnetlink."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.rtnl import RTM_DELLINK, RTMGRP_IPV4_IFADDR, RTMGRP_LINK

from throughway.core.errors import SettingsRejected
from throughway.core.ports import Interface

ETHERNET_HEADER_SIZE: Final = 14

LINK_HEADER_SIZES: Final = {
    1: ETHERNET_HEADER_SIZE,  # ARPHRD_ETHER: Ethernet, veth, bridge, VLAN, Wi-Fi
    772: ETHERNET_HEADER_SIZE,  # ARPHRD_LOOPBACK
    512: 0,  # ARPHRD_PPP: PPPoE and modems
    519: 0,  # ARPHRD_RAWIP: wwan in raw IP mode
    768: 0,  # ARPHRD_TUNNEL: IP in IP
    0xFFFE: 0,  # ARPHRD_NONE: TUN, WireGuard
}
"""What a TC program finds before the IP header, in bytes, by hardware type (linux/if_arp.h)."""

_IFF_UP: Final = 1 << 0
_IFA_F_SECONDARY: Final = 1 << 0
_IFA_F_DEPRECATED: Final = 1 << 5
_AF_UNSPEC: Final = 0
_AF_INET: Final = 2
_TABLE_MAIN: Final = 254
_SCOPE_LINK: Final = 253
"""RT_SCOPE_LINK of linux/rtnetlink.h; what is narrower cannot be a source address of forwarded packets."""
_SCOPE_UNIVERSE: Final = 0


@dataclass(frozen=True, slots=True)
class Link:
    """An interface as it is now.

    `addresses` are its IPv4 addresses that packets may be sent from, the primary one first; `is_up` is what the
    administrator wants, `has_carrier` whether the line works. `mtu` is in bytes.
    """

    interface: Interface
    mtu: int
    is_up: bool
    has_carrier: bool
    addresses: tuple[IPv4Address, ...]

    @property
    def address(self) -> IPv4Address | None:
        """The primary address: the one that the kernel chooses by itself."""
        return next(iter(self.addresses), None)


async def look_up(name: str) -> Link:
    """Find an interface by its name.

    Raises SettingsRejected where it does not exist, with the names that do, or where its kind of
    link header is not known.
    """
    async with AsyncIPRoute() as route:
        link = await _read(route, name)
        if link is None:
            raise SettingsRejected(
                "interface", f"{name} does not exist; interfaces here: {', '.join(await _names(route))}"
            )
        return link


async def names() -> tuple[str, ...]:
    """List the interfaces, by index."""
    async with AsyncIPRoute() as route:
        return await _names(route)


async def default_route_interfaces() -> frozenset[int]:
    """List the indexes of the interfaces that a default IPv4 route of the main table leaves by."""
    async with AsyncIPRoute() as route:
        found = set()
        async for message in await route.route("dump", family=_AF_INET, table=254):
            if message["dst_len"] == 0:
                attributes = dict(message["attrs"])
                hops = attributes.get("RTA_MULTIPATH") or ()
                found |= {attributes.get("RTA_OIF"), *(hop["oif"] for hop in hops)} - {None}
        return frozenset(found)


async def watch(name: str) -> AsyncGenerator[Link | None, None]:
    """Yield the state of the interface now, and again whenever it differs; None while it does not exist.

    States that came and went between two looks are left out. But an interface that was gone meanwhile is told again,
    even if it looks the same, index and all: it is another one, with nothing on it. Runs until it is closed.
    """
    async with AsyncIPRoute() as events, AsyncIPRoute() as route:
        # Subscribed before the first look, so that no change falls between the two.
        await events.bind(groups=RTMGRP_LINK | RTMGRP_IPV4_IFADDR)
        last = await _read(route, name)
        yield last
        async with aclosing(_changes(events)) as changes:
            async for message in changes:
                now = await _read(route, name)
                if now != last or _is_end_of(message, name):
                    last = now
                    yield now


async def _changes(events: AsyncIPRoute) -> AsyncGenerator[Any, None]:
    """Wake the reader once for each message, whatever it says."""
    while True:
        async for message in events.get():
            yield message
        await asyncio.sleep(0)


def _is_end_of(message: Any, name: str) -> bool:
    """Whether the interface was removed. Bridges say with the same message that a port has left them."""
    is_removal = message["header"]["type"] == RTM_DELLINK and message["family"] == _AF_UNSPEC
    return bool(is_removal and message.get("ifname") == name)


async def _names(route: AsyncIPRoute) -> tuple[str, ...]:
    return tuple([message.get("ifname") async for message in await route.link("dump")])


async def _read(route: AsyncIPRoute, name: str) -> Link | None:
    found = [message async for message in await route.link("dump") if message.get("ifname") == name]
    if not found:
        return None
    (message,) = found
    header_size = LINK_HEADER_SIZES.get(message["ifi_type"])
    if header_size is None:
        raise SettingsRejected("interface", f"{name} is of hardware type {message['ifi_type']}, which is not supported")
    addresses = [a async for a in await route.addr("dump", family=_AF_INET, index=message["index"])]
    return Link(
        interface=Interface(name=name, index=message["index"], link_header_size=header_size),
        mtu=message.get("mtu"),
        is_up=bool(message["flags"] & _IFF_UP),
        has_carrier=bool(message.get("carrier")),
        addresses=usable_addresses(addresses),
    )


def usable_addresses(messages: Iterable[Any]) -> tuple[IPv4Address, ...]:
    """Choose the primary address as the kernel does for a source address, and all others of global scope behind it.

    The primary one is the first of global scope that is not secondary; where there is none, one of link scope does.
    An address that is deprecated is one that nothing new shall be sent from. Expects rtnetlink address messages in the
    kernel's order. On point-to-point links IFA_LOCAL is ours and IFA_ADDRESS the other end's.
    """
    primary: list[IPv4Address] = []
    others: list[IPv4Address] = []
    of_link: list[IPv4Address] = []
    for message in messages:
        flags = message.get("flags") or 0
        address = IPv4Address(message.get("local") or message.get("address"))
        if message["scope"] == _SCOPE_UNIVERSE:
            if not primary and not flags & _IFA_F_SECONDARY:
                primary.append(address)
            elif not flags & _IFA_F_DEPRECATED:
                others.append(address)
        elif message["scope"] <= _SCOPE_LINK and not flags & _IFA_F_SECONDARY:
            of_link.append(address)
    return tuple(dict.fromkeys(primary + others)) or tuple(of_link[:1])
