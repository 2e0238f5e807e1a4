"""The part of the tracker for L2TPv3 over IP (RFC 3931), and for L2TP on UDP 1701 where that port is kept.

Its session IDs and control connection IDs are chosen by whoever wants to be sent to, as SPIs are, but control
messages assign them in clear: what a host assigns is its own, exactly and before anything comes. A
session without control messages (an *unmanaged* one) is inferred: the next unknown ID that comes from
the peer belongs to the host that has sent with one of its own and was not answered. Which ones were answered is kept
with each of them: an answer was to one of those that were awaited when it came, and where these are several, nothing
is concluded until there are as many answers.

Who may send with a new session of that kind, and when, is in `l2tpv3_turns`.

Over UDP it is the same (RFC 3931 section 4.1.2). L2TPv2 (RFC 2661) has tunnel IDs, which name control connections and
all that is in them, and which are assigned in the same way; what is said here of control connections holds for them.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from throughway.core import discriminators
from throughway.core.bounds import Bounds
from throughway.core.commands import Command, InstallMapping, Record, Refuse, Reinject, RemoveMapping, WakeAt
from throughway.core.events import AdoptedFlow, FlowCount, L2tpControlSeen, PortlessFromInside, PortlessUnclaimed
from throughway.core.flows import Direction
from throughway.core.ids import Host, Path, Peer
from throughway.core.l2tpv3_state import (
    CALL_DISCONNECT,
    OVER_IP,
    STOP_CONTROL_CONNECTION,
    Family,
    Incoming,
    L2tpHost,
    L2tpPeer,
    Origin,
    Outgoing,
    assigned_by,
    ended_by,
)
from throughway.core.l2tpv3_turns import Turns
from throughway.core.reasons import Reason
from throughway.core.tunnels import Refusals, Tunnels

_ENDING: Final = frozenset({STOP_CONTROL_CONNECTION, CALL_DISCONNECT})


class L2tpPart:
    """Gives sessions and control connections to the hosts that assigned them, or that were answered."""

    def __init__(self, bounds: Bounds, refusals: Refusals, family: Family = OVER_IP) -> None:
        self._family: Final = family
        self._bounds: Final = bounds
        self._limits: Final = bounds.limits
        self._refusals: Final = refusals
        self._peers: Final[dict[Path, L2tpPeer]] = {}
        self._turns: Final = Turns(bounds, family)
        self._empty: Final[dict[Path, None]] = {}
        """Peers that no host speaks to any more, but which may still answer."""
        self._listening_until = -math.inf
        """Until then peers may answer what hosts sent before a restart."""

    # Queries

    def owner(self, path: Path, discriminator: int) -> Host | None:
        """Say who gets a session or a control connection that comes from a peer, if anybody."""
        state = self._peers.get(path)
        return state.owners.get(discriminator) if state else None

    def hosts(self, peer: Peer) -> list[tuple[Host, Path]]:
        """Return the hosts that have L2TP with a peer, and by which path."""
        return [(host, path) for path, state in self._peers.items() if path.peer == peer for host in state.hosts]

    def tunnels(self) -> Iterator[Tunnels]:
        """All hosts and peers between which there is L2TP."""
        for state in self._peers.values():
            for host in state.hosts.values():
                is_open = [name for name, flow in host.outgoing.items() if flow.is_open]
                begun = [host.outgoing[name].first_at for name in is_open]
                begun += [flow.first_at for flow in host.incoming.values()]
                begun += host.waiting.values()
                if begun:
                    yield Tunnels(
                        host=host.host,
                        peer=state.path.peer,
                        slot=state.path.slot,
                        protocol=self._family.protocol,
                        port=self._family.port,
                        to_peer=tuple(dict.fromkeys((*is_open, *host.waiting))),
                        to_inside=tuple(host.incoming),
                        contested=(),
                        rivals=1,
                        first_at=min(begun),
                    )

    # Control messages

    def on_control_seen(self, event: L2tpControlSeen, now: float) -> list[Command]:
        """Give a host what it assigns, before the answer comes; note what the peer assigns to it.

        Only the host's own word counts for what is given to it: a peer could otherwise have it sent what
        is another host's.
        """
        message = event.message
        path = self._bounds.path(event.host, event.peer, event.slot)
        host = self._meet(event.host, path, now)
        if host is None:
            return []
        state = self._peers[path]
        if event.from_host and message.remote_session_id:
            host.announce(message.remote_session_id, self._limits.spis_per_host_and_peer_max)
        commands: list[Command] = []
        for discriminator in assigned_by(message):
            if not event.from_host:
                host.announce(discriminator, self._limits.spis_per_host_and_peer_max)
            elif message.message_type in _ENDING:
                if flow := host.incoming.get(discriminator):
                    flow.has_ended = True
            else:
                commands += self._assign(state, host, discriminator, now)
        if event.from_host and (ended := ended_by(message)) in host.outgoing:
            commands += self._turns.drop(state, host, ended, now)
        return commands + self._turns.next(state, now)

    def _assign(self, state: L2tpPeer, host: L2tpHost, discriminator: int, now: float) -> list[Command]:
        """Give a host what it assigned to itself, unless another one has it and uses it."""
        known = state.incoming(discriminator)
        if known is not None and known.host == host.host:
            known.origin, known.has_ended, known.may_answer = Origin.ASSIGNED, False, frozenset()
            return []
        commands: list[Command] = []
        if known is not None:
            # The counters may be as old as they are read seldom.
            in_use_s = self._limits.l2tpv3_answer_s + self._limits.counters_every_s
            if not known.has_ended or now - known.last_packet_at <= in_use_s:
                return self._refuse_assigned(state, host, discriminator, known.host, now)
            commands += self._drop_incoming(state, discriminator, now)
        self._refusals.forget(host.host, state.path.peer, self._family.protocol, discriminator, self._family.port)
        return commands + self._take(state, host, discriminator, Origin.ASSIGNED, now)

    def _refuse_assigned(
        self, state: L2tpPeer, host: L2tpHost, discriminator: int, owner: Host, now: float
    ) -> list[Command]:
        is_new = self._refusals.note(
            host.host,
            state.path.peer,
            self._family.protocol,
            discriminator,
            Reason.DISCRIMINATOR_TAKEN,
            now,
            owner=owner,
            port=self._family.port,
        )
        if not is_new:
            return []
        return [self._record("flow.taken", host.host, state.path.peer, discriminator, owner=str(owner))]

    # What comes from inside

    def on_from_inside(self, event: PortlessFromInside, now: float) -> list[Command]:
        """Let a host's flow out: at once where it is known what comes back, else in its turn."""
        key = self._family.to_peer(event.host, event.peer, event.discriminator)
        path = self._bounds.path(event.host, event.peer, event.slot)
        host = self._meet(event.host, path, now)
        if host is None:
            return [Refuse(key, Reason.REFUSED, "hosts.limit")]
        state = self._peers[path]
        if (flow := host.outgoing.get(event.discriminator)) and flow.is_open:
            return [InstallMapping(key, host.host, path.slot), Reinject(key)]
        return self._turns.ask(state, host, event.discriminator, now)

    # What comes from outside

    def on_unclaimed(self, event: PortlessUnclaimed, now: float) -> list[Command]:
        """Give what nobody assigned to the one host that waits for an answer, or to the only one there is."""
        key = self._family.to_inside(event.path, event.discriminator)
        state = self._peers.get(event.path)
        if state is None or not state.hosts:
            return [Refuse(key, Reason.NO_CANDIDATE, "peer.unknown")]
        owner = state.owners.get(event.discriminator)
        if owner is not None:
            return [InstallMapping(key, owner), Reinject(key)]
        is_control = discriminators.is_l2tpv3_control(event.discriminator)
        candidates, origin = (
            [one for one in state.hosts.values() if one.awaited(now, is_control=is_control)],
            Origin.ANSWER,
        )
        if event.discriminator in discriminators.L2TP_UNASSIGNED or not candidates:
            candidates, origin = list(state.hosts.values()), Origin.ALONE
        if len(candidates) > 1 or state.is_listening(now, but_to=candidates[0].host):
            closing = candidates if origin is Origin.ANSWER and len(candidates) > 1 else []
            closed = [command for host in closing for command in self._turns.close(state, host, now)]
            return [*closed, Refuse(key, Reason.NO_CANDIDATE, "owner.ambiguous"), *self._turns.next(state, now)]
        taken = self._take(state, candidates[0], event.discriminator, origin, now)
        if not taken:
            return [Refuse(key, Reason.REFUSED, "mappings.limit")]
        if origin is Origin.ANSWER:
            candidates[0].note_answer(event.discriminator, now)
        return [*taken, Reinject(key), *self._turns.next(state, now)]

    def _take(self, state: L2tpPeer, host: L2tpHost, discriminator: int, origin: Origin, now: float) -> list[Command]:
        """Make a host the owner of what comes from the peer; empty where there is no room.

        What nobody assigned never pushes out what the host assigned to itself: anybody outside can forge it.
        """
        own = host.incoming
        crowd = [name for name, flow in own.items() if flow.origin is origin is Origin.ALONE]
        if len(crowd) < self._limits.uncredited_spis_per_peer_max:
            is_full = len(own) >= self._limits.spis_per_host_and_peer_max
            crowd = [name for name, flow in own.items() if is_full and flow.makes_room]
            if is_full and not crowd and origin is not Origin.ASSIGNED:
                return []
            crowd = crowd or (list(own) if is_full else [])
        commands: list[Command] = []
        if crowd:
            commands += self._drop_incoming(state, min(crowd, key=lambda name: own[name].last_packet_at), now)
        elif len(state.owners) >= self._limits.spis_per_peer_max or not self._bounds.has_room():
            return []
        own[discriminator] = Incoming(host.host, origin, now, now)
        state.owners[discriminator] = host.host
        self._bounds.mappings += 1
        commands.append(InstallMapping(self._family.to_inside(state.path, discriminator), host.host))
        commands.append(self._record("flow.installed", host.host, state.path.peer, discriminator, basis=origin.value))
        return commands

    def give(self, path: Path, discriminator: int, host: Host, now: float) -> list[Command]:
        """Give a host what it has assigned to itself before its flows came here; empty where there is no room."""
        known = self._meet(host, path, now)
        return self._take(self._peers[path], known, discriminator, Origin.ASSIGNED, now) if known else []

    # Knowing and forgetting

    def _meet(self, host: Host, path: Path, now: float) -> L2tpHost | None:
        if not self._bounds.meet(host, path, self._family.holder, now):
            return None
        state = self._peers.get(path)
        if state is None:
            state = self._peers[path] = L2tpPeer(path, listening_until=self._listening_until)
        known = state.hosts.get(host)
        if known is None:
            known = state.hosts[host] = L2tpHost(host, now, turn_at=now)
        known.last_seen_at = now
        return known

    def _drop_incoming(self, state: L2tpPeer, discriminator: int, now: float) -> list[Command]:
        """Forget a flow to the inside; what it answered asks again, and is answered again."""
        host = state.hosts[state.owners.pop(discriminator)]
        commands: list[Command] = [RemoveMapping(self._family.to_inside(state.path, discriminator))]
        partner = host.drop_incoming(discriminator)
        return commands + (self._turns.drop(state, host, partner, now) if partner is not None else [])

    def forget(self, host: Host, path: Path, now: float) -> list[Command]:
        """Forget all that a host has with a peer."""
        state = self._peers.get(path)
        known = state.hosts.get(host) if state else None
        if state is None or known is None:
            return []
        commands = [command for name in list(known.outgoing) for command in self._turns.drop(state, known, name, now)]
        for name in list(known.incoming):
            commands += self._drop_incoming(state, name, now)
        waiting = [self._family.to_peer(host, path.peer, name) for name in known.waiting]
        commands += [Refuse(key, Reason.REFUSED, "peers.limit") for key in waiting]
        del state.hosts[host]
        self._bounds.release(host, path, self._family.holder)
        commands += self._turns.next(state, now)
        if not state.hosts and now < state.listening_until:
            self._empty[path] = None
            commands.append(WakeAt(state.listening_until))
        elif not state.hosts:
            self._empty.pop(path, None)
            del self._peers[path]
        return commands

    # Time

    def count(self, counts: Sequence[FlowCount], now: float) -> list[Command]:
        """Note which flows are in use."""
        for count in counts:
            for path in self._bounds.paths_of(count.key):
                if state := self._peers.get(path):
                    self._count(state, count)
        return []

    def _count(self, state: L2tpPeer, count: FlowCount) -> None:
        if count.key.direction is Direction.TO_INSIDE:
            if incoming := state.incoming(count.key.discriminator):
                incoming.last_packet_at = max(incoming.last_packet_at, count.last_packet_at)
        elif (host := state.hosts.get(count.key.host)) and (flow := host.outgoing.get(count.key.discriminator)):
            flow.last_packet_at = max(flow.last_packet_at, count.last_packet_at)
            host.last_seen_at = max(host.last_seen_at, count.last_packet_at)
            self._bounds.touch(host.host, state.path.peer, count.last_packet_at)

    def expire(self, now: float) -> list[Command]:
        """Give turns on, and forget peers that cannot answer to anybody any more."""
        for path in list(self._empty):
            state = self._peers[path]
            if state.hosts or now >= state.listening_until:
                del self._empty[path]
                if not state.hosts:
                    del self._peers[path]
        return self._turns.expire(now)

    def sweep(self, now: float) -> list[Command]:
        """Forget what is idle of hosts that are silent, of others what was closed, and soon what has ended: after a
        restart nobody would know that it has."""
        commands: list[Command] = []
        before = now - self._limits.l2tpv3_idle_s
        for state in list(self._peers.values()):
            for host in list(state.hosts.values()):
                is_silent = host.last_seen_at < before
                for name, sent in list(host.outgoing.items()):
                    if sent.last_packet_at < before and (is_silent or not sent.is_open):
                        commands += self._turns.drop(state, host, name, now)
                for name, got in list(host.incoming.items()):
                    is_over = got.has_ended and got.last_packet_at < now - self._limits.sweep_every_s
                    if is_over or (is_silent and got.last_packet_at < before):
                        commands += self._drop_incoming(state, name, now)
                if is_silent and not host.outgoing and not host.incoming and not host.waiting:
                    commands += self.forget(host.host, state.path, now)
        return commands

    # Restart

    def adopt(self, flows: Sequence[AdoptedFlow], now: float) -> list[Command]:
        """Take over what an earlier run decided. A host whose answer may be under way has the turn.

        As many of a host's flows to the peer count as answered as come from the peer; where these are fewer, it is not
        known which, and all are closed in the turns of others. What was closed before is not known any more, so
        for as long as its answers may take nobody new is let out.
        """
        commands = [command for flow in flows for command in self._adopt(flow, now)]
        self._listening_until = now + self._limits.l2tpv3_answer_s
        for state in self._peers.values():
            for host in state.hosts.values():
                for name, got in host.incoming.items():
                    if got.origin is not Origin.ADOPTED or name in discriminators.L2TP_UNASSIGNED:
                        continue
                    got.may_answer = host.awaited(now, is_control=discriminators.is_l2tpv3_control(name))
                host.settle()
            unanswered = [host.host for host in state.hosts.values() if host.in_turn]
            state.turn = state.listening_to = unanswered[0] if len(unanswered) == 1 else None
            state.turn_until, state.listening_until = now + self._limits.l2tpv3_turn_s, self._listening_until
        return commands

    def _adopt(self, flow: AdoptedFlow, now: float) -> list[Command]:
        key, last_packet_at = flow.key, flow.count.last_packet_at
        *others, owner = flow.hosts
        path = Path(key.peer, flow.slot) if key.direction is Direction.TO_PEER else key.path
        host = self._meet(owner, path, now)
        if host is None or others:
            self._bounds.mappings += 1
            return [RemoveMapping(key)]
        if key.discriminator in (host.outgoing if key.direction is Direction.TO_PEER else host.incoming):
            return []
        self._bounds.mappings += 1
        if key.direction is Direction.TO_PEER:
            is_explained = key.discriminator in discriminators.L2TP_UNASSIGNED
            host.outgoing[key.discriminator] = Outgoing(now, last_packet_at, is_explained)
        else:
            host.incoming[key.discriminator] = Incoming(owner, Origin.ADOPTED, now, last_packet_at)
            self._peers[path].owners[key.discriminator] = owner
        return []

    # Names

    def _record(self, name: str, host: Host, peer: Peer, discriminator: int, **fields: object) -> Record:
        protocol, port = self._family.protocol, self._family.port
        words = discriminators.words_of(protocol, discriminator, port)
        called = discriminators.name_of(protocol, port)
        return Record(
            name, {"protocol": called, "peer": str(peer), "host": str(host), "discriminator": words, **fields}
        )
