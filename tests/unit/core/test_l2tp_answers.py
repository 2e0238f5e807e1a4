"""Conversations about unmanaged sessions of L2TPv3: which of them was answered, and to whom late answers are.

In all of these a peer answers each packet within `l2tpv3_answer_s`, so its clear text must never come to another host.
"""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.l2tpv3 import PEER, back, comes, out, sends
from tests.unit.core.playbook import Playbook
from throughway.core import discriminators
from throughway.core.commands import InstallMapping, Refuse, Reinject, RemoveMapping
from throughway.core.events import (
    AdoptedFlow,
    CountersRead,
    EspFromInside,
    FlowCount,
    L2tpControl,
    L2tpControlSeen,
    MappingsAdopted,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.reasons import Reason

ALICE, BOB, CAROL = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11, 12))
OTHER = Peer(IPv4Address("203.0.113.10"))
OUT_A, IN_A, OUT_A2, IN_A2, STRAY = 0xA1, 0xA2, 0xA3, 0xA4, 0xA9
OUT_B, IN_B, OUT_R, IN_R = 0xB1, 0xB2, 0xF1, 0xF2
SCCRQ, HELLO, ICRQ, ICRP, SET_LINK_INFO, STOP, DISCONNECT = 1, 6, 10, 11, 16, 4, 14
LIMITS = Limits()
ANSWER_S = LIMITS.l2tpv3_answer_s
RTT_S = 0.05
control = discriminators.of_l2tpv3_control


def says(host: Host, kind: int, *, from_host: bool = True, **ids: int) -> L2tpControlSeen:
    return L2tpControlSeen(host, PEER, from_host, L2tpControl(message_type=kind, **{"control_connection_id": 0, **ids}))


def used(play: Playbook, *keys: FlowKey) -> CountersRead:
    return CountersRead(tuple(FlowCount(key, 2, 200, play.now) for key in keys))


def adopted(*keys: FlowKey) -> MappingsAdopted:
    return MappingsAdopted(tuple(AdoptedFlow(key, (ALICE,), FlowCount(key, 5, 500, 99_999.0)) for key in keys))


def answered(play: Playbook, host: Host, sent: int, got: int) -> None:
    play >> sends(host, sent)
    assert out(host, sent) in play.mappings
    play.now += RTT_S
    play >> comes(got)
    assert play.mappings[back(got)] == (host,)


def assert_waits_for(play: Playbook, name: int) -> None:
    """Alice has just sent; Bob begins, and the answer to her comes to her."""
    (play >> sends(BOB, OUT_B)).nothing()
    play.now += RTT_S
    play >> comes(name)
    assert play.mappings[back(name)] == (ALICE,)


# Late answers


def test_what_was_never_answered_may_still_be_when_another_host_begins(play: Playbook) -> None:
    """The peer was down for a minute, and answers to what Alice sent last."""
    play >> sends(ALICE, OUT_A)
    play.wait_until(play.now + 60)
    play >> used(play, out(ALICE, OUT_A))
    play >> sends(BOB, OUT_B) << RemoveMapping(out(ALICE, OUT_A))
    play.wait_until(play.now + ANSWER_S - 0.01)
    assert out(BOB, OUT_B) not in play.mappings
    play >> comes(IN_A)
    assert play.mappings[back(IN_A)] == (ALICE,)
    play >> sends(ALICE, OUT_A) << InstallMapping(out(ALICE, OUT_A), ALICE) << Reinject(out(ALICE, OUT_A))
    play.wait_until(play.now + 0.01)
    play >> comes(IN_B)
    assert play.mappings[back(IN_B)] == (BOB,)


def test_what_is_sent_at_the_end_of_a_turn_may_be_answered_after_it(play: Playbook) -> None:
    play >> sends(ALICE, OUT_A) >> sends(BOB, OUT_B)
    play.wait_until(play.now + LIMITS.l2tpv3_turn_s)
    assert play.mappings == {}
    play >> sends(ALICE, OUT_A)
    play.now += RTT_S
    play >> comes(IN_A)
    assert play.mappings == {back(IN_A): (ALICE,), out(ALICE, OUT_A): (ALICE,)}, "her held packets go out at once"


def test_nobody_waits_where_nothing_unanswered_was_open(play: Playbook) -> None:
    answered(play, ALICE, OUT_A, IN_A)
    answered(play, BOB, OUT_B, IN_B)


