"""What the tracker knows of the L2TP of one peer."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from throughway.core import discriminators
from throughway.core.events import L2tpControl
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, UdpPort


@dataclass(frozen=True, slots=True)
class Family:
    """What L2TP is carried in: the IP protocol, and the port of UDP."""

    protocol: int
    port: int
    holder: str

    def to_peer(self, host: Host, peer: Peer, discriminator: int) -> FlowKey:
        """Name what a host sends."""
        return FlowKey.to_peer(self.protocol, host, peer, discriminator, self.port)

    def to_inside(self, path: Path, discriminator: int) -> FlowKey:
        """Name what comes from a peer."""
        return FlowKey.to_inside(self.protocol, path, discriminator, self.port)


OVER_IP: Final = Family(IpProtocol.L2TPV3, 0, "l2tpv3")
OVER_UDP: Final = Family(IpProtocol.UDP, UdpPort.L2TP, "l2tp-kept")


def control_name(message: L2tpControl, connection_id: int) -> int:
    """Return the discriminator of a control connection, of the version that the message has."""
    of_version = discriminators.of_l2tpv2 if message.version == 2 else discriminators.of_l2tpv3_control
    return of_version(connection_id)


def assigned_by(message: L2tpControl) -> list[int]:
    """Name what the sender of a control message wants to be sent to."""
    named = []
    if message.assigned_connection_id:
        named.append(control_name(message, message.assigned_connection_id))
    if message.local_session_id:
        named.append(discriminators.of_l2tpv3_session(message.local_session_id))
    return named


class Origin(Enum):
    """Why a session or a control connection that comes from the peer is believed to be a host's."""

    ASSIGNED = "assigned"
    """The host assigned the ID in a control message."""
    ANSWER = "answer"
    """No other host had a session that the peer had not answered."""
    ALONE = "only-host"
    """Nobody waited for an answer, and no other host has L2TPv3 with the peer."""
    ADOPTED = "adopted"
    """It was so in an earlier run of the daemon."""


@dataclass(slots=True)
class Incoming:
    """A flow to the inside. `has_ended`: its host said so, and another one may assign the ID to itself."""

    host: Host
    origin: Origin
    first_at: float
    last_packet_at: float
    has_ended: bool = False

    @property
    def makes_room(self) -> bool:
        """Whether it goes before others: it has ended, or no host assigned it, so that anybody may have forged it."""
        return self.has_ended or self.origin in (Origin.ALONE, Origin.ANSWER)


@dataclass(slots=True)
class Outgoing:
    """A flow to the peer. `is_explained`: a control message tells what comes back, so it waits for no answer."""

    first_at: float
    last_packet_at: float
    is_explained: bool


@dataclass(slots=True)
class L2tpHost:
    """What one host has with one peer, by discriminator.

    `announced` are IDs that the peer assigned in its control messages, the oldest first; `waiting` are
    sessions whose first packets are held, and since when.
    """

    host: Host
    last_seen_at: float
    incoming: dict[int, Incoming] = field(default_factory=dict)
    outgoing: dict[int, Outgoing] = field(default_factory=dict)
    announced: dict[int, None] = field(default_factory=dict)
    waiting: dict[int, float] = field(default_factory=dict)
    turn_at: float = float("-inf")
    """When its latest turn began."""

    @property
    def waiting_since(self) -> float:
        """When the first of the sessions that wait came."""
        return min(self.waiting.values())

    def explains(self, discriminator: int) -> bool:
        """Whether it is known already what comes back for a flow to the peer.

        A first control message assigns the connection ID of its answers. Where the host has a control
        connection, those that it sends on belong to it.
        """
        if discriminator in discriminators.L2TP_UNASSIGNED or discriminator in self.announced:
            return True
        is_control = discriminators.is_l2tpv3_control(discriminator)
        return is_control and any(discriminators.is_l2tpv3_control(known) for known in self.incoming)

    def announce(self, discriminator: int, announced_max: int) -> None:
        """Note that the peer assigned an ID for what the host sends."""
        self.announced.pop(discriminator, None)
        self.announced[discriminator] = None
        if len(self.announced) > announced_max:
            del self.announced[next(iter(self.announced))]
        if flow := self.outgoing.get(discriminator):
            flow.is_explained = True

    def unanswered(self, *, is_control: bool) -> list[int]:
        """Return the flows to the peer for which something is still to come back, the newest that may be so."""
        unexplained = [
            name
            for name, flow in self.outgoing.items()
            if not flow.is_explained and discriminators.is_l2tpv3_control(name) == is_control
        ]
        answers = sum(
            flow.origin is not Origin.ASSIGNED and discriminators.is_l2tpv3_control(name) == is_control
            for name, flow in self.incoming.items()
        )
        return unexplained[answers:]

    @property
    def all_unanswered(self) -> list[int]:
        """Return the sessions and the control connections that the peer has not answered."""
        return self.unanswered(is_control=False) + self.unanswered(is_control=True)


@dataclass(slots=True)
class L2tpPeer:
    """One peer at one of our addresses. The host that has the turn may be awaiting an answer until `turn_until`
    without being disturbed."""

    path: Path
    hosts: dict[Host, L2tpHost] = field(default_factory=dict)
    owners: dict[int, Host] = field(default_factory=dict)
    turn: Host | None = None
    turn_until: float = 0.0

    def incoming(self, discriminator: int) -> Incoming | None:
        """Find a flow to the inside, whosever it is."""
        owner = self.owners.get(discriminator)
        return self.hosts[owner].incoming[discriminator] if owner is not None else None

    def waiting(self) -> list[L2tpHost]:
        """Who waits for a turn, first who had none for longest: two that are never answered hinder no third."""
        hosts = [host for host in self.hosts.values() if host.waiting]
        return sorted(hosts, key=lambda host: (host.turn_at, host.waiting_since))

    def is_turn_taken(self, now: float) -> bool:
        """Whether the host that has the turn may still wait for its answer alone."""
        holder = self.hosts.get(self.turn) if self.turn is not None else None
        return holder is not None and now < self.turn_until and bool(holder.all_unanswered)

    def is_alone(self, host: L2tpHost, now: float) -> bool:
        """Whether it is this host's turn, and no other one waits for the next."""
        return self.turn == host.host and self.is_turn_taken(now) and all(one is host for one in self.waiting())
