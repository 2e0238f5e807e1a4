"""A router of the model with a few hosts at one peer, whose packets a test sends by hand."""

from collections.abc import Callable
from typing import Final

from throughway.core.events import IkeExchange, IkeMessageSeen
from throughway.core.ids import Spi
from throughway.simulate.agenda import Agenda
from throughway.simulate.chances import stream
from throughway.simulate.flows import Sa
from throughway.simulate.negotiation import Way
from throughway.simulate.score import Score
from throughway.simulate.settings import Settings
from throughway.simulate.talk import Talk
from throughway.simulate.tunnel import Mix, Tunnel, host_of, peer_of
from throughway.simulate.wire import Policy, Wire

SILENT: Final = Mix(ask=0.0, asked=0.0, stream=0.0, one_way=1e-9)
"""Nothing is sent but what the test sends."""


class Bench:
    """Hosts 0 to n-1, each with one SA pair, at peer 0. Nothing is lost or late."""

    def __init__(self, make: Callable[[Wire], Policy], hosts: int = 3, mix: Mix = SILENT) -> None:
        settings = Settings(reordering=0.0)
        self.agenda: Final = Agenda()
        self.score: Final = Score()
        self.wire: Final = Wire(settings, self.agenda, self.score)
        self.wire.policy = make(self.wire)
        self.tunnels: Final = [self._tunnel(number, mix) for number in range(hosts)]
        self.sas: Final = [self.add_sa(tunnel, 0x1000 + tunnel.number) for tunnel in self.tunnels]

    def _tunnel(self, number: int, mix: Mix) -> Tunnel:
        tunnel = Tunnel(
            number=number,
            host=host_of(number),
            peer=peer_of(0),
            way=Way(lan_s=0.001, path_s=0.010, lan_loss=0.0, path_loss=0.0),
            far_s=0.020,
            mix=mix,
            chance=stream(1, "host", number),
            dice=stream(1, "packets", number),
            is_ikev1=False,
            auth_rounds=1,
            has_liveness_checks=False,
        )
        Talk((tunnel,), self.agenda, self.wire, self.score)
        return tunnel

    def add_sa(self, tunnel: Tunnel, spi_to_inside: int) -> Sa:
        """Give a tunnel an SA pair that both ends use from now on."""
        policy = self.wire.policy
        sa = Sa(
            tunnel,
            policy.flow_to_inside(tunnel.peer, Spi(spi_to_inside)),
            policy.flow_to_peer(tunnel.host, tunnel.peer, Spi(0x2000 + spi_to_inside)),
            life=0,
        )
        tunnel.talk.settle()
        tunnel.sas.append(sa)
        self.wire.use(sa)
        tunnel.host_sends = tunnel.peer_sends = sa
        tunnel.talk.look()
        return sa

    def negotiate(self, *numbers: int) -> None:
        """Let the router see an IKEv2 start of these hosts."""
        for number in numbers:
            tunnel = self.tunnels[number]
            for exchange in (IkeExchange.INITIAL, IkeExchange.FIRST_CHILD):
                for from_host in (True, False):
                    message = IkeMessageSeen(tunnel.host, tunnel.peer, 0xA0 + number, exchange, 0, from_host, False)
                    self.wire.policy.saw_ike(message)
        self.wait(0.01)

    def out(self, *numbers: int) -> None:
        """Let hosts send one packet each, in this order, that wants no answer."""
        for number in numbers:
            self.wire.host_sends(self.tunnels[number], False)
        self.wait(0.01)

    def come(self, *numbers: int, wants_answer: bool = False) -> None:
        """Let the peer send one packet for each of these hosts, in this order."""
        for number in numbers:
            self.wire.peer_sends(self.tunnels[number], wants_answer)
        self.wait(0.01)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.agenda.run(self.agenda.now + seconds)

    def owners(self) -> list[tuple[int, ...]]:
        """Who gets what comes for each host."""
        return [sa.inward.hosts for sa in self.sas]
