"""Packets of one conversation: played one by one where something depends on it, else counted.

*Played*: every packet is an event, is asked about, held, delivered and answered by itself. So it is while a flow in
use waits for a verdict or is traced. *Counted*: once it is settled what becomes of the packets of all flows in use,
only their number matters; it is drawn when something changes, or when the counters are read.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final, Protocol

from throughway.simulate.agenda import Agenda
from throughway.simulate.chances import poisson
from throughway.simulate.flows import Flow, Sa
from throughway.simulate.score import Score
from throughway.simulate.tunnel import BURST_MEAN, Tunnel

_GAP_S: Final = 0.0012
"""Between the packets of a burst: 1,500 bytes at 10 Mbit/s."""


class Senders(Protocol):
    """Who makes packets."""

    @property
    def restless(self) -> "dict[Talk, None]":
        """Conversations that are played, or that somebody else than the owner gets, too."""

    def host_sends(self, tunnel: Tunnel, wants_answer: bool) -> None:
        """Let the host send one packet, which is at the router now."""

    def peer_sends(self, tunnel: Tunnel, wants_answer: bool) -> None:
        """Let the peer send one packet, which is at the router now."""


class Talk:
    """A tunnel with its traffic, or two tunnels whose traffic is with each other."""

    def __init__(self, tunnels: tuple[Tunnel, ...], agenda: Agenda, senders: Senders, score: Score) -> None:
        self.tunnels: Final = tunnels
        self._agenda: Final = agenda
        self._senders: Final = senders
        self._score: Final = score
        self._counted_since: float | None = 0.0
        self._epoch = 0
        self._phases: Final = [tunnel.dice.random() for tunnel in tunnels]
        for tunnel in tunnels:
            tunnel.talk = self

    @property
    def is_played(self) -> bool:
        """Whether its packets are played one by one."""
        return self._counted_since is None

    def look(self) -> None:
        """Change between playing and counting, after something has changed."""
        may_be_counted = all(flow.is_settled and flow.times is None for flow in self._flows_in_use())
        if may_be_counted and self._counted_since is None:
            self._epoch += 1
            self._counted_since = self._agenda.now
        elif not may_be_counted and self._counted_since is not None:
            self.settle()
            self._counted_since = None
            self._play()
        if may_be_counted and all(map(_has_owner_alone, self.tunnels)):
            self._senders.restless.pop(self, None)
        else:
            self._senders.restless[self] = None

    def settle(self) -> None:
        """Count what has passed until now, before something changes. What is played needs none of it."""
        if self._counted_since is None or self._agenda.now <= self._counted_since:
            return
        since, self._counted_since = self._counted_since, self._agenda.now
        for tunnel in self.tunnels:
            if tunnel.host_sends is not None and not tunnel.is_gone:
                self._count_outward(tunnel, tunnel.host_sends, since)
            if tunnel.peer_sends is not None:
                self._count_inward(tunnel, tunnel.peer_sends, since)

    def _flows_in_use(self) -> Iterator[Flow]:
        for tunnel in self.tunnels:
            if tunnel.host_sends is not None and not tunnel.is_gone:
                yield tunnel.host_sends.outward
            if tunnel.peer_sends is not None:
                yield tunnel.peer_sends.inward

    # Counted

    def _count_outward(self, tunnel: Tunnel, sa: Sa, since: float) -> None:
        rate = _outward_rate(tunnel)
        count = poisson(tunnel.dice, rate * (self._agenda.now - since))
        self._score.outward += count
        sa.sequence_out += count
        if not sa.outward.hosts:
            self._score.refused += count
        else:
            _add(sa.outward, count, since, self._agenda.now, rate, tunnel.dice)

    def _count_inward(self, tunnel: Tunnel, sa: Sa, since: float) -> None:
        rate = _inward_rate(tunnel)
        count = poisson(tunnel.dice, rate * (self._agenda.now - since))
        self._score.arrived(count, since)
        sa.sequence_in += count
        if not sa.inward.hosts:
            self._score.refused += count
        else:
            self._score.delivered(count, since, sa.inward.hosts, tunnel.number)
            _add(sa.inward, count, since, self._agenda.now, rate, tunnel.dice)

    # Played

    def _play(self) -> None:
        self._epoch += 1
        for tunnel, phase in zip(self.tunnels, self._phases, strict=True):
            mix = tunnel.mix
            if mix.is_periodic:
                interval = 1.0 / (mix.ask + mix.one_way)
                ticks = int(self._agenda.now / interval - phase) + 1
                self._agenda.at((ticks + phase) * interval, self._tick, tunnel, self._epoch, ticks, phase, interval)
                continue
            streams = mix.stream / BURST_MEAN
            kinds: tuple[tuple[Callable[[Tunnel], None], float], ...] = (
                (self._ask, mix.ask),
                (self._be_asked, mix.asked),
                (self._download, streams),
                (self._upload, streams),
                (self._come_one_way, mix.one_way),
                (self._go_one_way, mix.one_way),
            )
            acts = [act for act, rate in kinds if rate > 0.0]
            rates = [rate for _, rate in kinds if rate > 0.0]
            wait = tunnel.dice.expovariate(sum(rates))
            self._agenda.at(self._agenda.now + wait, self._strike, tunnel, self._epoch, acts, rates, sum(rates))

    def _strike(
        self, tunnel: Tunnel, epoch: int, acts: list[Callable[[Tunnel], None]], rates: list[float], rate: float
    ) -> None:
        """Let one thing begin, at random times."""
        if epoch != self._epoch:
            return
        dice = tunnel.dice
        self._agenda.at(self._agenda.now + dice.expovariate(rate), self._strike, tunnel, epoch, acts, rates, rate)
        point = dice.random() * rate
        chosen = acts[-1]
        for act, share in zip(acts, rates, strict=True):
            point -= share
            if point < 0.0:
                chosen = act
                break
        chosen(tunnel)

    def _tick(self, tunnel: Tunnel, epoch: int, ticks: int, phase: float, interval: float) -> None:
        """Let one thing begin, at strict intervals; requests and what goes one way take turns."""
        if epoch != self._epoch:
            return
        ticks += 1
        self._agenda.at((ticks + phase) * interval, self._tick, tunnel, epoch, ticks, phase, interval)
        if ticks % 2 and tunnel.mix.one_way:
            self._come_one_way(tunnel)
            self._go_one_way(tunnel)
        else:
            self._ask(tunnel)

    def _ask(self, tunnel: Tunnel) -> None:
        self._senders.host_sends(tunnel, True)

    def _be_asked(self, tunnel: Tunnel) -> None:
        self._senders.peer_sends(tunnel, True)

    def _go_one_way(self, tunnel: Tunnel) -> None:
        self._senders.host_sends(tunnel, False)

    def _come_one_way(self, tunnel: Tunnel) -> None:
        self._senders.peer_sends(tunnel, False)

    def _download(self, tunnel: Tunnel) -> None:
        self._burst(tunnel, self._senders.peer_sends)

    def _upload(self, tunnel: Tunnel) -> None:
        self._burst(tunnel, self._senders.host_sends)

    def _burst(self, tunnel: Tunnel, send: Callable[[Tunnel, bool], None]) -> None:
        for number in range(2 * tunnel.dice.randint(1, int(BURST_MEAN) - 1)):
            self._agenda.at(self._agenda.now + number * _GAP_S, send, tunnel, bool(number % 2))


def _has_owner_alone(tunnel: Tunnel) -> bool:
    """Whether what the peer sends goes to the host and to nobody else."""
    return tunnel.peer_sends is None or tunnel.peer_sends.inward.hosts == (tunnel.number,)


def _passes(tunnel: Tunnel) -> bool:
    """Whether what the host sends gets out."""
    return tunnel.host_sends is not None and not tunnel.is_gone and bool(tunnel.host_sends.outward.hosts)


def _arrives(tunnel: Tunnel) -> bool:
    """Whether what the peer sends gets to the host, which is there."""
    sa = tunnel.peer_sends
    return sa is not None and not tunnel.is_gone and tunnel.number in sa.inward.hosts


def _outward_rate(tunnel: Tunnel) -> float:
    mix, way, partner = tunnel.mix, tunnel.way, tunnel.partner
    rate = mix.ask + mix.stream + mix.one_way
    if _arrives(tunnel):
        if partner is not None:
            rate += partner.mix.ask if _passes(partner) else 0.0
        else:
            rate += (mix.asked + mix.stream / 2) * (1.0 - way.lan_loss) * (1.0 - way.path_loss)
    return rate * (1.0 - way.lan_loss)


def _inward_rate(tunnel: Tunnel) -> float:
    mix, way, partner = tunnel.mix, tunnel.way, tunnel.partner
    if partner is not None:
        rate = _outward_rate(partner) * (1.0 - way.path_loss) if _passes(partner) else 0.0
    else:
        rate = mix.asked + mix.stream + mix.one_way
        if _passes(tunnel):
            rate += (mix.ask + mix.stream / 2) * (1.0 - way.lan_loss) * (1.0 - way.path_loss)
    return rate * (1.0 - way.path_loss)


def _add(flow: Flow, count: int, since: float, now: float, rate: float, dice: Random) -> None:
    if count:
        flow.packets += count
        flow.last_at = max(flow.last_at, since, now - dice.expovariate(rate))
