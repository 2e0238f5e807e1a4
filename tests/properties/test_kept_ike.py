"""The laws for IKE whose port is kept: to the host that has the SPI, and never to one without an IKE SA."""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import unpack_from

from hypothesis import example, given
from hypothesis import strategies as st

from tests.properties import packets
from tests.properties.histories import betweens
from tests.properties.world import HOSTS, OUTSIDE, PEERS, Between, World
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.core.limits import Limits

_IKE_AT = 28
"""Behind an IP header without options and the UDP header."""


@dataclass(frozen=True)
class Begin:
    """A host begins an IKE SA; with `is_answered` the peer answers."""

    between: Between
    number: int
    is_answered: bool


@dataclass(frozen=True)
class Hear:
    """A peer sends a message of an SA that a host began, or of one that nobody did."""

    between: Between
    number: int


@dataclass(frozen=True)
class PeerBegins:
    """A peer begins an IKE SA, which a host answers if it gets the message."""

    between: Between
    number: int
    is_answered: bool


@dataclass(frozen=True)
class Wait:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class Kill:
    """The daemon is killed and started again."""


Step = Begin | Hear | PeerBegins | Wait | Kill


class KeptWorld:
    """Plays steps where port 500 is kept with every peer, and knows who has which IKE SA."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.world = World(limits, {UdpPort.IKE: PortSetting.KEEP})
        self.has_sent: set[tuple[Host, Peer, int]] = set()
        self.has_sa: set[Between] = set()
        self.delivered: list[tuple[Host, Peer, int]] = []
        self.world.on_ike.append(self._on_ike)

    def play(self, step: Step) -> None:
        """Let one step happen."""
        match step:
            case Begin((host, peer), number, is_answered):
                self.send(host, peer, own_spi(host, number), 0)
                if is_answered:
                    self.come(peer, own_spi(host, number))
            case Hear((host, peer), number):
                self.come(peer, own_spi(host, number))
            case PeerBegins((host, peer), number, is_answered):
                if host in self.come(peer, peers_spi(number)) and is_answered:
                    self.send(host, peer, peers_spi(number), 1)
            case Wait(seconds):
                self.world.wait(seconds)
            case Kill():
                self.world.restart()
        self.world.settle()

    def send(self, host: Host, peer: Peer, spi: int, responder_spi: int) -> None:
        """Let a host send a message."""
        self.has_sent.add((host, peer, spi))
        self.world.plane.from_inside(message(host, peer, spi, responder_spi))
        self.world.settle()

    def come(self, peer: Peer, spi: int) -> list[Host]:
        """Let a peer send a message, and return who got it."""
        before = len(self.delivered)
        self.world.plane.from_outside(message(peer, OUTSIDE, spi, 1))
        self.world.settle()
        got = [host for host, _, _ in self.delivered[before:]]
        self.has_sa |= {(host, peer) for host in got if (host, peer, spi) in self.has_sent}
        return got

    def _on_ike(self, host: Host, packet: bytes) -> None:
        (spi,) = unpack_from("!Q", packet, _IKE_AT)
        peer = next(peer for peer in PEERS if peer.packed == packet[12:16])
        assert (host, peer, spi) in self.has_sent or (host, peer) in self.has_sa
        self.delivered.append((host, peer, spi))


def message(source: Host | Peer, destination: object, spi: int, responder_spi: int) -> bytes:
    return packets.ike(
        source,
        destination,  # type: ignore[arg-type]
        spi,
        packets.V2_INIT,
        0,
        from_initiator=True,
        is_response=False,
        responder_spi=responder_spi,
    )


def own_spi(host: Host, number: int) -> int:
    return 0xA0000 + 16 * HOSTS.index(host) + number


def peers_spi(number: int) -> int:
    return 0xB0000 + number


_few = st.integers(0, 2)
_steps = st.one_of(
    st.builds(Begin, betweens(), _few, st.booleans()),
    st.builds(Begin, betweens(), _few, st.just(True)),
    st.builds(Hear, betweens(), _few),
    st.builds(PeerBegins, betweens(), _few, st.booleans()),
    st.builds(Wait, st.sampled_from([0.1, 40.0, 2000.0, 4000.0])),
    st.builds(Kill),
)
HISTORIES = st.lists(_steps, min_size=3, max_size=12)


ALICE, BOB = HOSTS[:2]

# The peer sends an SPI that is Alice's only later: Bob has a copy, and she nothing.
COPIED_TO_ANOTHER: list[Step] = [
    Begin((BOB, PEERS[0]), 0, True),
    Hear((ALICE, PEERS[0]), 1),
    Begin((ALICE, PEERS[0]), 1, False),
    Kill(),
    PeerBegins((ALICE, PEERS[0]), 0, False),
]


@given(HISTORIES)
@example(COPIED_TO_ANOTHER)
def test_law_3_ike_comes_to_nobody_who_has_no_ike_sa_with_its_peer(steps: Sequence[Step]) -> None:
    """KeptWorld looks at each delivery."""
    play = KeptWorld()
    for step in steps:
        play.play(step)


@given(HISTORIES)
def test_law_2_an_spi_that_a_host_sends_comes_to_no_other_host(steps: Sequence[Step]) -> None:
    play = KeptWorld()
    for step in steps:
        play.play(step)
        if isinstance(step, Begin):
            host, peer = step.between
            assert play.come(peer, own_spi(host, step.number)) == [host]


@given(HISTORIES)
def test_law_7_what_is_installed_is_counted(steps: Sequence[Step]) -> None:
    play = KeptWorld(Limits(uncredited_spis_per_peer_max=2, spis_per_host_and_peer_max=2))
    for step in steps:
        play.play(step)
        mappings = play.world.mappings()
        assert play.world.tracker.mapping_count == len(mappings)
        assert all(len(hosts) == 1 for key, hosts in mappings.items() if key.direction is Direction.TO_PEER)


@given(HISTORIES)
def test_law_8_after_a_restart_an_spi_stays_with_its_host(steps: Sequence[Step]) -> None:
    play = KeptWorld()
    for step in steps:
        play.play(step)
    installed = play.world.mappings()
    play.play(Kill())
    for host, peer, spi in play.has_sent:
        key = FlowKey.to_inside(IpProtocol.UDP, Path(peer, 0), spi, UdpPort.IKE)
        if installed.get(key) == frozenset({host}):
            assert play.come(peer, spi) == [host]
