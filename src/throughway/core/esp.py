"""The part of the tracker that decides about ESP: who owns which SPI (see `bindings` and `deciding`)."""

from collections.abc import Iterator, Sequence
from typing import Final

from throughway.core import adopting, deciding, disowning, ranking, repairing, resolving, strays
from throughway.core.bindings import Binding, PeerState
from throughway.core.bounds import Bounds
from throughway.core.commands import Command, InstallMapping, Refuse, Reinject, RemoveMapping, give
from throughway.core.credits import HostAtPeer
from throughway.core.events import (
    AdoptedFlow,
    EspFromInside,
    EspUnclaimed,
    FlowCount,
    FlowTrace,
    HostDisowned,
    IkeExchange,
    IkeMessageSeen,
    RouterSaAdded,
    RouterSaDeleted,
    TracesRead,
)
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Peer, Spi, hashed
from throughway.core.judging import Judging
from throughway.core.reasons import Reason
from throughway.core.tunnels import Tunnels
from throughway.core.verdicts import Basis, Unknown, Verdict

_ROUTER_SAS: Final = "router-sas"
"""Holds the relation of the router and a peer for as long as the kernel has security associations."""


class EspPart:
    """Credits hosts by what is seen of IKE, and gives inbound SPIs to them."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds: Final = bounds
        self._limits: Final = bounds.limits
        self._peers: Final[dict[Path, PeerState]] = {}
        self._tracing: Final = resolving.Tracing(bounds.limits)
        self.judging: Final = Judging(self._peers, bounds, self._tracing)

    # Queries

    def verdict(self, path: Path, spi: Spi) -> Verdict:
        """Say what is believed of an SPI that comes from a peer."""
        state = self._peers.get(path)
        binding = state.bindings.get(spi) if state else None
        return binding.verdict if binding else Unknown()

    def bindings(self) -> Iterator[tuple[Path, Spi, Verdict]]:
        """All inbound SPIs that are known, in no order."""
        for state in self._peers.values():
            for binding in state.bindings.values():
                yield state.path, binding.spi, binding.verdict

    def tunnels(self) -> Iterator[Tunnels]:
        """All hosts and peers between which there is ESP, in the order in which they were met."""
        for state in self._peers.values():
            certain: dict[Host, list[Binding]] = {}
            contested: dict[Host, list[Binding]] = {}
            for binding in state.bindings.values():
                shelf = contested if len(binding.candidates) > 1 else certain
                for candidate in binding.candidates:
                    shelf.setdefault(candidate, []).append(binding)
            for host in state.hosts.values():
                own = certain.get(host.host, [])
                shared = contested.get(host.host, [])
                begun = [sa.first_at for sa in host.outgoing.values()] + [binding.first_at for binding in own]
                if begun:
                    yield Tunnels(
                        host=host.host,
                        peer=state.path.peer,
                        slot=state.path.slot,
                        protocol=IpProtocol.ESP,
                        to_peer=tuple(host.outgoing),
                        to_inside=tuple(binding.spi for binding in own),
                        contested=tuple(binding.spi for binding in shared),
                        rivals=max((len(binding.candidates) for binding in shared), default=1),
                        first_at=min(begun),
                    )

    # What comes from inside

    def on_from_inside(self, event: EspFromInside, now: float) -> list[Command]:
        """Give the host its SPI towards the peer, which may be the sign of one that comes back."""
        key = FlowKey.to_peer(IpProtocol.ESP, event.host, event.peer, event.spi_to_peer)
        path = self._bounds.path(event.host, event.peer, event.slot)
        host = self._meet(event.host, path, now, is_start=False)
        if host is None:
            return [Refuse(key, Reason.REFUSED, "hosts.limit")]
        commands: list[Command] = []
        state = self._peers[path]
        if event.spi_to_peer not in host.outgoing:
            commands += self._make_room_outgoing(host, event.peer)
            commands += self._removed(state, commands)
            if not self._bounds.has_room(commands):
                return [*commands, Refuse(key, Reason.REFUSED, "mappings.limit")]
            is_new = event.sequence <= self._limits.new_sa_sequence_max
            unexplained = host.see_outgoing(event.spi_to_peer, now, is_new=is_new)
            self._bounds.mappings += 1
            if host.credits_left(now):
                state.creditors[host.host] = host
            if unexplained:
                commands += deciding.widen(state, host, now, self._limits)
        commands += [InstallMapping(key, event.host, path.slot), Reinject(key)]
        if any(event.host in binding.offered for binding in state.open.values()):
            commands += self._tracing.begin(state, [key])
        return commands

    def _make_room_outgoing(self, host: HostAtPeer, peer: Peer) -> list[Command]:
        """Keep a host within its own bound: its least recently used SPI makes room."""
        if len(host.outgoing) < self._limits.spis_per_host_and_peer_max:
            return []
        oldest = min(host.outgoing, key=lambda spi: host.outgoing[spi].last_packet_at)
        del host.outgoing[oldest]
        return [RemoveMapping(FlowKey.to_peer(IpProtocol.ESP, host.host, peer, oldest))]

    def on_ike_message_seen(self, event: IkeMessageSeen, now: float) -> list[Command]:
        """Credit the host for an exchange that may agree on a child SA."""
        is_start = event.exchange is IkeExchange.INITIAL
        path = self._bounds.path(event.host, event.peer, event.slot)
        host = self._meet(event.host, path, now, is_start=is_start)
        if host is None:
            return []
        state = self._peers[path]
        commands: list[Command] = []
        if is_start and event.from_host and not host.has_ike_sa(event.initiator_spi):
            commands += repairing.doubt(state, event.host, now, self._limits)
        is_rekey = not is_start and event.is_numbered_0
        host.see_ike_sa(event.initiator_spi, now, is_start=is_start, is_rekey=is_rekey, floated=event.floated)
        if event.floated:
            return commands
        ranking.time_answer(state, host, event, now)
        if event.exchange is IkeExchange.FIRST_CHILD:
            # One child SA, however many rounds of EAP it takes: the message IDs of its rounds do not count.
            host.credit_exchange((event.initiator_spi, event.exchange, 0), now, from_host=event.from_host)
        elif event.exchange is IkeExchange.CHILD:
            key = (event.initiator_spi, event.exchange, event.exchange_id)
            host.credit_exchange(key, now, from_host=event.from_host)
        strays.note(host, event, now)
        if host.credits_left(now):
            state.creditors[host.host] = host
        return commands

    def on_host_disowned(self, event: HostDisowned, now: float) -> list[Command]:
        """Believe a host that an SPI is not its own, where it may be another one's."""
        state = self._peers.get(self._bounds.path(event.host, event.peer, event.slot))
        host = state.hosts.get(event.host) if state else None
        if state is None or host is None:
            return []
        return disowning.disown(state, host, event.spi_to_inside, event.how, now, self._limits)

    def _meet(self, host: Host, path: Path, now: float, *, is_start: bool) -> HostAtPeer | None:
        """Find or make what is known of a host and a peer; None when there are too many hosts already.

        `is_start`: the conversation begins here, before our eyes. If it does not, the host may own
        more than we saw.
        """
        if not self._bounds.meet(host, path, IpProtocol.ESP.name, now):
            return None
        state = self._peers.get(path)
        if state is None:
            state = self._peers[path] = PeerState(path)
        known = state.hosts.get(host)
        if known is None:
            unseen_until = now if is_start else now + self._limits.unseen_s
            host = hashed(host)
            known = state.hosts[host] = HostAtPeer(host, last_seen_at=now, unseen_until=unseen_until)
            if not is_start:
                state.creditors[host] = known
        known.last_seen_at = now
        return known

    def forget(self, host: Host, path: Path, now: float) -> list[Command]:
        """Forget that a host exchanged anything with a peer."""
        state = self._peers.get(path)
        if state is None or host not in state.hosts:
            return []
        commands: list[Command] = [
            RemoveMapping(FlowKey.to_peer(IpProtocol.ESP, host, path.peer, spi)) for spi in state.hosts[host].outgoing
        ]
        commands += deciding.withdraw(state, host, now, self._limits)
        commands += self._removed(state, commands)
        del state.hosts[host]
        state.creditors.pop(host, None)
        state.watched.discard(host)
        self._bounds.release(host, path, IpProtocol.ESP.name)
        if not state.hosts:
            self._tracing.end(state, list(state.traced), is_removed=True)
            del self._peers[path]
        return commands

    # What comes from outside

    def on_unclaimed(self, event: EspUnclaimed, now: float) -> list[Command]:
        """Decide who gets an inbound SPI."""
        key = deciding.key_of(event.path, event.spi_to_inside)
        state = self._peers.get(event.path)
        if state is None:
            return [Refuse(key, Reason.NO_CANDIDATE, "peer.unknown")]
        known = state.bindings.get(event.spi_to_inside)
        if known is not None:
            return [give(key, known.offered), Reinject(key)]
        if len(state.bindings) >= self._limits.spis_per_peer_max or not self._bounds.has_room():
            return [Refuse(key, Reason.REFUSED, "mappings.limit")]
        commands = deciding.claim(state, event.spi_to_inside, event.sequence, now, self._limits)
        if not commands:
            return [Refuse(key, Reason.NO_CANDIDATE, "peer.unknown")]
        self._bounds.mappings += 1
        binding = state.bindings[event.spi_to_inside]
        commands += self._removed(state, commands)
        if len(binding.candidates) > 1:
            commands += self._tracing.begin_for(state, binding)
        return commands

    def _removed(self, state: PeerState, commands: Sequence[Command]) -> list[Command]:
        """Note that traces ended with their mappings."""
        keys = [command.key for command in commands if isinstance(command, RemoveMapping)]
        return self._tracing.end(state, keys, is_removed=True)

    def on_traces_read(self, event: TracesRead, now: float) -> list[Command]:
        """Decide contests by who answers."""
        of_path: dict[Path, list[FlowTrace]] = {}
        for trace in event.traces:
            for path in self._bounds.paths_of(trace.key):
                of_path.setdefault(path, []).append(trace)
        commands: list[Command] = []
        for path, traces in of_path.items():
            if state := self._peers.get(path):
                resolving.note(state, traces, self._limits)
                commands += resolving.resolve(state, now, self._limits)
        return commands

    # What the kernel says of the router's own

    def on_router_sa_added(self, event: RouterSaAdded, now: float) -> list[Command]:
        """Give the SPI to the router, before its first packet. The kernel tells all that it has: nothing is unseen."""
        host = self._meet(ROUTER, event.path, now, is_start=True)
        if host is None:
            return []
        state = self._peers[event.path]
        known = state.bindings.get(event.spi_to_inside)
        if known is not None and known.is_router_sa:
            return []
        if known is None and not self._bounds.has_room():
            return []
        self._bounds.mappings += known is None
        self._bounds.meet(ROUTER, event.path, _ROUTER_SAS, now, is_lasting=True)
        return deciding.give_to_router(state, event.spi_to_inside, now, self._limits)

    def on_router_sa_deleted(self, event: RouterSaDeleted, now: float) -> list[Command]:
        """Forget the SPI, and the credit that it used up with it."""
        state = self._peers.get(event.path)
        binding = state.bindings.get(event.spi_to_inside) if state else None
        if state is None or binding is None or not binding.is_router_sa:
            return []
        commands = deciding.forget_binding(state, event.spi_to_inside)
        state.hosts[ROUTER].use_up_credit()
        if not any(other.is_router_sa for other in state.bindings.values()):
            self._bounds.release(ROUTER, event.path, _ROUTER_SAS)
        return commands

    # Time

    def count(self, counts: Sequence[FlowCount], now: float) -> list[Command]:
        """Note which tunnels are in use."""
        self.judging.count(counts)
        return []

    def expire(self, now: float) -> list[Command]:
        """Nothing of ESP is decided by a moment of its own."""
        return []

    def sweep(self, now: float) -> list[Command]:
        """Forget what is idle: mappings, hosts that are no longer candidates."""
        commands: list[Command] = []
        for state in list(self._peers.values()):
            commands += self._sweep(state, now)
        return commands

    def _sweep(self, state: PeerState, now: float) -> list[Command]:
        idle_before = now - self._limits.esp_idle_s
        commands: list[Command] = []
        for spi in [s for s, b in state.bindings.items() if b.last_packet_at < idle_before and not b.is_router_sa]:
            commands += deciding.retire(state, spi)
        for host in list(state.hosts.values()):
            for spi in [s for s, sa in host.outgoing.items() if sa.last_packet_at < idle_before]:
                del host.outgoing[spi]
                commands.append(RemoveMapping(FlowKey.to_peer(IpProtocol.ESP, host.host, state.path.peer, spi)))
            if host.host != ROUTER:  # of its exchanges only one direction is seen
                host.give_up_unanswered(now - self._limits.exchange_unanswered_s)
                host.take_back_rekey(now)
        needed = {host for binding in state.bindings.values() for host in binding.candidates}
        for host in list(state.hosts.values()):
            is_idle = now - host.last_seen_at > self._limits.candidate_idle_s
            if is_idle and not host.outgoing and host.host not in needed:
                commands += self.forget(host.host, state.path, now)
        if state.hosts:
            commands += deciding.reconsider(state, now, self._limits)
            commands += self._removed(state, commands)
            commands += self._tracing.adjust(state)
        return commands

    # Restart

    def adopt(self, flows: Sequence[AdoptedFlow], now: float) -> list[Command]:
        """Take over what an earlier run decided. What it knew besides is gone, so no credit bounds these hosts.

        What does not fit is removed: nobody would see that it is idle.
        """
        outgoing = [flow for flow in flows if flow.key.direction is Direction.TO_PEER]
        to_inside = [flow for flow in flows if flow.key.direction is Direction.TO_INSIDE]
        left = [flow for flow in outgoing if not self._adopt_outgoing(flow, now)]
        left += [flow for flow in to_inside if not self._adopt_to_inside(flow, now)]
        self._bounds.mappings += len(left)
        for state in self._peers.values():
            adopting.restore_candidates(state, self._limits)
            adopting.carry_over_credits(state)
        return [RemoveMapping(flow.key) for flow in left]

    def _adopt_outgoing(self, flow: AdoptedFlow, now: float) -> bool:
        host = self._meet(flow.key.host, Path(flow.key.peer, flow.slot), now, is_start=False)
        if host is None:
            return False
        spi = Spi(flow.key.discriminator)
        if spi not in host.outgoing:
            host.see_outgoing(spi, now, is_new=False)
            self._bounds.mappings += 1
        host.outgoing[spi].last_packet_at = flow.count.last_packet_at
        return True

    def _adopt_to_inside(self, flow: AdoptedFlow, now: float) -> bool:
        spi = Spi(flow.key.discriminator)
        met = [self._meet(host, flow.key.path, now, is_start=False) for host in flow.hosts]
        owners = [host for host in met if host is not None]
        if len(owners) < len(flow.hosts):
            return False
        state = self._peers[flow.key.path]
        if spi in state.bindings:
            return True
        binding = Binding(
            spi=spi,
            first_at=now,
            last_packet_at=flow.count.last_packet_at,
            is_credited=True,
            candidates=dict.fromkeys((owner.host for owner in owners), 0.0),
            offered=tuple(owner.host for owner in owners),
            basis=Basis.ADOPTED if len(flow.hosts) == 1 else None,
        )
        state.keep(binding)
        self._bounds.mappings += 1
        for host in owners:
            host.is_adopted = True
        if len(owners) == 1:
            owners[0].own()
            binding.is_paid = True
        return True
