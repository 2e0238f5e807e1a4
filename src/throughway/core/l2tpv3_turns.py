"""Which host may send with new unmanaged sessions of L2TPv3 to a peer, and when.

It may be clear text, so it is never fanned out. That only one owner is possible is brought about: of the hosts whose
new sessions the peer has not answered, one has its *turn*, and only its packets go out. When another one waits and the
turn is over, they are *closed*: no more go out, and for as long as an answer may take what comes unknown is still for
the closed host. Only then is the next one let out. So an answer is never more than `l2tpv3_answer_s` too late.

    waiting --the turn is free--> open --answered--> needs no turn
       |                           |
       |                           +--l2tpv3_turn_s are over and another host waits--> closed
       |                                                                                 |
       |<-----------------------------its next packet asks again-------------------------+
       +--no turn within l2tpv3_wait_s--> refused, and asked about again

While nobody else waits a host has as many sessions open as it likes, for as long as it likes. Where only some of
several were answered it is not known which, so all of them are closed in the turns of others.

The router's own packets cannot be held. It has turns like everybody, but an answer to its session may be under way from
the first packet on, whosever turn it is. So until the session has had its turn, what comes may be the router's or that
of the host whose turn it is, and goes to neither. A session of the router that had its turn in vain hinders nobody:
an answer that comes in the turn of a host goes there.
"""

import math
from typing import Final

from throughway.core.bounds import Bounds
from throughway.core.commands import Command, InstallMapping, Refuse, Reinject, RemoveMapping, WakeAt
from throughway.core.ids import ROUTER, Path
from throughway.core.l2tpv3_state import Family, L2tpHost, L2tpPeer, Outgoing
from throughway.core.reasons import Reason


