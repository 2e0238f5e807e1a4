"""The data plane in BPF: carries out verdicts, holds the first packets of undecided flows, and counts.

Theory of operation. The programs in the kernel match exactly and decide nothing. A packet of a flow that they do
not know comes here by the ring `punts` and is gone there. The first one of a flow is told to the caller (`read`),
the others wait behind it. The caller decides (`install`) and has them put back (`reinject`); what the kernel hands
over until the flow is open follows by itself (`pump`). All that must outlive this process is in pinned maps.

    while the flow is    the kernel                              here
    waiting              hands packets over, at most 64          held, told once
    draining             hands over at most 64 more              put back in order
    open                 translates                              nothing

A later fragment that came before its first one waits apart, for that and not for a decision: see `fragments`.

BpfDataPlane is for one thread. Nothing in it waits.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Self

from throughway.core.events import AdoptedFlow, FlowCount, FlowTrace
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Peer, UdpPort
from throughway.core.limits import Limits
from throughway.core.marks import Marks
from throughway.core.ports import InstalledFlow, Interface, Report
from throughway.core.reasons import Reason
from throughway.dataplane import abi, adopt, pins
from throughway.dataplane.attach import Attachments, AttachMode
from throughway.dataplane.config import ConfigRecord
from throughway.dataplane.drain import Drain
from throughway.dataplane.fragments import EarlyFragments
from throughway.dataplane.heads import Heads
from throughway.dataplane.held import HeldPackets
from throughway.dataplane.hooks import wanted_hooks
from throughway.dataplane.inject import Injector, Sent
from throughway.dataplane.intake import Intake
from throughway.dataplane.libbpf import BpfObject
from throughway.dataplane.pins import GatewayFolder
from throughway.dataplane.sweep import Sweep
from throughway.dataplane.tables import Tables

_TICK_S: Final = 0.02
"""How far the time of a packet may lie back: it is that of the kernel's last tick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BpfSettings:
    """What the data plane needs to know before it starts."""

    outside: Interface
    limits: Limits = field(default_factory=Limits)
    marks: Marks = field(default_factory=Marks)
    attach: AttachMode = "auto"
    ports_kept: frozenset[UdpPort] = frozenset()
    """Ports that hosts keep with every peer."""
    bpffs: Path = pins.BPFFS
    program: Path = adopt.OBJECT


