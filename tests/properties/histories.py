"""Generated histories of a world, and what the tracker must have been able to conclude from them."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from hypothesis import strategies as st

from tests.properties import packets
from tests.properties.world import HOSTS, PEERS, Between, Sa, World
from throughway.core.events import HostDisowned, RefusalKind
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, Spi


class How(Enum):
    """How an SA comes to be, or seems to."""

    FIRST = "IKE_AUTH in a new IKE SA"
    CHILD = "CREATE_CHILD_SA that the host began"
    CHILD_OF_PEER = "CREATE_CHILD_SA that the peer began"
    LATE = "CREATE_CHILD_SA that was answered after many retransmissions"
    QUICK = "Quick Mode"
    MANUAL = "no IKE that we saw: the host sends"
    BARREN = "CREATE_CHILD_SA that rekeys only the IKE SA"
    UNANSWERED = "CREATE_CHILD_SA without an answer"
    FLOATED = "CREATE_CHILD_SA on port 4500"

    @property
    def brings_sa(self) -> bool:
        """Whether there is native ESP after it."""
        return self not in (How.BARREN, How.UNANSWERED, How.FLOATED)


@dataclass(frozen=True)
class Agree:
    """A host and a peer agree on an SA. `shares` asks for the inbound SPI of another one of the peer, by number."""

    between: Between
    how: How
    repeats: int = 1
    shares: int | None = None


@dataclass(frozen=True)
class GoOut:
    """A host sends with its SA number `sa`; a high sequence number is an SA from before our start."""

    sa: int
    sequence: int = 1


@dataclass(frozen=True)
class ComeIn:
    """A peer sends with SA number `sa`; with `is_asked` false more may follow before the daemon looks."""

    sa: int
    count: int = 1
    is_asked: bool = True


@dataclass(frozen=True)
class Converse:
    """A peer sends with SA number `sa` for some seconds, and the host answers each packet."""

    sa: int


@dataclass(frozen=True)
class Wait:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class Restart:
    """The daemon is killed and started again."""


@dataclass(frozen=True)
class ChangeAddress:
    """The outside address goes and comes."""


@dataclass(frozen=True)
class Forge:
    """A packet comes with an SPI that nobody agreed on."""

    peer: Peer
    spi: int


@dataclass(frozen=True)
class Disown:
    """A host says of SA number `sa`, which may be its own or not, that it is not its own."""

    host: Host
    sa: int
    how: RefusalKind = RefusalKind.INVALID_SPI


Step = Agree | GoOut | ComeIn | Converse | Wait | Restart | ChangeAddress | Forge | Disown

RETRANSMITTED_AFTER_S = (4.0, 7.0, 13.0, 23.0, 42.0)
"""When strongSwan repeats what is not answered, each counted from the one before."""

_MARGIN_S = 100.0

CONVERSATION = 32
"""Packets of one conversation: so many that answers decide, where nothing else does."""


class History:
    """Plays steps in a world, and keeps what the tracker was shown.

    With `is_fair`, no packet of an SA comes in before its evidence did, which is where the laws promise
    delivery. Each host then needs no more inbound SPIs than the exchanges it completed or the SPIs it
    sent with, whichever is more: what the note calls an upper bound really is one.
    """

    def __init__(self, world: World, *, is_fair: bool) -> None:
        self.world = world
        self._is_fair = is_fair
        self._negotiated: Counter[Between] = Counter()
        self._announced: defaultdict[Between, set[Spi]] = defaultdict(set)
        self._met_at: dict[Between, float] = {}
        self._carried_over: Counter[Between] = Counter()
        self._came_in_before: Counter[Between] = Counter()
        self._restarted_at = math.inf
        self._from_before: list[Sa] = []

    def play(self, step: Step) -> None:
        """Let one step happen, or nothing where it cannot."""
        world = self.world
        match step:
            case Agree():
                self._agree(step)
            case GoOut(number, sequence):
                if (sa := self.sa(number)) is not None:
                    self._go_out(sa, sequence)
            case ComeIn(number, count, is_asked):
                if (sa := self.sa(number)) is not None and (not self._is_fair or self._is_due(sa)):
                    world.come_in(sa, count, is_asked=is_asked)
            case Converse(number):
                if (sa := self.sa(number)) is not None and (not self._is_fair or self._may_converse(sa)):
                    self._go_out(sa, 1)
                    world.converse(sa, CONVERSATION)
            case Wait(seconds):
                world.wait(seconds)
                self._forget_the_silent()
                self._forget_the_unseen()
            case Restart():
                world.settle()
                tables = world.mappings()
                world.restart()
                self._carry_over(tables)
            case ChangeAddress():
                world.change_address()
            case Forge(peer, spi):
                world.forge(peer, Spi(spi))
            case Disown(host, number, how):
                if (sa := self.sa(number)) is not None:
                    world.tell(HostDisowned(host, sa.peer, sa.spi_to_inside, how))

    def sa(self, number: int) -> Sa | None:
        """Return one of the SAs in use, by a number that wraps around."""
        alive = [sa for sa in self.world.sas if not sa.is_gone]
        return alive[number % len(alive)] if alive else None

    def _agree(self, step: Agree) -> None:
        if step.how.brings_sa:
            sa = self.world.add_sa(step.between, self._shared_spi(step))
            if step.how is How.MANUAL:
                self._go_out(sa, 1)
                return
        say_exchange(self.world, step)
        if step.how not in (How.UNANSWERED, How.FLOATED):
            self._negotiated[step.between] += 1
        self._met_at[step.between] = self.world.now

    def _go_out(self, sa: Sa, sequence: int) -> None:
        self.world.send_out(sa, sequence)
        self._announced[sa.between].add(sa.spi_to_peer)
        self._met_at[sa.between] = self.world.now

    def _shared_spi(self, step: Agree) -> Spi | None:
        """Take the SPI of another host's SA with the peer, as long as no packet with it has come."""
        if step.shares is None:
            return None
        host, peer = step.between
        others = [sa for sa in self.world.sas if sa.peer == peer and sa.host != host and not sa.has_come_in]
        taken = {sa.spi_to_inside for sa in self.world.sas if sa.between == step.between}
        free = [sa.spi_to_inside for sa in others if sa.spi_to_inside not in taken and not sa.is_gone]
        return free[step.shares % len(free)] if free else None

    def _may_converse(self, sa: Sa) -> bool:
        """Tell whether the tracker was shown enough, and answers cannot take an SPI from another one who has it too.

        With an equal SPI the later host has nothing for ten seconds (record 0013); `test_resolving` is about that.
        """
        alike = [one for one in self.world.sas if (one.peer, one.spi_to_inside) == (sa.peer, sa.spi_to_inside)]
        return len(alike) == 1 and self._is_due(sa)

    def _is_due(self, sa: Sa) -> bool:
        """Tell whether the tracker has been shown enough to know the owner, or all owners of an equal SPI."""
        if sa.has_come_in:
            return True
        owners = [
            other
            for other in self.world.sas
            if other.peer == sa.peer and other.spi_to_inside == sa.spi_to_inside and not other.is_gone
        ]
        if not all(self._shown(owner.between) > self._in_use(owner.between) for owner in owners):
            return False
        for owner in owners:
            owner.has_come_in = True
        return True

    def _shown(self, between: Between) -> int:
        return max(self._negotiated[between] + self._carried_over[between], len(self._announced[between]))

    def _in_use(self, between: Between) -> int:
        return len({sa.spi_to_inside for sa in self.world.sas if sa.between == between and sa.has_come_in})

    def _forget_the_silent(self) -> None:
        """End what a host has with a peer that it said nothing to for so long that it is no candidate."""
        for between, met_at in tuple(self._met_at.items()):
            if self.world.now - met_at > self.world.limits.candidate_idle_s - _MARGIN_S:
                self.world.sas = [sa for sa in self.world.sas if sa.between != between]
                del self._met_at[between], self._negotiated[between]
                self._announced.pop(between, None)
                self._carried_over.pop(between, None)

    def _forget_the_unseen(self) -> None:
        """End SAs from before a restart that nobody used for so long after it that they count as ended."""
        if self.world.now - self._restarted_at < self.world.limits.unseen_s - _MARGIN_S:
            return
        mappings = self.world.mappings()
        for sa in self._from_before:
            inside = FlowKey.to_inside(IpProtocol.ESP, Path(sa.peer), sa.spi_to_inside)
            outside = FlowKey.to_peer(IpProtocol.ESP, sa.host, sa.peer, sa.spi_to_peer)
            sa.is_gone = sa.is_gone or not sa.has_come_in or inside not in mappings or outside not in mappings
        self._carried_over = self._came_in_before.copy()

    def _carry_over(self, mappings: dict[FlowKey, frozenset[Host]]) -> None:
        """Keep as evidence what was in the tables at a restart, and nothing else."""
        self._restarted_at = self.world.now
        self._from_before = list(self.world.sas)
        self._negotiated.clear()
        self._announced.clear()
        self._carried_over.clear()
        for key, hosts in mappings.items():
            if key.direction is Direction.TO_PEER:
                self._announced[key.host, key.peer].add(Spi(key.discriminator))
            else:
                self._carried_over.update((host, key.peer) for host in hosts)
        for sa in self.world.sas:
            key = FlowKey.to_inside(IpProtocol.ESP, Path(sa.peer), sa.spi_to_inside)
            sa.has_come_in = sa.has_come_in and sa.host in mappings.get(key, ())
        self._came_in_before = Counter(sa.between for sa in self.world.sas if sa.has_come_in)


