"""The router's own IPsec: what its kernel has becomes what the tracker knows for sure."""

import asyncio
from collections.abc import Callable, Set
from contextlib import aclosing
from typing import Final

import structlog

from throughway.core.addresses import Slots
from throughway.core.errors import KernelRefused
from throughway.core.events import Event, RouterSaAdded, RouterSaDeleted
from throughway.core.ids import Path, Peer, Spi
from throughway.dataplane import xfrm
from throughway.dataplane.xfrm import EspAssociation

log = structlog.get_logger()

AGAIN_S: Final = 1.0
"""After what failed is tried again."""


class OwnTunnels:
    """Tells which SPIs of which peers are the router's own, as long as its kernel says so.

    They are those of native ESP to one of the outside addresses that are translated to: what comes to another address
    of the router does not pass the translation.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell: Final = tell
        self._associations: Set[EspAssociation] = frozenset()
        self._slots: Slots = ()
        self._told: frozenset[tuple[Peer, int, Spi]] = frozenset()
        self._problem = ""

    def begin(self, slots: Slots) -> None:
        """Tell what there is. A kernel without XFRM, or one that does not let us look, is logged and no error."""
        self._slots = slots
        try:
            found = xfrm.read()
        except KernelRefused as problem:
            self._log_unreadable(problem)
            return
        if found is None:
            log.info("xfrm.absent")
        else:
            self._look(found)

    def on_addresses(self, slots: Slots) -> None:
        """Take note of the outside addresses."""
        self._slots = slots
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
        own = frozenset(
            (Peer(sa.source), self._slots.index(sa.destination), sa.spi)
            for sa in found
            if sa.destination in self._slots
        )
        gone, new = self._told - own, own - self._told
        self._told = own
        for peer, slot, spi in sorted(gone):
            self._tell(RouterSaDeleted(Path(peer, slot), spi))
        for peer, slot, spi in sorted(new):
            self._tell(RouterSaAdded(Path(peer, slot), spi))

    def _log_unreadable(self, problem: KernelRefused) -> None:
        """Say it once for each cause: it is tried again and again."""
        if str(problem) != self._problem:
            log.warning("xfrm.unreadable", problem=str(problem))
        self._problem = str(problem)
