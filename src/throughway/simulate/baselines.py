"""What others do, in the same world. None of them looks at IKE, keeps evidence, or undoes a guess.

They know no hold: what they do not pass is lost.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from throughway.core.events import IkeMessageSeen
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, Spi
from throughway.simulate.flows import Flow, Packet, Sa
from throughway.simulate.wire import Wire

UNANSWERED_S: Final = 30.0
"""First-in-first-out: an SPI of a host that got no partner is forgotten after so long without a packet (vendors' ESP
helpers have 20 to 30 s)."""

TURN_S: Final = 120.0
"""Serialise: for how long an unanswered SPI holds the others back (the INIT wait of Linux 2.2's IPsec masquerade; pf's
first timeout is the same)."""


class _Baseline:
    """Keeps the flows; what is decided once stays."""

    def __init__(self, wire: Wire) -> None:
        self._wire: Final = wire
        self._agenda: Final = wire.agenda
        self._flows: Final[dict[FlowKey, Flow]] = {}

    def flow_to_inside(self, peer: Peer, spi: Spi) -> Flow:
        """Find or make the flow of an SPI that comes from a peer."""
        key = FlowKey.to_inside(IpProtocol.ESP, Path(peer), spi)
        return self._flows.setdefault(key, Flow(key))

    def flow_to_peer(self, host: Host, peer: Peer, spi: Spi) -> Flow:
        """Find or make the flow of an SPI that a host sends to a peer."""
        key = FlowKey.to_peer(IpProtocol.ESP, host, peer, spi)
        return self._flows.setdefault(key, Flow(key))

    def saw_ike(self, message: IkeMessageSeen) -> None:
        """Take no notice."""

    def over(self, sa: Sa) -> None:
        """Forget flows that no end uses any more."""
        for flow in (sa.inward, sa.outward):
            if not flow.users:
                self._flows.pop(flow.key, None)

    def from_peer(self, packet: Packet) -> None:
        """Deliver a packet, if anybody is known or now found to get it."""
        flow = packet.sa.inward
        if not flow.is_settled:
            self._decide_inward(flow)
        if flow.hosts:
            flow.count(packet.at)
            self._wire.delivered(packet, flow.hosts)
        else:
            self._wire.dropped()

    def from_host(self, packet: Packet) -> None:
        """Send on a packet, if it may go now."""
        flow = packet.sa.outward
        if not flow.is_settled:
            self._decide_outward(flow, packet.sa.tunnel.number)
        if flow.hosts:
            flow.count(packet.at)
            self._wire.sent(packet)
        else:
            self._wire.dropped()

    def _decide_inward(self, flow: Flow) -> None:
        raise NotImplementedError

    def _decide_outward(self, flow: Flow, host: int) -> None:
        raise NotImplementedError

    def _settle(self, flow: Flow, *hosts: int) -> None:
        self._wire.before_change(flow)
        flow.hosts, flow.is_settled = hosts, True
        self._wire.after_change(flow)

    def _pair(self, flow: Flow, host: int) -> None:
        self._settle(flow, host)
        self._wire.decided(flow)


class FifoRouter(_Baseline):
    """Gives a new SPI from a peer to the host that has waited longest, as the ESP helpers of Linux vendors do."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._waiting: Final[dict[Peer, deque[tuple[int, Flow]]]] = {}

    def _decide_outward(self, flow: Flow, host: int) -> None:
        self._waiting.setdefault(flow.key.peer, deque()).append((host, flow))
        flow.last_at = self._agenda.now
        self._settle(flow, host)

    def _decide_inward(self, flow: Flow) -> None:
        waiting = self._waiting.get(flow.key.peer, deque())
        while waiting:
            host, outward = waiting.popleft()
            for sa in outward.users:
                sa.tunnel.talk.settle()
            if self._agenda.now - outward.last_at <= UNANSWERED_S:
                self._pair(flow, host)
                return


@dataclass(frozen=True, slots=True)
class _Turn:
    host: int
    outward: Flow
    until: float


class SerialiseRouter(_Baseline):
    """Lets one host at a time begin with a peer, until a new SPI comes back; as Linux 2.2 and pf do."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._turns: Final[dict[Peer, _Turn]] = {}

    def _decide_outward(self, flow: Flow, host: int) -> None:
        turn = self._turns.get(flow.key.peer)
        if turn is None or self._agenda.now >= turn.until:
            self._turns[flow.key.peer] = _Turn(host, flow, self._agenda.now + TURN_S)
            self._settle(flow, host)

    def _decide_inward(self, flow: Flow) -> None:
        turn = self._turns.get(flow.key.peer)
        if turn is not None and self._agenda.now < turn.until:
            del self._turns[flow.key.peer]
            self._pair(flow, turn.host)


class OnePerPeerRouter(_Baseline):
    """Gives a peer to the host that was first to send to it, as mainline Linux does.

    The reply tuples of all others would clash with its own, so their packets are dropped. It is in use
    as long as packets go either way, which is to the end here.
    """

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._owners: Final[dict[Peer, int]] = {}

    def _decide_outward(self, flow: Flow, host: int) -> None:
        if self._owners.setdefault(flow.key.peer, host) == host:
            self._settle(flow, host)
        else:
            self._settle(flow)

    def _decide_inward(self, flow: Flow) -> None:
        owner = self._owners.get(flow.key.peer)
        if owner is not None:
            self._pair(flow, owner)
