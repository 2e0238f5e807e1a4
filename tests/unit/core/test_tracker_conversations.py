"""Conversations about ESP: who gets what comes inside, and what makes the tracker change its mind."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook, ike, ikev2_child, ikev2_start, to_inside, to_peer
from throughway.core.commands import FanOut, InstallMapping, Refuse, Reinject
from throughway.core.events import (
    EspFromInside,
    EspUnclaimed,
    HostDisowned,
    IkeExchange,
    IkeMessageSeen,
    RefusalKind,
)
from throughway.core.ids import ROUTER, Host, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.core.verdicts import Certain, Unknown

ALICE, BOB, CAROL = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11, 12))
PEER, OTHER_PEER = (Peer(IPv4Address(f"203.0.113.{n}")) for n in (9, 10))
OUT_A, OUT_B, OUT_C = Spi(0xA0000001), Spi(0xB0000001), Spi(0xC0000001)
IN_1, IN_2, IN_3 = Spi(0x11111111), Spi(0x22222222), Spi(0x33333333)
IKE_A, IKE_B, IKE_C = 0xA11CE, 0xB0B, 0xCA401


def say(play: Playbook, messages: list[IkeMessageSeen]) -> None:
    """Let IKE messages pass, to which the data plane has nothing to do."""
    for message in messages:
        (play >> message).nothing()


def test_what_a_host_sends_is_given_to_it_alone(play: Playbook) -> None:
    key = to_peer(ALICE, PEER, OUT_A)
    play >> EspFromInside(ALICE, PEER, OUT_A, 1) << InstallMapping(key, ALICE) << Reinject(key)


def test_one_host_that_sends_is_certain(play: Playbook) -> None:
    key = to_inside(PEER, IN_1)
    play >> EspFromInside(ALICE, PEER, OUT_A, 1)
    play >> EspUnclaimed(Path(PEER), IN_1, 1) << InstallMapping(key, ALICE) << Reinject(key)
    assert isinstance(play.tracker.verdict(Path(PEER), IN_1), Certain)
    assert play.candidates(PEER, IN_1) == {ALICE}


def test_two_hosts_that_send_are_contested_and_both_get_a_copy(play: Playbook) -> None:
    key = to_inside(PEER, IN_1)
    play >> EspFromInside(ALICE, PEER, OUT_A, 1)
    play >> EspFromInside(BOB, PEER, OUT_B, 1)
    play >> EspUnclaimed(Path(PEER), IN_1, 1) << FanOut(key, (ALICE, BOB)) << Reinject(key)
    assert play.candidates(PEER, IN_1) == {ALICE, BOB}


def test_two_hosts_that_negotiated_are_contested_before_either_sends(play: Playbook) -> None:
    key = to_inside(PEER, IN_1)
    say(play, ikev2_start(ALICE, PEER, IKE_A))
    say(play, ikev2_start(BOB, PEER, IKE_B))
    play >> EspUnclaimed(Path(PEER), IN_1, 1) << FanOut(key, (ALICE, BOB)) << Reinject(key)


def test_inbound_may_come_first(play: Playbook) -> None:
    """Captures show the first packet to the inside 12 ms before any went out: the IKE exchange is enough."""
    key = to_inside(PEER, IN_1)
    say(play, ikev2_start(ALICE, PEER, IKE_A))
    play >> EspUnclaimed(Path(PEER), IN_1, 1) << InstallMapping(key, ALICE) << Reinject(key)
    play >> EspFromInside(ALICE, PEER, OUT_A, 1)
    assert play.candidates(PEER, IN_1) == {ALICE}


def test_second_spi_of_the_peer_goes_to_the_host_whose_credit_is_left(play: Playbook) -> None:
    say(play, ikev2_start(ALICE, PEER, IKE_A))
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    say(play, ikev2_start(BOB, PEER, IKE_B))
    key = to_inside(PEER, IN_2)
    play >> EspUnclaimed(Path(PEER), IN_2, 1) << InstallMapping(key, BOB) << Reinject(key)
    assert play.candidates(PEER, IN_1) == {ALICE}


def test_contest_ends_when_the_others_credits_are_used_up(play: Playbook) -> None:
    """Of two contested SPIs, the one that Alice disowns is Bob's; with his one credit gone, the other is hers."""
    say(play, ikev2_start(ALICE, PEER, IKE_A))
    say(play, ikev2_start(BOB, PEER, IKE_B))
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    play >> EspUnclaimed(Path(PEER), IN_2, 1)
    assert play.candidates(PEER, IN_1) == play.candidates(PEER, IN_2) == {ALICE, BOB}
    play >> HostDisowned(ALICE, PEER, IN_1, RefusalKind.INVALID_SPI)
    assert play.candidates(PEER, IN_1) == {BOB}
    assert play.candidates(PEER, IN_2) == {ALICE}
    assert play.mappings[to_inside(PEER, IN_1)] == (BOB,)
    assert play.mappings[to_inside(PEER, IN_2)] == (ALICE,)


