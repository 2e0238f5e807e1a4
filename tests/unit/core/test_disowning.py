"""Conversations about hosts that say of an SPI that it is not their own."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook, ikev2_child, ikev2_start, to_inside, to_peer
from throughway.core.events import (
    CountersRead,
    EspFromInside,
    EspUnclaimed,
    Event,
    FlowCount,
    HostDisowned,
    RefusalKind,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.verdicts import Basis, Certain

ALICE, BOB, CAROL = (Host(IPv4Address("192.168.1.10") + n) for n in range(3))
PEER = Peer(IPv4Address("203.0.113.9"))
PATH = Path(PEER)
IN, OUT_A, OUT_B = Spi(0x11111111), Spi(0xAAAA0000), Spi(0xBBBB0000)
OLD = 5000
"""A sequence number of a security association that began before our watch."""
ICMP, IKE = RefusalKind.PROTOCOL_UNREACHABLE, RefusalKind.INVALID_SPI
LIMITS = Limits()


def tell(play: Playbook, *events: Event) -> None:
    for event in events:
        play >> event


def disowns(host: Host, how: RefusalKind = ICMP) -> HostDisowned:
    return HostDisowned(host, PEER, IN, how)


def moves(play: Playbook, *keys: FlowKey) -> None:
    """Read counters: packets were carried just now."""
    play >> CountersRead(tuple(FlowCount(key, 2, 0, play.now) for key in keys))


def only_listens(play: Playbook) -> None:
    """Let so much time pass that what a kernel says of its host counts."""
    play.now += LIMITS.silence_s + 1
    moves(play, to_inside(PEER, IN))


def owns(play: Playbook, host: Host) -> None:
    """Let a host agree on a tunnel, and own what comes."""
    tell(play, *ikev2_start(host, PEER, int(host)), EspFromInside(host, PEER, OUT_A, 1), EspUnclaimed(PATH, IN, 1))


# Who has it alone


@pytest.mark.parametrize("again", [1, 3])
def test_who_has_an_spi_alone_shares_it_after_an_icmp_error_and_keeps_it(play: Playbook, again: int) -> None:
    """Her socket is full, time and again. Bob may own it; Carol, all of whose SPIs are known, may not."""
    owns(play, ALICE)
    tell(play, *ikev2_start(CAROL, PEER, int(CAROL)), EspUnclaimed(PATH, Spi(0x33), 1))
    tell(play, *ikev2_start(BOB, PEER, int(BOB)))
    only_listens(play)
    for _ in range(again):
        tell(play, disowns(ALICE))
        assert play.candidates(PEER, IN) == {ALICE, BOB}


def test_who_has_an_spi_alone_that_nobody_else_may_own_keeps_it_alone(play: Playbook) -> None:
    owns(play, ALICE)
    tell(play, *ikev2_start(BOB, PEER, int(BOB)), EspUnclaimed(PATH, Spi(0x22), 1))
    only_listens(play)
    (play >> disowns(ALICE)).nothing()
    assert play.tracker.verdict(PATH, IN) == Certain(ALICE, Basis.CREDIT)
    tell(play, *ikev2_child(BOB, PEER, int(BOB), 2))
    only_listens(play)
    tell(play, disowns(ALICE))
    assert play.candidates(PEER, IN) == {ALICE, BOB}, "by now somebody may"


def test_what_no_exchange_announced_may_be_anybodys(play: Playbook) -> None:
    tell(play, *ikev2_start(ALICE, PEER, int(ALICE)), EspUnclaimed(PATH, IN, OLD))
    tell(play, *ikev2_start(BOB, PEER, int(BOB)), EspUnclaimed(PATH, Spi(0x22), 1))
    only_listens(play)
    tell(play, disowns(ALICE))
    assert play.candidates(PEER, IN) == {ALICE, BOB}


def test_others_leave_what_was_shared_so_by_icmp_errors_of_theirs(play: Playbook) -> None:
    owns(play, ALICE)
    tell(play, *ikev2_start(BOB, PEER, int(BOB)), *ikev2_start(CAROL, PEER, int(CAROL)))
    only_listens(play)
    tell(play, disowns(ALICE), disowns(BOB))
    assert play.candidates(PEER, IN) == {ALICE, CAROL}
    tell(play, disowns(CAROL))
    assert play.tracker.verdict(PATH, IN) == Certain(ALICE, Basis.DISOWNED)
    (play >> disowns(ALICE)).nothing()


def test_the_word_of_ike_is_believed_of_who_has_it_alone(play: Playbook) -> None:
    owns(play, ALICE)
    tell(play, *ikev2_start(BOB, PEER, int(BOB)), disowns(ALICE, IKE))
    assert play.tracker.verdict(PATH, IN) == Certain(BOB, Basis.DISOWNED)


# Who is heard again


def contested(play: Playbook) -> None:
    """Let Alice and Bob each have an SA towards the peer, and one SPI come that may be of either."""
    for host, out in ((ALICE, OUT_A), (BOB, OUT_B)):
        tell(play, *ikev2_start(host, PEER, int(host)), EspFromInside(host, PEER, out, 1))
    play >> EspUnclaimed(PATH, IN, 1)
    only_listens(play)


def test_a_candidate_that_an_icmp_error_ruled_out_is_one_again_when_it_sends(play: Playbook) -> None:
    contested(play)
    tell(play, disowns(ALICE))
    assert play.candidates(PEER, IN) == {BOB}
    play.now += 1
    moves(play, to_peer(BOB, PEER, OUT_B), to_inside(PEER, IN))
    assert play.candidates(PEER, IN) == {BOB}, "it is Alice who has to be heard"
    play.now += 1
    moves(play, to_peer(ALICE, PEER, OUT_A))
    assert play.candidates(PEER, IN) == {ALICE, BOB}


def test_what_a_host_sent_before_it_was_ruled_out_says_nothing(play: Playbook) -> None:
    contested(play)
    said_at = play.now
    play.now += 1
    tell(play, disowns(ALICE))
    play >> CountersRead((FlowCount(to_peer(ALICE, PEER, OUT_A), 2, 0, said_at),))
    assert play.candidates(PEER, IN) == {BOB}


def test_a_new_tunnel_says_nothing_of_the_old_one(play: Playbook) -> None:
    """Her VPN program was started again: what she lost she does not have again."""
    contested(play)
    tell(play, disowns(ALICE), *ikev2_start(ALICE, PEER, 0xA11CE), EspFromInside(ALICE, PEER, Spi(0xAAAA0001), 1))
    play.now += 1
    moves(play, to_peer(ALICE, PEER, Spi(0xAAAA0001)))
    assert play.candidates(PEER, IN) == {BOB}


@pytest.mark.parametrize(
    "order", [(IKE, ICMP), (ICMP, IKE), (IKE,)], ids=lambda order: "-".join(h.value for h in order)
)
def test_who_was_ruled_out_by_its_word_stays_so(play: Playbook, order: tuple[RefusalKind, ...]) -> None:
    contested(play)
    tell(play, *(disowns(ALICE, how) for how in order))
    play.now += 1
    moves(play, to_peer(ALICE, PEER, OUT_A))
    assert play.candidates(PEER, IN) == {BOB}


def test_who_is_heard_again_without_a_credit_left_stays_ruled_out(play: Playbook) -> None:
    contested(play)
    tell(play, disowns(ALICE), EspUnclaimed(PATH, Spi(0x22), 1))
    assert play.tracker.verdict(PATH, Spi(0x22)) == Certain(ALICE, Basis.CREDIT)
    play.now += 1
    moves(play, to_peer(ALICE, PEER, OUT_A))
    assert play.tracker.verdict(PATH, IN) == Certain(BOB, Basis.DISOWNED)
