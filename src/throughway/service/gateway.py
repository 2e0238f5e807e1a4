"""Everything of the kernel that one gateway uses, opened and closed in order."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Self

import structlog

from throughway.core.errors import KernelRefused, SettingsRejected
from throughway.core.findings import Finding
from throughway.core.limits import Limits
from throughway.core.marks import Marks
from throughway.dataplane import conntrack, links, sysctls
from throughway.dataplane.bpf import BpfDataPlane, BpfSettings
from throughway.dataplane.links import Link
from throughway.dataplane.nft import Nft
from throughway.policy import foreign, ruleset
from throughway.service.options import Options
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
        self, options: Options, plane: BpfDataPlane, nft: Nft, outside: Link, insides: tuple[Link, ...]
    ) -> None:
        self.plane: Final = plane
        self.keep = False
        """Whether the end leaves rules, programs and mappings at work."""
        self._options: Final = options
        self._nft: Final = nft
        self._outside = outside
        self._insides = insides
        self._marks: Final = Marks()
        self._watch: Final = Watch()
        self.findings: tuple[Finding, ...] = ()

    @classmethod
    @asynccontextmanager
    async def open(cls, options: Options, limits: Limits) -> AsyncIterator[Self]:
        """Look up the interfaces, and load the tables or adopt those of an earlier run. Nothing carries packets yet.

        Raises SettingsRejected where an interface does not exist or another daemon has it, and
        KernelRefused where the kernel lacks something.
        """
        outside = await _look_up("--outside", options.outside)
        insides = tuple([await _look_up("--inside", name) for name in options.inside])
        async with AsyncExitStack() as undo:
            nft = undo.enter_context(Nft())
            plane = BpfDataPlane.open(BpfSettings(outside=outside.interface, limits=limits, attach=options.attach))
            gateway = cls(options, plane, nft, outside, insides)
            undo.callback(gateway._close_plane)
            yield gateway

    def carry(self) -> None:
        """Lay the rules and attach the programs. From here on packets are carried."""
        self._enable_settings()
        settings = ruleset.RulesetSettings(
            insides=self._options.inside, outside=self._options.outside, marks=self._marks
        )
        self._nft.apply(ruleset.build(settings).to_json())
        self.plane.set_outside_address(self._outside.address)
        self.plane.attach(self._outside.interface, [link.interface for link in self._insides])
        self.judge_foreign_rules()

    def _close_plane(self) -> None:
        """Undo `carry` in the opposite order, or leave it all at work."""
        self.plane.close(keep=self.keep)
        if self.keep:
            return
        self._nft.apply(ruleset.remove().to_json())
        self._restore_settings()

    @property
    def attached_by(self) -> str:
        """How programs are attached: `tcx` or `clsact`, after `carry`."""
        return self.plane.attach_mode

    @property
    def outside_address(self) -> IPv4Address | None:
        """The address that is translated to, or None while there is none."""
        return self._outside.address

    def judge_foreign_rules(self) -> None:
        """Look for rules of others that drop what we carry, and for what else stands in the way."""
        try:
            rules = self._nft.list_ruleset()
        except KernelRefused as problem:
            log.warning("firewall.unreadable", problem=str(problem))
            return
        self.findings = tuple(foreign.findings_for(rules, self._marks, self._options.inside, self._options.outside))

    async def outside_changes(self) -> AsyncIterator[AddressChange]:
        """Follow the outside interface: translate to its new address, and attach anew where it was made anew."""
        async for link in links.watch(self._options.outside):
            old = self._outside
            if link is None:
                self.plane.set_outside_address(None)
                log.warning("outside.gone", interface=self._options.outside)
                continue
            self._outside = link
            if link.interface != old.interface:
                self.plane.attach(link.interface, [inside.interface for inside in self._insides])
                log.info("outside.returned", interface=link.interface.name, index=link.interface.index)
            if link.address != old.address or link.interface != old.interface:
                self.plane.set_outside_address(link.address)
                yield AddressChange(old.address, link.address)

    async def tracked_flows(self) -> list[Watched]:
        """Read what the kernel's connection tracking carries of VPNs."""
        flows = await asyncio.to_thread(lambda: list(conntrack.tracked_flows(_INTERESTS)))
        return self._watch.update(flows, self.outside_address, time.monotonic())

    def _enable_settings(self) -> None:
        """Switch on what a gateway needs, and note what it was, so that a stop after a crash restores it too."""
        changed = sysctls.enable()
        if not changed:
            return
        noted = _read_noted(self._options.restore_file)
        known = {change.name for change in noted}
        noted += tuple(change for change in changed if change.name not in known)
        self._options.restore_file.write_text(json.dumps([asdict(change) for change in noted]))
        log.info("settings.enabled", names=",".join(change.name for change in changed))

    def _restore_settings(self) -> None:
        sysctls.restore(_read_noted(self._options.restore_file))
        self._options.restore_file.unlink(missing_ok=True)


async def _look_up(option: str, name: str) -> Link:
    try:
        return await links.look_up(name)
    except SettingsRejected as problem:
        raise SettingsRejected(option, problem.remedy) from None


def _read_noted(file: Path) -> tuple[sysctls.Changed, ...]:
    """Read the note of an earlier run; one that cannot be read restores nothing."""
    try:
        return tuple(sysctls.Changed(**entry) for entry in json.loads(file.read_text()))
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError) as problem:
        log.warning("settings.note_unreadable", file=str(file), problem=str(problem))
        return ()
