"""What most of the scenarios at the level of packets are about: devices, one peer, and packets through the gateway.

device .11 ─┐
device .12 ─┼── router ── provider ── peer
device .13 ─┘   NAT        a router
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from throughway.control.schema import Session, Verdict
from throughway.lab.gateway import GatewayKind, Throughway
from throughway.lab.packets import builder
from throughway.lab.packets.builder import IKE_AUTH, IKE_PORT, IKE_SA_INIT, UDP, Packet, joined
from throughway.lab.packets.stations import ARRIVAL_LIMIT_S, Inbox, Station, arrives
from throughway.lab.testbed import Testbed

PEER: Final = IPv4Address("198.51.100.10")

PATIENCE: Final = 3
PATIENCE_WITH_A_PLAIN_ROUTER: Final = 1
IMPATIENT_LIMIT_S: Final = 0.2

HOPS: Final = 2
"""Routers between a device and a peer: the gateway, and the provider."""

ESP: Final = 50
GRE: Final = 47
L2TPV3: Final = 115
ICMP: Final = 1


@dataclass
class Crossing:
    """Devices and a peer at the two sides of a gateway. `shared` is the address that the devices share outside."""

    bed: Testbed
    hosts: tuple[Station, ...]
    peer: Station
    shared: IPv4Address
    patience: int = PATIENCE
    _losses: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(1, 1 << 16)))

    @property
    def stations(self) -> tuple[Station, ...]:
        """All ends."""
        return (*self.hosts, self.peer)

    def to_peer(self, host: Station, protocol: int, payload: bytes) -> Packet:
        """Build a packet of a host to the peer, with an identification of its own."""
        return Packet(host.address, self.peer.address, protocol, payload, identification=next(self._numbers))

    def to_inside(self, protocol: int, payload: bytes) -> Packet:
        """Build a packet of the peer to the shared address, with an identification of its own."""
        return Packet(self.peer.address, self.shared, protocol, payload, identification=next(self._numbers))

    def at_peer(self, sent: Packet) -> Packet:
        """Return how the peer must see what a host sent: from the shared address, and all else as it was."""
        return sent.after(HOPS, source=self.shared)

    def at_host(self, sent: Packet, host: Station) -> Packet:
        """Return how a host must see what the peer sent: to its own address, and all else as it was."""
        return sent.after(HOPS, destination=host.address)

    def crosses_out(self, host: Station, protocol: int, payload: bytes, limit_s: float = ARRIVAL_LIMIT_S) -> bool:
        """Send a packet from a host, and return whether the peer has got it with no other change than it may have."""
        sent = self.to_peer(host, protocol, payload)
        host.send(sent)
        return self.has_come(self.peer, self.at_peer(sent), limit_s)

    def crosses_in(self, host: Station, protocol: int, payload: bytes, limit_s: float = ARRIVAL_LIMIT_S) -> bool:
        """Send a packet from the peer, and return whether the host has got it with no other change than it may have."""
        sent = self.to_inside(protocol, payload)
        self.peer.send(sent)
        return self.has_come(host, self.at_host(sent, host), limit_s)

    def has_come(self, station: Station, wanted: Packet, limit_s: float = ARRIVAL_LIMIT_S) -> bool:
        """Wait until a station has got a packet, in one piece or in fragments; return whether it has."""
        return self.waits(lambda: wanted in joined(station.received), limit_s)

    def waits(
        self, condition: Callable[[], bool], limit_s: float = ARRIVAL_LIMIT_S, also: Sequence[Inbox] = ()
    ) -> bool:
        """Take in what arrives until the condition holds, and return whether it did before the limit.

        A gateway that has lost so many packets as there is patience has failed: nothing more is waited for at length.
        """
        limit_s = min(limit_s, IMPATIENT_LIMIT_S) if self._losses >= self.patience else limit_s
        holds = arrives([*self.stations, *also], condition, limit_s)
        self._losses += not holds
        return holds

    def negotiate(self, host: Station, initiator_spi: int, *, with_child: bool = True) -> bool:
        """Let a host and the peer exchange IKE messages on port 500: an IKE SA, and a child SA if that is wanted.

        The gateway may give the host another port towards the peer, which answers to where a message came from.
        Return whether every message has arrived.
        """
        spis = (initiator_spi, initiator_spi ^ 0xFFFF)
        rounds = [(IKE_SA_INIT, 0, (initiator_spi, 0)), *([(IKE_AUTH, 1, spis)] if with_child else [])]
        for exchange, message, asked in rounds:
            ports = self.ask(host, builder.ike(asked, exchange, message, answers=False, body=bytes(100)))
            answer = builder.ike(spis, exchange, message, answers=True, body=bytes(100))
            if ports is None or not self.answer(host, ports, answer):
                return False
        return True

    def ask(self, host: Station, body: bytes) -> tuple[int, int] | None:
        """Send a datagram from port 500 of a host to that of the peer.

        Return the ports which the peer sees it with, or None when it does not arrive.
        """
        ports = (IKE_PORT, IKE_PORT)
        sent = self.to_peer(host, UDP, builder.udp(host.address, self.peer.address, ports, body))
        host.send(sent)
        seen: list[tuple[int, int]] = []

        def has_come() -> bool:
            for packet in joined(self.peer.of_protocol(UDP)):
                own = (int.from_bytes(packet.payload[:2], "big"), IKE_PORT)
                again = builder.udp(self.shared, self.peer.address, own, body)
                if packet.source == self.shared and packet.payload == again:
                    seen[:] = [own]
            return bool(seen)

        return seen[0] if self.waits(has_come) else None

    def answer(self, host: Station, ports: tuple[int, int], body: bytes) -> bool:
        """Send a datagram from the peer to where one of a host came from, and return whether the host gets it."""
        theirs, own = ports
        self.peer.send(self.to_inside(UDP, builder.udp(self.peer.address, self.shared, (own, theirs), body)))
        wanted = builder.udp(self.peer.address, host.address, (IKE_PORT, IKE_PORT), body)
        return self.waits(lambda: any(packet.payload == wanted for packet in joined(host.of_protocol(UDP))))

    def sessions(self, host: Station) -> list[Session]:
        """Ask the gateway for what it says of a host; a plain router says nothing."""
        gateway = self.bed.gateway
        return gateway.sessions_of(host.address) if isinstance(gateway, Throughway) else []


@contextmanager
def crossing(
    bed: Testbed, kind: GatewayKind, devices: int, *options: str, peer: IPv4Address = PEER
) -> Iterator[Crossing]:
    """Add devices and a peer to a testbed and start the gateway; the sockets are closed at the end."""
    with ExitStack() as stack:
        hosts = [
            stack.enter_context(Station(*bed.topology.device(f"device{number}"))) for number in range(1, devices + 1)
        ]
        far = stack.enter_context(Station(bed.topology.peer("peer", peer), peer))
        bed.start_gateway(kind, *options)
        patience = PATIENCE if kind is GatewayKind.THROUGHWAY else PATIENCE_WITH_A_PLAIN_ROUTER
        yield Crossing(bed, tuple(hosts), far, bed.topology.router_outside, patience)


def found(good: int, total: int) -> str:
    """Say how many of a number were as they should be."""
    return f"{good} of {total}"


def refused(sessions: Sequence[Session], protocol: int) -> list[str]:
    """Return the reasons that the gateway gives for the refused sessions of a protocol."""
    flows = (flow for session in sessions for flow in session.flows)
    return [flow.reason for flow in flows if flow.ip_protocol == protocol and flow.verdict is Verdict.REFUSED]
