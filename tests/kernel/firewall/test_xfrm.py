"""The router's security associations by the kernel's own netlink."""

import asyncio
import errno
import socket
import subprocess
from collections.abc import AsyncGenerator, Callable, Coroutine
from ipaddress import IPv4Address

import pytest

from tests.kernel.associations import (
    ENCAPSULATION,
    EXPIRE,
    GROUP_ASSOCIATIONS,
    GROUP_EXPIRE,
    NEW,
    UPDATE,
    allocation,
    announce,
    information,
)
from tests.kernel.firewall.net import LIMIT_S, PEER, ROUTER_OUTSIDE, Row, entered
from throughway.core.ids import Spi
from throughway.dataplane import xfrm
from throughway.dataplane.xfrm import EspAssociation

IN, OUT = f"src {PEER} dst {ROUTER_OUTSIDE}", f"src {ROUTER_OUTSIDE} dst {PEER}"
States = AsyncGenerator[frozenset[EspAssociation], None]


def allocate(way: str, spi: int, protocol: str = "esp") -> str:
    _, source, _, destination = way.split()
    return allocation(source, destination, spi, protocol)


def inbound(*spis: int) -> frozenset[EspAssociation]:
    return frozenset(EspAssociation(IPv4Address(PEER), IPv4Address(ROUTER_OUTSIDE), Spi(spi)) for spi in spis)


def ip(row: Row, *lines: str) -> None:
    with entered(row.name("router")):
        subprocess.run(
            ["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True, timeout=30, stdout=subprocess.DEVNULL
        )


def tell(row: Row, group: int, kind: int, spi: int, more: bytes = b"") -> None:
    with entered(row.name("router")):
        announce(group, kind, information(PEER, ROUTER_OUTSIDE, spi) + more)


def play(row: Row, story: Callable[[States], Coroutine[None, None, None]]) -> None:
    """Run a story with a watch over the router's associations."""

    async def run() -> None:
        states = xfrm.watch()
        await story(states)
        await states.aclose()

    with entered(row.name("router")):
        asyncio.run(run())


async def until(states: States, wanted: frozenset[EspAssociation]) -> None:
    """Wait until the watch tells these; what it tells before is on the way to it."""
    async with asyncio.timeout(LIMIT_S):
        while await anext(states) != wanted:
            pass


def test_native_esp_of_both_directions_is_read_and_nothing_else(row: Row) -> None:
    ip(row, allocate(IN, 0x1001), allocate(OUT, 0x2001), allocate(IN, 0x1003, "ah"))
    ip(row, allocate("src 2001:db8:2::9 dst 2001:db8:2::1", 0x1004))
    with entered(row.name("router")):
        found = xfrm.read()
    assert found == inbound(0x1001) | {EspAssociation(IPv4Address(ROUTER_OUTSIDE), IPv4Address(PEER), Spi(0x2001))}


def test_hundreds_are_read(row: Row) -> None:
    spis = range(0x1000, 0x1000 + 300)
    ip(row, *(allocate(IN, spi) for spi in spis))
    with entered(row.name("router")):
        assert xfrm.read() == inbound(*spis)


def test_what_comes_and_goes_is_told(row: Row) -> None:
    ip(row, allocate(IN, 0x1001), allocate(IN, 0x1002))

    async def story(states: States) -> None:
        await until(states, inbound(0x1001, 0x1002))
        tell(row, GROUP_ASSOCIATIONS, NEW, 0x1003)
        await until(states, inbound(0x1001, 0x1002, 0x1003))
        ip(row, allocate(IN, 0x1001, "ah"), f"xfrm state delete {IN} proto ah spi 0x1001")
        ip(row, f"xfrm state delete {IN} proto esp spi 0x1002")
        await until(states, inbound(0x1001, 0x1003))
        ip(row, "xfrm state flush")
        await until(states, inbound())

    play(row, story)


def test_one_that_turns_out_to_be_in_udp_is_not_native(row: Row) -> None:
    """The SPI is chosen before the ends know whether there is a NAT between them."""
    ip(row, allocate(IN, 0x1001))

    async def story(states: States) -> None:
        await until(states, inbound(0x1001))
        tell(row, GROUP_ASSOCIATIONS, UPDATE, 0x1001, ENCAPSULATION)
        await until(states, inbound())

    play(row, story)


def test_one_that_reaches_its_hard_limit_is_gone(row: Row) -> None:
    row.run("router", "sysctl -qw net.core.xfrm_acq_expires=1")
    ip(row, allocate(IN, 0x1001))

    async def story(states: States) -> None:
        await until(states, inbound(0x1001))
        await until(states, inbound())
        with entered(row.name("router")):
            assert xfrm.read() == inbound()

    play(row, story)


def test_a_soft_limit_ends_nothing(row: Row) -> None:
    async def story(states: States) -> None:
        tell(row, GROUP_ASSOCIATIONS, NEW, 0x1001)
        tell(row, GROUP_EXPIRE, EXPIRE, 0x1001, bytes(8))
        tell(row, GROUP_ASSOCIATIONS, NEW, 0x1002)
        await until(states, inbound(0x1001, 0x1002))

    async def from_the_start(states: States) -> None:
        await until(states, inbound())
        await story(states)

    play(row, from_the_start)


def test_events_that_were_lost_are_made_up_for(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """More come at once than the socket holds; one of those that are lost says that an association is gone."""
    monkeypatch.setattr(xfrm, "_RECEIVE_BUFFER", 1)
    spis = range(0x1000, 0x1000 + 100)
    ip(row, *(allocate(IN, spi) for spi in spis))

    async def story(states: States) -> None:
        await until(states, inbound(*spis))
        ip(row, *(f"xfrm state delete {IN} proto esp spi {spi:#x}" for spi in spis[:-1]))
        await until(states, inbound(spis[-1]))

    play(row, story)


def test_a_kernel_without_xfrm_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_protocol(*arguments: object) -> socket.socket:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    async def count() -> int:
        monkeypatch.setattr(socket, "socket", no_such_protocol)
        return len([found async for found in xfrm.watch()])

    assert asyncio.run(count()) == 0
    assert xfrm.read() is None
