"""The router's own IPsec: what its kernel has becomes what the tracker knows for sure."""

import asyncio
from collections.abc import Callable, Set
from contextlib import aclosing
from ipaddress import IPv4Address
from typing import Final

import structlog

from throughway.core.errors import KernelRefused
from throughway.core.events import Event, RouterSaAdded, RouterSaDeleted
from throughway.core.ids import Peer, Spi
from throughway.dataplane import xfrm
from throughway.dataplane.xfrm import EspAssociation

log = structlog.get_logger()

AGAIN_S: Final = 1.0
"""After what failed is tried again."""


class OwnTunnels:
    """Tells which SPIs of which peers are the router's own, as long as its kernel says so.

    They are those of native ESP to the outside address: what comes to another address of the router does not
    pass the translation.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell: Final = tell
        self._associations: Set[EspAssociation] = frozenset()
        self._address: IPv4Address | None = None
        self._told: frozenset[tuple[Peer, Spi]] = frozenset()
        self._problem = ""

    def begin(self, address: IPv4Address | None) -> None:
        """Tell what there is. A kernel without XFRM, or one that does not let us look, is logged and no error."""
        self._address = address
        try:
            found = xfrm.read()
        except KernelRefused as problem:
            self._log_unreadable(problem)
            return
        if found is None:
            log.info("xfrm.absent")
        else:
            self._look(found)

    def on_address(self, address: IPv4Address | None) -> None:
        """Take note of the outside address."""
        self._address = address
        self._look(self._associations)

    async def follow(self) -> None:
        """Tell what comes and goes, until cancelled. Ends at once on a kernel without XFRM."""
        while True:
            try:
                async with aclosing(xfrm.watch()) as states:
                    async for found in states:
                        self._look(found)
            except KernelRefused as problem:
                self._log_unreadable(problem)
                await asyncio.sleep(AGAIN_S)
            else:
                return

    def _look(self, found: Set[EspAssociation]) -> None:
        self._associations = found
        own = frozenset((Peer(sa.source), sa.spi) for sa in found if sa.destination == self._address)
        gone, new = self._told - own, own - self._told
        self._told = own
        for peer, spi in sorted(gone):
            self._tell(RouterSaDeleted(peer, spi))
        for peer, spi in sorted(new):
            self._tell(RouterSaAdded(peer, spi))

    def _log_unreadable(self, problem: KernelRefused) -> None:
        """Say it once for each cause: it is tried again and again."""
        if str(problem) != self._problem:
            log.warning("xfrm.unreadable", problem=str(problem))
        self._problem = str(problem)
