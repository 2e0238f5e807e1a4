"""Everything of the kernel that one gateway uses, opened and closed in order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from typing import Final, Self

import structlog

from throughway.core.addresses import Slots
from throughway.core.errors import KernelRefused, SettingsRejected
from throughway.core.events import OutsideAddressesChanged
from throughway.core.findings import Finding
from throughway.core.ids import Host, Path, Peer, UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.core.limits import Limits
from throughway.dataplane import ctflush, links
from throughway.dataplane.adopt import Outcome
from throughway.dataplane.bpf import BpfDataPlane, BpfSettings
from throughway.dataplane.links import Link
from throughway.dataplane.nft import Nft
from throughway.policy import foreign, kept, refused, ruleset
from throughway.policy.switches import SwitchRules
from throughway.service.alone import alone_in_namespace
from throughway.service.barrier import Barrier
from throughway.service.following import Following
from throughway.service.noted import NotedSettings
from throughway.service.options import Options
from throughway.service.paths import Paths
from throughway.service.places import Places
from throughway.service.short_path import ShortPath

log = structlog.get_logger()


class Gateway:
    """The adapters of one gateway. Made by `open`, which also undoes all of it."""

    def __init__(
        self,
        options: Options,
        plane: BpfDataPlane,
        nft: Nft,
        outside: Link,
        insides: tuple[Link, ...],
        settings: BpfSettings,
    ) -> None:
        self.plane: Final = plane
        self.barrier: Final = Barrier(nft, plane)
        self.keep = plane.adoption.outcome is Outcome.ADOPTED
        """Whether the end leaves rules, programs and mappings at work. A start that fails leaves what it found."""
        self._options: Final = options
        self._nft: Final = nft
        self._paths: Final = Paths(nft, options.inside, options.outside, settings.limits)
        self._outside_index: Final = outside.interface.index
        before = tuple(address for address in plane.outside_addresses if address)
        self._places: Final = Places(
            plane,
            outside,
            insides,
            chosen=options.outside_addresses,
            addresses_max=settings.limits.outside_addresses_max,
            on_attached=self._note_attached,
        )
        self.addresses: Final = self._addresses_now(before or self.outside_addresses)
        """The addresses at the start, and what they were in an earlier run that goes on."""
        self._is_laid = False
        self._settings: Final = NotedSettings(options.restore_file)
        self._marks: Final = settings.marks
        self._limits: Final = settings.limits
        self._kept: Final[dict[Peer, set[UdpPort]]] = {}
        self._to_flush: Final[asyncio.Queue[tuple[Peer, UdpPort]]] = asyncio.Queue()
        self._short_path: Final = ShortPath(plane, nft, is_wanted=options.short_path)
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
            settings = BpfSettings(
                outside=outside.interface,
                limits=limits,
                attach=options.attach,
                ports_kept=frozenset(port for port, wanted in options.ports.items() if wanted is PortSetting.KEEP),
            )
            plane = BpfDataPlane.open(settings)
            gateway = cls(options, plane, nft, outside, insides, settings)
            undo.callback(gateway._close)
            yield gateway

    def _addresses_now(self, before: tuple[IPv4Address, ...]) -> OutsideAddressesChanged:
        here, named = self.outside_addresses, self._options.outside_addresses
        if here and named and not set(here) & set(named):
            log.warning("outside.none-of-named", wanted=", ".join(map(str, named)))
        return OutsideAddressesChanged(before, self.outside_addresses, self._places.usable)

    def carry(self, chosen: Iterable[tuple[Host, Path]]) -> None:
        """Lay the rules, attach the programs, switch the kernel's settings on. From here on packets are carried.

        Those of hosts go by chosen paths. The rules bring connection tracking, which has some of the settings.
        Forwarding is one of these: switched on before the programs are there, packets without ports would
        leave with an inside address.
        """
        settings = self._ruleset_settings()
        self._paths.read()
        for transaction in ruleset.transactions(settings, self._limits):
            self._nft.apply(transaction)
            self._is_laid = True
        self.plane.keep_ports(self._kept)
        self.lay_paths(chosen)
        self._places.attach()
        if enabled := self._settings.enable():
            log.info("settings.enabled", names=",".join(enabled))
        self.findings = self._look_for_findings()

    def _ruleset_settings(self) -> ruleset.RulesetSettings:
        return ruleset.RulesetSettings(
            insides=self._options.inside,
            outside=self._options.outside,
            marks=self._marks,
            ipv6_ipsec=self._options.ipv6_ipsec,
            attached=self._outside_index if self._places.are_attached else None,
            ports=kept.PortRules(
                self._options.ports, [(peer, port) for peer, ports in self._kept.items() for port in ports]
            ),
            switches=self.barrier.rules,
        )

    def lay_switches(self, rules: SwitchRules) -> None:
        """Have rules and programs follow the switches; before `carry`, note them for then. Raises KernelRefused."""
        if self._is_laid:
            self.barrier.lay(replace(self._ruleset_settings(), switches=rules))
        else:
            self.barrier.open_with(rules)

    def _note_attached(self, outside: int | None) -> None:
        """Let out what only the programs translate, from the interface that has them."""
        self._nft.apply(ruleset.attached(outside).to_json())

    def _close(self) -> None:
        """Undo `carry` in the opposite order, or leave it all at work. What fails does not keep the rest from it."""
        if self.keep:
            with _undoing("programs"):
                self.plane.close(keep=True)
            return
        if self._is_laid:
            with _undoing("rules"):
                self._note_attached(None)
        with _undoing("settings"):
            self._settings.restore()
        with _undoing("programs"):
            self.plane.close(keep=False)
        if self._is_laid:
            with _undoing("rules"):
                self._nft.apply(ruleset.remove().to_json())

    def keep_port(self, peer: Peer, port: UdpPort) -> None:
        """Carry the port of hosts to this peer from now on; before `carry`, note it for then. Raises KernelRefused."""
        self._kept.setdefault(peer, set()).add(port)
        if self._is_laid:
            self.plane.keep_ports(self._kept)
            self._nft.apply(ruleset.update(kept.keep(peer, port)).to_json())
            self._to_flush.put_nowait((peer, port))

    def translate_port(self, peer: Peer, port: UdpPort) -> None:
        """Leave the port of hosts to this peer to the kernel again. Raises KernelRefused."""
        ports = self._kept.get(peer, set())
        ports.discard(port)
        if not ports:
            self._kept.pop(peer, None)
        if self._is_laid:
            self._nft.apply(ruleset.update(kept.translate(peer, port)).to_json())
            self.plane.keep_ports(self._kept)

    async def flush_ports(self) -> None:
        """Have the kernel forget what it has tracked of a port that is kept now, whenever there is one. Never ends."""
        while True:
            peer, port = await self._to_flush.get()
            await _flush(f"{peer} udp {int(port)}", partial(ctflush.flush_port, peer, port))

    @property
    def attached_by(self) -> str:
        """How programs are attached: `tcx` or `clsact`, after `carry`."""
        return self.plane.attach_mode

    @property
    def outside_addresses(self) -> tuple[IPv4Address, ...]:
        """The addresses that the outside has, the primary one first."""
        return self._places.outside_addresses

    @property
    def translated(self) -> Slots:
        """The addresses that are translated to, by slot; empty while there is none."""
        return self._places.translated

    @property
    def slots(self) -> Slots:
        """The addresses by slot."""
        return self._places.slots

    def lay_paths(self, chosen: Iterable[tuple[Host, Path]]) -> None:
        """Have the kernel's own translation go by these paths, and choose by itself for hosts that have none yet."""
        self._paths.lay(self._places.slots, self._places.usable, self.outside_addresses, chosen)

    def settle_path(self, host: Host, wanted: Path) -> Path:
        """Have the kernel's own translation use this path, unless it has chosen another one before; return which."""
        return self._paths.settle(host, wanted)

    def forget_path(self, host: Host, path: Path, *, is_last: bool) -> None:
        """Let the kernel's own translation forget a path; `is_last` where no other host uses it."""
        self._paths.forget(host, path, is_last=is_last)

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
        address = next(iter(self.outside_addresses), None)
        return (
            *foreign.findings_for(rules, self._marks, inside, outside, outside_address=address),
            *refused.findings_for(rules),
        )

    async def follow(self, on_addresses: Callable[[OutsideAddressesChanged], None]) -> None:
        """Keep to the interfaces as they come and go, and to the outside addresses, until cancelled."""

        def act(now: dict[str, Link | None]) -> bool:
            before = self.outside_addresses
            is_done = self._places.bring_to(now)
            if self.outside_addresses != before:
                on_addresses(self._addresses_now(before))
                for address in set(before) - set(self.outside_addresses):
                    flush = partial(ctflush.flush_of, address)
                    flushes.create_task(_flush(str(address), flush), name=f"flush {address}")
            return is_done

        async with asyncio.TaskGroup() as flushes:
            await Following((self._options.outside, *self._options.inside), act).run()

    async def flush_untranslated(self) -> None:
        """Have flows from before our rules begin anew, which would else be held back for as long as they go on."""
        insides, outside = self._places.insides, self._outside_index
        try:
            count = await asyncio.to_thread(ctflush.flush_untranslated, insides, outside)
        except (KernelRefused, OSError) as problem:
            log.warning("untranslated.not_flushed", problem=str(problem))
        else:
            if count:
                log.info("untranslated.flushed", count=count)

    async def watch_rules(self) -> None:
        """Allow the short path while nobody else's rules look at forwarded packets, until cancelled."""
        await self._short_path.run()

    @property
    def path(self) -> str:
        """How known packets go: `short`, or `long` and behind it why."""
        by = self._short_path.shut_by
        if by is None and not self._places.has_ethernet_outside:
            by = f"{self._options.outside}, which has no Ethernet headers"
        return "short" if by is None else f"long, because of {by}"


@contextmanager
def _undoing(what: str) -> Iterator[None]:
    """Go on when something cannot be undone: there is nobody who could do more about it than the operator."""
    try:
        yield
    except (KernelRefused, OSError) as problem:
        log.error("gateway.not_undone", what=what, problem=str(problem))


async def _flush(what: str, flush: Callable[[], int]) -> None:
    """Have the kernel forget flows: of an address that is not the outside's any more, or of a port that is kept now."""
    try:
        count = await asyncio.to_thread(flush)
    except (KernelRefused, OSError) as problem:
        log.warning("flows.not_flushed", of=what, problem=str(problem))
    else:
        log.info("flows.flushed", of=what, count=count)


async def _look_up(option: str, name: str) -> Link:
    try:
        return await links.look_up(name)
    except SettingsRejected as problem:
        raise SettingsRejected(option, problem.remedy) from None
