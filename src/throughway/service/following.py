"""Interfaces come and go: what those of the gateway are now, and when that changes."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final

import structlog

from throughway.core.errors import SettingsRejected
from throughway.dataplane import links
from throughway.dataplane.links import Link

log = structlog.get_logger()

AGAIN_S: Final = 1.0
"""After what failed is tried again."""


class Following:
    """Watches interfaces by name, and has somebody act on what they are.

    `act` gets the state of all of them, None for one that does not exist, and returns whether it is
    done: if not, it is called again after AGAIN_S, or earlier when something changes.
    """

    def __init__(self, names: Sequence[str], act: Callable[[dict[str, Link | None]], bool]) -> None:
        self._names: Final = tuple(names)
        self._act: Final = act
        self._now: Final[dict[str, Link | None]] = {}
        self._changed: Final = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled. States that came and went between two looks are left out."""
        async with asyncio.TaskGroup() as watchers:
            for name in self._names:
                watchers.create_task(self._watch(name), name=f"interface {name}")
            is_done = True
            while True:
                await self._wait(None if is_done else AGAIN_S)
                self._changed.clear()
                if len(self._now) == len(self._names):
                    is_done = self._act(dict(self._now))

    async def _wait(self, limit_s: float | None) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _watch(self, name: str) -> None:
        """Note what the interface is. A watch that breaks, as that of a vanishing interface may, is begun anew."""
        while True:
            try:
                async with aclosing(links.watch(name)) as states:
                    async for link in states:
                        self._see(name, link)
            except Exception as problem:
                log.warning("interface.unreadable", interface=name, problem=str(problem))
                if isinstance(problem, SettingsRejected):
                    self._see(name, None)  # It is there, and of a kind that cannot be used.
            await asyncio.sleep(AGAIN_S)

    def _see(self, name: str, link: Link | None) -> None:
        self._now[name] = link
        self._changed.set()
