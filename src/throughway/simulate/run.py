"""One run: a world from a seed, one policy in it, and the result."""

from collections.abc import Callable
from typing import Final

from throughway.simulate.agenda import Agenda
from throughway.simulate.baselines import FifoRouter, OnePerPeerRouter, SerialiseRouter
from throughway.simulate.chances import between, stream
from throughway.simulate.life import Life
from throughway.simulate.negotiation import Way
from throughway.simulate.router import ThroughwayRouter
from throughway.simulate.score import Result, Score
from throughway.simulate.settings import FIRST_S, Policy, Settings
from throughway.simulate.talk import Talk
from throughway.simulate.tunnel import Mix, Tunnel, host_of, lan_and_far, peer_of
from throughway.simulate.wire import Policy as Router
from throughway.simulate.wire import Wire

ROUTERS: Final[dict[Policy, Callable[[Wire], Router]]] = {
    Policy.THROUGHWAY: ThroughwayRouter,
    Policy.FIFO: FifoRouter,
    Policy.SERIALISE: SerialiseRouter,
    Policy.ONE_PER_PEER: OnePerPeerRouter,
}

_STEP_S: Final = 1.0
"""Of the model's time, between two words about how far it is."""

_PATH_S: Final = (0.010, 0.018)
"""From the router to a peer and back."""

_LAN_LOSS: Final = 0.1
"""The inside network's loss as a share of the path's."""


class World:
    """Hosts, peers and a router with one policy."""

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self.settings: Final = settings
        self.policy: Final = policy
        self.agenda: Final = Agenda()
        self.score: Final = Score()
        self.wire: Final = Wire(settings, self.agenda, self.score)
        self.wire.policy = ROUTERS[policy](self.wire)
        self.tunnels: Final = _tunnels(settings)
        life = Life(settings, self.wire)
        for tunnel in self.tunnels:
            if tunnel.partner is None:
                Talk((tunnel,), self.agenda, self.wire, self.score)
            elif tunnel.number < tunnel.partner.number:
                Talk((tunnel, tunnel.partner), self.agenda, self.wire, self.score)
        for tunnel in self.tunnels:
            life.appoint(tunnel)
        self.agenda.at(FIRST_S, self._settle_all)

    def run(self, tell: Callable[[float], None]) -> Result:
        """Let it all happen. `tell` is told what share of the time has passed."""
        end_s = self.settings.end_s
        while self.agenda.now < end_s:
            self.agenda.run(min(end_s, self.agenda.now + _STEP_S))
            tell(self.agenda.now / end_s)
        self._settle_all()
        for tunnel in self.tunnels:
            for sa in tunnel.sas:
                self.score.ended(sa, end_s)
        return Result.of(self.policy, self.settings, self.score)

    def _settle_all(self) -> None:
        for tunnel in self.tunnels:
            tunnel.talk.settle()


def simulate(settings: Settings, policy: Policy, tell: Callable[[float], None] = lambda share: None) -> Result:
    """Run one policy in the world of these settings. The same settings give the same result, everywhere."""
    return World(settings, policy).run(tell)


def _tunnels(settings: Settings) -> list[Tunnel]:
    """Make the hosts, each with its peer; those between which traffic goes are neighbours at one peer."""
    paths = [between(stream(settings.seed, "peer", number), *_PATH_S) for number in range(settings.peers)]
    tunnels = [_tunnel(settings, number, paths) for number in range(settings.hosts)]
    of_peer: dict[int, Tunnel] = {}
    for tunnel in tunnels:
        if tunnel.chance.random() >= settings.between:
            continue
        place = tunnel.number % settings.peers
        partner = of_peer.pop(place, None)
        if partner is None:
            of_peer[place] = tunnel
            continue
        for one, other in ((tunnel, partner), (partner, tunnel)):
            one.partner = other
            one.mix = Mix.draw(one.chance, settings.rate, is_periodic=one.mix.is_periodic, is_relayed=True)
    return tunnels


def _tunnel(settings: Settings, number: int, paths: list[float]) -> Tunnel:
    chance = stream(settings.seed, "host", number)
    place = number % settings.peers
    lan_s, far_s = lan_and_far(chance, settings, paths[place])
    is_ikev1, has_eap = chance.random() < 0.5, chance.random() < 1 / 3
    is_periodic = chance.random() < settings.periodic
    return Tunnel(
        number=number,
        host=host_of(number),
        peer=peer_of(place),
        way=Way(lan_s, paths[place], settings.loss * _LAN_LOSS, settings.loss),
        far_s=far_s,
        mix=Mix.draw(chance, settings.rate, is_periodic=is_periodic, is_relayed=False),
        chance=chance,
        dice=stream(settings.seed, "packets", number),
        is_ikev1=is_ikev1,
        auth_rounds=chance.randint(4, 7) if has_eap and not is_ikev1 else 1,
        has_liveness_checks=chance.random() < 0.5,
    )
