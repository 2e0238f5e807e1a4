"""Laws 1 and 2 for verdicts by answers: whatever hosts do, none of them loses what is its own.

Hosts start together, so credits decide nothing, and then talk in generated ways: they ask, are asked, listen, send one
way, keep strict time, send in bursts, relay to each other through the peer. The tracker is told the times alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from throughway.core import answers
from throughway.core.commands import Command, FanOut, InstallMapping, RemoveMapping, Trace, Untrace
from throughway.core.events import (
    CountersRead,
    EspFromInside,
    EspUnclaimed,
    Event,
    FlowCount,
    FlowTrace,
    IkeExchange,
    IkeMessageSeen,
    TracesRead,
)
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.tracker import Tracker

PEER = Peer(IPv4Address("203.0.113.9"))
LIMITS = Limits()
SECONDS = 24.0
EXAMPLES = settings().max_examples // 4
"""These take longer than those of the other laws."""


class Talk(Enum):
    """What makes packets. Each has a rate; a host may do several."""

    ASKS = "it asks, and is answered from behind the peer"
    IS_ASKED = "it answers at once"
    LISTENS = "it is sent to, and says nothing"
    SENDS = "it sends, and nothing comes back"
    RELAYS = "what it sends comes out at its neighbour, who says nothing"
    RELAYS_PAIRS = "the same, two packets each, by a timer of a round trip and a bit"
    CALLS = "what it asks comes out at its neighbour, who answers; the answer comes out here"
    BOTH_REGULAR = "it is sent to at a strict interval, and sends at the same"
    BURSTS = "it sends bursts to its neighbour"


@dataclass(frozen=True)
class Doing:
    """What a host does, with how many packets a second."""

    talk: Talk
    rate: float


class Street:
    """Hosts at one peer that all started before any packet came in. It lets time pass and looks who gets what."""

    def __init__(self, doings: list[list[Doing]], round_trip_s: float, seed: int) -> None:
        self.tracker = Tracker(LIMITS)
        self.hosts = [Host(IPv4Address("192.168.1.10") + n) for n in range(len(doings))]
        self._doings = doings
        self._round_trip_s = round_trip_s
        self._random = Random(seed)  # noqa: S311 - a model, no secret
        self._now = 1000.0
        self._gets: dict[FlowKey, tuple[Host, ...]] = {}
        self._traced: dict[FlowKey, float] = {}
        self._times: dict[FlowKey, list[float]] = {}
        for number, host in enumerate(self.hosts):
            for exchange in (IkeExchange.INITIAL, IkeExchange.FIRST_CHILD):
                for from_host in (True, False):
                    self._tell(IkeMessageSeen(host, PEER, number + 1, exchange, 1, from_host, floated=False))
                    self._now += self._round_trip_s
            self._tell(EspFromInside(host, PEER, self._spi(number), 1))
        for number in self._random.sample(range(len(doings)), len(doings)):
            self._tell(EspUnclaimed(Path(PEER), self._spi(number), 1))

    def run(self) -> None:
        """Let time pass, and fail as soon as an owner gets no copy of what is its own."""
        end = self._now + SECONDS
        while self._now < end:
            for number, doings in enumerate(self._doings):
                for doing in doings:
                    self._talk(number, doing)
            self._now += LIMITS.traces_every_s
            told = [FlowTrace(key, tuple(self._seen(key, since)[-64:])) for key, since in self._traced.items()]
            self._tell(TracesRead(tuple(told)))
            counts = [FlowCount(key, 1, 0, max(self._seen(key, 0.0), default=0.0)) for key in self._times]
            self._tell(CountersRead(tuple(counts)))
            for number, host in enumerate(self.hosts):
                gets = self._gets[self._inside(number)]
                assert host in gets, f"what is {host}'s goes to {gets} at {self._now:.1f} s"

    def _talk(self, number: int, doing: Doing) -> None:
        neighbour = (number + 1) % len(self.hosts)
        own, out = self._inside(number), self._outside(number)
        for at in self._moments(number, doing):
            relayed = at + self._round_trip_s + self._random.expovariate(2000.0)
            match doing.talk:
                case Talk.ASKS:
                    self._note(out, at)
                    self._note(own, relayed + 0.013)
                case Talk.IS_ASKED:
                    self._note(own, at)
                    self._answer(number, own, at)
                case Talk.LISTENS:
                    self._note(own, at)
                case Talk.SENDS:
                    self._note(out, at)
                case Talk.BOTH_REGULAR:
                    self._note(own, at)
                    self._note(out, at + number * 0.0017)
                case Talk.CALLS:
                    self._note(out, at)
                    self._note(self._inside(neighbour), relayed)
                    if self._answer(neighbour, self._inside(neighbour), relayed):
                        self._note(own, relayed + 0.003 + self._round_trip_s)
                case Talk.RELAYS | Talk.RELAYS_PAIRS | Talk.BURSTS:
                    apart = {Talk.RELAYS: 0.0, Talk.RELAYS_PAIRS: self._round_trip_s + 0.003, Talk.BURSTS: 0.012}
                    for n in range({Talk.RELAYS: 1, Talk.RELAYS_PAIRS: 2, Talk.BURSTS: 6}[doing.talk]):
                        self._note(out, at + n * apart[doing.talk])
                        self._note(self._inside(neighbour), relayed + n * apart[doing.talk])

    def _moments(self, number: int, doing: Doing) -> Iterator[float]:
        if doing.talk is Talk.BOTH_REGULAR:
            interval = 1.0 / doing.rate
            first = int(self._now / interval) + 1
            yield from (n * interval for n in range(first, int((self._now + LIMITS.traces_every_s) / interval) + 1))
            return
        at = self._now + self._random.expovariate(doing.rate)
        while at < self._now + LIMITS.traces_every_s:
            yield at
            at += self._random.expovariate(doing.rate)

    def _answer(self, number: int, own: FlowKey, at: float) -> bool:
        """Let a host answer what it got a copy of, but for one in fifty."""
        is_heard = self.hosts[number] in self._gets[own] and self._random.random() < 0.98
        if is_heard:
            self._note(self._outside(number), at + self._random.uniform(0.001, 0.003))
        return is_heard

    def _seen(self, key: FlowKey, since: float) -> list[float]:
        return sorted(at for at in self._times.get(key, ()) if since <= at <= self._now)

    def _note(self, key: FlowKey, at: float) -> None:
        self._times.setdefault(key, []).append(at)

    def _tell(self, event: Event) -> None:
        for command in self.tracker.handle(event, self._now):
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case InstallMapping(key, host) if key.direction is Direction.TO_INSIDE:
                self._gets[key] = (host,)
            case FanOut(key, hosts):
                self._gets[key] = hosts
            case Trace(key):
                self._traced[key] = self._now
            case Untrace(key) | RemoveMapping(key):
                self._traced.pop(key, None)

    @staticmethod
    def _spi(number: int) -> Spi:
        return Spi(0x1000 + number)

    def _inside(self, number: int) -> FlowKey:
        return FlowKey.to_inside(IpProtocol.ESP, Path(PEER), self._spi(number))

    def _outside(self, number: int) -> FlowKey:
        return FlowKey.to_peer(IpProtocol.ESP, self.hosts[number], PEER, self._spi(number))


doings = st.lists(st.builds(Doing, st.sampled_from(Talk), st.sampled_from([1.0, 4.0, 10.0, 20.0])), max_size=3)
streets = st.lists(doings, min_size=2, max_size=4)

STREETS = (streets, st.sampled_from([0.005, 0.027, 0.08]), st.integers(0, 1 << 16))


@settings(max_examples=EXAMPLES)
@given(*STREETS)
@example([[Doing(Talk.RELAYS_PAIRS, 10.0)], [Doing(Talk.SENDS, 4.0)]], 0.027, 1)
@example([[], [], [Doing(Talk.ASKS, 20.0), Doing(Talk.BURSTS, 20.0)]], 0.005, 0)
@example([[Doing(Talk.CALLS, 10.0)], [Doing(Talk.CALLS, 4.0)]], 0.005, 1)
@example([[Doing(Talk.BOTH_REGULAR, 20.0)], [Doing(Talk.BOTH_REGULAR, 20.0)]], 0.027, 1)
def test_law_1_who_answers_never_takes_what_is_another_hosts(
    doings: list[list[Doing]], round_trip_s: float, seed: int
) -> None:
    Street(doings, round_trip_s, seed).run()


def test_the_law_fails_with_answers_that_need_not_stand_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_stands_out", lambda count, delays: True)
    monkeypatch.setattr(answers, "_not_relayed", lambda inward, outward, round_trip_s: inward)
    street = Street([[Doing(Talk.RELAYS_PAIRS, 10.0)], [Doing(Talk.SENDS, 4.0)]], 0.027, 1)
    with pytest.raises(AssertionError, match="goes to"):
        street.run()


def test_the_law_fails_with_echoes_as_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ECHO_MAX", 1000.0)
    street = Street([[Doing(Talk.RELAYS, 10.0)], [Doing(Talk.SENDS, 4.0)]], 0.027, 1)
    with pytest.raises(AssertionError, match="goes to"):
        street.run()
