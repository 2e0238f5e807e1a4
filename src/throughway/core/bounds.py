"""What the parts of the tracker share: who exchanges something with whom, and how many mappings there are.

A *relation* is a host and a peer between which there is something. Each part that knows something of a
relation holds it, and it is gone when the last of them lets go. With it goes the path that the host had.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from throughway.core.addresses import Addresses
from throughway.core.commands import Command, ForgetPath, RemoveMapping
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import ROUTER, Host, Path, Peer
from throughway.core.limits import Limits


@dataclass(slots=True)
class _Relation:
    last_seen_at: float
    holders: set[tuple[str, int]] = field(default_factory=set)
    """Parts of the tracker, and the slots on which they know something."""
    lasting: set[tuple[str, int]] = field(default_factory=set)
    """Holders for which it must not make room."""


class Bounds:
    """Counts relations and mappings, and says when there is no room for another one."""

    def __init__(self, limits: Limits) -> None:
        self.limits: Final = limits
        self.mappings = 0
        """Mappings that the data plane has, both directions."""
        self.addresses: Final = Addresses()
        self._forgotten: list[Command] = []
        self._of_host: Final[dict[Host, dict[Peer, _Relation]]] = {}
        self._hosts_of: Final[dict[Peer, int]] = {}
        self._relations = 0

    @property
    def is_empty(self) -> bool:
        """Whether nobody exchanges anything with anybody."""
        return not self._relations

    def path(self, host: Host, peer: Peer, slot: int) -> Path:
        """Say which path a host uses to a peer, or would get. `slot` is the router's own choice."""
        return Path(peer, slot) if host == ROUTER else self.addresses.choose(host, peer)

    def paths_of(self, key: FlowKey) -> list[Path]:
        """Say by which paths a flow may go."""
        return [key.path] if key.direction is Direction.TO_INSIDE else self.addresses.paths(key.host, key.peer)

    def meet(self, host: Host, path: Path, holder: str, now: float, *, is_lasting: bool = False) -> bool:
        """Hold the relation of a host and a peer. Return False where there are too many already.

        `is_lasting`: until this holder lets go the relation makes no room for another one of the host.
        """
        peer = path.peer
        relation = self._of_host.get(host, {}).get(peer)
        if relation is None:
            if self._relations >= self.limits.relations_max:
                return False
            if self._hosts_of.get(peer, 0) >= self.limits.hosts_per_peer_max:
                return False
        if not self.addresses.join(host, path):
            return False
        if relation is None:
            relation = self._of_host.setdefault(host, {})[peer] = _Relation(now)
            self._hosts_of[peer] = self._hosts_of.get(peer, 0) + 1
            self._relations += 1
        relation.holders.add((holder, path.slot))
        if is_lasting:
            relation.lasting.add((holder, path.slot))
        relation.last_seen_at = max(relation.last_seen_at, now)
        return True

    def is_related(self, host: Host, peer: Peer) -> bool:
        """Whether a host and a peer exchange something."""
        return peer in self._of_host.get(host, {})

    def relations(self) -> list[tuple[Host, Path]]:
        """Return all hosts and the paths on which something is known of them."""
        return [
            (host, Path(peer, slot))
            for host, peers in self._of_host.items()
            for peer, relation in peers.items()
            for slot in sorted({slot for _, slot in relation.holders})
        ]

    def touch(self, host: Host, peer: Peer, at: float) -> None:
        """Note when the host last sent to the peer."""
        if relation := self._of_host.get(host, {}).get(peer):
            relation.last_seen_at = max(relation.last_seen_at, at)

    def release(self, host: Host, path: Path, holder: str) -> None:
        """Let go of a relation."""
        peers = self._of_host.get(host, {})
        relation = peers.get(path.peer)
        if relation is None:
            return
        relation.holders.discard((holder, path.slot))
        relation.lasting.discard((holder, path.slot))
        if relation.holders:
            return
        del peers[path.peer]
        if not peers:
            del self._of_host[host]
        self._hosts_of[path.peer] -= 1
        if not self._hosts_of[path.peer]:
            del self._hosts_of[path.peer]
        self._relations -= 1
        self.forget_path(host, path.peer)

    def forget_path(self, host: Host, peer: Peer) -> None:
        """Forget which path a host has, which exchanges nothing with the peer."""
        if host != ROUTER and self.addresses.is_choice:
            self._forgotten += [ForgetPath(host, path) for path in self.addresses.paths(host, peer)]
        self.addresses.leave(host, peer)

    def take_forgotten(self) -> list[Command]:
        """Return what follows from forgotten paths since the last time that this was asked."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def in_the_way(self, host: Host, peer: Peer) -> Peer | None:
        """Return the peer that a host has to forget before it may exchange something with one more."""
        peers = self._of_host.get(host, {})
        if peer in peers or len(peers) < self.limits.peers_per_host_max:
            return None
        yielding = (known for known, relation in peers.items() if not relation.lasting)
        return min(yielding, key=lambda known: peers[known].last_seen_at, default=None)

    def has_room(self, commands: Iterable[Command] = (), wanted: int = 1) -> bool:
        """Whether there is room for so many more mappings, with what the commands make room for."""
        freed = sum(isinstance(command, RemoveMapping) for command in commands)
        return self.mappings - freed + wanted <= self.limits.mappings_max
