"""Histories of protocols that may carry clear text: GRE, L2TPv3 managed and not, and what has no discriminator."""

from collections import defaultdict, deque
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.properties import packets
from tests.properties.histories import betweens
from tests.properties.world import HOSTS, OUTSIDE, PEERS, Between, World
from throughway.core import discriminators
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer
from throughway.core.limits import Limits
from throughway.wire import ipv4, l2tpv3

GRE, L2TPV3, OTHER = IpProtocol.GRE, IpProtocol.L2TPV3, 94

EXACT = (
    (GRE, discriminators.of_gre(1)),
    (GRE, discriminators.of_gre(2)),
    (GRE, discriminators.of_gre(None)),
    (OTHER, 0),
)
"""Flows that two hosts may both want."""

SCCRQ, SCCRP, ICRQ, ICRP, DISCONNECT = 1, 2, 10, 11, 14


MANAGED = 0x80
"""Numbers of sessions from this on are managed. What is renewed has the next number but one."""


def own_session(host: Host, number: int = 0) -> int:
    """Return an ID that a host wants to be sent to."""
    return 0x10000 + 0x100 * HOSTS.index(host) + number


def peers_session(host: Host, number: int = 0) -> int:
    """Return the ID that the peer wants to be sent to for the same session."""
    return 0x20000 + 0x100 * HOSTS.index(host) + number


@dataclass(frozen=True)
class Send:
    """A host sends a flow of `EXACT`."""

    between: Between
    flow: int


@dataclass(frozen=True)
class Come:
    """A peer sends a flow of `EXACT`, whether somebody asked for it or not."""

    peer: Peer
    flow: int


@dataclass(frozen=True)
class SendUnmanaged:
    """A host sends with an L2TPv3 session that no control message told of."""

    between: Between
    number: int


@dataclass(frozen=True)
class Manage:
    """A host and a peer agree on a session; with `steals` the host assigns the ID that another one would."""

    between: Between
    number: int
    steals: bool


@dataclass(frozen=True)
class End:
    """A host ends a managed session."""

    between: Between
    number: int


@dataclass(frozen=True)
class Renew:
    """A host and its peer set an unmanaged session up anew, with new IDs at both ends; the old one is silent."""

    between: Between
    number: int


@dataclass(frozen=True)
class Vanish:
    """A host sends no more with its unmanaged sessions, until it begins again."""

    host: Host


@dataclass(frozen=True)
class Hush:
    """A peer answers nothing, or answers again."""

    peer: Peer
    is_silent: bool


@dataclass(frozen=True)
class PeerGoesOn:
    """A peer goes on sending with the sessions that a host has received from it."""

    between: Between


@dataclass(frozen=True)
class Talk:
    """Time passes, in which all hosts send with the unmanaged sessions that they have begun."""

    seconds: float


@dataclass(frozen=True)
class Stray:
    """A session ID comes that nobody uses, or that an unmanaged session uses but whose turn it is not."""

    peer: Peer
    session: int


@dataclass(frozen=True)
class Pass:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class Kill:
    """The daemon is killed and started again."""


Step = Send | Come | SendUnmanaged | Manage | End | Renew | Vanish | Hush | PeerGoesOn | Talk | Stray | Pass | Kill

TALK_EVERY_S = 0.3


