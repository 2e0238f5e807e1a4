"""Conversations about audits: what counts as something that came, what is offered when, and who waits for whom."""

import pytest

from tests.unit.core.playbook import Playbook, ikev2_child, to_inside, to_peer
from tests.unit.core.test_repairing import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    IN_1,
    IN_2,
    IN_3,
    LIMITS,
    PATH,
    PEER,
    has_tunnels,
    moves,
    only_sends,
    sent_to_elsewhere,
    tell,
)
from tests.unit.core.test_resolving import Traffic, into, out_of, power_cut
from throughway.core.events import CountersRead, EspFromInside, EspUnclaimed, FlowCount
from throughway.core.ids import Host, Spi
from throughway.core.limits import Limits
from throughway.core.verdicts import Basis, Certain


def test_an_audit_of_what_fell_silent_keeps_nobody_else_from_one(play: Playbook) -> None:
    """It goes on when packets come again: the SPI may be Bob's."""
    has_tunnels(play, ALICE, IN_1, IN_2)
    only_sends(play, BOB)
    play.now += LIMITS.one_way_s + 1
    moves(play, IN_1, senders=(BOB,))
    only_sends(play, CAROL)
    play.now += LIMITS.one_way_s + 1
    moves(play, IN_2, senders=(CAROL,))
    assert play.candidates(PEER, IN_2) == {ALICE, CAROL}
    assert play.candidates(PEER, IN_1) == {ALICE, BOB}


def test_two_hosts_with_one_spi_keep_nobody_else_from_an_audit(play: Playbook) -> None:
    """Bob has Alice's SPI, and then Dave has Carol's."""
    traffic = power_cut(play, [ALICE, CAROL])
    for host in (ALICE, CAROL):
        traffic.asked(host, into(host))
    traffic.run(20)
    for number, host, other in ((7, BOB, ALICE), (9, DAVE, CAROL)):
        traffic.start(host, number)
        traffic.asks(host, Spi(0x20000000 + number))
        traffic.asked(host, into(other))
        traffic.run(30)
        assert play.candidates(PEER, into(other)) == {host, other}
        traffic.run(30)
    assert play.candidates(PEER, into(ALICE)) == {ALICE, BOB}, "both answer, so both keep it"


def test_an_owner_that_lost_its_spi_by_answers_is_offered_it_again(play: Playbook) -> None:
    """Bob answers all that he has copies of, and has a credit to spare. The copies that Alice had are no sign."""
    traffic = power_cut(play, [ALICE, BOB])
    tell(play, *ikev2_child(BOB, PEER, 0x1CE01, 2))
    for host in (ALICE, BOB):
        traffic.asked(BOB, into(host))
    sends_to_elsewhere = Spi(0x20000000)
    traffic.asks(ALICE, sends_to_elsewhere)
    traffic.run(6)
    assert play.tracker.verdict(PATH, into(ALICE)) == Certain(BOB, Basis.ANSWERS)
    traffic.asked(ALICE, into(ALICE))
    traffic.run(60)
    assert play.candidates(PEER, into(ALICE)) == {ALICE, BOB}, "both answer"


def test_a_host_whose_tunnel_fell_idle_is_offered_no_others(play: Playbook) -> None:
    """It sent all the while, and its peer had nothing more to say."""
    has_tunnels(play, ALICE, IN_1)
    only_sends(play, BOB)
    tell(play, *ikev2_child(BOB, PEER, int(BOB), 2))
    play.now += 1
    play >> EspUnclaimed(PATH, IN_2, 1)
    assert play.candidates(PEER, IN_2) == {BOB}
    for _ in range(int(LIMITS.esp_idle_s / 10) + 5):
        play.wait_until(play.now + 10.0)
        moves(play, IN_1, senders=(BOB,))
        assert play.candidates(PEER, IN_1) == {ALICE}
    assert to_inside(PEER, IN_2) not in play.mappings


