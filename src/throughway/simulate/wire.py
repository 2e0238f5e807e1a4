"""The way of a packet: from its sender to the router, through the policy, and to who answers it."""

from typing import Final, Protocol

from throughway.core.events import IkeMessageSeen
from throughway.core.ids import Host, Peer, Spi
from throughway.simulate.agenda import Agenda
from throughway.simulate.chances import between
from throughway.simulate.flows import Flow, Packet, Sa
from throughway.simulate.score import Score
from throughway.simulate.settings import Settings
from throughway.simulate.talk import Talk
from throughway.simulate.tunnel import Tunnel

_LATE_S: Final = (0.001, 0.020)
"""By how much a packet is late that others overtake."""

_JITTER_S: Final = 0.001
"""Mean of what is added to a round trip beyond the router by chance; a host's own work varies by half of its time."""


class Policy(Protocol):
    """A router's data plane with whoever decides for it. It tells the wire what passes and what is dropped."""

    def flow_to_inside(self, peer: Peer, spi: Spi) -> Flow:
        """Find or make the flow of an SPI that comes from a peer."""

    def flow_to_peer(self, host: Host, peer: Peer, spi: Spi) -> Flow:
        """Find or make the flow of an SPI that a host sends to a peer."""

    def from_peer(self, packet: Packet) -> None:
        """Take a packet that came from a peer."""

    def from_host(self, packet: Packet) -> None:
        """Take a packet that came from a host."""

    def saw_ike(self, message: IkeMessageSeen) -> None:
        """Take note of an IKE message that passes."""

    def over(self, sa: Sa) -> None:
        """Take note that an SA is used no more. It is no event of the real world: it frees memory."""


class Wire:
    """Carries packets between ends and router, and keeps the score."""

    def __init__(self, settings: Settings, agenda: Agenda, score: Score) -> None:
        self.agenda: Final = agenda
        self.score: Final = score
        self.policy: Policy
        self._restless: Final[dict[Talk, None]] = {}
        self._reordering: Final = settings.reordering

    @property
    def restless(self) -> dict[Talk, None]:
        """Conversations that are played, or that somebody else than the owner gets, too."""
        return self._restless

    # Senders

    def host_sends(self, tunnel: Tunnel, wants_answer: bool) -> None:
        """Let the host send one packet, which is at the router now; the inside network may lose it."""
        sa = tunnel.host_sends
        if sa is None or tunnel.is_gone:
            return
        sa.sequence_out += 1
        if tunnel.dice.random() < tunnel.way.lan_loss:
            return
        packet = Packet(sa, self.agenda.now, sa.sequence_out, wants_answer)
        if tunnel.dice.random() < self._reordering:
            self.agenda.at(self.agenda.now + between(tunnel.dice, *_LATE_S), self._from_host, packet)
        else:
            self._from_host(packet)

    def peer_sends(self, tunnel: Tunnel, wants_answer: bool) -> None:
        """Let the peer send one packet, which is at the router now, unless it is lost on its way."""
        sa = tunnel.peer_sends
        if sa is None:
            return
        sa.sequence_in += 1
        if tunnel.dice.random() < tunnel.way.path_loss:
            return
        packet = Packet(sa, self.agenda.now, sa.sequence_in, wants_answer)
        if tunnel.dice.random() < self._reordering:
            self.agenda.at(self.agenda.now + between(tunnel.dice, *_LATE_S), self._from_peer, packet)
        else:
            self._from_peer(packet)

    def _from_host(self, packet: Packet) -> None:
        packet.at = self.agenda.now
        self.score.outward += 1
        self.policy.from_host(packet)

    def _from_peer(self, packet: Packet) -> None:
        packet.at = self.agenda.now
        packet.sa.is_asked = True
        self.score.arrived(1, packet.at)
        self.policy.from_peer(packet)

    # What the policy did

    def sent(self, packet: Packet) -> None:
        """Let a packet go on to the peer, which relays it to another host or has it answered."""
        tunnel = packet.sa.tunnel
        dice = tunnel.dice
        if dice.random() < tunnel.way.path_loss:
            return
        jitter_s = dice.expovariate(1.0 / _JITTER_S)
        now = self.agenda.now
        if tunnel.partner is not None:
            self.agenda.at(now + tunnel.way.path_s + jitter_s, self.peer_sends, tunnel.partner, packet.wants_answer)
        elif packet.wants_answer:
            self.agenda.at(now + tunnel.far_s + jitter_s, self.peer_sends, tunnel, False)

    def delivered(self, packet: Packet, hosts: tuple[int, ...]) -> None:
        """Give a packet to hosts; the owner, if it is one of them and is there, answers where an answer is due."""
        tunnel = packet.sa.tunnel
        self.score.delivered(1, packet.at, hosts, tunnel.number)
        if not packet.wants_answer or tunnel.number not in hosts or tunnel.is_gone or packet.sa.is_over:
            return
        if tunnel.dice.random() >= tunnel.way.lan_loss:
            takes_s = tunnel.way.lan_s * (0.75 + tunnel.dice.expovariate(4.0))
            self.agenda.at(self.agenda.now + takes_s, self.host_sends, tunnel, False)

    def dropped(self, count: int = 1) -> None:
        """Note packets that the router dropped."""
        self.score.refused += count

    # Changes in the data plane

    def use(self, sa: Sa) -> None:
        """Note that an SA is in use. Its flow to the inside may be decided already, where another has an equal SPI."""
        for flow in (sa.inward, sa.outward):
            flow.users.append(sa)
        if sa.inward.hosts:
            self._judge(sa, sa.inward)

    def end(self, sa: Sa) -> None:
        """Note that an SA is in use no more."""
        for flow in (sa.inward, sa.outward):
            flow.users.remove(sa)
        self.score.ended(sa, self.agenda.now)
        self.policy.over(sa)

    def before_change(self, flow: Flow) -> None:
        """Count what passed under the present state of a flow."""
        for sa in flow.users:
            sa.tunnel.talk.settle()

    def after_change(self, flow: Flow) -> None:
        """Play or count the packets of a flow, as its new state asks for."""
        for sa in flow.users:
            sa.tunnel.talk.look()

    def decided(self, flow: Flow) -> None:
        """Note who gets a flow to the inside now."""
        for sa in flow.users:
            self._judge(sa, flow)

    def _judge(self, sa: Sa, flow: Flow) -> None:
        if len(flow.hosts) == 1:
            self.score.certain(sa, flow.hosts[0], self.agenda.now)
        else:
            self.score.contested(sa, self.agenda.now)
