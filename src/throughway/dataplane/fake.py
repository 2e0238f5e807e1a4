"""A data plane without a kernel: it executes packets, so that a test can ask where one goes.

It keeps the order of things as the real one does: a packet of an unknown flow is held and asked about;
what comes meanwhile waits behind it; a verdict opens the flow once what was held has been put back.

    (absent) --first packet--> waiting --install--> draining --reinject--> (absent, the mapping is active)
                                  \\--refuse--> refused --Limits.refused_s--> waiting

It has no rates and no time to live: these are the business of the kernel. Of UDP it carries IKE alone.
"""

import errno
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from throughway.core import discriminators
from throughway.core.errors import InvariantBroken, KernelRefused
from throughway.core.events import FlowCount, FlowTrace
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import ROUTER, SPI_RESERVED_MAX, Host, IpProtocol, Path, Peer, UdpPort
from throughway.core.limits import Limits
from throughway.core.ports import AhObserved, ControlObserved, IkeObserved, InstalledFlow, Punted
from throughway.core.reasons import Reason
from throughway.dataplane.naming import discriminator_of, port_of
from throughway.wire import gre, ike, ipv4, l2tpv3, udp

_FRAGMENTED_MAX: Final = 4096
_FRAGMENTED_S: Final = 30.0
"""For how long a later fragment is known by its first one; receivers wait 15 to 60 s (RFC 1122 section 3.3.2)."""

_CONTROL_MAX: Final = 512
"""Bytes of a control message that are observed."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One packet as it arrived at a host, or at the router's own stack where the host is ROUTER."""

    host: Host
    packet: bytes


@dataclass(slots=True)
class _Mapping:
    hosts: tuple[Host, ...]
    created_at: float
    last_packet_at: float
    slot: int = 0
    is_active: bool = False
    packets: int = 0
    bytes: int = 0
    times: deque[float] | None = None
    """When bursts began, while the flow is traced."""
    traced_at: float = float("-inf")


@dataclass(slots=True)
class _Pending:
    since: float
    refused_until: float | None = None
    held: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _FragmentName:
    source: IPv4Address
    destination: IPv4Address
    protocol: int
    identification: int
    direction: Direction


