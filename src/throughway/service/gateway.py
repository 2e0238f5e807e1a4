"""Everything of the kernel that one gateway uses, opened and closed in order."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Self

import structlog

from throughway.core.errors import KernelRefused, SettingsRejected
from throughway.core.findings import Finding
from throughway.core.limits import Limits
from throughway.core.marks import Marks
from throughway.dataplane import conntrack, ctflush, links
from throughway.dataplane.adopt import Outcome
from throughway.dataplane.bpf import BpfDataPlane, BpfSettings
from throughway.dataplane.links import Link
from throughway.dataplane.nft import Nft
from throughway.policy import foreign, refused, ruleset
from throughway.service.alone import alone_in_namespace
from throughway.service.following import Following
from throughway.service.noted import NotedSettings
from throughway.service.options import Options
from throughway.service.places import Places
from throughway.service.short_path import ShortPath
from throughway.service.watching import Watch, Watched

log = structlog.get_logger()

_INTERESTS: Final = tuple(interest for interest in conntrack.INTERESTS if interest.port != 443)
"""Port 443 alone says nothing of a VPN."""


@dataclass(frozen=True, slots=True)
class AddressChange:
    """The outside interface had one address and has another; None for no address."""

    old: IPv4Address | None
    new: IPv4Address | None


class Gateway:
    """The adapters of one gateway. Made by `open`, which also undoes all of it."""

    def __init__(
        self,
        options: Options,
        plane: BpfDataPlane,
        nft: Nft,
        outside: Link,
        insides: tuple[Link, ...],
        marks: Marks,
    ) -> None:
        self.plane: Final = plane
        self.keep = plane.adoption.outcome is Outcome.ADOPTED
        """Whether the end leaves rules, programs and mappings at work. A start that fails leaves what it found."""
        self._options: Final = options
        self._nft: Final = nft
        self._places: Final = Places(plane, outside, insides)
        self._is_laid = False
        self._settings: Final = NotedSettings(options.restore_file)
        self._marks: Final = marks
        self._watch: Final = Watch()
        self.findings: tuple[Finding, ...] = ()

    @classmethod
    @asynccontextmanager
    async def open(cls, options: Options, limits: Limits) -> AsyncIterator[Self]:
        """Look up the interfaces, and load the tables or adopt those of an earlier run. Nothing carries packets yet.

        Raises SettingsRejected where an interface does not exist or another daemon works here, and
        KernelRefused where the kernel lacks something.
        """
        outside = await _look_up("--outside", options.outside)
        insides = tuple([await _look_up("--inside", name) for name in options.inside])
        async with AsyncExitStack() as undo:
            undo.enter_context(alone_in_namespace(options.socket.parent, options.gateway))
            nft = undo.enter_context(Nft())
            settings = BpfSettings(outside=outside.interface, limits=limits, attach=options.attach)
            plane = BpfDataPlane.open(settings)
            gateway = cls(options, plane, nft, outside, insides, settings.marks)
            undo.callback(gateway._close)
            yield gateway

    def carry(self) -> None:
        """Lay the rules and attach the programs. From here on packets are carried.

        The rules come first: they bring connection tracking, whose settings are switched on then, and
        nothing is forwarded without them.
        """
        settings = ruleset.RulesetSettings(
            insides=self._options.inside,
            outside=self._options.outside,
            marks=self._marks,
            ipv6_ipsec=self._options.ipv6_ipsec,
        )
        for transaction in ruleset.transactions(settings):
            self._nft.apply(transaction)
            self._is_laid = True
        if enabled := self._settings.enable():
            log.info("settings.enabled", names=",".join(enabled))
        self._places.attach()
        self.findings = self._look_for_findings()

    def _close(self) -> None:
        """Undo `carry` in the opposite order, or leave it all at work. What fails does not keep the rest from it."""
        with _undoing("programs"):
            self.plane.close(keep=self.keep)
        if self.keep:
            return
        with _undoing("settings"):
            self._settings.restore()
        if self._is_laid:
            with _undoing("rules"):
                self._nft.apply(ruleset.remove().to_json())

    @property
    def attached_by(self) -> str:
        """How programs are attached: `tcx` or `clsact`, after `carry`."""
        return self.plane.attach_mode

    @property
    def outside_address(self) -> IPv4Address | None:
        """The address that is translated to, or None while there is none."""
        return self._places.outside_address

    async def judge_foreign_rules(self) -> None:
        """Look for rules of others that drop what we carry, and for what else stands in the way."""
        self.findings = await asyncio.to_thread(self._look_for_findings)

    def _look_for_findings(self) -> tuple[Finding, ...]:
        """Read all tables, which takes as long as they are large. What was found before stays where that fails."""
        try:
            rules = self._nft.list_ruleset()
        except KernelRefused as problem:
            log.warning("firewall.unreadable", problem=str(problem))
            return self.findings
        inside, outside = self._options.inside, self._options.outside
        return (
            *foreign.findings_for(rules, self._marks, inside, outside, outside_address=self.outside_address),
            *refused.findings_for(rules),
        )

    async def follow(self, on_address: Callable[[AddressChange], None]) -> None:
        """Keep to the interfaces as they come and go, and to the outside address, until cancelled."""

        def act(now: dict[str, Link | None]) -> bool:
            before = self.outside_address
            is_done = self._places.bring_to(now)
            if self.outside_address != before:
                on_address(AddressChange(before, self.outside_address))
                if before is not None:
                    flushes.create_task(_flush(before), name=f"flush {before}")
            return is_done

        async with asyncio.TaskGroup() as flushes:
            await Following((self._options.outside, *self._options.inside), act).run()

    async def watch_rules(self) -> None:
        """Allow the short path while nobody else's rules look at forwarded packets, until cancelled."""
        await ShortPath(self.plane, self._nft).run()

    async def tracked_flows(self) -> list[Watched]:
        """Read what the kernel's connection tracking carries of VPNs."""
        flows = await asyncio.to_thread(lambda: list(conntrack.tracked_flows(_INTERESTS)))
        return self._watch.update(flows, self.outside_address, time.monotonic())


@contextmanager
def _undoing(what: str) -> Iterator[None]:
    """Go on when something cannot be undone: there is nobody who could do more about it than the operator."""
    try:
        yield
    except (KernelRefused, OSError) as problem:
        log.error("gateway.not_undone", what=what, problem=str(problem))


async def _flush(address: IPv4Address) -> None:
    """Have the kernel forget what was translated to an address that is not the outside's any more."""
    try:
        count = await asyncio.to_thread(ctflush.flush_of, address)
    except (KernelRefused, OSError) as problem:
        log.warning("flows.not_flushed", address=str(address), problem=str(problem))
    else:
        log.info("flows.flushed", address=str(address), count=count)


async def _look_up(option: str, name: str) -> Link:
    try:
        return await links.look_up(name)
    except SettingsRejected as problem:
        raise SettingsRejected(option, problem.remedy) from None
