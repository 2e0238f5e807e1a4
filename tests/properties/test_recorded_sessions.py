"""Recorded IPsec sessions, merged so that several clients talk to one server at once, pair right."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.captures import needs_captures
from tests.properties import recorded, world
from tests.properties.recorded import Frame, Session
from tests.properties.test_laws_can_fail import FirstGuess
from tests.properties.world import OUTSIDE, PEERS, World
from throughway.core.ids import Host, IpProtocol, Path, Spi
from throughway.core.limits import Limits
from throughway.core.verdicts import Basis, Certain, Contested, Unknown

pytestmark = needs_captures

PEER = PEERS[0]
CLIENTS_MAX = 8
OFFSETS_S = (0.0, 0.001, 0.02, 0.25, 8.0, 45.0)
"""How much later than the others a client begins: at once, within a round trip, while another one negotiates, after."""


@dataclass(frozen=True)
class Client:
    """A session at one of the inside hosts. `starts_at` is in seconds; `keeps_spis` asks for them as recorded."""

    number: int
    session: Session
    starts_at: float
    keeps_spis: bool = False

    @property
    def host(self) -> Host:
        return Host(IPv4Address("192.168.1.100") + self.number)

    def spi(self, frame: Frame) -> Spi | None:
        """Return the SPI that this client's copy of a frame has; those that go out are the server's choice."""
        if frame.spi is None or frame.from_client or self.keeps_spis:
            return frame.spi
        return recorded.renumbered(frame.spi, self.number)

    def inbound(self) -> set[Spi]:
        return {spi for frame in self.session.inbound().values() if (spi := self.spi(frame))}


class Merged:
    """Clients of one server, told to the daemon's core as a data plane tells them, with the truth looking on."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self.world = World()
        self.owners: defaultdict[Spi, set[Host]] = defaultdict(set)
        self.sent: defaultdict[Spi, list[int]] = defaultdict(list)
        self.first_verdicts: dict[Spi, object] = {}
        for client in clients:
            for spi in client.inbound():
                self.owners[spi].add(client.host)
        self._clients = clients

    def play(self) -> None:
        """Let everything happen in the order of time, and look at all beliefs after each packet."""
        began_at = self.world.now
        lines = [(c.starts_at + frame.at, c.number, c, frame) for c in self._clients for frame in c.session.frames]
        has_spoken: set[Host] = set()
        for at, _, client, frame in sorted(lines, key=lambda line: line[:2]):
            self.world.wait(max(0.0, began_at + at - self.world.now))
            if frame.from_client:
                has_spoken.add(client.host)
                self.world.plane.from_inside(frame.packet(client.host, PEER))
            elif frame.protocol == IpProtocol.ESP:
                self._come_in(client, frame)
            elif client.host in has_spoken:  # else no NAT lets it in
                self.world.plane.from_kernel_nat(frame.packet(PEER, client.host))
            self.world.settle()
            self._look()

    def _come_in(self, client: Client, frame: Frame) -> None:
        spi = client.spi(frame)
        assert spi is not None
        packet = frame.packet(PEER, OUTSIDE, spi)
        self.sent[spi].append(int.from_bytes(frame.payload[8:12], "big"))
        self.world.plane.from_outside(packet)

    def _look(self) -> None:
        for path, spi, verdict in self.world.tracker.bindings():
            assert path == Path(PEER)
            self.first_verdicts.setdefault(spi, verdict)
            match verdict:
                case Certain(host):
                    assert {host} == self.owners[spi], f"{spi:#x} is said to be {host}'s alone"
                case Contested(hosts):
                    assert self.owners[spi] <= set(hosts), f"an owner of {spi:#x} is not among {hosts}"
                case Unknown():
                    raise AssertionError(f"{spi:#x} is nobody's")

    def assert_owners_got_all(self) -> None:
        """Every packet reached everybody who owns its SPI, once and in order."""
        assert set(self.sent) == set(self.owners)
        for spi, marks in self.sent.items():
            for host in self.owners[spi]:
                assert self.world.received[host, PEER, spi] == marks, f"{spi:#x} to {host}"


def merged(clients: Sequence[Client]) -> Merged:
    """Play clients to the end, and see that every packet reached its owner."""
    play = Merged(clients)
    play.play()
    play.assert_owners_got_all()
    return play