class FakeDataPlane:
    """Executes IPv4 packets by the mappings that it was given. Implements `core.ports.DataPlane`.

    Packets go in by `from_inside`, `from_outside`, `from_router` and `from_kernel_nat`. They come out in `delivered`
    and `sent`; questions come out in `punted`, control messages and refused AH in `observed`. The owner empties
    all four.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float],
        slots: Sequence[IPv4Address | None] = (),
        ports_kept: Collection[UdpPort] = (),
    ) -> None:
        self.punted: deque[Punted] = deque()
        self.observed: deque[IkeObserved | ControlObserved | AhObserved] = deque()
        self.delivered: deque[Delivery] = deque()
        self.sent: deque[bytes] = deque()
        self._limits = limits
        self._clock = clock
        self._addresses = tuple(slots)
        self._mappings: dict[FlowKey, _Mapping] = {}
        self._pending: dict[FlowKey, _Pending] = {}
        self._fragmented: dict[_FragmentName, tuple[FlowKey, float]] = {}
        self._peers: set[IPv4Address] = set()
        self._ports_kept = frozenset(ports_kept)
        self._kept: dict[IPv4Address, frozenset[UdpPort]] = {}
        self._reasons: Counter[Reason] = Counter()

    def set_outside_addresses(self, slots: Sequence[IPv4Address | None]) -> None:
        """Translate to and from these addresses from now on, each in its slot; with none, translate nothing."""
        self._addresses = tuple(slots)

    def keep_ports(self, kept: Mapping[Peer, Collection[UdpPort]]) -> None:
        """Carry UDP of these ports with these peers, besides those that are kept with every peer, and no other."""
        self._kept = {peer: frozenset(ports) for peer, ports in kept.items()}

    def install(self, key: FlowKey, hosts: Sequence[Host], slot: int = 0) -> None:
        """Give the flow to one host, or a copy to each of several; keep the counters of what was installed.

        Raises KernelRefused where the table is full or the list too long, and InvariantBroken for
        what no packet could be given to, which is the caller's fault.
        """
        if not hosts or len(set(hosts)) != len(hosts):
            raise InvariantBroken(f"{key} is given to {hosts}")
        if key.direction is Direction.TO_PEER and tuple(hosts) != (key.host,):
            raise InvariantBroken(f"{key} belongs to its host, not to {hosts}")
        if len(hosts) > self._limits.fan_out_late_max:
            raise KernelRefused(f"fan-out of {key}", errno.E2BIG, f"{len(hosts)} hosts")
        mapping = self._mappings.get(key)
        if mapping is None:
            if len(self._mappings) >= self._limits.mappings_max:
                raise KernelRefused(f"mapping of {key}", errno.E2BIG, "the table is full")
            now = self._clock()
            mapping = self._mappings[key] = _Mapping(tuple(hosts), created_at=now, last_packet_at=now)
        mapping.hosts, mapping.slot = tuple(hosts), slot
        pending = self._pending.get(key)
        if pending is None or not pending.held:
            self._pending.pop(key, None)
            mapping.is_active = True

    def reinject(self, key: FlowKey) -> None:
        """Put the held packets of the flow back in order, then open it. Without a mapping they are dropped."""
        pending = self._pending.pop(key, None)
        mapping = self._mappings.get(key)
        held = pending.held if pending else []
        if mapping is None:
            self._reasons[Reason.NO_CANDIDATE] += len(held)
            return
        mapping.is_active = True
        self._reasons[Reason.REINJECTED] += len(held)
        for packet in held:
            self._deliver(key, mapping, packet)

    def refuse(self, key: FlowKey, reason: Reason) -> None:
        """Drop what is held of the flow and what comes, for `Limits.refused_s`."""
        now = self._clock()
        pending = self._pending.setdefault(key, _Pending(now))
        self._reasons[reason] += len(pending.held)
        pending.held.clear()
        pending.refused_until = now + self._limits.refused_s

    def remove(self, key: FlowKey) -> None:
        """Forget the flow. Unknown keys are no error."""
        self._mappings.pop(key, None)

    def trace(self, key: FlowKey) -> None:
        """Note when packets of an installed flow come. One that is not installed is not traced."""
        mapping = self._mappings.get(key)
        if mapping is not None and mapping.times is None:
            mapping.times = deque(maxlen=self._limits.trace_times_max)

    def untrace(self, key: FlowKey) -> None:
        """Note the times of the flow's packets no more. Unknown keys are no error."""
        if mapping := self._mappings.get(key):
            mapping.times = None

    def traces(self) -> Iterator[FlowTrace]:
        """Read the times of all traced flows."""
        for key, mapping in tuple(self._mappings.items()):
            if mapping.times is not None:
                yield FlowTrace(key, tuple(mapping.times))

    def flows(self) -> Iterator[InstalledFlow]:
        """Read all installed flows with their counters."""
        for key, mapping in tuple(self._mappings.items()):
            count = FlowCount(key, mapping.packets, mapping.bytes, mapping.last_packet_at)
            yield InstalledFlow(mapping.hosts, count, mapping.created_at, mapping.slot)

    def reasons(self) -> dict[Reason, int]:
        """Read the packet counts by reason, since the start."""
        return dict(self._reasons)

    def forget_held(self) -> None:
        """Lose what is held and not yet said, as when the daemon is killed. Mappings and counters stay."""
        self._pending.clear()
        self.punted.clear()
        self.observed.clear()

    def from_outside(self, packet: bytes) -> None:
        """Take one packet from the outside interface. What is not carried by mappings ends here."""
        parsed = ipv4.parse(packet)
        if parsed is None or parsed.destination not in self._addresses:
            return
        if not self._is_ours(parsed, parsed.source):
            return
        key = self._name(parsed, Direction.TO_INSIDE)
        if key is None:
            return
        if parsed.source not in self._peers:
            self._reasons[Reason.NO_CANDIDATE] += 1
            return
        self._carry(key, packet)

    def from_inside(self, packet: bytes) -> None:
        """Take one packet from a host: carry what has no ports by mappings, refuse AH, let the kernel have the rest.

        Of what the kernel carries this observes IKE, and translates it with the port kept.
        """
        parsed = ipv4.parse(packet)
        if parsed is None:
            return
        is_ours = self._is_ours(parsed, parsed.destination)
        if self._observe(parsed, Host(parsed.source), Peer(parsed.destination), Direction.TO_PEER) and not is_ours:
            self._peers.add(parsed.destination)
            self._send(packet, 0)
        if parsed.protocol == IpProtocol.AH:
            self._reasons[Reason.AH_REFUSED] += 1
            self.observed.append(AhObserved(Host(parsed.source), Peer(parsed.destination)))
        if not is_ours:
            return
        key = self._name(parsed, Direction.TO_PEER)
        if key is None:
            return
        self._observe_control(parsed, Host(parsed.source), Peer(parsed.destination), Direction.TO_PEER)
        self._peers.add(parsed.destination)
        self._carry(key, packet)

    def from_kernel_nat(self, packet: bytes) -> None:
        """Take one packet to a host that the kernel's own NAT has translated: observe IKE, deliver it."""
        parsed = ipv4.parse(packet)
        if parsed is not None:
            self._observe(parsed, Host(parsed.destination), Peer(parsed.source), Direction.TO_INSIDE)
            self.delivered.append(Delivery(Host(parsed.destination), packet))

    def from_router(self, packet: bytes) -> None:
        """Take one packet of the router's own stack: it always passes; an unknown flow is asked about as a copy."""
        self.sent.append(packet)
        parsed = ipv4.parse(packet)
        if parsed is None or not parsed.has_first_bytes or not self._is_ours(parsed, parsed.destination):
            return
        name = discriminator_of(parsed)
        if name is None:
            return
        self._peers.add(parsed.destination)
        key = FlowKey.to_peer(parsed.protocol, ROUTER, Peer(parsed.destination), name, port_of(parsed))
        mapping = self._mappings.get(key)
        if mapping is None:
            self.punted.append(Punted(key, packet, is_copy=True))
        else:
            self._count(mapping, packet)

    def _is_ours(self, packet: ipv4.Ipv4Packet, peer: IPv4Address) -> bool:
        """Tell whether a packet is carried by mappings: no ports and not the GRE of PPTP, or a port that is kept."""
        if packet.protocol == IpProtocol.UDP:
            return port_of(packet) in self._ports_kept | self._kept.get(peer, frozenset())
        if packet.protocol == IpProtocol.GRE and packet.has_first_bytes:
            header = gre.parse(packet.payload)
            return header is None or header.version != gre.VERSION_PPTP
        return discriminators.is_ours(packet.protocol)

    def _name(self, packet: ipv4.Ipv4Packet, direction: Direction) -> FlowKey | None:
        """Name the flow of a packet or fragment; None where it was dropped and counted."""
        name = _FragmentName(packet.source, packet.destination, packet.protocol, packet.identification, direction)
        if not packet.has_first_bytes:
            key, seen_at = self._fragmented.get(name, (None, 0.0))
            if key is None or self._clock() - seen_at > _FRAGMENTED_S:
                self._reasons[Reason.FRAGMENT_BEFORE_FIRST] += 1
                return None
            return key
        discriminator = discriminator_of(packet)
        is_reserved = packet.protocol == IpProtocol.ESP and discriminator in range(SPI_RESERVED_MAX + 1)
        if discriminator is None or is_reserved:
            self._reasons[Reason.MALFORMED if discriminator is None else Reason.RESERVED_SPI] += 1
            return None
        if direction is Direction.TO_INSIDE:
            path = Path(Peer(packet.source), self._addresses.index(packet.destination))
            key = FlowKey.to_inside(packet.protocol, path, discriminator, port_of(packet))
        else:
            host, peer = Host(packet.source), Peer(packet.destination)
            key = FlowKey.to_peer(packet.protocol, host, peer, discriminator, port_of(packet))
        if packet.more_fragments:
            while len(self._fragmented) >= _FRAGMENTED_MAX:
                del self._fragmented[next(iter(self._fragmented))]
            self._fragmented[name] = (key, self._clock())
        return key

    def _carry(self, key: FlowKey, packet: bytes) -> None:
        mapping = self._mappings.get(key)
        if mapping is not None and mapping.is_active:
            self._deliver(key, mapping, packet)
        else:
            self._hold(key, packet)

    def _hold(self, key: FlowKey, packet: bytes) -> None:
        """Let the packet wait behind those before it; ask about the flow where nobody has."""
        now = self._clock()
        pending = self._pending.get(key)
        if pending is not None and pending.refused_until is not None:
            if now < pending.refused_until:
                self._reasons[Reason.REFUSED] += 1
                return
            pending = None
        elif pending is not None and now - pending.since > self._limits.held_s:
            self._reasons[Reason.HELD_TOO_LONG] += len(pending.held)
            pending = None
        if pending is None:
            if not self._has_room_for(key, now):
                self._reasons[Reason.PENDING_FULL] += 1
                return
            pending = self._pending[key] = _Pending(now)
            self.punted.append(Punted(key, packet, is_copy=False))
        if len(pending.held) >= self._limits.held_per_flow_max:
            self._reasons[Reason.HOLD_FULL] += 1
            return
        self._reasons[Reason.PUNTED] += 1
        pending.held.append(packet)

    def _has_room_for(self, key: FlowKey, now: float) -> bool:
        """Tell whether one more flow may wait, once refusals that have ended are forgotten."""
        if key not in self._pending and len(self._pending) >= self._limits.pending_max:
            ended = [k for k, p in self._pending.items() if p.refused_until is not None and p.refused_until <= now]
            for name in ended:
                del self._pending[name]
        return key in self._pending or len(self._pending) < self._limits.pending_max

    def _deliver(self, key: FlowKey, mapping: _Mapping, packet: bytes) -> None:
        self._count(mapping, packet)
        if key.direction is Direction.TO_PEER:
            self._reasons[Reason.TRANSLATED_TO_PEER] += 1
            self._send(packet, mapping.slot)
            return
        for host in mapping.hosts:
            is_own = host == ROUTER
            self._reasons[Reason.ROUTER_OWN if is_own else Reason.TRANSLATED_TO_INSIDE] += 1
            self.delivered.append(Delivery(host, packet if is_own else ipv4.with_destination(packet, host)))
            parsed = ipv4.parse(packet)
            if parsed is not None and not is_own:
                self._observe_control(parsed, host, key.peer, Direction.TO_INSIDE)
                self._observe(parsed, host, key.peer, Direction.TO_INSIDE)
        self._reasons[Reason.FAN_OUT_COPY] += len(mapping.hosts) - 1

    def _send(self, packet: bytes, slot: int) -> None:
        """Send a host's packet from the address in a slot. Its inside address never leaves."""
        address = self._addresses[slot] if slot < len(self._addresses) else None
        if address is None:
            self._reasons[Reason.NO_OUTSIDE_ADDRESS] += 1
        else:
            self.sent.append(ipv4.with_source(packet, address))

    def _count(self, mapping: _Mapping, packet: bytes) -> None:
        mapping.packets += 1
        mapping.bytes += len(packet)
        now = self._clock()
        if mapping.times is not None and now - mapping.traced_at >= self._limits.trace_gap_s:
            mapping.times.append(now)
        mapping.last_packet_at = mapping.traced_at = now

    def _observe_control(self, packet: ipv4.Ipv4Packet, host: Host, peer: Peer, direction: Direction) -> None:
        """Note an L2TPv3 control message between a host and a peer."""
        if packet.protocol == IpProtocol.L2TPV3 and packet.has_first_bytes and not l2tpv3.session_id(packet.payload):
            message = packet.payload[l2tpv3.SESSION_ID_SIZE :][:_CONTROL_MAX]
            self.observed.append(ControlObserved(host, peer, direction, packet.protocol, message))

    def _observe(self, packet: ipv4.Ipv4Packet, host: Host, peer: Peer, direction: Direction) -> bool:
        """Note the head of an IKE message between a host and a peer; tell whether it was one."""
        is_udp = packet.protocol == IpProtocol.UDP and packet.has_first_bytes
        datagram = udp.parse(packet.payload) if is_udp else None
        if datagram is None:
            return False
        port = datagram.destination_port if direction is Direction.TO_PEER else datagram.source_port
        floated = port == udp.NAT_T_PORT
        message = udp.strip_non_esp_marker(datagram.payload) if floated else datagram.payload
        if port not in (udp.IKE_PORT, udp.NAT_T_PORT) or message is None or len(message) < ike.HEADER_SIZE:
            return False
        host_port = datagram.source_port if direction is Direction.TO_PEER else datagram.destination_port
        self.observed.append(IkeObserved(host, peer, direction, floated, message, host_port=host_port))
        return True
