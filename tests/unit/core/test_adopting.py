"""Conversations about contests that an earlier run left open: its tables tell who had copies, and nothing of why."""

from ipaddress import IPv4Address

from tests.unit.core.playbook import Playbook, to_inside, to_peer
from throughway.core.events import AdoptedFlow, CountersRead, FlowCount, MappingsAdopted
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.verdicts import Contested

HOSTS = tuple(Host(IPv4Address("192.168.1.10") + number) for number in range(6))
PEER = Peer(IPv4Address("203.0.113.9"))
IN = Spi(0x11111111)
KEY = to_inside(PEER, IN)
FEW = Limits(fan_out_max=3, fan_out_first_max=3, fan_out_late_max=3)
READING_S = 2.0


def restarted(offered: tuple[Host, ...], limits: Limits, hosts: tuple[Host, ...] = HOSTS) -> Playbook:
    """A gateway that finds a contested SPI in its tables, and that each of these hosts sends to the peer."""
    play = Playbook(limits)
    flows = [AdoptedFlow(sent(host), (host,), FlowCount(sent(host), 5, 500, play.now)) for host in hosts]
    play.mappings[KEY] = offered
    (play >> MappingsAdopted((AdoptedFlow(KEY, offered, FlowCount(KEY, 5, 500, play.now)), *flows))).nothing()
    return play


def sent(host: Host) -> FlowKey:
    return to_peer(host, PEER, 0xA0000000 + HOSTS.index(host))


def have_turns(play: Playbook, readings: int) -> set[Host]:
    """Return who has copies in the course of so many readings of the counters, while all send."""
    offered = set(play.mappings[KEY])
    for _ in range(readings):
        play.now += READING_S
        play >> CountersRead(tuple(FlowCount(key, 9, 900, play.now) for key in (KEY, *map(sent, HOSTS))))
        offered |= set(play.mappings[KEY])
    return offered


def test_an_owner_that_had_no_copies_yet_is_a_candidate_and_has_its_turn() -> None:
    play = restarted(HOSTS[:3], FEW)
    assert play.candidates(PEER, IN) == set(HOSTS)
    assert play.mappings[KEY] == HOSTS[:3], "those that had copies keep them at first"
    assert have_turns(play, 60) == set(HOSTS)


def test_where_fewer_had_copies_than_may_they_were_likely_and_keep_them() -> None:
    play = restarted(HOSTS[:2], FEW)
    assert play.candidates(PEER, IN) == set(HOSTS)
    have_turns(play, 10)
    assert set(play.mappings[KEY]) >= set(HOSTS[:2])


def test_where_all_could_have_copies_those_without_are_no_candidates() -> None:
    play = restarted(HOSTS[:2], FEW, HOSTS[:3])
    assert play.tracker.verdict(Path(PEER), IN) == Contested(HOSTS[:2])


def test_candidates_of_an_adopted_contest_are_bounded() -> None:
    play = restarted(HOSTS[:3], Limits(fan_out_max=3, candidates_max=5))
    assert len(play.candidates(PEER, IN)) == 5
