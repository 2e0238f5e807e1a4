"""The part of the tracker for IKE whose port is kept: its tunnels are told apart by the initiator's SPI.

The initiator of an IKE SA draws 64 bits at random, and every message of that SA has them in clear, both ways (RFC
7296 section 3.1, RFC 2408 section 3.1). So the host that sends an initiator SPI owns it, exactly (see `exact`).

    what comes from the peer               who gets it
    an initiator SPI that a host sends     that host
    one that a host has sent before        that host: before its port was kept, or before its mapping was idle
    any other                              every host with an IKE SA with the peer, until one of them sends it

The last row is there because a peer may be an initiator too: of a new phase 1 of IKEv1, and of an IKE SA of
IKEv2 that replaces another one, whose SPIs are agreed on inside encryption (RFC 7296 section 1.3.2). IKE has
no clear text of the hosts in it, and who does not know an SPI discards the message or answers as to a stranger.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from throughway.core.bounds import Bounds
from throughway.core.commands import Command, Refuse, Reinject, RemoveMapping, give
from throughway.core.events import AdoptedFlow, FlowCount, IkeMessageSeen, PortlessFromInside, PortlessUnclaimed
from throughway.core.exact import ExactPart
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, UdpPort
from throughway.core.kept_ports import KeptPorts
from throughway.core.reasons import Reason
from throughway.core.tunnels import Refusals, Tunnels


@dataclass(slots=True)
class _Offered:
    """An SPI that no host has sent: these get copies."""

    hosts: tuple[Host, ...]
    last_packet_at: float


class KeptIkePart:
    """Gives each IKE SA to the host that has it, and what nobody is known to have to those that may."""

    def __init__(self, bounds: Bounds, refusals: Refusals, kept: KeptPorts) -> None:
        self._bounds: Final = bounds
        self._limits: Final = bounds.limits
        self._kept: Final = kept
        self._exact: Final = ExactPart(bounds, refusals, "ike-kept")
        self._offered: Final[dict[Path, dict[int, _Offered]]] = {}

    def owner(self, key: FlowKey) -> Host | None:
        """Say who alone has a flow, if anybody."""
        return self._exact.owner(key)

    def tunnels(self) -> Iterator[Tunnels]:
        """All hosts and peers between which there is IKE whose port is kept."""
        return self._exact.tunnels()

    # Messages and packets

    def on_message_seen(self, event: IkeMessageSeen, now: float) -> list[Command]:
        """Learn from a message, wherever its packet goes, whether the port has to be kept."""
        if event.floated or event.host_port != UdpPort.IKE:
            return []
        return self._kept.hear(
            self._bounds.path(event.host, event.peer, event.slot),
            UdpPort.IKE,
            event.host,
            event.initiator_spi,
            now,
            from_host=event.from_host,
            is_first=event.is_first,
        )

    def on_from_inside(self, event: PortlessFromInside, now: float) -> list[Command]:
        """Give the host what it sends, both ways; it may be its answer to what was offered to several.

        Whoever sends an SPI has it: an earlier run may have given it to a host that never did.
        """
        path = self._bounds.path(event.host, event.peer, event.slot)
        key = FlowKey.to_inside(event.protocol, path, event.discriminator, event.port)
        is_others = self._exact.owner(key) not in (None, event.host)
        commands = self._exact.take_unsent(key) if is_others else []
        offered = self._offered.get(path, {})
        if (known := offered.get(event.discriminator)) and self._exact.owner(key) is None:
            if event.host in known.hosts:
                # The mapping that is there becomes the host's, and is counted with it.
                self._withdraw(path, event.discriminator)
                self._bounds.mappings -= 1
            else:  # What it counted came to others, and must not pass for the host's after a restart.
                commands += self._withdrawn(path, event.discriminator)
        return commands + self._exact.on_from_inside(event, now)

    def on_unclaimed(self, event: PortlessUnclaimed, now: float) -> list[Command]:
        """Give a message of the peer to its host, or to all that it may be for."""
        key = FlowKey.to_inside(event.protocol, event.path, event.discriminator, event.port)
        if self._exact.owner(key) is not None:
            return self._exact.on_unclaimed(event, now)
        owner = self._kept.owner(event.path, UdpPort.IKE, event.discriminator)
        offered = self._offered.get(event.path, {})
        if owner is not None:
            commands = self._withdrawn(event.path, event.discriminator) if event.discriminator in offered else []
            return [*commands, *self._exact.give(key, owner, now)]
        known = offered.get(event.discriminator)
        hosts = known.hosts if known else self._candidates(event.path)
        if not hosts:
            return [Refuse(key, Reason.NO_CANDIDATE, "peer.unknown")]
        commands = [] if known else self._offer(event.path, event.discriminator, hosts, now)
        if commands and isinstance(commands[-1], Refuse):
            return commands
        return [*commands, give(key, hosts), Reinject(key)]

    def _candidates(self, path: Path) -> tuple[Host, ...]:
        """The hosts on a path that have an IKE SA with the peer, those last that were seen last."""
        seen = sorted(self._kept.answered(path, UdpPort.IKE))
        return tuple(host for _, host in seen[-self._limits.fan_out_max :])

    def _offer(self, path: Path, spi: int, hosts: tuple[Host, ...], now: float) -> list[Command]:
        """Note an SPI that nobody is known to have; the last command is a refusal where there is no room."""
        offered = self._offered.get(path, {})
        commands: list[Command] = []
        if len(offered) >= self._limits.uncredited_spis_per_peer_max:
            oldest = min(offered, key=lambda name: offered[name].last_packet_at)
            commands += self._withdrawn(path, oldest)
        if not self._bounds.has_room(commands):
            return [*commands, Refuse(_key(path, spi), Reason.REFUSED, "mappings.limit")]
        self._offered.setdefault(path, {})[spi] = _Offered(hosts, now)
        self._bounds.mappings += 1
        return commands

    def _withdraw(self, path: Path, spi: int) -> None:
        del self._offered[path][spi]
        if not self._offered[path]:
            del self._offered[path]

    def _withdrawn(self, path: Path, spi: int) -> list[Command]:
        self._withdraw(path, spi)
        return [RemoveMapping(_key(path, spi))]

    # Forgetting

    def forget(self, host: Host, path: Path, now: float) -> list[Command]:
        """Forget all that a host has with a peer; what it had copies of is asked about again."""
        commands = self._exact.forget(host, path, now)
        for spi in [spi for spi, offered in self._offered.get(path, {}).items() if host in offered.hosts]:
            commands += self._withdrawn(path, spi)
        return commands

    def forget_peer(self, peer: Peer, now: float) -> list[Command]:
        """Forget all flows with a peer, because they are the kernel's again."""
        offered = [(path, spi) for path, names in self._offered.items() if path.peer == peer for spi in names]
        return [
            *(command for host, path in self._exact.hosts(peer) for command in self._exact.forget(host, path, now)),
            *(command for path, spi in offered for command in self._withdrawn(path, spi)),
        ]

    # Time

    def count(self, counts: Sequence[FlowCount], now: float) -> list[Command]:
        """Note which flows are in use."""
        for count in counts:
            offered = self._offered.get(count.key.path, {}).get(count.key.discriminator)
            if offered is not None and count.key.direction is Direction.TO_INSIDE:
                offered.last_packet_at = max(offered.last_packet_at, count.last_packet_at)
        return self._exact.count(counts, now)

    def expire(self, now: float) -> list[Command]:
        """Nothing here is decided by a moment of its own."""
        return []

    def sweep(self, now: float) -> list[Command]:
        """Forget what is idle."""
        commands = self._exact.sweep(now)
        before = now - self._limits.kept_port_idle_s
        for path, offered in list(self._offered.items()):
            for spi in [spi for spi, one in offered.items() if one.last_packet_at < before]:
                commands += self._withdrawn(path, spi)
        return commands

    # Restart

    def adopt(self, flows: Sequence[AdoptedFlow], now: float) -> list[Command]:
        """Take over what hosts had; what was offered to several is asked about again.

        Hosts to which something came had an IKE SA, and a copy is lost on nobody.
        """
        for flow in flows:
            if flow.key.direction is Direction.TO_INSIDE and flow.count.packets:
                for host in flow.hosts:
                    self._kept.recall(flow.key.path, UdpPort.IKE, host, now)
        return self._exact.adopt(flows, now)


def _key(path: Path, spi: int) -> FlowKey:
    return FlowKey.to_inside(IpProtocol.UDP, path, spi, UdpPort.IKE)
