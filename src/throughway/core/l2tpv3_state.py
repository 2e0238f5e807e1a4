"""What the tracker knows of the L2TP of one peer."""

import math
from collections import Counter
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


STOP_CONTROL_CONNECTION: Final = 4
CALL_DISCONNECT: Final = 14
"""Control messages that end what they name (RFC 3931 section 3.1)."""

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


def ended_by(message: L2tpControl) -> int | None:
    """Name what the sender of a control message will send to no longer.

    A Call-Disconnect-Notify names the session IDs of both ends, and a Stop-Control-Connection-Notification comes with
    the ID of the connection that it ends (RFC 3931 sections 6.4, 6.12).
    """
    if message.message_type == CALL_DISCONNECT and message.remote_session_id:
        return discriminators.of_l2tpv3_session(message.remote_session_id)
    if message.message_type == STOP_CONTROL_CONNECTION and message.control_connection_id:
        return control_name(message, message.control_connection_id)
    return None


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
    may_answer: frozenset[int] = frozenset()
    """The flows to the peer that were awaited when it came, and of which it is not known yet whose answer it is. Empty
    where that is known, or will never be."""
    partner: int | None = None
    """The flow to the peer that it answers, where that is known."""

    @property
    def makes_room(self) -> bool:
        """Whether it goes before others: it has ended, or no host assigned it, so that anybody may have forged it."""
        return self.has_ended or self.origin in (Origin.ALONE, Origin.ANSWER)


@dataclass(slots=True)
class Outgoing:
    """A flow to the peer that went out once. `is_explained`: a control message tells what comes back, so it waits for
    no answer. `is_answered` is a fact of its own, and no count of what came."""

    first_at: float
    last_packet_at: float
    is_explained: bool
    is_open: bool = True
    """Its packets go out: the data plane has it."""
    is_answered: bool = False
    partner: int | None = None
    """The flow to the inside that answered it, where that is known."""
    awaited_until: float = math.inf
    """An answer may come before this time: without end while it is open, and for some time after it was closed."""

    @property
    def is_unanswered(self) -> bool:
        """Whether something is still to come back that nothing tells the name of."""
        return not (self.is_explained or self.is_answered)


