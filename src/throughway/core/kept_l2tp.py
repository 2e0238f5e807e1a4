"""The part of the tracker for L2TP on UDP 1701, where that port is kept.

The flows are those of `l2tpv3`. While the kernel translates the port they are none of our business, and control
messages only tell whether it has to be kept.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from throughway.core.bounds import Bounds
from throughway.core.commands import Command, Reinject
from throughway.core.events import AdoptedFlow, FlowCount, L2tpControlSeen, PortlessFromInside, PortlessUnclaimed
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Path, Peer, UdpPort
from throughway.core.kept_ports import KeptPorts
from throughway.core.l2tpv3 import L2tpPart
from throughway.core.l2tpv3_state import OVER_UDP, control_name
from throughway.core.tunnels import Refusals, Tunnels


class KeptL2tpPart:
    """Learns from all control messages, and carries L2TP with the peers where the port is kept."""

    def __init__(self, bounds: Bounds, refusals: Refusals, kept: KeptPorts) -> None:
        self._bounds: Final = bounds
        self._kept: Final = kept
        self._flows: Final = L2tpPart(bounds, refusals, OVER_UDP)

    def owner(self, key: FlowKey) -> Host | None:
        """Say who has a flow to the inside, if anybody."""
        return self._flows.owner(key.path, key.discriminator)

    def tunnels(self) -> Iterator[Tunnels]:
        """All hosts and peers between which there is L2TP whose port is kept."""
        return self._flows.tunnels()

    def on_control_seen(self, event: L2tpControlSeen, now: float) -> list[Command]:
        """Learn from a message; where the port is kept, give the host what it assigns to itself.

        A host names a negotiation by the ID that it assigns in its first message, and the peer sends to that ID.
        """
        if event.host_port != UdpPort.L2TP:
            return []
        message = event.message
        is_first = not message.control_connection_id
        name = message.assigned_connection_id if event.from_host else message.control_connection_id
        commands: list[Command] = []
        if name:
            commands += self._kept.hear(
                self._bounds.path(event.host, event.peer, event.slot),
                UdpPort.L2TP,
                event.host,
                control_name(message, name),
                now,
                from_host=event.from_host,
                is_first=is_first,
            )
        if self._kept.is_kept(event.peer, UdpPort.L2TP):
            commands += self._flows.on_control_seen(event, now)
        return commands

    def on_from_inside(self, event: PortlessFromInside, now: float) -> list[Command]:
        """Let a host's flow out."""
        return self._flows.on_from_inside(event, now)

    def on_unclaimed(self, event: PortlessUnclaimed, now: float) -> list[Command]:
        """Give what comes to the host that assigned the ID, or that it must be for."""
        owner = self._kept.owner(event.path, UdpPort.L2TP, event.discriminator)
        if owner is not None and self._flows.owner(event.path, event.discriminator) is None:
            taken = self._flows.give(event.path, event.discriminator, owner, now)
            if taken:
                key = FlowKey.to_inside(event.protocol, event.path, event.discriminator, event.port)
                return [*taken, Reinject(key)]
        return self._flows.on_unclaimed(event, now)

    def forget(self, host: Host, path: Path, now: float) -> list[Command]:
        """Forget all that a host has with a peer."""
        return self._flows.forget(host, path, now)

    def forget_peer(self, peer: Peer, now: float) -> list[Command]:
        """Forget all flows with a peer, because they are the kernel's again."""
        return [command for host, path in self._flows.hosts(peer) for command in self._flows.forget(host, path, now)]

    def count(self, counts: Sequence[FlowCount], now: float) -> list[Command]:
        """Note which flows are in use."""
        return self._flows.count(counts, now)

    def expire(self, now: float) -> list[Command]:
        """Give turns on."""
        return self._flows.expire(now)

    def sweep(self, now: float) -> list[Command]:
        """Forget what is idle."""
        return self._flows.sweep(now)

    def adopt(self, flows: Sequence[AdoptedFlow], now: float) -> list[Command]:
        """Take over what an earlier run decided."""
        return self._flows.adopt(flows, now)