def say_exchange(world: World, step: Agree) -> None:
    """Let the IKE messages of a step pass, each `repeats` times."""
    between, how = step.between, step.how
    if how is How.FIRST or not world.has_ike_sa(between):
        world.begin_ike_sa(between, version=1 if how is How.QUICK else 2)
    message_id = world.number("message")
    there, back = ">" * step.repeats, "<" * step.repeats
    match how:
        case How.FIRST:
            world.say_ike(between, packets.V2_AUTH, 1, there + back)
        case How.QUICK:
            world.say_ike(between, packets.V1_QUICK, message_id, there + back + ">")
        case How.CHILD_OF_PEER:
            world.say_ike(between, packets.V2_CHILD, message_id, back + there)
        case How.LATE:
            for gap_s in RETRANSMITTED_AFTER_S:
                world.say_ike(between, packets.V2_CHILD, message_id, there)
                world.wait(gap_s)
            world.say_ike(between, packets.V2_CHILD, message_id, there + back)
        case How.UNANSWERED:
            world.say_ike(between, packets.V2_CHILD, message_id, there)
        case How.FLOATED:
            world.begin_ike_sa(between)
            world.say_ike(between, packets.V2_AUTH, 1, there + back, floated=True)
            world.begin_ike_sa(between)
        case How.BARREN:
            world.say_ike(between, packets.V2_CHILD, message_id, there + back)
            world.say_ike(between, packets.V2_INFORMATIONAL, world.number("message"), there + back)
        case _:
            world.say_ike(between, packets.V2_CHILD, message_id, there + back)


