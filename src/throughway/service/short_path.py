"""Allows the short path for some seconds at a time, as long as nobody else's rules look at forwarded packets.

When the rules change, the path is the long one at once, and until they were looked at again. When this process
is gone, it is the long one after LEASE_S: nobody would see a firewall come.
"""

import asyncio
from typing import Final

import structlog

from throughway.core.errors import KernelRefused
from throughway.dataplane.bpf import BpfDataPlane
from throughway.dataplane.news import RulesNews, legacy_tables
from throughway.dataplane.nft import Nft
from throughway.policy.short_path import who_looks

log = structlog.get_logger()

LEASE_S: Final = 15.0
RENEW_S: Final = 5.0
"""How often it is allowed again, and how late a legacy table is seen."""

SETTLE_S: Final = 0.5
"""After the rules changed they are looked at once they have been quiet for so long: changes come in swarms."""


class ShortPath:
    """Keeps one gateway's short path open or shut."""

    def __init__(self, plane: BpfDataPlane, nft: Nft) -> None:
        self._plane: Final = plane
        self._nft: Final = nft
        self._told: str | None = ""
        """Who was said to be looking; None for nobody, empty when nothing was said yet."""

    async def run(self) -> None:
        """Watch until cancelled; what was allowed last ends by itself."""
        with RulesNews() as news:
            changed = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(news.fileno(), self._on_news, news, changed)
            try:
                await self._keep(changed)
            finally:
                loop.remove_reader(news.fileno())

    def _on_news(self, news: RulesNews, changed: asyncio.Event) -> None:
        if news.take():
            self._plane.allow_short_path(0)
            changed.set()

    async def _keep(self, changed: asyncio.Event) -> None:
        looking = await self._look()
        while True:
            if not changed.is_set():
                by = looking or next((f"iptables-legacy {name}" for name in legacy_tables() if name != "nat"), None)
                self._plane.allow_short_path(0 if by else LEASE_S)
                self._tell(by)
            if await _is_set_within(changed, RENEW_S):
                while changed.is_set():
                    changed.clear()
                    await asyncio.sleep(SETTLE_S)
                looking = await self._look()

    async def _look(self) -> str | None:
        try:
            return who_looks(await asyncio.to_thread(self._nft.list_chains), legacy_tables())
        except KernelRefused as problem:
            return f"somebody: the rules cannot be read ({problem})"

    def _tell(self, by: str | None) -> None:
        if by == self._told:
            return
        self._told = by
        if by is None:
            log.info("path.short")
        else:
            log.info("path.long", because_of=by)


async def _is_set_within(event: asyncio.Event, limit_s: float) -> bool:
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