@pytest.mark.parametrize("speaks", [True, False])
def test_what_a_forgotten_host_has_sent_is_answered_to_nobody(speaks: bool) -> None:
    """Whether the next one has L2TP with the peer already or not."""
    play = Playbook(Limits(peers_per_host_max=1))
    if speaks:
        answered(play, BOB, OUT_B, IN_B)
    play >> sends(ALICE, OUT_A) >> EspFromInside(ALICE, OTHER, Spi(0x1000), 1)
    (play >> sends(BOB, OUT_B + 1)).nothing()
    play >> comes(IN_A) << Refuse(back(IN_A), Reason.NO_CANDIDATE, "owner.ambiguous")
    play.wait_until(play.now + ANSWER_S)
    assert play.mappings[out(BOB, OUT_B + 1)] == (BOB,)
    play >> comes(IN_B + 1)
    assert play.mappings[back(IN_B + 1)] == (BOB,)


def test_a_peer_that_nobody_speaks_to_is_forgotten_when_it_can_answer_no_more() -> None:
    play = Playbook(Limits(peers_per_host_max=1))
    play >> sends(ALICE, OUT_A) >> EspFromInside(ALICE, OTHER, Spi(0x1000), 1)
    play >> comes(IN_A) << Refuse(back(IN_A), Reason.NO_CANDIDATE, "peer.unknown")
    play.wait_until(play.now + ANSWER_S)
    play >> sends(BOB, OUT_B) << InstallMapping(out(BOB, OUT_B), BOB) << Reinject(out(BOB, OUT_B))
    play.finish()


def test_a_session_that_makes_room_may_still_be_answered() -> None:
    play = Playbook(Limits(spis_per_host_and_peer_max=1))
    play >> sends(ALICE, OUT_A) >> says(ALICE, ICRP, from_host=False, local_session_id=OUT_A2)
    play >> sends(ALICE, OUT_A2)
    assert set(play.mappings) == {out(ALICE, OUT_A2)}
    (play >> sends(BOB, OUT_B)).nothing()
    play.wait_until(play.now + ANSWER_S)
    assert out(BOB, OUT_B) in play.mappings


# Who answered what


def test_of_two_sessions_of_one_turn_both_are_closed_where_one_was_answered(play: Playbook) -> None:
    """Nobody knows which, and the other one's answer must not come to Bob."""
    play >> sends(ALICE, OUT_A) >> sends(ALICE, OUT_A2)
    play.now += RTT_S
    play >> comes(IN_A2)
    play.wait_until(play.now + 10)
    play >> sends(BOB, OUT_B) << RemoveMapping(out(ALICE, OUT_A)) << RemoveMapping(out(ALICE, OUT_A2))
    play.now += RTT_S
    play >> comes(IN_A)
    assert play.mappings[back(IN_A)] == (ALICE,)
    for name in (OUT_A, OUT_A2):
        play >> sends(ALICE, name) << InstallMapping(out(ALICE, name), ALICE) << Reinject(out(ALICE, name))


def test_an_answer_to_the_other_one_alone_tells_them_apart(play: Playbook) -> None:
    play >> sends(ALICE, OUT_A) >> sends(ALICE, OUT_A2) >> comes(IN_A2)
    play.wait_until(play.now + 10)
    play >> sends(BOB, OUT_B)
    play.wait_until(play.now + ANSWER_S)
    play >> comes(IN_B)
    answered(play, ALICE, OUT_A, IN_A)
    play >> sends(ALICE, OUT_A2) << InstallMapping(out(ALICE, OUT_A2), ALICE) << Reinject(out(ALICE, OUT_A2))
    play >> sends(BOB, OUT_B + 1) << InstallMapping(out(BOB, OUT_B + 1), BOB) << Reinject(out(BOB, OUT_B + 1))
    play.finish()


def test_what_is_explained_later_may_have_been_what_was_answered(play: Playbook) -> None:
    """So the other session is as unanswered as before."""
    play >> sends(ALICE, OUT_A) >> sends(ALICE, OUT_A2) >> comes(IN_A)
    play >> says(ALICE, ICRP, from_host=False, local_session_id=OUT_A)
    assert_waits_for(play, IN_A2)