def betweens(hosts: Sequence[Host] = HOSTS, peers: Sequence[Peer] = PEERS) -> st.SearchStrategy[Between]:
    """Draw a host and a peer, the first peer most often, so that tunnels meet."""
    return st.tuples(st.sampled_from(hosts), st.sampled_from((peers[0],) * 3 + tuple(peers)))


_numbers = st.integers(0, 7)

_likely = (How.FIRST,) * 4 + (How.CHILD, How.QUICK) * 2

agreeing = st.builds(
    Agree, betweens(), st.sampled_from((*_likely, *How)), st.integers(1, 2), st.one_of(st.none(), st.none(), _numbers)
)
going_out = st.builds(GoOut, _numbers, st.sampled_from([1, 1, 2, 100_000]))
coming_in = st.builds(ComeIn, _numbers, st.integers(1, 3), st.booleans())
waiting = st.builds(Wait, st.sampled_from([0.1, 2.0, 40.0, 1000.0]))
conversing = st.builds(Converse, _numbers)
forging = st.builds(Forge, st.sampled_from(PEERS), st.integers(0x30000, 0x30007))
disowning = st.builds(Disown, st.sampled_from(HOSTS), _numbers, st.sampled_from(RefusalKind))
restarting = st.builds(Restart)
changing_address = st.builds(ChangeAddress)

fair = (agreeing, agreeing, going_out, coming_in, coming_in, coming_in, waiting)
"""The steps of a world in which nobody lies; some more than once, to be drawn more often."""
unfair = (*fair, forging, disowning)


@st.composite
def histories(draw: st.DrawFn, *steps: st.SearchStrategy[Step]) -> list[Step]:
    """Draw some agreements, and then what comes of them."""
    return draw(st.lists(agreeing, min_size=1, max_size=6)) + draw(st.lists(st.one_of(*steps), min_size=3, max_size=25))


talkative_hosts = st.sets(st.sampled_from(HOSTS))
"""Draw who answers what is not its own."""