def test_an_audit_that_finds_nothing_keeps_nobody_else_from_one_for_long(play: Playbook) -> None:
    """Packets come now and then, and too few of them to compare."""
    has_tunnels(play, ALICE, IN_1, IN_2)
    only_sends(play, BOB)
    play.now += LIMITS.one_way_s + 1
    moves(play, IN_1, senders=(BOB,))
    assert play.candidates(PEER, IN_1) == {ALICE, BOB}
    only_sends(play, CAROL)
    began_at = play.now
    while CAROL not in play.candidates(PEER, IN_2):
        play.now += 2.0
        moves(play, IN_1, IN_2, senders=(CAROL,))
        assert play.now < began_at + 70
    assert play.now >= began_at + 60


def rekeys(play: Playbook, host: Host) -> Spi:
    """Let a host whose tunnel is in use agree on the next one, and send with it; return its new SPI."""
    only_sends(play, host)
    play >> EspUnclaimed(PATH, IN_2, 1)
    for _ in range(10):
        play.now += 2.0
        moves(play, IN_1, IN_2, senders=(host,))
    spi = Spi(out_of(host) + 0x100)
    tell(play, *ikev2_child(host, PEER, int(host), 2), EspFromInside(host, PEER, spi, 1))
    return spi


@pytest.mark.parametrize(("until", "is_offered"), [(1.9, True), (2.1, False)], ids=["late", "goes-on"])
def test_what_was_on_its_way_with_the_old_spi_says_nothing_of_the_new_one(
    play: Playbook, until: float, is_offered: bool
) -> None:
    """With the old one going on nothing is known: the peer may still prefer it."""
    has_tunnels(play, ALICE, IN_1)
    spi = rekeys(play, BOB)
    began_at = play.now
    play.now = began_at + until
    moves(play, IN_2)
    play.now = began_at + LIMITS.one_way_s + 1
    play >> CountersRead(
        tuple(FlowCount(key, 3, 0, play.now) for key in (to_peer(BOB, PEER, spi), to_inside(PEER, IN_1)))
    )
    assert play.candidates(PEER, IN_1) == ({ALICE, BOB} if is_offered else {ALICE})


def test_what_came_with_a_new_spi_is_for_the_new_tunnel(play: Playbook) -> None:
    """Bob has two more tunnels, one of which came as he began to send with it; of the other nothing is known."""
    has_tunnels(play, ALICE, IN_1)
    spi = rekeys(play, BOB)
    tell(play, EspUnclaimed(PATH, IN_3, 1), *ikev2_child(BOB, PEER, int(BOB), 3))
    began_at = play.now
    play.now = began_at + 1
    moves(play, IN_3)
    play.now = began_at + LIMITS.one_way_s + 1
    play >> CountersRead(
        tuple(FlowCount(key, 3, 0, play.now) for key in (to_peer(BOB, PEER, spi), to_inside(PEER, IN_1)))
    )
    assert play.candidates(PEER, IN_1) == {ALICE}


def test_a_host_that_only_sends_is_offered_each_spi_once() -> None:
    """Two at a time; the copies that it had of the first two are no sign that its own comes."""
    play = Playbook(Limits(fan_out_max=2))
    traffic = Traffic(play, PATH)
    has_tunnels(play, ALICE, IN_1, IN_2, IN_3)
    for spi in (IN_1, IN_2, IN_3):
        traffic.hears(spi)
    sent_to_elsewhere(traffic)
    traffic.start(BOB, 1)
    offered = []
    for _ in range(200):
        before = [spi for spi in (IN_1, IN_2, IN_3) if BOB in play.candidates(PEER, spi)]
        traffic.run(1)
        offered += [spi for spi in (IN_1, IN_2, IN_3) if BOB in play.candidates(PEER, spi) and spi not in before]
    assert sorted(offered) == [IN_1, IN_2, IN_3]
    traffic.tell(EspFromInside(BOB, PEER, Spi(0x20000001), 1))
    traffic.run(164)
    assert any(BOB in play.candidates(PEER, spi) for spi in (IN_1, IN_2, IN_3)), "his own may be that of the new one"