class Turns:
    """Lets flows out to peers, those that wait for an answer in turns."""

    def __init__(self, bounds: Bounds, family: Family) -> None:
        self._family: Final = family
        self._bounds: Final = bounds
        self._limits: Final = bounds.limits
        self._wait_at: Final[dict[Path, L2tpPeer]] = {}
        """Peers to which some host waits for its turn."""

    def ask(self, state: L2tpPeer, host: L2tpHost, discriminator: int, now: float) -> list[Command]:
        """Let a flow out: at once where nothing unknown can come back for it, else in the turn of its host."""
        if host.needs_no_turn(discriminator):
            host.waiting.pop(discriminator, None)
            return self._open(state, host, discriminator, now)
        if discriminator not in host.waiting and len(host.waiting) >= self._limits.spis_per_host_and_peer_max:
            key = self._family.to_peer(host.host, state.path.peer, discriminator)
            return [Refuse(key, Reason.REFUSED, "mappings.limit")]
        commands = self._open(state, host, discriminator, now) if host.host == ROUTER else []
        if any(isinstance(command, Refuse) for command in commands):
            return commands
        host.waiting.setdefault(discriminator, now)
        self._wait_at[state.path] = state
        return commands + self.next(state, now)

    def next(self, state: L2tpPeer, now: float) -> list[Command]:
        """Let the next host out when nobody else can be answered, and wake up when this may change."""
        commands = self._let_out_known(state, now)
        while waiting := state.waiting():
            host = waiting[0]
            if not state.is_turn_of_another(host, now):
                others = [other for other in state.hosts.values() if other is not host]
                commands += [command for other in others for command in self.close(state, other, now)]
                if not state.is_listening(now, but_to=host.host):
                    commands += self._give_turn(state, host, now)
                    continue
            commands.append(WakeAt(self._wake_at(state, now)))
            break
        else:
            self._wait_at.pop(state.path, None)
        return commands

    def _let_out_known(self, state: L2tpPeer, now: float) -> list[Command]:
        """Let out what waits no longer for an answer that could be another host's."""
        commands: list[Command] = []
        for host in state.waiting():
            for discriminator in [name for name in host.waiting if host.needs_no_turn(name)]:
                del host.waiting[discriminator]
                commands += self._open(state, host, discriminator, now)
        return commands

    def _wake_at(self, state: L2tpPeer, now: float) -> float:
        """Say when the turn ends, the listening after it, or somebody has waited for too long."""
        refused_at = [
            host.waiting_since + self._limits.l2tpv3_wait_s for host in state.waiting() if host.host != ROUTER
        ]
        return min(at for at in (state.turn_until, state.listening_until, *refused_at) if at > now)

    def _give_turn(self, state: L2tpPeer, host: L2tpHost, now: float) -> list[Command]:
        """Let out all that the host waits with."""
        commands: list[Command] = []
        state.turn = host.host
        state.turn_until = host.turn_at = now + self._limits.l2tpv3_turn_s
        opening, host.waiting = host.waiting, {}
        for discriminator in opening:
            commands += self._open(state, host, discriminator, now)
            if flow := host.outgoing.get(discriminator):
                flow.awaited_until = math.inf
        return commands

    def _open(self, state: L2tpPeer, host: L2tpHost, discriminator: int, now: float) -> list[Command]:
        """Let the packets of a flow out."""
        flow = host.outgoing.get(discriminator)
        if flow is not None and flow.is_open:
            return []
        key = self._family.to_peer(host.host, state.path.peer, discriminator)
        commands: list[Command] = []
        if flow is None and len(host.outgoing) >= self._limits.spis_per_host_and_peer_max:
            known = host.outgoing
            oldest = min(known, key=lambda name: (known[name].is_open, known[name].last_packet_at))
            commands += self.drop(state, host, oldest, now)
        if not self._bounds.has_room(commands):
            return [*commands, Refuse(key, Reason.REFUSED, "mappings.limit")]
        if flow is None:
            flow = host.outgoing[discriminator] = Outgoing(now, now, is_explained=host.explains(discriminator))
        flow.is_open, flow.last_packet_at = True, now
        self._bounds.mappings += 1
        return [*commands, InstallMapping(key, host.host, state.path.slot), Reinject(key)]

    def close(self, state: L2tpPeer, host: L2tpHost, now: float) -> list[Command]:
        """Let no more of what the peer has not answered go out until the host has asked again and has its turn."""
        until = now + self._limits.l2tpv3_answer_s
        commands: list[Command] = []
        for discriminator in host.in_turn:
            flow = host.outgoing[discriminator]
            flow.is_open, flow.last_packet_at, flow.awaited_until = False, now, until
            commands.append(RemoveMapping(self._family.to_peer(host.host, state.path.peer, discriminator)))
        if commands:
            host.turn_at = now
            state.listen(host.host, now, until)
        return commands

    def drop(self, state: L2tpPeer, host: L2tpHost, discriminator: int, now: float) -> list[Command]:
        """Forget a flow to the peer; what it sent may still be answered, unless that was long ago."""
        flow = host.drop_outgoing(discriminator)
        if not flow.is_open:
            return []
        if flow.is_unanswered and now - flow.last_packet_at < self._limits.l2tpv3_idle_s:
            state.listen(host.host, now, now + self._limits.l2tpv3_answer_s)
        return [RemoveMapping(self._family.to_peer(host.host, state.path.peer, discriminator))]

    def expire(self, now: float) -> list[Command]:
        """Give turns on, and refuse what has waited for its turn too long, so that it is asked about again."""
        commands: list[Command] = []
        for state in list(self._wait_at.values()):
            commands += self.next(state, now)
            for host in state.hosts.values():
                if host.host == ROUTER:
                    continue
                for name in [name for name, at in host.waiting.items() if now >= at + self._limits.l2tpv3_wait_s]:
                    del host.waiting[name]
                    key = self._family.to_peer(host.host, state.path.peer, name)
                    commands.append(Refuse(key, Reason.REFUSED, "answer.awaited"))
            commands += self.next(state, now)
        return commands