@dataclass(slots=True)
class L2tpHost:
    """What one host has with one peer, by discriminator.

    `announced` are IDs that the peer assigned in its control messages, the oldest first; `waiting` are
    sessions that ask for a turn, and since when: their packets are held, those of the router are not.
    """

    host: Host
    last_seen_at: float
    turn_at: float
    """When its latest turn ended or will end; before the first one, when it was met."""
    incoming: dict[int, Incoming] = field(default_factory=dict)
    outgoing: dict[int, Outgoing] = field(default_factory=dict)
    announced: dict[int, None] = field(default_factory=dict)
    waiting: dict[int, float] = field(default_factory=dict)

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

    def needs_no_turn(self, discriminator: int) -> bool:
        """Whether a flow may go out at any time: what comes back is known, or has come back already."""
        flow = self.outgoing.get(discriminator)
        return (flow is not None and not flow.is_unanswered) or self.explains(discriminator)

    def announce(self, discriminator: int, announced_max: int) -> None:
        """Note that the peer assigned an ID for what the host sends."""
        self.announced.pop(discriminator, None)
        self.announced[discriminator] = None
        if len(self.announced) > announced_max:
            del self.announced[next(iter(self.announced))]
        flow = self.outgoing.get(discriminator)
        if flow is not None and not flow.is_explained:
            flow.is_explained = True
            self._doubt_answers_to(discriminator)

    def awaited(self, now: float, *, is_control: bool) -> frozenset[int]:
        """Return the flows to the peer that may be answered now."""
        return frozenset(
            name
            for name, flow in self.outgoing.items()
            if flow.is_unanswered and now < flow.awaited_until and discriminators.is_l2tpv3_control(name) == is_control
        )

    @property
    def in_turn(self) -> list[int]:
        """Return the open flows that the peer has not answered; not those of the router whose turn is to come."""
        return [
            name
            for name, flow in self.outgoing.items()
            if flow.is_open and flow.is_unanswered and name not in self.waiting
        ]

    # Who answered what

    def note_answer(self, discriminator: int, now: float) -> None:
        """Note which flows a new one from the peer may be the answer to, and what follows from that."""
        is_control = discriminators.is_l2tpv3_control(discriminator)
        self.incoming[discriminator].may_answer = self.awaited(now, is_control=is_control)
        self.settle()

    def settle(self) -> None:
        """Conclude that flows were answered where they have as many answers as they are themselves.

        One answer that came when one flow was awaited is the plainest case. Where some of several were answered it
        is not known which, and all count as unanswered.
        """
        while flows := self._surely_answered():
            answers = [name for name, got in self.incoming.items() if got.may_answer and got.may_answer <= flows]
            for name in flows:
                self.outgoing[name].is_answered = True
            if len(flows) == len(answers) == 1:
                self.incoming[answers[0]].partner, self.outgoing[min(flows)].partner = min(flows), answers[0]
            for got in self.incoming.values():
                got.may_answer -= flows

    def _surely_answered(self) -> frozenset[int]:
        """Find flows for which there are at least as many answers that can be to no others."""
        answers = Counter(got.may_answer for got in self.incoming.values() if got.may_answer)
        for flows in answers:
            if sum(count for others, count in answers.items() if others <= flows) >= len(flows):
                return flows
        return frozenset()

    def drop_outgoing(self, discriminator: int) -> Outgoing:
        """Forget a flow to the peer. What answered it, or may have, says nothing of others."""
        flow = self.outgoing.pop(discriminator)
        if flow.partner is not None:
            self.incoming[flow.partner].partner = None
        self._doubt_answers_to(discriminator)
        return flow

    def drop_incoming(self, discriminator: int) -> int | None:
        """Forget a flow to the inside; return the one to the peer that goes with it, if that is known."""
        partner = self.incoming.pop(discriminator).partner
        if partner is not None:
            self.outgoing[partner].partner = None
        return partner

    def _doubt_answers_to(self, discriminator: int) -> None:
        """Conclude nothing from answers that may have been to a flow of which nobody will know it any more."""
        for got in self.incoming.values():
            if discriminator in got.may_answer:
                got.may_answer = frozenset()


@dataclass(slots=True)
class L2tpPeer:
    """One peer at one of our addresses.

    The host that has the turn is not disturbed until `turn_until`. Until `listening_until` what was sent before may be
    answered, to the host `listening_to`, or to several where that is nobody.
    """

    path: Path
    hosts: dict[Host, L2tpHost] = field(default_factory=dict)
    owners: dict[int, Host] = field(default_factory=dict)
    turn: Host | None = None
    turn_until: float = -math.inf
    listening_to: Host | None = None
    listening_until: float = -math.inf

    def incoming(self, discriminator: int) -> Incoming | None:
        """Find a flow to the inside, whosever it is."""
        owner = self.owners.get(discriminator)
        return self.hosts[owner].incoming[discriminator] if owner is not None else None

    def waiting(self) -> list[L2tpHost]:
        """Who waits for a turn, first who had none for longest: neither those that are never answered nor ever new
        ones hinder the others."""
        hosts = [host for host in self.hosts.values() if host.waiting]
        return sorted(hosts, key=lambda host: (host.turn_at, host.waiting_since, host.host == self.turn))

    def listen(self, host: Host, now: float, until: float) -> None:
        """Expect late answers to a host whose flows have just been closed."""
        is_other_expected = now < self.listening_until and self.listening_to != host
        self.listening_to = None if is_other_expected else host
        self.listening_until = until

    def is_listening(self, now: float, *, but_to: Host) -> bool:
        """Whether what comes may be a late answer to another host than this one."""
        return now < self.listening_until and self.listening_to != but_to

    def is_turn_of_another(self, host: L2tpHost, now: float) -> bool:
        """Whether another host that was not answered yet has the turn."""
        holder = self.hosts.get(self.turn) if self.turn is not None else None
        return holder is not None and holder is not host and now < self.turn_until and bool(holder.in_turn)
