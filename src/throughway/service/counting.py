"""What the flows of sessions have carried, added up over their mappings: an SPI comes and goes, its flow stays."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from throughway.core.addresses import Slots
from throughway.core.commands import Command, InstallMapping, RemoveMapping
from throughway.core.events import FlowCount
from throughway.core.flows import Direction, FlowKey
from throughway.core.ports import InstalledFlow
from throughway.service.noticing import flow_of
from throughway.sessions.facts import Counted, Fact, FlowGone, FlowName, Traffic
from throughway.sessions.register import Register

GONE: Final = "the gateway has forgotten its idle mappings"
"""Why a flow of the data plane is gone: its last mapping was removed (docs/limits.md)."""


@dataclass(slots=True)
class _Tally:
    """The latest counters of a flow's mappings, and what those had carried that were removed since."""

    counts: dict[FlowKey, FlowCount] = field(default_factory=dict)
    removed: dict[Direction, Traffic] = field(default_factory=dict)
    slot: int = 0

    def traffic(self, direction: Direction) -> Traffic:
        """Add up one direction."""
        before = self.removed.get(direction, Traffic())
        counts = [count for key, count in self.counts.items() if key.direction is direction and count.packets]
        times = [at for at in (before.last_at, *(count.last_packet_at for count in counts)) if at is not None]
        return Traffic(
            before.packets + sum(count.packets for count in counts),
            before.bytes + sum(count.bytes for count in counts),
            max(times, default=None),
        )

    def retire(self, key: FlowKey) -> None:
        """Keep what a mapping had carried, without the mapping."""
        count = self.counts.pop(key, None)
        if count is not None and count.packets:
            before = self.removed.get(key.direction, Traffic())
            last_at = max(before.last_at or 0.0, count.last_packet_at)
            self.removed[key.direction] = Traffic(before.packets + count.packets, before.bytes + count.bytes, last_at)


class Counting:
    """Makes facts of the counters of mappings, for flows that the register knows. Bounded by it.

    Towards the inside a mapping belongs to whoever gets it. While it is contested that is each candidate, so none of
    them passes for one that hears nothing.
    """

    def __init__(self, register: Register) -> None:
        self._register: Final = register
        self._tallies: Final[dict[FlowName, _Tally]] = {}
        self._names: Final[dict[FlowKey, tuple[FlowName, ...]]] = {}

    def on_command(self, command: Command) -> list[Fact]:
        """Take note of a mapping that comes or goes; say which flow has none left."""
        match command:
            case InstallMapping(key, host, slot):
                self._hold(key, (flow_of(host, key),), slot)
                return []
            case RemoveMapping(key):
                return self._removed(key)
            case _:
                return []

    def _hold(self, key: FlowKey, names: tuple[FlowName, ...], slot: int) -> None:
        names = tuple(name for name in names if self._register.knows(name))
        before = self._names.get(key, ())
        for other in before:
            if other not in names and other in self._tallies:
                self._tallies[other].counts.pop(key, None)
        if names:
            self._names[key] = names
        else:
            self._names.pop(key, None)
        for name in names:
            tally = self._tallies.setdefault(name, _Tally())
            tally.counts.setdefault(key, FlowCount(key, 0, 0, 0.0))
            if key.direction is Direction.TO_PEER:
                tally.slot = slot

    def _removed(self, key: FlowKey) -> list[Fact]:
        facts: list[Fact] = []
        for name in self._names.pop(key, ()):
            tally = self._tallies.get(name)
            if tally is None:
                continue
            tally.retire(key)
            if not tally.counts:
                del self._tallies[name]
                facts.append(FlowGone(name, GONE))
        return facts

    def on_flows(self, flows: Iterable[InstalledFlow], slots: Slots) -> list[Fact]:
        """Take a reading of some mappings, and say what their flows have carried by now, where they moved."""
        moved: dict[FlowName, None] = {}
        for flow in flows:
            key = flow.count.key
            names = tuple(flow_of(host, key) for host in flow.hosts)
            if names != self._names.get(key):
                self._hold(key, names, flow.slot)
            for name in self._names.get(key, ()):
                tally = self._tallies[name]
                if tally.counts.get(key) != flow.count:
                    tally.counts[key] = flow.count
                    moved[name] = None
        return [self._counted(name, slots) for name in moved]

    def _counted(self, name: FlowName, slots: Slots) -> Counted:
        tally = self._tallies[name]
        address: IPv4Address | None = slots[tally.slot] if tally.slot < len(slots) else None
        words = f"{address} port {name.source}" if address and name.source else str(address or "")
        return Counted(name, tally.traffic(Direction.TO_PEER), tally.traffic(Direction.TO_INSIDE), words)

    def sweep(self) -> None:
        """Forget flows that the register knows no more."""
        for name in [name for name in self._tallies if not self._register.knows(name)]:
            for key in self._tallies.pop(name).counts:
                left = tuple(other for other in self._names.get(key, ()) if other != name)
                if left:
                    self._names[key] = left
                else:
                    self._names.pop(key, None)
