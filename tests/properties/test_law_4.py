"""Law 4: once the evidence is complete, the owner is the same for every order in which it came.

Complete is the evidence where plain reasoning leaves one owner: a host that disowned an SPI is out, the
last one left owns it, and a host whose SAs are all accounted for is out for every other SPI.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.properties.world import HOSTS, PEERS
from throughway.core.commands import Command, FanOut, InstallMapping
from throughway.core.events import (
    EspFromInside,
    EspUnclaimed,
    Event,
    HostDisowned,
    IkeExchange,
    IkeMessageSeen,
    RefusalKind,
)
from throughway.core.flows import Direction
from throughway.core.ids import Host, Path, Spi
from throughway.core.limits import Limits
from throughway.core.tracker import Tracker
from throughway.core.verdicts import Certain

PEER = PEERS[0]
NOW = 5000.0
ROUNDS_MAX = 50
HOW = RefusalKind.INVALID_SPI

Copy = tuple[Host, Spi]
"""An SPI as it comes to a host."""


@dataclass(frozen=True)
class Truth:
    """Who has how many SAs, who owns which SPI, and which hosts disown which SPIs when they get a copy."""

    owners: dict[Spi, Host]
    disowns: frozenset[Copy]

    @property
    def hosts(self) -> list[Host]:
        """Everybody who negotiated."""
        return sorted(set(self.owners.values()))

    def counts(self) -> dict[Host, int]:
        """Count the SAs of each host."""
        return {host: list(self.owners.values()).count(host) for host in self.hosts}

    def reasoned(self, disowned: set[Copy]) -> dict[Spi, Host]:
        """Conclude what the evidence leaves no choice about, given who has disowned what."""
        left = {spi: {h for h in self.hosts if (h, spi) not in disowned} for spi in self.owners}
        known: dict[Spi, Host] = {}
        while True:
            certain = {spi: next(iter(hosts)) for spi, hosts in left.items() if len(hosts) == 1}
            if certain == known:
                return known
            known = certain
            for host, count in self.counts().items():
                if list(known.values()).count(host) == count:
                    for spi in left.keys() - {s for s, h in known.items() if h == host}:
                        left[spi].discard(host)


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    """Draw two to four hosts with one to three SAs each; who disowns what is drawn among the others."""
    counts = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    owners = [host for host, count in zip(HOSTS, counts, strict=False) for _ in range(count)]
    spis = {Spi(0x20000 + n): host for n, host in enumerate(owners)}
    pairs = [(host, spi) for spi, owner in spis.items() for host in sorted(set(owners)) if host != owner]
    return Truth(spis, frozenset(draw(st.sets(st.sampled_from(pairs)))))


def conversation(host: Host, count: int) -> Iterator[Event]:
    """List what is seen of a host with so many SAs, in the order in which it happens."""
    yield from _exchange(host, IkeExchange.INITIAL, 0)
    yield from _exchange(host, IkeExchange.FIRST_CHILD, 1)
    for message_id in range(2, count + 1):
        yield from _exchange(host, IkeExchange.CHILD, message_id)


def _exchange(host: Host, exchange: IkeExchange, message_id: int) -> Iterator[Event]:
    for from_host in (True, False):
        yield IkeMessageSeen(host, PEER, int(host), exchange, message_id, from_host, floated=False)


def shuffled(truth: Truth, random: Random) -> list[Event]:
    """Mix all evidence in an order that can be: what comes in of an SA, and what goes out, follows its exchange."""
    lines = []
    for host, count in truth.counts().items():
        line: list[Event] = list(conversation(host, count))
        spis = [spi for spi, owner in truth.owners.items() if owner == host]
        for n, spi in enumerate(spis, start=1):
            agreed = max(at for at, event in enumerate(line) if _is_of_message(event, n)) + 1
            for event in (EspUnclaimed(Path(PEER), spi, 1), EspFromInside(host, PEER, Spi(spi << 8), 1)):
                line.insert(random.randint(agreed, len(line)), event)
        lines.append(line)
    events = []
    while lines := [line for line in lines if line]:
        events.append(random.choice(lines).pop(0))
    return events


def _is_of_message(event: Event, message_id: int) -> bool:
    return isinstance(event, IkeMessageSeen) and event.exchange_id == message_id


class Listener:
    """Tells a tracker evidence; hosts that get a copy of what they disown say so, at once or later."""

    def __init__(self, truth: Truth, random: Random) -> None:
        self.tracker = Tracker(Limits())
        self._truth = truth
        self._random = random
        self._copies: dict[Spi, tuple[Host, ...]] = {}
        self.disowned: set[Copy] = set()

    def tell(self, event: Event) -> None:
        """Tell an event, and some of the answers that it causes."""
        for command in self.tracker.handle(event, NOW):
            self._note(command)
        if self._random.random() < 0.5:
            self.answer_all()

    def answer_all(self) -> None:
        """Let everybody who gets what is not its own say so, until that changes nothing any more."""
        before = None
        for _ in range(ROUNDS_MAX):
            if before == self._copies:
                return
            before = dict(self._copies)
            copies = [(host, spi) for spi, hosts in self._copies.items() for host in hosts]
            answers = [copy for copy in copies if copy in self._truth.disowns]
            self._random.shuffle(answers)
            for host, spi in answers:
                self.disowned.add((host, spi))
                for command in self.tracker.handle(HostDisowned(host, PEER, spi, HOW), NOW):
                    self._note(command)
        raise AssertionError("answers move the copies without end")

    def _note(self, command: Command) -> None:
        match command:
            case InstallMapping(key, host) if key.direction is Direction.TO_INSIDE:
                self._copies[Spi(key.discriminator)] = (host,)
            case FanOut(key, hosts):
                self._copies[Spi(key.discriminator)] = hosts


LAW_4 = (truths(), st.randoms(use_true_random=False))


@given(*LAW_4)
def test_law_4_the_owner_is_the_same_for_every_order_of_the_evidence(truth: Truth, random: Random) -> None:
    listener = Listener(truth, random)
    for event in shuffled(truth, random):
        listener.tell(event)
    listener.answer_all()
    verdicts = {spi: listener.tracker.verdict(Path(PEER), spi) for spi in truth.owners}
    certain = {spi: verdict.host for spi, verdict in verdicts.items() if isinstance(verdict, Certain)}
    assert certain.items() <= truth.owners.items(), "whoever is believed to own an SPI does"
    assert truth.reasoned(listener.disowned).items() <= certain.items(), "what can be concluded is concluded"
