"""What the flows of sessions have carried, added up over their mappings: an SPI comes and goes, its flow stays."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import islice
from typing import Final

from throughway.core.addresses import Slots
from throughway.core.commands import Command, InstallMapping, RemoveMapping
from throughway.core.events import FlowCount
from throughway.core.flows import Direction, FlowKey
from throughway.core.ports import InstalledFlow
from throughway.service.noticing import flow_of
from throughway.sessions.facts import NOTHING, Counted, Fact, FlowGone, FlowName, Traffic
from throughway.sessions.register import Register

GONE: Final = "the gateway has forgotten its idle mappings"
"""Why a flow of the data plane is gone: its last mapping was removed (docs/limits.md)."""

_NONE: Final = (0, 0)
"""Packets and bytes of a mapping that nothing was read of."""


@dataclass(slots=True)
class _Tally:
    """The latest counters of a flow's mappings, and what they and those that were removed have carried together.

    The sums are kept and not made at each reading: a flow may have hundreds of mappings, each read by itself. Of a
    million mappings every object counts, so there are packets and bytes alone of each, and `alone` is the one tuple for
    all that are this flow's and no other's.
    """

    alone: tuple[FlowName]
    counts: dict[FlowKey, tuple[int, int]] = field(default_factory=dict)
    sums: dict[Direction, Traffic] = field(default_factory=dict)
    slot: int = 0

    def traffic(self, direction: Direction) -> Traffic:
        """Return what one direction has carried."""
        return self.sums.get(direction, NOTHING)

    def read(self, count: FlowCount) -> None:
        """Take the counters of a mapping in place of those before."""
        packets, octets = self.counts.get(count.key, _NONE)
        self.counts[count.key] = (count.packets, count.bytes)
        if count.packets:
            self._add(count.key.direction, count.packets - packets, count.bytes - octets, count.last_packet_at)
        elif packets:
            self._add(count.key.direction, -packets, -octets, None)

    def withdraw(self, key: FlowKey) -> None:
        """Count a mapping no more, which is another flow's."""
        packets, octets = self.counts.pop(key, _NONE)
        if packets:
            self._add(key.direction, -packets, -octets, None)

    def _add(self, direction: Direction, packets: int, octets: int, last_at: float | None) -> None:
        so_far = self.traffic(direction)
        latest = max((at for at in (so_far.last_at, last_at) if at is not None), default=None)
        self.sums[direction] = Traffic(so_far.packets + packets, so_far.bytes + octets, latest)


class Counting:
    """Makes facts of the counters of mappings, for flows that the register knows. Bounded by it.

    Towards the inside a mapping belongs to whoever gets it. While it is contested that is each candidate, so none of
    them passes for one that hears nothing.
    """

    def __init__(self, register: Register) -> None:
        self._register: Final = register
        self._tallies: Final[dict[FlowName, _Tally]] = {}
        self._names: Final[dict[FlowKey, tuple[FlowName, ...]]] = {}
        self._moved: Final[dict[FlowName, None]] = {}

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
                self._tallies[other].withdraw(key)
        for name in names:
            tally = self._tallies.get(name)
            if tally is None:
                tally = self._tallies[name] = _Tally((name,))
            tally.counts.setdefault(key, _NONE)
            if key.direction is Direction.TO_PEER:
                tally.slot = slot
        if names:
            self._names[key] = self._tallies[names[0]].alone if len(names) == 1 else names
        else:
            self._names.pop(key, None)

    def _removed(self, key: FlowKey) -> list[Fact]:
        facts: list[Fact] = []
        for name in self._names.pop(key, ()):
            tally = self._tallies.get(name)
            if tally is None:
                continue
            tally.counts.pop(key, None)
            if not tally.counts:
                del self._tallies[name]
                facts.append(FlowGone(name, GONE))
        return facts

    def on_flows(self, flows: Iterable[InstalledFlow]) -> None:
        """Take a reading of some mappings; `moved` tells what it has changed."""
        for flow in flows:
            key = flow.count.key
            names = tuple(flow_of(host, key) for host in flow.hosts)
            if names != self._names.get(key):
                self._hold(key, names, flow.slot)
            for name in self._names.get(key, ()):
                tally = self._tallies[name]
                if tally.counts.get(key) != (flow.count.packets, flow.count.bytes):
                    tally.read(flow.count)
                    self._moved[name] = None

    def moved(self, slots: Slots, most: int) -> list[Fact]:
        """Say what flows have carried by now that moved and were not told of since: so many, the others next time."""
        names = list(islice(self._moved, most))
        for name in names:
            del self._moved[name]
        return [self._counted(name, slots) for name in names if name in self._tallies]

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
