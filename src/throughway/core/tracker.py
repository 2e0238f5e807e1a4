"""The tracker: events in, commands out.

It knows which hosts exchange what with which peers, and decides who gets the packets that name
nobody. It does no I/O and reads no clock, so that the daemon, the tests, the simulator and the
capture files all drive the same code.

What it knows of a protocol is in a part of its own: ESP in `esp`, L2TPv3 over IP in `l2tpv3`, GRE and everything
else in `exact`. Here is what they share: relations, bounds, time, restart.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from throughway.core.bounds import Bounds
from throughway.core.commands import Command, Record, RemoveMapping, WakeAt
from throughway.core.esp import EspPart
from throughway.core.events import (
    AdoptedFlow,
    AhFromInside,
    CountersRead,
    EspFromInside,
    EspUnclaimed,
    Event,
    FlowCount,
    HostDisowned,
    IkeMessageSeen,
    L2tpControlSeen,
    MappingsAdopted,
    OutsideAddressChanged,
    PortlessFromInside,
    PortlessUnclaimed,
    TimerExpired,
    TracesRead,
)
from throughway.core.exact import ExactPart
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Peer, Spi
from throughway.core.l2tpv3 import L2tpPart
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.core.tunnels import Refusal, Refusals, Tunnels
from throughway.core.verdicts import Certain, Verdict


class _Part(Protocol):
    """What the frame asks of the part for a protocol. Whatever removes a mapping says so by its command alone."""

    def tunnels(self) -> Iterator[Tunnels]:
        """All that hosts and peers exchange, for people."""

    def forget(self, host: Host, peer: Peer, now: float) -> list[Command]:
        """Forget all about a host and a peer. Unknown ones are no error."""

    def count(self, counts: Sequence[FlowCount], now: float) -> list[Command]:
        """Take note of counters of this part's protocols."""

    def expire(self, now: float) -> list[Command]:
        """Do what a moment asked for with WakeAt was for."""

    def sweep(self, now: float) -> list[Command]:
        """Forget what is idle."""

    def adopt(self, flows: Sequence[AdoptedFlow], now: float) -> list[Command]:
        """Take over mappings of an earlier run."""