class ClearWorld:
    """Plays steps. A peer answers each packet of an unmanaged session that reaches it, `answer_s` seconds later, unless
    it is silent.

    `wrong` collects what came to a host that it was not for, as far as the world knows the truth: the
    answers to unmanaged sessions, and all managed ones.
    """

    def __init__(self, *, answer_s: float = 0.0, limits: Limits | None = None) -> None:
        self.world = World(limits)
        self.wrong: list[str] = []
        self._answer_s = answer_s
        self._meant_for: dict[int, Host] = {}
        self._answers: deque[tuple[float, Peer, int, Host]] = deque()
        self._renewed: defaultdict[tuple[Between, int], int] = defaultdict(int)
        self._begun: dict[tuple[Between, int], None] = {}
        self._silent: set[Peer] = set()
        self.received: list[tuple[Host, int]] = []
        self.world.on_sent.append(self._on_sent)
        self.world.on_clear_text.append(self._on_clear_text)

    def play(self, step: Step) -> None:
        """Let one step happen."""
        world = self.world
        match step:
            case Send((host, peer), flow):
                world.send_portless(host, peer, *EXACT[flow])
            case Come(peer, flow):
                world.come_portless(peer, *EXACT[flow])
            case SendUnmanaged(between, number):
                self._begun[between, number] = None
                self._send_unmanaged(between, number)
            case Manage():
                self._manage(step)
            case End((host, peer), number):
                number += MANAGED
                ids = {l2tpv3.LOCAL_SESSION_ID: own_session(host, number)}
                ids[l2tpv3.REMOTE_SESSION_ID] = peers_session(host, number)
                world.say_l2tp(host, peer, 0x40000 + HOSTS.index(host), DISCONNECT, ids)
            case Renew(between, number):
                self._renewed[between, number] += 1
            case Vanish(host):
                self._begun = {session: None for session in self._begun if session[0][0] != host}
            case Hush(peer, is_silent):
                (self._silent.add if is_silent else self._silent.discard)(peer)
            case PeerGoesOn((host, peer)):
                self._go_on(host, peer)
            case Talk(seconds):
                until = world.now + seconds
                while world.now < until:
                    for between, number in self._begun:
                        self._send_unmanaged(between, number)
                    self.wait(min(TALK_EVERY_S, until - world.now))
            case Stray(peer, session):
                world.come_portless(peer, L2TPV3, session)
            case Pass(seconds):
                self.wait(seconds)
            case Kill():
                world.settle()
                world.restart()
        world.settle()

    def _send_unmanaged(self, between: Between, number: int) -> None:
        host, peer = between
        session = peers_session(host, number + 2 * self._renewed[between, number])
        self.world.send_portless(host, peer, L2TPV3, session)
        self._answer()

    def _go_on(self, host: Host, peer: Peer) -> None:
        """Let the peer send with what the host has; what is nobody's any more it would not know from a new session."""
        for key, hosts in self.world.mappings().items():
            is_session = key.protocol == L2TPV3 and key.discriminator & 0xFFFFFF80 == own_session(host)
            if is_session and key.direction is Direction.TO_INSIDE and key.peer == peer and host in hosts:
                self._meant_for[self.world.number("packet") + 1] = host
                self.world.come_portless(peer, L2TPV3, key.discriminator)

    def wait(self, seconds: float) -> None:
        """Let time pass, with the answers that are due in it."""
        until = self.world.now + seconds
        while self.world.now < until:
            due = min(until, self.world.next_wake_at, *(at for at, *_ in self._answers))
            self.world.wait(max(0.0, due - self.world.now))
            self._answer()

    def _manage(self, step: Manage) -> None:
        host, peer = step.between
        owner = HOSTS[(HOSTS.index(host) + 1) % len(HOSTS)] if step.steals else host
        connection, far = 0x30000 + HOSTS.index(host), 0x40000 + HOSTS.index(host)
        own, peers = own_session(owner, MANAGED + step.number), peers_session(owner, MANAGED + step.number)
        world = self.world
        world.say_l2tp(host, peer, 0, SCCRQ, {l2tpv3.ASSIGNED_CONNECTION_ID: connection})
        world.hear_l2tp(peer, connection, SCCRP, {l2tpv3.ASSIGNED_CONNECTION_ID: far})
        world.say_l2tp(host, peer, far, ICRQ, {l2tpv3.LOCAL_SESSION_ID: own})
        holder = world.tracker.owner(FlowKey.to_inside(L2TPV3, Path(peer), own))
        assert holder is not None, "whoever assigned it first has it"
        if holder == host:
            ids = {l2tpv3.LOCAL_SESSION_ID: peers, l2tpv3.REMOTE_SESSION_ID: own}
            world.hear_l2tp(peer, connection, ICRP, ids)
            world.send_portless(host, peer, L2TPV3, peers)
        self._meant_for[world.number("packet") + 1] = holder
        world.come_portless(peer, L2TPV3, own)

    def _on_sent(self, packet: bytes) -> None:
        """Let the peer answer an unmanaged session that reached it."""
        parsed = ipv4.parse(packet)
        assert parsed is not None
        session = l2tpv3.session_id(parsed.payload) if parsed.protocol == L2TPV3 else None
        peer = Peer(parsed.destination)
        if session and session & 0x20000 and not session & MANAGED and peer not in self._silent:
            host, number = HOSTS[(session & 0xFFFF) // 0x100], session & 0x7F
            if number // 2 == self._renewed[(host, peer), number % 2]:
                self._answers.append((self.world.now + self._answer_s, peer, own_session(host, number), host))

    def _answer(self) -> None:
        while self._answers and self._answers[0][0] <= self.world.now:
            _, peer, session, host = self._answers.popleft()
            self._meant_for[self.world.number("packet") + 1] = host
            self.world.come_portless(peer, L2TPV3, session)

    def _on_clear_text(self, host: Host, packet: bytes) -> None:
        parsed = ipv4.parse(packet)
        assert parsed is not None and parsed.destination == host != OUTSIDE
        mark = packets.portless_mark(packet)
        self.received.append((host, mark))
        if self._meant_for.get(mark, host) != host:
            self.wrong.append(f"{packet.hex()} of {self._meant_for[mark]} came to {host}")


def owners(world: World) -> dict[FlowKey, Host]:
    """Return who gets what to the inside of clear text; fail where two hosts do."""
    found = {}
    for key, hosts in world.mappings().items():
        if key.protocol != IpProtocol.ESP and key.direction is Direction.TO_INSIDE:
            assert len(hosts) == 1, f"{key} goes to {hosts}"
            found[key] = next(iter(hosts))
    return found


_flows = st.integers(0, len(EXACT) - 1)
_few = st.integers(0, 1)

sending = st.builds(Send, betweens(), _flows)
coming = st.builds(Come, st.sampled_from(PEERS), _flows)
sending_unmanaged = st.builds(SendUnmanaged, betweens(), _few)
managing = st.builds(Manage, betweens(), _few, st.booleans())
straying = st.builds(Stray, st.sampled_from(PEERS), st.integers(0x50000, 0x50003))
passing = st.builds(Pass, st.sampled_from([0.1, 1.0, 2.5, 40.0, 700.0, 2000.0]))
killing = st.builds(Kill)
ending = st.builds(End, betweens(), _few)
renewing = st.builds(Renew, betweens(), _few)
hushing = st.builds(Hush, st.sampled_from(PEERS), st.booleans())
talking = st.builds(Talk, st.sampled_from([0.5, 1.9, 4.0]))

_near = betweens(HOSTS[:3], PEERS[:1])
_begins = st.builds(SendUnmanaged, _near, st.sampled_from([0, 0, 0, 1]))
_comes_back = st.builds(Hush, st.just(PEERS[0]), st.booleans())
_soon = st.builds(Pass, st.sampled_from([0.1, 0.1, 1.0, 2.5]))
_later = st.builds(Pass, st.sampled_from([40.0, 2000.0]))

fair = (sending, coming, sending_unmanaged, sending_unmanaged, managing, passing)
changing = st.sampled_from(
    [
        *[_begins] * 10,
        *[_comes_back] * 4,
        *[_soon] * 3,
        _later,
        *[talking] * 2,
        st.builds(Manage, _near, _few, st.booleans()),
        st.builds(End, _near, _few),
        st.builds(Renew, _near, st.just(0)),
        st.builds(Vanish, st.sampled_from(HOSTS[:3])),
        st.builds(PeerGoesOn, _near),
    ]
).flatmap(lambda step: step)
"""The steps of three hosts and one peer that is not always there; sessions come and go. Those that are listed more than
once are drawn more often."""
unfair = (*fair, ending, renewing, hushing, straying, killing)
