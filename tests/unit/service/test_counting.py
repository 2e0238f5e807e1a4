"""What flows have carried, though their mappings come and go."""

from tests.unit.service.desk import ALICE, BOB, OUTSIDE, PEER, Desk
from throughway.core.commands import InstallMapping, RemoveMapping
from throughway.core.events import EspFromInside, FlowCount
from throughway.core.flows import FlowKey
from throughway.core.ids import IpProtocol, Path, Peer, Spi
from throughway.core.ports import InstalledFlow
from throughway.service.book import SETTLED_AT_ONCE
from throughway.sessions.facts import Counted, Detected, FlowGone

ESP = IpProtocol.ESP
OUT = [FlowKey.to_peer(ESP, ALICE, PEER, spi) for spi in (0x1001, 0x1002)]
BACK = [FlowKey.to_inside(ESP, Path(PEER), spi) for spi in (0x2001, 0x2002)]


def counted(desk: Desk) -> list[Counted]:
    return [fact for fact in desk.facts if isinstance(fact, Counted)]


def test_rekeyed_tunnel_goes_on_counting() -> None:
    """The old pair of SPIs is removed with what it had carried; the session has the sum."""
    desk = Desk().happen(EspFromInside(ALICE, PEER, Spi(0x1001), 1))
    desk.book.on_command(InstallMapping(BACK[0], ALICE))
    desk.count(ALICE, {OUT[0]: 7, BACK[0]: 5})
    for key in (OUT[1], BACK[1]):
        desk.book.on_command(InstallMapping(key, ALICE))
    for key in (OUT[0], BACK[0]):
        desk.book.on_command(RemoveMapping(key))
    desk.count(ALICE, {OUT[1]: 3, BACK[1]: 1})
    latest = counted(desk)[-1]
    assert (latest.to_peer.packets, latest.to_inside.packets, latest.to_peer.bytes) == (10, 6, 1000)
    assert latest.translated_to == str(OUTSIDE)
    assert not any(isinstance(fact, FlowGone) for fact in desk.facts)


def test_flow_is_gone_with_its_last_mapping() -> None:
    desk = Desk().happen(EspFromInside(ALICE, PEER, Spi(0x1001), 1))
    desk.book.on_command(InstallMapping(BACK[0], ALICE))
    desk.book.on_command(RemoveMapping(BACK[0]))
    assert desk.told() == ["Detected"]
    desk.book.on_command(RemoveMapping(OUT[0]))
    assert desk.told() == ["Detected", "FlowGone"]
    (row,) = desk.rows()
    assert row.ended


def test_reading_that_says_nothing_new_tells_nothing() -> None:
    desk = Desk().happen(EspFromInside(ALICE, PEER, Spi(0x1001), 1))
    for _ in range(3):
        desk.count(ALICE, {OUT[0]: 7})
    assert len(counted(desk)) == 1


def test_contested_packets_count_for_each_candidate_until_it_is_decided() -> None:
    desk = Desk().happen(EspFromInside(ALICE, PEER, Spi(0x1001), 1), EspFromInside(BOB, PEER, Spi(0x1002), 1))
    flow = InstalledFlow((BOB, ALICE), FlowCount(BACK[0], 4, 400, desk.now), desk.now)
    desk.book.on_flows([flow])
    desk.settle()
    assert {(fact.flow.device, fact.to_inside.packets) for fact in counted(desk)} == {(ALICE, 4), (BOB, 4)}
    desk.facts.clear()
    desk.book.on_command(InstallMapping(BACK[0], ALICE))
    desk.count(BOB, {FlowKey.to_peer(ESP, BOB, PEER, 0x1002): 9})
    (fact,) = counted(desk)
    assert (fact.flow.device, fact.to_inside.packets) == (BOB, 0), "it was another one's"


def test_mapping_of_an_earlier_run_is_a_session_while_it_is_used() -> None:
    desk = Desk()
    desk.count(ALICE, {OUT[0]: 7})
    assert isinstance(desk.facts[0], Detected)
    assert counted(desk)[-1].to_peer.packets == 7
    desk.facts.clear()
    idle = FlowCount(FlowKey.to_peer(ESP, BOB, PEER, 0x1002), 1, 100, desk.now - 1e6)
    desk.book.on_flows([InstalledFlow((BOB,), idle, 0.0)])
    desk.settle()
    assert desk.facts == []


def test_flows_that_moved_are_told_of_once_when_all_their_mappings_are_read() -> None:
    """What has come may be in another piece than what was sent: told between them, it would look like silence."""
    desk = Desk()
    desk.count(ALICE, dict.fromkeys((*OUT, *BACK), 1))
    desk.facts.clear()
    for keys in (OUT, BACK):
        desk.book.on_flows([InstalledFlow((ALICE,), FlowCount(key, 3, 300, desk.now), 0.0) for key in keys])
        assert counted(desk) == []
    desk.settle()
    (fact,) = counted(desk)
    assert (fact.to_peer.packets, fact.to_inside.packets) == (3 * len(OUT), 3 * len(BACK))


def test_what_moved_is_told_some_at_a_time() -> None:
    desk = Desk()
    keys = [FlowKey.to_peer(ESP, ALICE, Peer(PEER + number), 0x1000) for number in range(SETTLED_AT_ONCE + 1)]
    desk.book.on_flows([InstalledFlow((ALICE,), FlowCount(key, 1, 100, desk.now), 0.0) for key in keys])
    assert [len(facts) for facts in desk.book.moved((OUTSIDE,))] == [SETTLED_AT_ONCE, 1]


def test_nothing_is_kept_of_flows_that_the_register_does_not_know() -> None:
    desk = Desk()
    for number in range(1000):
        desk.book.on_command(RemoveMapping(FlowKey.to_peer(ESP, ALICE, PEER, 0x1000 + number)))
    assert desk.facts == []
    assert desk.rows() == []