class Tracker:
    """Decides about every flow without ports. Not thread safe; `now` must never go back."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits: Final = limits or Limits()
        self._bounds: Final = Bounds(self._limits)
        self._refusals: Final = Refusals(self._limits)
        self._esp: Final = EspPart(self._bounds)
        self._exact: Final = ExactPart(self._bounds, self._refusals)
        self._l2tpv3: Final = L2tpPart(self._bounds, self._refusals)
        self._parts: Final[tuple[_Part, ...]] = (self._esp, self._exact, self._l2tpv3)
        self._sweep_at: float | None = None
        self._on: Final[dict[type, Callable[[Any, float], list[Command]]]] = {
            EspFromInside: self._esp.on_from_inside,
            EspUnclaimed: self._esp.on_unclaimed,
            IkeMessageSeen: self._esp.on_ike_message_seen,
            HostDisowned: self._esp.on_host_disowned,
            PortlessFromInside: self._on_portless_from_inside,
            PortlessUnclaimed: self._on_portless_unclaimed,
            L2tpControlSeen: self._l2tpv3.on_control_seen,
            AhFromInside: self._on_ah_from_inside,
            CountersRead: self._on_counters_read,
            TracesRead: self._esp.on_traces_read,
            MappingsAdopted: self._on_mappings_adopted,
            OutsideAddressChanged: self._on_outside_address_changed,
            TimerExpired: self._on_timer_expired,
        }

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take note of one event and return what to do about it, in order."""
        commands: list[Command] = []
        if isinstance(event, EspFromInside | IkeMessageSeen | PortlessFromInside | L2tpControlSeen):
            commands += self._counted(self._make_room_for(event.host, event.peer, now))
        commands += self._counted(self._on[type(event)](event, now))
        if self._sweep_at is None and not (self._bounds.is_empty and self._refusals.is_empty):
            self._sweep_at = now + self._limits.sweep_every_s
            commands.append(WakeAt(self._sweep_at))
        return commands

    def _counted(self, commands: list[Command]) -> list[Command]:
        self._bounds.mappings -= sum(isinstance(command, RemoveMapping) for command in commands)
        return commands

    def _make_room_for(self, host: Host, peer: Peer, now: float) -> list[Command]:
        """Keep a host within its own bound of peers: what it used least recently is forgotten."""
        oldest = self._bounds.in_the_way(host, peer)
        if oldest is None:
            return []
        return [command for part in self._parts for command in part.forget(host, oldest, now)]

    # Queries

    def verdict(self, peer: Peer, spi: Spi) -> Verdict:
        """Say what is believed of an SPI that comes from a peer."""
        return self._esp.verdict(peer, spi)

    def owner(self, key: FlowKey) -> Host | None:
        """Say who alone gets a flow to the inside, whichever its protocol."""
        match key.protocol:
            case IpProtocol.ESP:
                verdict = self._esp.verdict(key.peer, Spi(key.discriminator))
                return verdict.host if isinstance(verdict, Certain) else None
            case IpProtocol.L2TPV3:
                return self._l2tpv3.owner(key.peer, key.discriminator)
            case _:
                return self._exact.owner(key.peer, key.protocol, key.discriminator)

    @property
    def mapping_count(self) -> int:
        """How many mappings the data plane has by now, both directions."""
        return self._bounds.mappings

    def bindings(self) -> Iterator[tuple[Peer, Spi, Verdict]]:
        """All inbound SPIs that are known, in no order."""
        return self._esp.bindings()

    def tunnels(self) -> Iterator[Tunnels]:
        """All that hosts and peers exchange by protocols without ports, one row for each host, peer and protocol."""
        for part in self._parts:
            yield from part.tunnels()

    def refusals(self) -> list[Refusal]:
        """What hosts asked for lately and may not have."""
        return self._refusals.all()

    # Packets of protocols without ports

    def _on_portless_from_inside(self, event: PortlessFromInside, now: float) -> list[Command]:
        is_l2tpv3 = event.protocol == IpProtocol.L2TPV3
        return (self._l2tpv3 if is_l2tpv3 else self._exact).on_from_inside(event, now)

    def _on_portless_unclaimed(self, event: PortlessUnclaimed, now: float) -> list[Command]:
        is_l2tpv3 = event.protocol == IpProtocol.L2TPV3
        return (self._l2tpv3 if is_l2tpv3 else self._exact).on_unclaimed(event, now)

    def _on_ah_from_inside(self, event: AhFromInside, now: float) -> list[Command]:
        """Note for people that AH was refused; the packet filter has done so already."""
        if not self._refusals.note(event.host, event.peer, IpProtocol.AH, 0, Reason.AH_REFUSED, now):
            return []
        return [Record("ah.refused", {"host": str(event.host), "peer": str(event.peer)})]

    # Time

    def _on_counters_read(self, event: CountersRead, now: float) -> list[Command]:
        counts = {part: [count for count in event.counts if self._part(count.key) is part] for part in self._parts}
        return [command for part, own in counts.items() for command in part.count(own, now)]

    def _part(self, key: FlowKey) -> _Part:
        match key.protocol:
            case IpProtocol.ESP:
                return self._esp
            case IpProtocol.L2TPV3:
                return self._l2tpv3
            case _:
                return self._exact

    def _on_timer_expired(self, event: TimerExpired, now: float) -> list[Command]:
        commands = [command for part in self._parts for command in part.expire(now)]
        if self._sweep_at is None or now < self._sweep_at:
            return commands
        self._sweep_at = None
        self._refusals.sweep(now)
        for part in self._parts:
            commands += part.sweep(now)
        return commands

    # Restart and change of address

    def _on_mappings_adopted(self, event: MappingsAdopted, now: float) -> list[Command]:
        """Take over what an earlier run decided."""
        adopted = {part: [flow for flow in event.flows if self._part(flow.key) is part] for part in self._parts}
        return [command for part, own in adopted.items() for command in part.adopt(own, now)]

    def _on_outside_address_changed(self, event: OutsideAddressChanged, now: float) -> list[Command]:
        """Keep the mappings: peers that follow the change keep their SPIs (RFC 4555), others negotiate anew."""
        return [Record("outside.address-changed", {"old": str(event.old), "new": str(event.new)})]