def second_credit_left_after(play: Playbook, messages: list[IkeMessageSeen]) -> bool:
    """Tell whether Alice has a credit left after one inbound SPI, by whether she contests Bob's.

    She begins an IKE SA and says `messages` in it; the first SPI is then hers, and Bob has one credit.
    """
    say(play, ike(ALICE, PEER, IKE_A, IkeExchange.INITIAL, 0, "><"))
    say(play, messages)
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    assert play.candidates(PEER, IN_1) == {ALICE}
    say(play, ikev2_start(BOB, PEER, IKE_B))
    play >> EspUnclaimed(Path(PEER), IN_2, 1)
    assert BOB in play.candidates(PEER, IN_2)
    return ALICE in play.candidates(PEER, IN_2)


FIRST, CHILD = IkeExchange.FIRST_CHILD, IkeExchange.CHILD


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        (ike(ALICE, PEER, IKE_A, FIRST, 1, "><"), "IKE_AUTH"),
        (ike(ALICE, PEER, IKE_A, FIRST, 1, ">>><<"), "IKE_AUTH with retransmissions"),
        (
            ike(ALICE, PEER, IKE_A, FIRST, 1, "><")
            + ike(ALICE, PEER, IKE_A, FIRST, 2, "><")
            + ike(ALICE, PEER, IKE_A, FIRST, 3, "><"),
            "IKE_AUTH with rounds of EAP",
        ),
        (ike(ALICE, PEER, IKE_A, CHILD, 0xE22A74C1, "><>"), "Quick Mode"),
        (ike(ALICE, PEER, IKE_A, CHILD, 0xE22A74C1, ">><<>>"), "Quick Mode with retransmissions"),
        (ike(ALICE, PEER, IKE_A, CHILD, 0xE22A74C1, "<><"), "Quick Mode that the peer began"),
        (ike(ALICE, PEER, IKE_A, CHILD, 7, "><") * 2, "CREATE_CHILD_SA said twice"),
        (
            ike(ALICE, PEER, IKE_A, FIRST, 1, "><") + ike(ALICE, PEER, IKE_A, IkeExchange.INFORMATIONAL, 2, "><"),
            "dead peer detection",
        ),
        (
            ike(ALICE, PEER, IKE_A, FIRST, 1, "><") + ike(ALICE, PEER, IKE_A, CHILD, 2, "><", floated=True),
            "what floated to port 4500 sends no native ESP",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_child_sa_is_one_credit(play: Playbook, messages: list[IkeMessageSeen], why: str) -> None:
    assert not second_credit_left_after(play, messages), why


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        (ike(ALICE, PEER, IKE_A, FIRST, 1, "><") + ikev2_child(ALICE, PEER, IKE_A, 2), "IKE_AUTH and CREATE_CHILD_SA"),
        (ikev2_child(ALICE, PEER, IKE_A, 2) + ikev2_child(ALICE, PEER, IKE_A, 3), "two of CREATE_CHILD_SA"),
        (
            ike(ALICE, PEER, IKE_A, CHILD, 0xE22A, "><>") + ike(ALICE, PEER, IKE_A, CHILD, 0x74C1, "><>"),
            "two of Quick Mode",
        ),
        (
            ikev2_child(ALICE, PEER, IKE_A, 2) + ike(ALICE, PEER, IKE_A, CHILD, 1 << 32 | 2, "<>"),
            "one message ID of either end",
        ),
        (ikev2_child(ALICE, PEER, IKE_A, 2) + ikev2_start(ALICE, PEER, IKE_C), "two IKE SAs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_two_child_sas_are_two_credits(play: Playbook, messages: list[IkeMessageSeen], why: str) -> None:
    assert second_credit_left_after(play, messages), why


def test_host_without_a_credit_does_not_contest_one_that_has(play: Playbook) -> None:
    """Bob's IKE SA floated to NAT-T: what he gets is UDP, so native ESP is Alice's."""
    say(play, ikev2_start(ALICE, PEER, IKE_A))
    say(play, ike(BOB, PEER, IKE_B, IkeExchange.INITIAL, 0, "><"))
    say(play, ike(BOB, PEER, IKE_B, FIRST, 1, "><", floated=True))
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    assert play.candidates(PEER, IN_1) == {ALICE}


def test_exchange_that_the_peer_never_answered_is_no_credit(play: Playbook) -> None:
    """The answer may be under way, or we may have missed it: only time tells that there was none."""
    say(play, ike(ALICE, PEER, IKE_A, IkeExchange.INITIAL, 0, "><"))
    say(play, ike(BOB, PEER, IKE_B, IkeExchange.INITIAL, 0, "><"))
    say(play, ike(BOB, PEER, IKE_B, FIRST, 1, ">>>"))
    play.wait_until(play.now + 2 * Limits().exchange_unanswered_s)
    say(play, ike(ALICE, PEER, IKE_A, FIRST, 1, "><"))
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    assert play.candidates(PEER, IN_1) == {ALICE}


def test_esp_of_a_negotiated_sa_is_not_a_second_credit(play: Playbook) -> None:
    """An exchange and the spi_to_peer that follows are one SA pair."""
    say(play, ikev2_start(ALICE, PEER, IKE_A))
    play >> EspFromInside(ALICE, PEER, OUT_A, 1)
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    say(play, ikev2_start(BOB, PEER, IKE_B))
    play >> EspUnclaimed(Path(PEER), IN_2, 1)
    assert play.candidates(PEER, IN_2) == {BOB}


def test_peer_that_nobody_asked_is_refused(play: Playbook) -> None:
    play >> EspUnclaimed(Path(PEER), IN_1, 1) << Refuse(to_inside(PEER, IN_1), Reason.NO_CANDIDATE)
    assert play.tracker.verdict(Path(PEER), IN_1) == Unknown()
    assert play.mappings == {}


def test_host_of_another_peer_is_no_candidate(play: Playbook) -> None:
    play >> EspFromInside(ALICE, OTHER_PEER, OUT_A, 1)
    say(play, ikev2_start(ALICE, OTHER_PEER, IKE_A))
    play >> EspUnclaimed(Path(PEER), IN_1, 1) << Refuse(to_inside(PEER, IN_1), Reason.NO_CANDIDATE)
    assert play.candidates(PEER, IN_1) == set()


def test_refused_tunnel_is_given_out_when_asked_about_again(play: Playbook) -> None:
    key = to_inside(PEER, IN_1)
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    play >> EspFromInside(ALICE, PEER, OUT_A, 1)
    play >> EspUnclaimed(Path(PEER), IN_1, 3) << InstallMapping(key, ALICE) << Reinject(key)


def test_what_the_router_began_is_its_own(play: Playbook) -> None:
    key = to_inside(PEER, IN_1)
    play >> EspFromInside(ROUTER, PEER, OUT_A, 1)
    assert play.mappings == {to_peer(ROUTER, PEER, OUT_A): (ROUTER,)}
    play >> EspUnclaimed(Path(PEER), IN_1, 1) << InstallMapping(key, ROUTER) << Reinject(key)


def test_router_contests_as_any_host_does(play: Playbook) -> None:
    key = to_inside(PEER, IN_1)
    say(play, ikev2_start(ROUTER, PEER, IKE_A))
    say(play, ikev2_start(BOB, PEER, IKE_B))
    play >> EspUnclaimed(Path(PEER), IN_1, 1) << FanOut(key, (ROUTER, BOB)) << Reinject(key)


def test_host_that_disowns_gets_no_more_copies(play: Playbook) -> None:
    key = to_inside(PEER, IN_1)
    for host, spi in ((ALICE, OUT_A), (BOB, OUT_B), (CAROL, OUT_C)):
        play >> EspFromInside(host, PEER, spi, 1)
    play >> EspUnclaimed(Path(PEER), IN_1, 1) << FanOut(key, (ALICE, BOB, CAROL)) << Reinject(key)
    play >> HostDisowned(BOB, PEER, IN_1, RefusalKind.INVALID_SPI) << FanOut(key, (ALICE, CAROL))
    play >> HostDisowned(ALICE, PEER, IN_1, RefusalKind.INVALID_SPI) << InstallMapping(key, CAROL)
    assert play.candidates(PEER, IN_1) == {CAROL}


def test_certain_host_that_disowns_gives_way_to_its_rivals(play: Playbook) -> None:
    """Evidence against a binding sends it back to the others, never to nobody while there are any."""
    say(play, ikev2_start(ALICE, PEER, IKE_A))
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    say(play, ikev2_start(BOB, PEER, IKE_B))
    play >> HostDisowned(ALICE, PEER, IN_1, RefusalKind.INVALID_SPI)
    assert play.candidates(PEER, IN_1) == {BOB}
    assert play.mappings[to_inside(PEER, IN_1)] == (BOB,)


def test_host_that_disowns_what_it_was_never_given_changes_nothing(play: Playbook) -> None:
    play >> EspFromInside(ALICE, PEER, OUT_A, 1)
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    (play >> HostDisowned(CAROL, PEER, IN_1, RefusalKind.INVALID_SPI)).nothing()
    (play >> HostDisowned(ALICE, OTHER_PEER, IN_1, RefusalKind.INVALID_SPI)).nothing()
    (play >> HostDisowned(ALICE, PEER, IN_2, RefusalKind.INVALID_SPI)).nothing()
    assert play.candidates(PEER, IN_1) == {ALICE}


def test_full_socket_of_a_host_that_still_speaks_is_no_evidence(play: Playbook) -> None:
    """Its kernel answers protocol unreachable when the VPN program does not keep up; the SPI may well be its own."""
    play >> EspFromInside(ALICE, PEER, OUT_A, 1)
    play >> EspFromInside(BOB, PEER, OUT_B, 1)
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    (play >> HostDisowned(ALICE, PEER, IN_1, RefusalKind.PROTOCOL_UNREACHABLE)).nothing()
    play.now += Limits().silence_s + 1
    (
        play
        >> HostDisowned(ALICE, PEER, IN_1, RefusalKind.PROTOCOL_UNREACHABLE)
        << InstallMapping(to_inside(PEER, IN_1), BOB)
    )


def test_rekey_keeps_the_old_spi_beside_the_new(play: Playbook) -> None:
    say(play, ikev2_start(ALICE, PEER, IKE_A))
    play >> EspFromInside(ALICE, PEER, OUT_A, 1)
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    say(play, ikev2_child(ALICE, PEER, IKE_A, 2))
    play >> EspUnclaimed(Path(PEER), IN_2, 1)
    play >> EspFromInside(ALICE, PEER, OUT_B, 1)
    assert play.mappings == {
        to_peer(ALICE, PEER, OUT_A): (ALICE,),
        to_peer(ALICE, PEER, OUT_B): (ALICE,),
        to_inside(PEER, IN_1): (ALICE,),
        to_inside(PEER, IN_2): (ALICE,),
    }


def test_certain_tunnel_is_not_shaken_by_a_newcomer(play: Playbook) -> None:
    """Law 2: that Bob negotiates later is no evidence against what Alice's credit paid for."""
    say(play, ikev2_start(ALICE, PEER, IKE_A))
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    say(play, ikev2_start(BOB, PEER, IKE_B))
    (
        (play >> EspFromInside(BOB, PEER, OUT_B, 1))
        << InstallMapping(to_peer(BOB, PEER, OUT_B), BOB)
        << Reinject(to_peer(BOB, PEER, OUT_B))
    )
    assert play.candidates(PEER, IN_1) == {ALICE}