def aligned(sessions: Sequence[Session], offsets: Sequence[float], *, at_esp: bool) -> list[Client]:
    """Let sessions begin at these times, or with `at_esp` let their first inbound ESP packets come at them."""
    latest = max(session.first_inbound_s for session in sessions)
    leads = [latest - session.first_inbound_s if at_esp else 0.0 for session in sessions]
    return [
        Client(number, session, lead + offset)
        for number, (session, lead, offset) in enumerate(zip(sessions, leads, offsets, strict=True))
    ]


def test_the_recordings_have_what_is_hard() -> None:
    sessions = recorded.native()
    assert len(sessions) >= 4
    assert sum(session.is_inbound_first for session in sessions) >= 2
    assert any("IKEv1" in session.name and session.is_inbound_first for session in sessions)


def test_a_client_alone_is_certain_at_once() -> None:
    for session in recorded.native():
        play = merged(aligned([session], [0.0], at_esp=False))
        assert set(play.first_verdicts.values()) == {Certain(Host(IPv4Address("192.168.1.100")), Basis.CREDIT)}


def test_two_clients_pair_right_however_they_meet() -> None:
    contests = 0
    for first, second, offset, at_esp in product(recorded.native(), recorded.native(), OFFSETS_S, (False, True)):
        play = merged(aligned([first, second], [0.0, offset], at_esp=at_esp))
        contests += any(isinstance(verdict, Contested) for verdict in play.first_verdicts.values())
    assert contests, "some meet while it is not known who is who"


def test_who_negotiates_when_the_other_is_done_is_certain_at_once() -> None:
    """An SPI is certain when its first packet comes, where every credit given before has been used up."""
    plain = [session for session in recorded.native() if len(session.agreements()) == len(session.inbound())]
    assert plain, "not every exchange agreed on something else than an SA that the server used"
    for session in plain:
        after_s = session.frames[-1].at + 1.0
        play = merged(aligned([session, session], [0.0, after_s], at_esp=False))
        assert all(isinstance(verdict, Certain) for verdict in play.first_verdicts.values())


def test_equal_spis_of_clients_that_negotiate_together_reach_both() -> None:
    for session in recorded.native():
        merged([Client(number, session, 0.0, keeps_spis=True) for number in range(3)])


class EqualLater(Merged):
    """Clients that chose equal SPIs and do not negotiate together: the later ones' are the first one's at first."""

    def _look(self) -> None:
        pass

    def go_on(self, seconds: int) -> None:
        """Let each client send its last packet again every second, and the server its own to all of them."""
        outward = {client: [frame for frame in client.session.frames if frame.spi] for client in self._clients}
        for _ in range(seconds):
            for client, frames in outward.items():
                self.world.plane.from_inside(_last(frames, from_client=True).packet(client.host, PEER))
                self._come_in(client, _last(frames, from_client=False))
            self.world.wait(1.0)


def _last(frames: Sequence[Frame], *, from_client: bool) -> Frame:
    return [frame for frame in frames if frame.from_client is from_client][-1]


def test_equal_spis_of_clients_that_negotiate_later_reach_both_in_the_end() -> None:
    """The later one only sends, which is a sign that the first one's SPI is its own too."""
    for session, offset in product(recorded.native(), OFFSETS_S):
        clients = [Client(number, session, number * offset, keeps_spis=True) for number in range(2)]
        play = EqualLater(clients)
        play.play()
        play.go_on(int(2 * Limits().one_way_s))
        play._look()
        play.world.received.clear()
        play.go_on(3)
        spi = _last([frame for frame in session.frames if frame.spi], from_client=False).spi
        assert spi is not None
        for client in clients:
            assert len(play.world.received[client.host, PEER, spi]) == 6, f"{session.name}, {offset} s: {client.host}"


@st.composite
def crowds(draw: st.DrawFn) -> list[Client]:
    """Draw two to eight clients, with a bystander now and then, and when each begins."""
    count = draw(st.integers(2, CLIENTS_MAX))
    sessions = st.sampled_from((*recorded.native() * 2, *recorded.bystanders()))
    offsets = st.sampled_from(OFFSETS_S)
    chosen = [draw(sessions) for _ in range(count)]
    return aligned(chosen, [draw(offsets) for _ in range(count)], at_esp=draw(st.booleans()))


@settings(max_examples=min(settings().max_examples, 50))
@given(st.data())
def test_crowds_of_clients_pair_right_however_they_meet(data: st.DataObject) -> None:
    merged(data.draw(crowds()))


def test_pairing_fails_with_a_tracker_that_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "Tracker", FirstGuess)
    first, second = (session for session in recorded.native() if session.is_inbound_first)
    with pytest.raises(AssertionError):
        merged(aligned([first, second], [0.0, 0.0], at_esp=True))