class BpfDataPlane:
    """Implements `throughway.core.ports.DataPlane`, and what the daemon needs around it."""

    def __init__(
        self, settings: BpfSettings, folder: GatewayFolder, loaded: BpfObject, adoption: adopt.Adoption
    ) -> None:
        """Take over a locked folder and a loaded object; `open` makes both."""
        self._settings = settings
        self._folder = folder
        self._object = loaded
        self.adoption: Final = adoption
        limits = settings.limits
        self._tables = Tables(loaded.maps, loaded.programs["control"])
        self._attachments = Attachments(folder, settings.attach)
        self._outside = settings.outside
        self._addresses = self._tables.outside_addresses()
        self._short_until_ns = 0
        self._check_source = True
        self._unassisted: frozenset[int] = frozenset()
        self._insides: tuple[Interface, ...] = ()
        self._injector: Injector | None = None
        self._returner: Injector | None = None
        self.heads: Final = Heads(loaded.maps, limits)
        self._held = HeldPackets(limits.pending_max, limits.held_per_flow_max, limits.held_bytes_max)
        self._early = EarlyFragments(limits, self._tables.has_first_fragment, self._return)
        self._dropped: Counter[Reason] = Counter()
        self._intake = Intake(loaded.maps, self._tables, self._held, self._early, self._dropped, limits)
        self._sweep = Sweep(self._held, self._tables, self._intake.has_no_packets, limits.held_s)
        self._drain = Drain(self._held, self._tables, self._send, self._intake.has_no_packets, self._sweep.expect)

    @classmethod
    def open(cls, settings: BpfSettings) -> Self:
        """Load the programs, on the pinned tables of an earlier run if they fit; see `adoption` for what was found.

        Nothing is attached by this: an earlier run's programs go on meanwhile. Raises SettingsRejected when another
        daemon has this interface, KernelRefused when the kernel will not load.
        """
        pins.mount_bpffs(settings.bpffs)
        pins.remove_stale(settings.bpffs)
        folder = GatewayFolder.open(settings.bpffs, settings.outside.name)
        try:
            loaded, adoption = adopt.load(folder, settings.limits, settings.program)
        except BaseException:
            folder.abandon()
            raise
        plane = cls(settings, folder, loaded, adoption)
        if adoption.outcome is adopt.Outcome.ADOPTED:
            # These programs are at work, and the packet filter is about to keep such datagrams from being tracked.
            plane._tables.keep_with_every_peer(abi.kept_flags(settings.ports_kept))
        return plane

    @property
    def attach_mode(self) -> str:
        """How programs are attached: `tcx` or `clsact`, after `attach`."""
        return self._attachments.mode

    def attach(self, outside: Interface, insides: Sequence[Interface]) -> None:
        """Have the programs on exactly these interfaces. Call it again when one has a new index.

        Programs of an earlier run are replaced in one step. KernelRefused when an interface is not there; what was
        attached by then stays, and `close` or another call takes it away.
        """
        if outside != self._outside or self._injector is None:
            self._close_injectors()
            settings = self._settings
            self._injector = Injector(outside, settings.marks.reinjected)
            self._returner = Injector(outside, settings.marks.own)
        self._outside, self._insides = outside, tuple(insides)
        self._configure()
        self._attachments.bring_to(wanted_hooks(outside, self._insides), self._object.programs)

    def missing_on(self, outside: Interface, insides: Sequence[Interface]) -> frozenset[int]:
        """List the indexes of those interfaces that lack a program of ours, as one that was made anew does."""
        return frozenset(hook.ifindex for hook in self._attachments.missing(wanted_hooks(outside, tuple(insides))))

    def filenos(self) -> tuple[int, int]:
        """Give the descriptors that become readable when `read` has something."""
        return self._intake.filenos()

    def read(self) -> list[Report]:
        """Take a bounded batch from the rings, and return what the tracker has to know, what was observed first.

        A descriptor that stays readable has more, and so may this: then `pump` wants to be called at once, and this
        before it. What was observed is the evidence for what was punted. Senders take turns with their questions.
        """
        return self._intake.read()

    @property
    def stale_records(self) -> int:
        """Ring entries of an earlier run that were discarded for their age."""
        return self._intake.stale_records

    @property
    def outside_addresses(self) -> tuple[IPv4Address | None, ...]:
        """What is translated to, by slot; at the start, what an earlier run translated to."""
        return self._addresses

    def set_outside_addresses(self, slots: Sequence[IPv4Address | None]) -> None:
        """Translate to and from these addresses from now on, each in its slot; with none, translate nothing."""
        self._addresses = tuple(slots)
        self._configure()

    def keep_ports(self, kept: Mapping[Peer, Collection[UdpPort]]) -> None:
        """Carry UDP of these ports with these peers, besides those that are kept with every peer, and no other."""
        for peer in self._tables.peers_with_kept_ports():
            if peer not in kept:
                self._tables.keep_ports(peer, ())
        for peer, ports in kept.items():
            self._tables.keep_ports(peer, ports)

    def allow_short_path(self, seconds: float, *, check_source: bool = True) -> None:
        """Let packets of known flows go around the stack's forwarding for so long; 0 ends it at once.

        Only where no rules but ours look at forwarded packets: they would not see these. It has to be said again and
        again, so that it ends when nobody watches the rules any more. With `check_source` a packet goes by it only if
        the route to its source leads back, as reverse path filtering may want it.
        """
        self._short_until_ns = time.monotonic_ns() + int(seconds * 1e9) if seconds else 0
        self._check_source = check_source
        self._configure()

    def leave(self, protocols: frozenset[int]) -> None:
        """Carry none of these IP protocols from now on, as if the programs were not here; all others again."""
        if protocols != self._unassisted:
            self._unassisted = protocols
            self._configure()

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """Where the programs are attached, the outside first."""
        return self._outside, *self._insides

    def others_at_ingress(self) -> str | None:
        """Name an interface of ours where somebody else's filter or program looks at what comes in.

        It would not see what goes the short path from there. Raises KernelRefused.
        """
        return next((each.name for each in self.interfaces if self._attachments.has_others(each.index)), None)

    def install(self, key: FlowKey, hosts: Sequence[Host], slot: int = 0) -> None:
        """Give the flow to one host, or a copy to each of several, best candidate last.

        What a host sends to its peer leaves with the address in `slot`, and not at all while there is none.
        """
        self._intake.refuse_no_more(key)
        self._tables.decide(key, hosts, slot)

    def reinject(self, key: FlowKey) -> None:
        """Put the held packets of the flow back in order, before what follows. `pump` continues it."""
        if key in self._held:
            self._drain.start(key, time.monotonic())

    def refuse(self, key: FlowKey, reason: Reason) -> None:
        """Drop what is held of the flow and what comes, for `Limits.refused_s`."""
        until = time.monotonic() + self._settings.limits.refused_s
        self._tables.refuse(key, int(until * 1e9))
        self._intake.refuse(key, until)
        self._dropped[reason] += self._held.forget(key)

    def remove(self, key: FlowKey) -> None:
        """Forget the flow. Unknown keys are no error."""
        self._tables.remove(key)
        self._intake.refuse_no_more(key)
        self._dropped[Reason.REFUSED] += self._held.forget(key)

    def pump(self, now: float) -> float | None:
        """Continue releases and expire what is over; return when to be called again at the latest.

        Call it after each batch of commands, and at that monotonic time. None once closed.
        """
        if not self._folder.is_open:
            return None
        self._intake.forget_refusals(now)
        sweep_at = self._sweep.run(now)
        self._dropped[Reason.HELD_TOO_LONG] += self._sweep.take_dropped()
        wakes = (sweep_at, self._drain.run(now), self._early.run(now), now if self._intake.has_questions else None)
        self._dropped[Reason.FRAGMENT_BEFORE_FIRST] += self._early.take_dropped()
        return min(wake for wake in wakes if wake is not None)

    def flows(self) -> Iterator[InstalledFlow]:
        """Read all installed flows with their counters, in batches, in no order."""
        return self._tables.flows()

    def used_flows(self, since: float) -> Iterator[tuple[InstalledFlow, ...]]:
        """Read the installed flows that a packet has used since this monotonic time, in no order.

        Each tuple is what there was among some hundreds of them, so some are empty.
        """
        return self._tables.used_flows(since - _TICK_S)

    def trace(self, key: FlowKey) -> None:
        """Note when packets of an installed flow come."""
        self._tables.trace(key)

    def untrace(self, key: FlowKey) -> None:
        """Note the times of the flow's packets no more. Unknown keys are no error."""
        self._tables.untrace(key)

    def traces(self) -> Iterator[FlowTrace]:
        """Read the times of all traced flows, in no order."""
        return self._tables.traces()

    def adopted_flows(self) -> tuple[AdoptedFlow, ...]:
        """Read what an earlier run left at work; nothing when its tables were not adopted.

        A flow that no packet has used yet is as new as its mapping, and not idle since the machine was started.
        """
        if self.adoption.outcome is not adopt.Outcome.ADOPTED:
            return ()
        self._tables.forget_traces()
        return tuple(AdoptedFlow(flow.count.key, flow.hosts, _used_or_made(flow), flow.slot) for flow in self.flows())

    def reasons(self) -> dict[Reason, int]:
        """Read the packet counts by reason, since the start of the data plane.

        What was dropped here, and not in the kernel, is counted since the start of this process.
        """
        totals = self._tables.reasons()
        for reason, count in self._dropped.items():
            totals[reason] += count
        totals[Reason.REINJECTED_LOST] += self._drain.lost + self._early.lost
        return totals

    def pending_count(self) -> int:
        """Count the flows whose packets wait here: for a decision, or to be put back."""
        return len(self._held)

    def close(self, keep: bool) -> None:
        """End. With `keep` the programs go on with what they know; without it nothing of ours stays attached or pinned.

        Packets that are still held are dropped either way. A BPF file system that we mounted stays mounted.
        """
        if not self._folder.is_open:
            return
        self._intake.close()
        self.heads.close()
        self._close_injectors()
        try:
            if not keep:
                self._attachments.detach_all()
                self._folder.remove()
        finally:
            self._folder.close()
            self._object.close()

    def _send(self, frame: bytes) -> Sent:
        return self._injector.send(frame) if self._injector is not None else Sent.LOST

    def _return(self, frame: bytes) -> Sent:
        return self._returner.send(frame) if self._returner is not None else Sent.LOST

    def _close_injectors(self) -> None:
        for each in (self._injector, self._returner):
            if each is not None:
                each.close()

    def _configure(self) -> None:
        settings, limits = self._settings, self._settings.limits
        self._tables.configure(
            ConfigRecord(
                addresses=self._addresses,
                outside_ifindex=self._outside.index,
                link_header_size=self._outside.link_header_size,
                mark_mask=settings.marks.mask,
                mark_carried=settings.marks.carried,
                mark_reinjected=settings.marks.reinjected,
                punts_per_peer=limits.punts_per_peer_rate,
                punts_per_host=limits.punts_per_host_rate,
                ike_per_address=limits.ike_per_host_rate,
                fragments_per_address=limits.early_fragments_per_address_rate,
                pending_max=self._object.maps["pending"].max_entries,
                ports_kept=abi.kept_flags(settings.ports_kept),
                check_source=self._check_source,
                short_until_ns=self._short_until_ns,
                insides=tuple(each.index for each in self._insides[: abi.SHORT_INSIDES_MAX]),
                unassisted=self._unassisted,
            )
        )


def _used_or_made(flow: InstalledFlow) -> FlowCount:
    return flow.count if flow.count.packets else FlowCount(flow.count.key, 0, flow.count.bytes, flow.created_at)