def test_sessions_that_are_renewed_are_answered_each_time(play: Playbook) -> None:
    """More often than there is room for what was before."""
    play >> says(BOB, SCCRQ, assigned_connection_id=0xBB)
    for n in range(LIMITS.spis_per_host_and_peer_max + 20):
        answered(play, ALICE, 0x1000 + n, 0x2000 + n)
        play.now += 600
        play >> used(play, out(ALICE, 0x1000 + n), back(0x2000 + n)) >> says(BOB, HELLO)
    play >> sends(ALICE, OUT_A)
    assert_waits_for(play, IN_A)


def test_what_comes_to_a_host_that_was_gone_is_no_answer_to_its_new_session(play: Playbook) -> None:
    play >> says(BOB, SCCRQ, assigned_connection_id=0xBB)
    answered(play, ALICE, OUT_A, IN_A)
    until = play.now + LIMITS.l2tpv3_idle_s + 100
    while play.now < until:
        play.wait_until(play.now + 50)
        play >> used(play, back(IN_A)) >> says(BOB, HELLO)
    assert out(ALICE, OUT_A) not in play.mappings
    play >> sends(ALICE, OUT_A2)
    assert_waits_for(play, IN_A2)
    assert play.mappings[back(IN_A)] == (ALICE,)


def test_a_session_of_the_peer_without_a_partner_is_no_answer_to_the_next_one(play: Playbook) -> None:
    answered(play, ALICE, OUT_A, IN_A)
    play >> comes(STRAY)
    play.wait_until(play.now + 60)
    play >> sends(ALICE, OUT_A2)
    assert_waits_for(play, IN_A2)


def test_what_answered_a_session_goes_and_the_session_with_it() -> None:
    """It asks again, and is answered again."""
    play = Playbook(Limits(spis_per_host_and_peer_max=1))
    answered(play, ALICE, OUT_A, IN_A)
    play >> says(ALICE, ICRQ, local_session_id=STRAY) << RemoveMapping(back(IN_A)) << RemoveMapping(out(ALICE, OUT_A))
    play << InstallMapping(back(STRAY), ALICE)
    play.finish()
    assert play.tracker.mapping_count == 1


def test_a_host_ends_what_it_sends_to_as_well(play: Playbook) -> None:
    play >> says(ALICE, SCCRQ, assigned_connection_id=0xC1)
    play >> says(ALICE, ICRQ, local_session_id=IN_A)
    play >> says(ALICE, ICRP, from_host=False, local_session_id=OUT_A, remote_session_id=IN_A)
    play >> sends(ALICE, OUT_A) >> sends(ALICE, control(0xC0))
    play >> says(ALICE, DISCONNECT, control_connection_id=0xC0, local_session_id=IN_A, remote_session_id=OUT_A)
    play << RemoveMapping(out(ALICE, OUT_A))
    play >> says(ALICE, STOP, control_connection_id=0xC0, assigned_connection_id=0xC1)
    play << RemoveMapping(out(ALICE, control(0xC0)))
    play >> sends(BOB, OUT_B) << InstallMapping(out(BOB, OUT_B), BOB) << Reinject(out(BOB, OUT_B))
    play.finish()
    play.wait_until(play.now + 3 * LIMITS.sweep_every_s)
    assert back(IN_A) not in play.mappings


# After a restart


def test_an_adopted_pair_is_no_answer_to_a_new_session(play: Playbook) -> None:
    """Nor is it when the peer then says that it was managed."""
    play >> adopted(out(ALICE, OUT_A), back(IN_A), out(ALICE, control(0xC0)), back(control(0xC1)))
    play.now += ANSWER_S
    play >> says(ALICE, SET_LINK_INFO, from_host=False, local_session_id=OUT_A, remote_session_id=IN_A)
    play >> sends(ALICE, OUT_A2)
    assert_waits_for(play, IN_A2)
    play >> sends(ALICE, OUT_A) << InstallMapping(out(ALICE, OUT_A), ALICE) << Reinject(out(ALICE, OUT_A))


def test_of_adopted_sessions_that_are_more_than_their_answers_all_are_closed(play: Playbook) -> None:
    play >> adopted(out(ALICE, OUT_A), out(ALICE, OUT_A2), back(IN_A))
    play >> adopted(out(ALICE, OUT_A), out(ALICE, OUT_A2), back(IN_A))
    play.now += 10
    play >> sends(BOB, OUT_B) << RemoveMapping(out(ALICE, OUT_A)) << RemoveMapping(out(ALICE, OUT_A2))
    play.now += RTT_S
    play >> comes(IN_A2)
    assert play.mappings[back(IN_A2)] == (ALICE,)


