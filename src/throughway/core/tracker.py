"""The tracker: events in, commands out.

It knows which hosts exchange what with which peers, and decides who gets the packets that name
nobody. It does no I/O and reads no clock, so that the daemon, the tests, the simulator and the
capture files all drive the same code.

What it knows of a protocol is in a part of its own: ESP in `esp`, L2TPv3 over IP in `l2tpv3`, IKE and L2TP whose port
is kept in `kept_ike` and `kept_l2tp`, GRE and everything else in `exact`. Here is what they share: relations,
bounds, time, restart.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Final, Protocol

from throughway.core.addresses import Addresses
from throughway.core.blocking import NOTHING_WITHHELD
from throughway.core.bounds import Bounds
from throughway.core.commands import Command, Record, Refuse, RemoveMapping, TranslatePort, WakeAt
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
    OutsideAddressesChanged,
    PathChosen,
    PortlessFromInside,
    PortlessUnclaimed,
    PortsRemembered,
    RouterSaAdded,
    RouterSaDeleted,
    SwitchesSet,
    TimerExpired,
    TracesRead,
)
from throughway.core.exact import ExactPart
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Peer, Spi, UdpPort
from throughway.core.kept_ike import KeptIkePart
from throughway.core.kept_l2tp import KeptL2tpPart
from throughway.core.kept_ports import KeptPorts, PortSetting
from throughway.core.l2tpv3 import L2tpPart
from throughway.core.l2tpv3_state import assigned_by
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.core.tunnels import Refusal, Refusals, Tunnels
from throughway.core.verdicts import Certain, Verdict

_FROM_HOST: Final = EspFromInside | IkeMessageSeen | PortlessFromInside | L2tpControlSeen
"""What shows that a host exchanges something with a peer."""


class _Part(Protocol):
    """What the frame asks of the part for a protocol. Whatever removes a mapping says so by its command alone."""

    def tunnels(self) -> Iterator[Tunnels]:
        """All that hosts and peers exchange, for people."""

    def forget(self, host: Host, path: Path, now: float) -> list[Command]:
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
    """Decides about every flow that no translated port names. Not thread safe; `now` must never go back.

    `ports` says which UDP ports are kept; one that is not there is `auto`.
    """

    def __init__(self, limits: Limits | None = None, ports: Mapping[UdpPort, PortSetting] | None = None) -> None:
        self._limits: Final = limits or Limits()
        self._bounds: Final = Bounds(self._limits)
        self._refusals: Final = Refusals(self._limits)
        self._esp: Final = EspPart(self._bounds)
        self._exact: Final = ExactPart(self._bounds, self._refusals)
        self._l2tpv3: Final = L2tpPart(self._bounds, self._refusals)
        self._kept: Final = KeptPorts(self._bounds, ports or {})
        self._kept_ike: Final = KeptIkePart(self._bounds, self._refusals, self._kept)
        self._kept_l2tp: Final = KeptL2tpPart(self._bounds, self._refusals, self._kept)
        self._parts: Final[tuple[_Part, ...]] = (
            self._esp,
            self._exact,
            self._l2tpv3,
            self._kept_ike,
            self._kept_l2tp,
        )
        self._withheld = NOTHING_WITHHELD
        self._sweep_at: float | None = None
        self._on: Final[dict[type, Callable[[Any, float], list[Command]]]] = {
            EspFromInside: self._esp.on_from_inside,
            EspUnclaimed: self._esp.on_unclaimed,
            IkeMessageSeen: self._on_ike_message_seen,
            HostDisowned: self._esp.on_host_disowned,
            PortlessFromInside: self._on_portless_from_inside,
            PortlessUnclaimed: self._on_portless_unclaimed,
            L2tpControlSeen: self._on_l2tp_control_seen,
            AhFromInside: self._on_ah_from_inside,
            RouterSaAdded: self._esp.on_router_sa_added,
            RouterSaDeleted: self._esp.on_router_sa_deleted,
            CountersRead: self._on_counters_read,
            TracesRead: self._esp.on_traces_read,
            MappingsAdopted: self._on_mappings_adopted,
            PortsRemembered: self._on_ports_remembered,
            OutsideAddressesChanged: self._on_outside_addresses_changed,
            PathChosen: self._on_path_chosen,
            SwitchesSet: self._on_switches_set,
            TimerExpired: self._on_timer_expired,
        }

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take note of one event and return what to do about it, in order."""
        commands: list[Command] = []
        if (refused := self._withhold(event)) is not None:
            return refused
        if isinstance(event, _FROM_HOST):
            commands += self._counted(self._make_room_for(event.host, event.peer, now), now)
        if isinstance(event, RouterSaAdded):
            commands += self._counted(self._make_room_for(ROUTER, event.path.peer, now), now)
        commands += self._counted(self._on[type(event)](event, now), now)
        if isinstance(event, _FROM_HOST) and not self._bounds.is_related(event.host, event.peer):
            self._bounds.forget_path(event.host, event.peer)  # It was chosen for what was refused.
        commands += self._bounds.take_forgotten()
        if self._sweep_at is None and not (self._bounds.is_empty and self._refusals.is_empty):
            self._sweep_at = now + self._limits.sweep_every_s
            commands.append(WakeAt(self._sweep_at))
        return commands

    def _withhold(self, event: Event) -> list[Command] | None:
        """Answer an event about what a switch keeps from us; None for all others. What the router has is its own.

        An IKE message is heard all the same, save by what counts credits: its port may have to be kept.
        """
        match event:
            case EspFromInside(host=host, peer=peer, spi_to_peer=spi):
                key = FlowKey.to_peer(IpProtocol.ESP, host, peer, spi)
            case PortlessFromInside(host=host, peer=peer, protocol=protocol, discriminator=name, port=0):
                key = FlowKey.to_peer(protocol, host, peer, name)
            case L2tpControlSeen(host=host, peer=peer, port=0):
                return [] if self._is_withheld(IpProtocol.L2TPV3, host, peer) else None
            case _:
                return None
        if not self._is_withheld(key.protocol, host, peer):
            return None
        return [Refuse(key, Reason.SWITCHED_OFF, "switched.off")]

    def _is_withheld(self, protocol: int, host: Host, peer: Peer) -> bool:
        return host != ROUTER and self._withheld.is_withheld(protocol, host, peer)

    def _counted(self, commands: list[Command], now: float) -> list[Command]:
        """Count what is removed, after the flows of ports that are the kernel's again."""
        ended = [command for command in commands if isinstance(command, TranslatePort)]
        for command in ended:
            part = self._kept_ike if command.port is UdpPort.IKE else self._kept_l2tp
            commands += part.forget_peer(command.peer, now)
        self._bounds.mappings -= sum(isinstance(command, RemoveMapping) for command in commands)
        return commands

    def _make_room_for(self, host: Host, peer: Peer, now: float) -> list[Command]:
        """Keep a host within its own bound of peers: what it used least recently is forgotten."""
        oldest = self._bounds.in_the_way(host, peer)
        if oldest is None:
            return []
        return self._forget(host, self.addresses.paths(host, oldest), now)

    def _forget(self, host: Host, paths: Sequence[Path], now: float) -> list[Command]:
        for path in paths:
            self._kept.forget(host, path.peer)
        return [command for path in paths for part in self._parts for command in part.forget(host, path, now)]

    # Queries

    @property
    def addresses(self) -> Addresses:
        """Which of our addresses each host uses. To be read only."""
        return self._bounds.addresses

    def wanted_path(self, event: Event) -> tuple[Host, Path] | None:
        """Propose a path for the host of this event. None where it has one, or where there is nothing to choose."""
        if not isinstance(event, _FROM_HOST) or event.host == ROUTER or not self.addresses.is_choice:
            return None
        if self.addresses.paths(event.host, event.peer):
            return None
        return event.host, self.addresses.choose(event.host, event.peer, lambda path: self._is_free(path, event))

    def _is_free(self, path: Path, event: Event) -> bool:
        """Whether nobody on a path has what a host asks for by this event."""
        match event:
            case PortlessFromInside(protocol=protocol, discriminator=name, port=port) if not _is_l2tp(protocol, port):
                names = [name]
            case L2tpControlSeen(message=message, port=port):
                protocol = IpProtocol.UDP if port else IpProtocol.L2TPV3
                names = assigned_by(message)
            case _:
                return True
        return all(self.owner(FlowKey.to_inside(protocol, path, name, port)) is None for name in names)

    def verdict(self, path: Path, spi: Spi) -> Verdict:
        """Say what is believed of an SPI that comes from a peer."""
        return self._esp.verdict(path, spi)

    def ends_of_reading(self) -> Iterator[CountersRead]:
        """End a reading of counters, as often as there are peers that it told of and that were not judged yet."""
        while self._esp.judging.has_more:
            yield CountersRead(())

    def owner(self, key: FlowKey) -> Host | None:
        """Say who alone gets a flow to the inside, whichever its protocol."""
        match key.protocol:
            case IpProtocol.ESP:
                verdict = self._esp.verdict(key.path, Spi(key.discriminator))
                return verdict.host if isinstance(verdict, Certain) else None
            case IpProtocol.L2TPV3:
                return self._l2tpv3.owner(key.path, key.discriminator)
            case IpProtocol.UDP:
                return (self._kept_ike if key.port == UdpPort.IKE else self._kept_l2tp).owner(key)
            case _:
                return self._exact.owner(key)

    @property
    def mapping_count(self) -> int:
        """How many mappings the data plane has by now, both directions."""
        return self._bounds.mappings

    def bindings(self) -> Iterator[tuple[Path, Spi, Verdict]]:
        """All inbound SPIs that are known, in no order."""
        return self._esp.bindings()

    def tunnels(self) -> Iterator[Tunnels]:
        """All that hosts and peers exchange by protocols without ports, one row for each host, peer and protocol."""
        for part in self._parts:
            yield from part.tunnels()

    def ports_learned(self) -> list[tuple[Peer, UdpPort]]:
        """Say with which peers a port is kept because that was learned, the oldest first."""
        return self._kept.learned()

    def refusals(self) -> list[Refusal]:
        """What hosts asked for lately and may not have."""
        return self._refusals.all()

    # Packets and messages

    def _on_portless_from_inside(self, event: PortlessFromInside, now: float) -> list[Command]:
        return self._asked(event.protocol, event.port).on_from_inside(event, now)

    def _on_portless_unclaimed(self, event: PortlessUnclaimed, now: float) -> list[Command]:
        return self._asked(event.protocol, event.port).on_unclaimed(event, now)

    def _asked(self, protocol: int, port: int) -> ExactPart | L2tpPart | KeptIkePart | KeptL2tpPart:
        """Return the part that decides about a protocol that is not ESP."""
        match protocol:
            case IpProtocol.L2TPV3:
                return self._l2tpv3
            case IpProtocol.UDP:
                return self._kept_ike if port == UdpPort.IKE else self._kept_l2tp
            case _:
                return self._exact

    def _on_ike_message_seen(self, event: IkeMessageSeen, now: float) -> list[Command]:
        """Hear what a message says of ESP, and what of its own port."""
        if self._is_withheld(IpProtocol.ESP, event.host, event.peer):
            return self._kept_ike.on_message_seen(event, now)
        return self._esp.on_ike_message_seen(event, now) + self._kept_ike.on_message_seen(event, now)

    def _on_l2tp_control_seen(self, event: L2tpControlSeen, now: float) -> list[Command]:
        return (self._kept_l2tp if event.port else self._l2tpv3).on_control_seen(event, now)

    def _on_ah_from_inside(self, event: AhFromInside, now: float) -> list[Command]:
        """Note for people that AH was refused; the packet filter has done so already."""
        if not self._refusals.note(event.host, event.peer, IpProtocol.AH, 0, Reason.AH_REFUSED, now):
            return []
        return [Record("ah.refused", {"host": str(event.host), "peer": str(event.peer)})]

    def _on_switches_set(self, event: SwitchesSet, now: float) -> list[Command]:
        """Forget what the switches keep from us now. So it has no mapping, and no host is a candidate for it."""
        self._withheld = event.withheld
        commands = self._kept.leave(event.withheld.ports)
        for host, path in self._bounds.relations() if event.withheld else ():
            if self._is_withheld(IpProtocol.ESP, host, path.peer):
                commands += self._esp.forget(host, path, now)
            if self._is_withheld(IpProtocol.L2TPV3, host, path.peer):
                commands += self._l2tpv3.forget(host, path, now)
            is_meant = partial(self._is_withheld, host=host, peer=path.peer)
            commands += self._exact.forget(host, path, now, is_meant)
        return commands

    # Time

    def _on_counters_read(self, event: CountersRead, now: float) -> list[Command]:
        counts = {part: [count for count in event.counts if self._part(count.key) is part] for part in self._parts}
        commands = [command for part, own in counts.items() for command in part.count(own, now)]
        return commands + (self._esp.judging.judge(now) if event.is_last else [])

    def _part(self, key: FlowKey) -> _Part:
        return self._esp if key.protocol == IpProtocol.ESP else self._asked(key.protocol, key.port)

    def _on_timer_expired(self, event: TimerExpired, now: float) -> list[Command]:
        commands = [command for part in self._parts for command in part.expire(now)]
        if self._sweep_at is None or now < self._sweep_at:
            return commands
        self._sweep_at = None
        self._refusals.sweep(now)
        commands += self._kept.sweep(now)
        for part in self._parts:
            commands += part.sweep(now)
        return commands

    # Restart and change of address

    def _on_ports_remembered(self, event: PortsRemembered, now: float) -> list[Command]:
        """Keep what an earlier run has learned to keep."""
        return [command for peer, port in event.ports for command in self._kept.remember(peer, port)]

    def _on_mappings_adopted(self, event: MappingsAdopted, now: float) -> list[Command]:
        """Take over what an earlier run decided; the addresses that hosts send from come first.

        What does not agree with them is asked about again: that run ended while it gave a host another one.
        """
        commands: list[Command] = []
        agreed: list[AdoptedFlow] = []
        for flow in sorted(event.flows, key=lambda flow: flow.key.direction is Direction.TO_INSIDE):
            key, peer = flow.key, flow.key.peer
            path = key.path if key.direction is Direction.TO_INSIDE else Path(peer, flow.slot)
            if all(host == ROUTER or self.addresses.paths(host, peer) in ([], [path]) for host in flow.hosts):
                agreed.append(flow)
                for host in flow.hosts:
                    self.addresses.join(host, path)
            else:
                self._bounds.mappings += 1
                commands.append(RemoveMapping(key))
        for part in self._parts:
            commands += part.adopt([flow for flow in agreed if self._part(flow.key) is part], now)
        for flow in agreed:
            for host in flow.hosts:
                if not self._bounds.is_related(host, flow.key.peer):
                    self._bounds.forget_path(host, flow.key.peer)
        return commands

    def _on_path_chosen(self, event: PathChosen, now: float) -> list[Command]:
        """Take note of a path; it is forgotten again where nothing comes of it."""
        self.addresses.join(event.host, event.path)
        return []

    def _on_outside_addresses_changed(self, event: OutsideAddressesChanged, now: float) -> list[Command]:
        """Keep the mappings: peers that follow the change keep their SPIs (RFC 4555), others negotiate anew.

        What went by an address in whose place there is none is forgotten, so that it can go by another one.
        """
        commands: list[Command] = []
        self.addresses.usable = event.usable or self.addresses.usable
        if event.usable:
            for host, path in self.addresses.lost():
                commands += self._forget(host, [path], now)
        if set(event.old) != set(event.new):
            commands.append(Record("outside.address-changed", {"old": _words(event.old), "new": _words(event.new)}))
        return commands


def _is_l2tp(protocol: int, port: int) -> bool:
    """Whether a host names what it sends by what the peer has assigned, which says nothing of what comes back."""
    return protocol == IpProtocol.L2TPV3 or port == UdpPort.L2TP


def _words(addresses: Sequence[IPv4Address]) -> str:
    return ", ".join(str(address) for address in addresses) or "none"
