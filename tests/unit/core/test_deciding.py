"""Who becomes a candidate later, and who stops being one: what the verdicts and the data plane say afterwards."""

from ipaddress import IPv4Address

from tests.unit.core.playbook import Playbook, ikev2_start, to_inside
from throughway.core.commands import FanOut, InstallMapping, RemoveMapping
from throughway.core.events import EspFromInside, EspUnclaimed
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.tracker import Tracker
from throughway.core.verdicts import Basis, Certain, Contested

ALICE, BOB = (Host(IPv4Address(f"192.168.1.{number}")) for number in (10, 11))
PEER, OTHER = (Peer(IPv4Address(f"203.0.113.{number}")) for number in (9, 10))
SPI = Spi(0xAAAA)
KEY = FlowKey.to_inside(IpProtocol.ESP, Path(PEER), SPI)
NOW = 1000.0
OLD = 1_000_000
"""A sequence number of a security association that began before our watch."""


def shared(limits: Limits) -> Tracker:
    """A tracker in which an old SPI went to alice, and bob turned up after that with an old tunnel of his own."""
    tracker = Tracker(limits)
    tracker.handle(EspFromInside(ALICE, PEER, Spi(0x1000), OLD), NOW)
    assert InstallMapping(KEY, ALICE) in tracker.handle(EspUnclaimed(Path(PEER), SPI, OLD), NOW)
    assert tracker.verdict(Path(PEER), SPI) == Certain(ALICE, Basis.ONLY_HOST)
    assert FanOut(KEY, (ALICE, BOB)) in tracker.handle(EspFromInside(BOB, PEER, Spi(0x2000), OLD), NOW)
    assert tracker.verdict(Path(PEER), SPI) == Contested((ALICE, BOB))
    return tracker


def test_a_host_with_an_older_tunnel_becomes_a_candidate_once() -> None:
    tracker = shared(Limits())
    commands = tracker.handle(EspFromInside(BOB, PEER, Spi(0x2001), OLD), NOW)
    assert not [command for command in commands if isinstance(command, FanOut)]
    assert tracker.verdict(Path(PEER), SPI) == Contested((ALICE, BOB))


def test_what_a_forgotten_host_shared_is_the_others() -> None:
    tracker = shared(Limits(peers_per_host_max=1))
    commands = tracker.handle(EspFromInside(BOB, OTHER, Spi(0x3000), 1), NOW + 1)
    assert InstallMapping(KEY, ALICE) in commands
    verdict = tracker.verdict(Path(PEER), SPI)
    assert isinstance(verdict, Certain)
    assert verdict.host == ALICE


def test_what_a_forgotten_host_alone_had_is_removed() -> None:
    tracker = Tracker(Limits(peers_per_host_max=1))
    tracker.handle(EspFromInside(ALICE, PEER, Spi(0x1000), OLD), NOW)
    tracker.handle(EspUnclaimed(Path(PEER), SPI, OLD), NOW)
    commands = tracker.handle(EspFromInside(ALICE, OTHER, Spi(0x3000), 1), NOW + 1)
    assert RemoveMapping(KEY) in commands
    assert list(tracker.bindings()) == []


def test_where_all_that_have_copies_are_ruled_out_the_others_have_them_at_once() -> None:
    """Two hosts whose exchanges nobody answers fit best, for a minute."""
    limits = Limits(fan_out_max=2, fan_out_first_max=2, fan_out_late_max=2)
    play = Playbook(limits)
    hosts = [Host(IPv4Address("192.168.1.20") + number) for number in range(5)]
    for number, host in enumerate(hosts):
        play.now += 0.0 if number < 3 else 1.0
        for message in ikev2_start(host, PEER, 0x1CE00 + number)[: 4 if number < 3 else 3]:
            play >> message
    play.now += 0.05
    play >> EspUnclaimed(Path(PEER), Spi(0x10000), 1)
    key = to_inside(PEER, Spi(0x10000))
    assert set(play.mappings[key]) == set(hosts[3:])
    play.wait_until(play.now + limits.exchange_unanswered_s + 2 * limits.sweep_every_s)
    assert play.candidates(PEER, Spi(0x10000)) == set(hosts[:3])
    assert len(play.mappings[key]) == 2
    assert set(play.mappings[key]) <= set(hosts[:3])
