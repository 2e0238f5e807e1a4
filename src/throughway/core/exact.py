"""Flows whose discriminator is equal both ways, or that have none: a part of the tracker, and of that for IKE.

GRE with a key, GRE without one, and every other protocol without ports: what a host sends tells exactly what comes
back. The first host that uses a discriminator with a peer owns it, and a second one is refused, since
these protocols may carry clear text and nothing in a packet tells their tunnels apart.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from throughway.core import discriminators
from throughway.core.bounds import Bounds
from throughway.core.commands import Command, InstallMapping, Record, Refuse, Reinject, RemoveMapping
from throughway.core.events import AdoptedFlow, FlowCount, PortlessFromInside, PortlessUnclaimed
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, Path, Peer
from throughway.core.reasons import Reason
from throughway.core.tunnels import Refusals, Tunnels

_Name = tuple[int, int, int]
"""Of one peer: protocol, port, discriminator."""


@dataclass(slots=True)
class _Owned:
    """Who has it. Both directions have a mapping; where `sends` is false, only the one to the inside is left."""

    host: Host
    first_at: float
    last_sent_at: float
    last_packet_at: float
    sends: bool = True


@dataclass(slots=True)
class _AtPeer:
    flows: dict[_Name, _Owned] = field(default_factory=dict)
    of_host: dict[Host, dict[_Name, None]] = field(default_factory=dict)


class ExactPart:
    """Gives each flow to the host that sent it first, both ways at once."""

    def __init__(self, bounds: Bounds, refusals: Refusals, holder: str = "exact") -> None:
        self._bounds: Final = bounds
        self._holder: Final = holder
        self._limits: Final = bounds.limits
        self._refusals: Final = refusals
        self._peers: Final[dict[Path, _AtPeer]] = {}

    # Queries

    def owner(self, key: FlowKey) -> Host | None:
        """Say who has a flow, if anybody."""
        state = self._peers.get(key.path)
        owned = state.flows.get(_name(key)) if state else None
        return owned.host if owned else None

    def hosts(self, peer: Peer) -> list[tuple[Host, Path]]:
        """The hosts that have a flow with a peer, and by which path."""
        return [(host, path) for path, state in self._peers.items() if path.peer == peer for host in state.of_host]

    def tunnels(self) -> Iterator[Tunnels]:
        """All hosts and peers that exchange something, one row for each protocol."""
        for path, state in self._peers.items():
            for host, names in state.of_host.items():
                for kind in sorted({(protocol, port) for protocol, port, _ in names}):
                    own = tuple(name[2] for name in names if name[:2] == kind)
                    yield Tunnels(
                        host=host,
                        peer=path.peer,
                        slot=path.slot,
                        protocol=kind[0],
                        port=kind[1],
                        to_peer=own,
                        to_inside=own,
                        contested=(),
                        rivals=1,
                        first_at=min(state.flows[*kind, discriminator].first_at for discriminator in own),
                    )

    # Packets

    def on_from_inside(self, event: PortlessFromInside, now: float) -> list[Command]:
        """Give the flow to the host both ways, or refuse it where another host has it.

        An owner that has sent nothing for as long as a mapping lives gives way, even if the peer goes
        on sending to it.
        """
        key = FlowKey.to_peer(event.protocol, event.host, event.peer, event.discriminator, event.port)
        path = self._bounds.path(event.host, event.peer, event.slot)
        name = _name(key)
        state = self._peers.get(path)
        owned = state.flows.get(name) if state else None
        commands: list[Command] = []
        if state is not None and owned is not None and owned.host != event.host:
            if now - owned.last_sent_at <= self._limits.idle_s(event.protocol):
                return [self._refuse(key, owned.host, now)]
            commands += self._give_up(path, state, name)
            owned = None
        if owned is None or not owned.sends:
            commands += self._own(key, event.host, path, owned, now)
            if isinstance(commands[-1], Refuse):
                return commands
            owned = self._peers[path].flows[name]
        owned.last_sent_at = owned.last_packet_at = now
        self._bounds.touch(event.host, event.peer, now)
        self._refusals.forget(event.host, event.peer, event.protocol, event.discriminator, event.port)
        return [
            *commands,
            InstallMapping(FlowKey.to_inside(event.protocol, path, event.discriminator, event.port), event.host),
            InstallMapping(key, event.host, path.slot),
            Reinject(key),
        ]

    def give(self, key: FlowKey, host: Host, now: float) -> list[Command]:
        """Give what comes from the peer to a host that is known to own it and has not sent on this way yet."""
        commands = self._own(key, host, key.path, None, now, sends=False)
        if isinstance(commands[-1], Refuse):
            return commands
        return [*commands, InstallMapping(key, host), Reinject(key)]

    def _own(
        self, key: FlowKey, host: Host, path: Path, adopted: _Owned | None, now: float, *, sends: bool = True
    ) -> list[Command]:
        """Note the host as the owner; the last command is a refusal where there is no room."""
        if adopted is not None:
            if not self._bounds.has_room():
                return [Refuse(key, Reason.REFUSED, "mappings.limit")]
            adopted.sends = True
            self._bounds.mappings += 1
            return [_record(key, host)]
        commands = self._make_room(host, path)
        if not self._bounds.meet(host, path, self._holder, now):
            return [*commands, Refuse(key, Reason.REFUSED, "hosts.limit")]
        state = self._peers.setdefault(path, _AtPeer())
        if len(state.flows) >= self._limits.spis_per_peer_max or not self._bounds.has_room(commands, 1 + sends):
            self._let_go(host, path)
            return [*commands, Refuse(key, Reason.REFUSED, "mappings.limit")]
        self._take(key, state, _Owned(host, now, now, now, sends=sends))
        self._bounds.mappings += 1 + sends
        return [*commands, _record(key, host)]

    def _take(self, key: FlowKey, state: _AtPeer, owned: _Owned) -> None:
        name = _name(key)
        state.flows[name] = owned
        state.of_host.setdefault(owned.host, {})[name] = None

    def _make_room(self, host: Host, path: Path) -> list[Command]:
        """Keep a host within its own bound: its least recently used flow makes room."""
        state = self._peers.get(path)
        own = state.of_host.get(host, {}) if state else {}
        if state is None or len(own) < self._limits.spis_per_host_and_peer_max:
            return []
        return self._give_up(path, state, min(own, key=lambda name: state.flows[name].last_packet_at))

    def _refuse(self, key: FlowKey, owner: Host, now: float) -> Refuse:
        self._refusals.note(
            key.host,
            key.peer,
            key.protocol,
            key.discriminator,
            Reason.DISCRIMINATOR_TAKEN,
            now,
            owner=owner,
            port=key.port,
        )
        return Refuse(key, Reason.DISCRIMINATOR_TAKEN, "discriminator.taken")

    def on_unclaimed(self, event: PortlessUnclaimed, now: float) -> list[Command]:
        """Let in what a host has asked for, and nothing else."""
        key = FlowKey.to_inside(event.protocol, event.path, event.discriminator, event.port)
        host = self.owner(key)
        if host is None:
            return [Refuse(key, Reason.NO_CANDIDATE, "peer.unknown")]
        return [InstallMapping(key, host), Reinject(key)]

    # Forgetting

    def take_unsent(self, key: FlowKey) -> list[Command]:
        """Take a flow from an owner that has not sent on it; nothing where it has, or nobody owns it."""
        state = self._peers.get(key.path)
        owned = state.flows.get(_name(key)) if state else None
        return self._give_up(key.path, state, _name(key)) if state and owned and not owned.sends else []

    def forget(
        self, host: Host, path: Path, now: float, is_meant: Callable[[int], bool] = lambda protocol: True
    ) -> list[Command]:
        """Forget all that a host has with a peer, of the protocols that are meant."""
        state = self._peers.get(path)
        names = [name for name in state.of_host.get(host, {}) if is_meant(name[0])] if state else []
        return [command for name in names if state for command in self._give_up(path, state, name)]

    def _give_up(self, path: Path, state: _AtPeer, name: _Name) -> list[Command]:
        owned = state.flows.pop(name)
        own = state.of_host[owned.host]
        del own[name]
        if not own:
            del state.of_host[owned.host]
        self._let_go(owned.host, path)
        protocol, port, discriminator = name
        commands: list[Command] = [RemoveMapping(FlowKey.to_inside(protocol, path, discriminator, port))]
        if owned.sends:
            commands.append(RemoveMapping(FlowKey.to_peer(protocol, owned.host, path.peer, discriminator, port)))
        return commands

    def _let_go(self, host: Host, path: Path) -> None:
        state = self._peers[path]
        if host not in state.of_host:
            self._bounds.release(host, path, self._holder)
        if not state.flows:
            del self._peers[path]

    # Time

    def count(self, counts: Sequence[FlowCount], now: float) -> list[Command]:
        """Note which flows are in use."""
        for count in counts:
            for path in self._bounds.paths_of(count.key):
                state = self._peers.get(path)
                owned = state.flows.get(_name(count.key)) if state else None
                if owned is None:
                    continue
                owned.last_packet_at = max(owned.last_packet_at, count.last_packet_at)
                if count.key.direction is Direction.TO_PEER and count.key.host == owned.host:
                    owned.last_sent_at = max(owned.last_sent_at, count.last_packet_at)
                    self._bounds.touch(owned.host, path.peer, count.last_packet_at)
        return []

    def expire(self, now: float) -> list[Command]:
        """Nothing here is decided by a moment of its own."""
        return []

    def sweep(self, now: float) -> list[Command]:
        """Forget what is idle both ways."""
        commands: list[Command] = []
        for path, state in list(self._peers.items()):
            for name, owned in list(state.flows.items()):
                if now - owned.last_packet_at > self._limits.idle_s(name[0]):
                    commands += self._give_up(path, state, name)
        return commands

    # Restart

    def adopt(self, flows: Sequence[AdoptedFlow], now: float) -> list[Command]:
        """Take over who has what from the mappings to the inside; what has no such mapping is asked about again."""
        commands: list[Command] = []
        for flow in flows:
            if flow.key.direction is Direction.TO_INSIDE:
                commands += self._adopt_owner(flow, now)
        for flow in flows:
            if flow.key.direction is Direction.TO_PEER:
                commands += self._adopt_sender(flow)
        return commands

    def _adopt_owner(self, flow: AdoptedFlow, now: float) -> list[Command]:
        key, last_packet_at = flow.key, flow.count.last_packet_at
        *others, host = flow.hosts
        if self.owner(key) is not None:
            return []
        self._bounds.mappings += 1
        if others or not self._bounds.meet(host, key.path, self._holder, now):
            return [RemoveMapping(key)]
        state = self._peers.setdefault(key.path, _AtPeer())
        self._take(key, state, _Owned(host, now, last_packet_at, last_packet_at, sends=False))
        return []

    def _adopt_sender(self, flow: AdoptedFlow) -> list[Command]:
        key = flow.key
        state = self._peers.get(Path(key.peer, flow.slot))
        owned = state.flows.get(_name(key)) if state else None
        if owned is None or owned.host != key.host:
            self._bounds.mappings += 1
            return [RemoveMapping(key)]
        self._bounds.mappings += not owned.sends
        owned.sends = True
        owned.last_sent_at = flow.count.last_packet_at
        owned.last_packet_at = max(owned.last_packet_at, flow.count.last_packet_at)
        return []


def _name(key: FlowKey) -> _Name:
    return key.protocol, key.port, key.discriminator


def _record(key: FlowKey, host: Host) -> Record:
    return Record(
        "flow.installed",
        {
            "protocol": discriminators.name_of(key.protocol, key.port),
            "peer": str(key.peer),
            "host": str(host),
            "discriminator": discriminators.words_of(key.protocol, key.discriminator, key.port),
        },
    )