def test_what_was_closed_before_a_restart_may_be_answered_after_it(play: Playbook) -> None:
    """Alice's closed session left nothing to adopt."""
    play >> MappingsAdopted((AdoptedFlow(key := FlowKey.to_peer(47, BOB, PEER, 0), (BOB,), FlowCount(key, 1, 1, 1.0)),))
    (play >> sends(BOB, OUT_B)).nothing()
    play >> comes(IN_A) << Refuse(back(IN_A), Reason.NO_CANDIDATE, "owner.ambiguous")
    play.wait_until(play.now + ANSWER_S)
    assert play.mappings[out(BOB, OUT_B)] == (BOB,)


# The router, whose packets cannot be held


def test_what_may_be_the_routers_or_a_hosts_goes_to_neither(play: Playbook) -> None:
    play >> sends(ALICE, OUT_A)
    play >> sends(ROUTER, OUT_R) << InstallMapping(out(ROUTER, OUT_R), ROUTER) << Reinject(out(ROUTER, OUT_R))
    play.finish()
    play >> comes(IN_R) << Refuse(back(IN_R), Reason.NO_CANDIDATE, "owner.ambiguous")
    play << RemoveMapping(out(ALICE, OUT_A))
    play.wait_until(play.now + ANSWER_S)
    assert out(ROUTER, OUT_R) in play.mappings, "it never ceased to send"
    play >> comes(IN_R)
    assert play.mappings[back(IN_R)] == (ROUTER,)


def test_the_router_that_is_never_answered_leaves_hosts_their_turns(play: Playbook) -> None:
    play >> sends(ROUTER, OUT_R)
    play.wait_until(play.now + 10)
    play >> sends(BOB, OUT_B) << RemoveMapping(out(ROUTER, OUT_R))
    play >> sends(ROUTER, OUT_R) << InstallMapping(out(ROUTER, OUT_R), ROUTER) << Reinject(out(ROUTER, OUT_R))
    play.finish()
    play.wait_until(play.now + ANSWER_S - 0.01)
    play >> comes(IN_R)
    assert play.mappings[back(IN_R)] == (ROUTER,), "a late answer"
    play >> sends(ROUTER, OUT_R + 2)
    play.wait_until(play.now + 0.02)
    assert out(BOB, OUT_B) in play.mappings
    play.wait_until(play.now + 10)
    play >> sends(ALICE, OUT_A)
    play.wait_until(play.now + ANSWER_S + LIMITS.l2tpv3_turn_s / 2)
    play >> sends(ROUTER, OUT_R + 2)
    assert out(ALICE, OUT_A) in play.mappings
    play >> comes(IN_A)
    assert play.mappings[back(IN_A)] == (ALICE,), "the router had its turn in vain"


def test_a_router_with_ever_new_sessions_starves_nobody(play: Playbook) -> None:
    was_out_s = 0.0
    silent_until = 0.0
    for n in range(600):
        if any(isinstance(command, Refuse) for command in play.answers_until(play.now + 0.1)):
            silent_until = play.now + LIMITS.refused_s
        if n % 10 == 0:
            play >> sends(ROUTER, 0xF00 + n)
        if out(BOB, OUT_B) not in play.mappings and play.now >= silent_until:
            play >> sends(BOB, OUT_B)
        was_out_s += 0.1 * (out(BOB, OUT_B) in play.mappings)
    assert was_out_s > 6


# Fairness


def test_ever_new_hosts_do_not_hinder_one_that_is_known(play: Playbook) -> None:
    """One device inside that forges sources."""
    play >> sends(ALICE, OUT_A)
    was_out_s = 0.0
    silent_until = 0.0
    for n in range(480):
        refused = [command.key.host for command in play.answers_until(play.now + 0.25) if isinstance(command, Refuse)]
        if ALICE in refused:
            silent_until = play.now + LIMITS.refused_s
        play >> sends(Host(IPv4Address("192.168.2.0") + n), 0x5000 + n)
        if out(ALICE, OUT_A) not in play.mappings and play.now >= silent_until:
            play >> sends(ALICE, OUT_A)
        was_out_s += 0.25 * (out(ALICE, OUT_A) in play.mappings)
    assert was_out_s > 12
