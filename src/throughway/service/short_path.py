"""Allows the short path for some seconds at a time, as long as nobody else looks at forwarded packets.

When chains or IPsec policies change, the path is the long one at once, and until they were looked at again. When this
process is gone, it is the long one after LEASE_S: nobody would see a firewall come.
"""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import structlog

from throughway.core.errors import KernelRefused
from throughway.dataplane import ipsec
from throughway.dataplane.bpf import BpfDataPlane
from throughway.dataplane.news import News, chain_news, legacy_tables, policy_news, source_check_news
from throughway.dataplane.nft import Nft
from throughway.policy.short_path import who_looks

log = structlog.get_logger()

LEASE_S: Final = 15.0
RENEW_S: Final = 5.0
"""How often it is allowed again, and how late is seen what nobody announces: legacy tables, filters of tc."""

SETTLE_S: Final = 0.5
"""After something changed it is looked at once it has been quiet for so long: changes come in swarms."""

_SETTINGS: Final = Path("/proc/sys/net/ipv4/conf")
_PRIORITIES: Final = Path("/proc/sys/net/ipv4/ip_forward_update_priority")


class ShortPath:
    """Keeps one gateway's short path open or shut."""

    def __init__(self, plane: BpfDataPlane, nft: Nft, *, is_wanted: bool) -> None:
        self._plane: Final = plane
        self._nft: Final = nft
        self._is_wanted: Final = is_wanted
        self._told: str | None = ""
        """Who was said to be looking; None for nobody, empty when nothing was said yet."""
        self.shut_by: str | None = "the start: nobody has looked yet"
        """Why packets take the long path; None while they take the short one."""

    async def run(self) -> None:
        """Watch until cancelled, and take back what was allowed: nobody watches any more."""
        if not self._is_wanted:
            self._set("--no-short-path")
            return
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        with ExitStack() as undo:
            undo.callback(self._plane.allow_short_path, 0)
            for news in (chain_news(), policy_news(), source_check_news()):
                if news is not None:
                    undo.enter_context(news)
                    loop.add_reader(news.fileno(), self._on_news, news, changed)
                    undo.callback(loop.remove_reader, news.fileno())
            await self._keep(changed)

    def _on_news(self, news: News, changed: asyncio.Event) -> None:
        if news.take():
            self._plane.allow_short_path(0)
            self.shut_by = "a change of rules, policies or settings, which are being looked at"
            changed.set()

    async def _keep(self, changed: asyncio.Event) -> None:
        looking = await self._look_at_chains()
        while True:
            if not changed.is_set():
                self._set(looking or self._look_beside())
            if await _is_set_within(changed, RENEW_S):
                while changed.is_set():
                    changed.clear()
                    await asyncio.sleep(SETTLE_S)
                looking = await self._look_at_chains()

    async def _look_at_chains(self) -> str | None:
        try:
            return who_looks(await asyncio.to_thread(self._nft.list_chains), ())
        except KernelRefused as problem:
            return f"somebody: the rules cannot be read ({problem})"

    def _look_beside(self) -> str | None:
        """Look for what has to do with forwarded packets and is no chain of nftables. It is quick."""
        try:
            if by := who_looks({"nftables": []}, legacy_tables()):
                return by
            if ipsec.has_forward_policies():
                return "IPsec policies of this router"
            if interface := self._plane.others_at_ingress():
                return f"tc {interface} ingress"
            if _PRIORITIES.read_text().strip() == "0":
                return "net.ipv4.ip_forward_update_priority = 0"
        except (KernelRefused, OSError) as problem:
            return f"somebody: it cannot be seen ({problem})"
        return None

    def _is_source_checked(self) -> bool:
        """Tell whether reverse path filtering is on where packets come in (ip-sysctl: the larger of two settings)."""
        names = ("all", *(interface.name for interface in self._plane.interfaces))
        try:
            return any((_SETTINGS / name / "rp_filter").read_text().strip() != "0" for name in names)
        except OSError:
            return True  # An interface went away meanwhile.

    def _set(self, by: str | None) -> None:
        self._plane.allow_short_path(0 if by else LEASE_S, check_source=self._is_source_checked())
        self.shut_by = by
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
