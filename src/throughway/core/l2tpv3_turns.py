"""Which host may send with new unmanaged sessions of L2TPv3 to a peer, and when.

It may be clear text, so it is never fanned out. That only one owner is possible is brought about: of the
hosts whose new sessions the peer has not answered, one has its *turn*, and only its packets go out. The turn lasts for
`l2tpv3_turn_s` from the last of its sessions on; once another host waits, no more of them begin in it.

    waiting --the turn is free--> open --answered--> paired
       |                           |
       |                           +--its turn is over and another host waits--> unknown
       +--no turn within l2tpv3_turn_s--> refused, and asked about again

The router's own packets cannot be held, so the router takes the turn at once.
"""

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
        """Let a flow out in the turn of its host."""
        if len(host.waiting) >= self._limits.spis_per_host_and_peer_max:
            key = self._family.to_peer(host.host, state.path.peer, discriminator)
            return [Refuse(key, Reason.REFUSED, "mappings.limit")]
        host.waiting.setdefault(discriminator, now)
        self._wait_at[state.path] = state
        commands = self._give_turn(state, host, now) if host.host == ROUTER or state.is_alone(host, now) else []
        return commands + self.next(state, now)

    def next(self, state: L2tpPeer, now: float) -> list[Command]:
        """Let the next host out while nobody waits for an answer, and wake up when this may change."""
        commands: list[Command] = []
        while (waiting := state.waiting()) and not state.is_turn_taken(now):
            commands += self._give_turn(state, waiting[0], now)
        if waiting:
            longest = min(host.waiting_since for host in waiting)
            commands.append(WakeAt(min(state.turn_until, longest + self._limits.l2tpv3_turn_s)))
        else:
            self._wait_at.pop(state.path, None)
        return commands

    def _give_turn(self, state: L2tpPeer, host: L2tpHost, now: float) -> list[Command]:
        """Let out all that the host waits with, and close what others were not answered for."""
        commands: list[Command] = []
        for other in state.hosts.values():
            if other is not host:
                commands += self.close(state, other)
        state.turn, state.turn_until, host.turn_at = host.host, now + self._limits.l2tpv3_turn_s, now
        opening, host.waiting = host.waiting, {}
        for discriminator in opening:
            commands += self.open(state, host, discriminator, now)
        return commands

    def open(self, state: L2tpPeer, host: L2tpHost, discriminator: int, now: float) -> list[Command]:
        """Let the packets of a flow out."""
        key = self._family.to_peer(host.host, state.path.peer, discriminator)
        commands: list[Command] = []
        if len(host.outgoing) >= self._limits.spis_per_host_and_peer_max:
            oldest = min(host.outgoing, key=lambda name: host.outgoing[name].last_packet_at)
            commands.append(self.drop(state, host, oldest))
        if not self._bounds.has_room(commands):
            return [*commands, Refuse(key, Reason.REFUSED, "mappings.limit")]
        host.outgoing[discriminator] = Outgoing(now, now, is_explained=host.explains(discriminator))
        self._bounds.mappings += 1
        return [*commands, InstallMapping(key, host.host, state.path.slot), Reinject(key)]

    def close(self, state: L2tpPeer, host: L2tpHost) -> list[Command]:
        """Let the host ask again for what the peer has not answered."""
        return [self.drop(state, host, discriminator) for discriminator in host.all_unanswered]

    def drop(self, state: L2tpPeer, host: L2tpHost, discriminator: int) -> RemoveMapping:
        """Forget a flow to the peer."""
        del host.outgoing[discriminator]
        return RemoveMapping(self._family.to_peer(host.host, state.path.peer, discriminator))

    def expire(self, now: float) -> list[Command]:
        """Give turns on, and refuse what has waited for its turn too long, so that it is asked about again."""
        commands: list[Command] = []
        for state in list(self._wait_at.values()):
            commands += self.next(state, now)
            for host in state.hosts.values():
                for name in [name for name, at in host.waiting.items() if now >= at + self._limits.l2tpv3_turn_s]:
                    del host.waiting[name]
                    key = self._family.to_peer(host.host, state.path.peer, name)
                    commands.append(Refuse(key, Reason.REFUSED, "answer.awaited"))
            commands += self.next(state, now)
        return commands
