"""Conversations about L2TPv3 over IP: what is assigned in clear is exact, the rest comes in turns and to one host."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.l2tpv3 import PEER, back, comes, out, sends
from tests.unit.core.playbook import Playbook
from throughway.core import discriminators
from throughway.core.commands import InstallMapping, Refuse, Reinject, RemoveMapping
from throughway.core.events import (
    AdoptedFlow,
    CountersRead,
    Event,
    FlowCount,
    L2tpControl,
    L2tpControlSeen,
    MappingsAdopted,
    PortlessFromInside,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Peer
from throughway.core.limits import Limits
from throughway.core.reasons import Reason

ALICE, BOB, CAROL = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11, 12))
OTHER_PEER = Peer(IPv4Address("203.0.113.10"))
OUT_A, OUT_B, OUT_C, IN_A, IN_B, IN_C = 0xA1, 0xB1, 0xC1, 0xA2, 0xB2, 0xC2
SCCRQ, SCCRP, ICRQ, ICRP, STOP, DISCONNECT = 1, 2, 10, 11, 4, 14
LIMITS = Limits()
WITH_ANSWERS_S = LIMITS.l2tpv3_turn_s + LIMITS.l2tpv3_answer_s
QUIET_S = LIMITS.l2tpv3_answer_s + LIMITS.counters_every_s + 0.1
control = discriminators.of_l2tpv3_control


def says(host: Host, kind: int, *, connection: int = 0, local: int = 0, remote: int = 0) -> L2tpControlSeen:
    return L2tpControlSeen(host, PEER, True, L2tpControl(0, kind, connection or None, local or None, remote or None))


def hears(host: Host, kind: int, *, connection: int = 0, local: int = 0, remote: int = 0) -> L2tpControlSeen:
    return L2tpControlSeen(host, PEER, False, L2tpControl(0, kind, connection or None, local or None, remote or None))


def goes_out(play: Playbook, host: Host, name: int) -> None:
    play >> sends(host, name) << InstallMapping(out(host, name), host) << Reinject(out(host, name))


def comes_to(play: Playbook, host: Host, name: int) -> None:
    play >> comes(name) << InstallMapping(back(name), host) << Reinject(back(name))


def manage(play: Playbook, host: Host, own: int, peers: int) -> None:
    """Let a host and the peer agree on a control connection and a session, `own` and `peers` being the IDs of both."""
    play >> says(host, SCCRQ, connection=own) << InstallMapping(back(control(own)), host)
    goes_out(play, host, discriminators.L2TPV3_UNASSIGNED)
    (play >> hears(host, SCCRP, connection=peers)).nothing()
    goes_out(play, host, control(peers))
    play >> says(host, ICRQ, local=own) << InstallMapping(back(own), host)
    (play >> hears(host, ICRP, local=peers, remote=own)).nothing()
    goes_out(play, host, peers)


def test_what_a_host_assigns_is_its_own_before_the_answer_comes(play: Playbook) -> None:
    manage(play, ALICE, IN_A, OUT_A)
    manage(play, BOB, IN_B, OUT_B)
    assert play.tracker.owner(back(IN_A)) == ALICE
    assert play.tracker.owner(back(control(IN_B))) == BOB
    assert play.tracker.mapping_count == len(play.mappings) == 10


def test_the_same_message_twice_changes_nothing(play: Playbook) -> None:
    play >> says(ALICE, ICRQ, local=IN_A)
    (play >> says(ALICE, ICRQ, local=IN_A)).nothing()
    assert play.tracker.mapping_count == 1


def test_id_that_another_host_has_is_refused_and_shown(play: Playbook) -> None:
    play >> says(ALICE, ICRQ, local=IN_A)
    (play >> says(BOB, ICRQ, local=IN_A)).nothing()
    assert play.mappings == {back(IN_A): (ALICE,)}
    (refusal,) = play.tracker.refusals()
    assert (refusal.host, refusal.owner, refusal.reason) == (BOB, ALICE, Reason.DISCRIMINATOR_TAKEN)


def test_a_peer_cannot_give_one_host_what_is_another_ones(play: Playbook) -> None:
    (play >> hears(BOB, ICRP, local=OUT_B, remote=IN_A)).nothing()
    assert play.tracker.owner(back(IN_A)) is None


def test_id_of_an_ended_session_is_free_when_nothing_comes_any_more(play: Playbook) -> None:
    play >> says(ALICE, ICRQ, local=IN_A)
    play >> says(ALICE, DISCONNECT, local=IN_A)
    (play >> says(BOB, ICRQ, local=IN_A)).nothing()
    assert play.tracker.owner(back(IN_A)) == ALICE, "the peer may still be sending"
    play.now += QUIET_S
    play >> says(BOB, ICRQ, local=IN_A)
    assert play.mappings == {back(IN_A): (BOB,)}
    assert play.tracker.refusals() == []


def test_only_its_own_host_ends_a_session(play: Playbook) -> None:
    play >> says(ALICE, ICRQ, local=IN_A)
    play >> hears(ALICE, DISCONNECT, local=IN_A)
    play >> says(BOB, STOP, local=IN_A)
    play.now += QUIET_S
    (play >> says(BOB, ICRQ, local=IN_A)).nothing()


def test_one_unmanaged_session_goes_out_at_once_and_its_answer_comes_in(play: Playbook) -> None:
    goes_out(play, ALICE, OUT_A)
    comes_to(play, ALICE, IN_A)
    assert play.tracker.mapping_count == 2


def test_second_host_waits_until_the_first_is_answered(play: Playbook) -> None:
    goes_out(play, ALICE, OUT_A)
    (play >> sends(BOB, OUT_B)).nothing()
    play >> comes(IN_A) << InstallMapping(back(IN_A), ALICE) << Reinject(back(IN_A))
    play << InstallMapping(out(BOB, OUT_B), BOB) << Reinject(out(BOB, OUT_B))
    comes_to(play, BOB, IN_B)


def test_second_host_waits_no_longer_than_a_turn_and_its_answers(play: Playbook) -> None:
    goes_out(play, ALICE, OUT_A)
    play.now += 0.5
    (play >> sends(BOB, OUT_B)).nothing()
    play.wait_until(play.now + LIMITS.l2tpv3_turn_s - 0.6)
    assert play.mappings == {out(ALICE, OUT_A): (ALICE,)}
    play.wait_until(play.now + LIMITS.l2tpv3_answer_s)
    assert play.mappings == {}, "what Alice has sent may still be answered"
    play.wait_until(play.now + 0.2)
    assert play.mappings == {out(BOB, OUT_B): (BOB,)}, "only one of them may be answered"
    comes_to(play, BOB, IN_B)
    goes_out(play, ALICE, OUT_A)
    comes_to(play, ALICE, IN_A)


def test_third_host_is_refused_in_time_and_asks_again(play: Playbook) -> None:
    goes_out(play, ALICE, OUT_A)
    (play >> sends(BOB, OUT_B)).nothing()
    play.now += 0.1
    (play >> sends(CAROL, OUT_C)).nothing()
    refusal = Refuse(out(CAROL, OUT_C), Reason.REFUSED, "answer.awaited")
    answers = play.answers_until(play.now + LIMITS.l2tpv3_wait_s)
    assert [command for command in answers if isinstance(command, Refuse)] == [refusal]
    play.now += LIMITS.refused_s
    (play >> sends(CAROL, OUT_C)).nothing()
    comes_to(play, BOB, IN_B)
    play.wait_until(play.now + LIMITS.l2tpv3_answer_s)
    assert play.mappings[out(CAROL, OUT_C)] == (CAROL,)


def test_more_sessions_of_the_host_whose_turn_it_is_go_out(play: Playbook) -> None:
    goes_out(play, ALICE, OUT_A)
    goes_out(play, ALICE, OUT_A + 1)
    (play >> sends(BOB, OUT_B)).nothing()
    comes_to(play, ALICE, IN_A)
    play >> comes(IN_A + 1)
    assert play.mappings[back(IN_A + 1)] == (ALICE,)
    assert play.mappings[out(BOB, OUT_B)] == (BOB,)


def test_each_session_of_a_turn_is_waited_for_as_long(play: Playbook) -> None:
    """Else an answer to the last of them came when another host has the turn, and went there."""
    goes_out(play, ALICE, OUT_A)
    play.now += LIMITS.l2tpv3_turn_s - 0.1
    goes_out(play, ALICE, OUT_A + 1)
    comes_to(play, ALICE, IN_A)
    (play >> sends(BOB, OUT_B)).nothing()
    play.wait_until(play.now + LIMITS.l2tpv3_turn_s - 0.1)
    play >> comes(IN_A + 1)
    assert play.mappings[back(IN_A + 1)] == (ALICE,)
    assert play.mappings[out(BOB, OUT_B)] == (BOB,)


def test_the_turn_is_not_made_longer_while_another_host_waits(play: Playbook) -> None:
    goes_out(play, ALICE, OUT_A)
    until = play.now + WITH_ANSWERS_S
    play.now += 0.1
    (play >> sends(BOB, OUT_B)).nothing()
    for n in range(1, 10):
        play.now += 0.05
        (play >> sends(ALICE, OUT_A + n)).nothing()
    play.wait_until(until)
    assert play.mappings == {out(BOB, OUT_B): (BOB,)}
    play >> comes(IN_B)
    assert {key.discriminator for key in play.mappings if key.host == ALICE} == {OUT_A + n for n in range(1, 10)}


@pytest.mark.parametrize("every_s", [0.3, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("later_s", [0.0, 0.15, 0.4])
def test_two_hosts_that_are_never_answered_hinder_no_third(every_s: float, later_s: float) -> None:
    play = Playbook()
    until = play.now + 24.0
    names = {ALICE: OUT_A, BOB: OUT_B, CAROL: OUT_C}
    due = {ALICE: play.now, BOB: play.now, CAROL: play.now + later_s}
    silent_until = dict.fromkeys(names, 0.0)
    while out(CAROL, OUT_C) not in play.mappings:
        host = min(due, key=due.__getitem__)
        assert due[host] < until, "Carol never had a turn"
        for command in play.answers_until(due[host]):
            if isinstance(command, Refuse):
                silent_until[command.key.host] = play.now + LIMITS.refused_s
        play.now = due[host]
        due[host] += every_s
        if out(host, names[host]) not in play.mappings and play.now >= silent_until[host]:
            play >> sends(host, names[host])


def test_a_managed_session_waits_for_nobody_and_keeps_nobody_waiting(play: Playbook) -> None:
    goes_out(play, ALICE, OUT_A)
    manage(play, BOB, IN_B, OUT_B)
    comes_to(play, ALICE, IN_A)
    goes_out(play, CAROL, OUT_C)
    comes_to(play, CAROL, IN_C)


def test_hosts_at_different_peers_do_not_wait_for_each_other(play: Playbook) -> None:
    goes_out(play, ALICE, OUT_A)
    key = FlowKey.to_peer(115, BOB, OTHER_PEER, OUT_B)
    play >> PortlessFromInside(BOB, OTHER_PEER, 115, OUT_B) << InstallMapping(key, BOB) << Reinject(key)


def test_what_nobody_asked_for_goes_to_the_only_host_there_is(play: Playbook) -> None:
    goes_out(play, ALICE, OUT_A)
    comes_to(play, ALICE, IN_A)
    comes_to(play, ALICE, IN_A + 1)


def test_what_may_be_two_hosts_goes_to_neither(play: Playbook) -> None:
    for host, sent, got in ((ALICE, OUT_A, IN_A), (BOB, OUT_B, IN_B)):
        goes_out(play, host, sent)
        comes_to(play, host, got)
    play >> comes(IN_C) << Refuse(back(IN_C), Reason.NO_CANDIDATE)


def test_stranger_is_let_in_to_nobody(play: Playbook) -> None:
    play >> comes(IN_A) << Refuse(back(IN_A), Reason.NO_CANDIDATE)
    play >> comes(discriminators.L2TPV3_UNASSIGNED)
    assert play.mappings == {}


def adopted(key: FlowKey, host: Host, at: float = 99_999.0) -> AdoptedFlow:
    return AdoptedFlow(key, (host,), FlowCount(key, 5, 500, at))


def test_adopted_flows_keep_their_owners(play: Playbook) -> None:
    flows = [adopted(out(ALICE, OUT_A), ALICE), adopted(back(IN_A), ALICE), adopted(out(BOB, OUT_B), BOB)]
    (play >> MappingsAdopted((*flows, adopted(back(IN_B), BOB)))).nothing()
    assert play.tracker.mapping_count == 4
    comes_to(play, ALICE, IN_A)
    (play >> sends(CAROL, OUT_C)).nothing()
    play.wait_until(play.now + LIMITS.l2tpv3_answer_s)
    assert play.mappings[out(CAROL, OUT_C)] == (CAROL,), "what was closed before may have been answered until then"
    comes_to(play, CAROL, IN_C)


def test_adopted_sessions_that_nobody_answered_ask_again_one_by_one(play: Playbook) -> None:
    play >> MappingsAdopted((adopted(out(ALICE, OUT_A), ALICE), adopted(out(BOB, OUT_B), BOB)))
    play >> comes(IN_A) << Refuse(back(IN_A), Reason.NO_CANDIDATE)
    play << RemoveMapping(out(ALICE, OUT_A)) << RemoveMapping(out(BOB, OUT_B))
    (play >> sends(ALICE, OUT_A)).nothing()
    (play >> sends(BOB, OUT_B)).nothing()
    play.wait_until(play.now + LIMITS.l2tpv3_answer_s)
    assert play.mappings == {out(ALICE, OUT_A): (ALICE,)}
    play >> comes(IN_A)
    assert play.mappings[back(IN_A)] == (ALICE,)
    assert play.mappings[out(BOB, OUT_B)] == (BOB,)


def counts(play: Playbook, at: float, *keys: FlowKey) -> CountersRead:
    return CountersRead(tuple(FlowCount(key, 1, 100, play.now if key in keys else at) for key in play.mappings))


def test_flows_of_a_silent_host_are_forgotten(play: Playbook) -> None:
    manage(play, ALICE, IN_A, OUT_A)
    began_at = play.now
    play.wait_until(began_at + LIMITS.l2tpv3_idle_s, lambda: counts(play, began_at))
    assert len(play.mappings) == 5
    play.wait_until(began_at + LIMITS.l2tpv3_idle_s + 2 * LIMITS.sweep_every_s, lambda: counts(play, began_at))
    assert play.mappings == {}
    assert play.tracker.mapping_count == 0
    assert list(play.tracker.tunnels()) == []


def test_quiet_session_is_kept_while_the_control_connection_speaks(play: Playbook) -> None:
    manage(play, ALICE, IN_A, OUT_A)
    began_at = play.now
    play >> says(ALICE, ICRQ, local=IN_A + 1)
    play >> says(ALICE, DISCONNECT, local=IN_A + 1)
    hello = out(ALICE, control(OUT_A))
    play.wait_until(began_at + 2 * LIMITS.l2tpv3_idle_s, lambda: counts(play, began_at, hello))
    assert back(IN_A) in play.mappings
    assert back(IN_A + 1) not in play.mappings, "this one has ended"


def test_what_anybody_can_forge_does_not_push_out_what_a_host_has_assigned() -> None:
    play = Playbook(Limits(spis_per_host_and_peer_max=4, uncredited_spis_per_peer_max=8))
    manage(play, ALICE, IN_A, OUT_A)
    for n in range(8):
        play.now += 1
        play >> comes(1000 + n)
        assert play.mappings[back(IN_A)] == (ALICE,)
    assert back(1007) in play.mappings
    for n in range(2):
        play >> says(ALICE, ICRQ, local=IN_B + n)
    play >> comes(2000) << Refuse(back(2000), Reason.REFUSED, "mappings.limit")


def test_nor_what_was_adopted_and_what_has_ended_makes_room_first() -> None:
    play = Playbook(Limits(spis_per_host_and_peer_max=3, uncredited_spis_per_peer_max=8))
    play >> MappingsAdopted((adopted(back(IN_A), ALICE),))
    play.now += LIMITS.l2tpv3_answer_s
    manage(play, ALICE, IN_B, OUT_A)
    play >> comes(2000) << Refuse(back(2000), Reason.REFUSED, "mappings.limit")
    play >> says(ALICE, DISCONNECT, local=IN_B)
    play >> comes(2001)
    assert [play.tracker.owner(back(name)) for name in (IN_A, IN_B, 2001)] == [ALICE, None, ALICE]


@pytest.mark.parametrize("attack", ["assigns", "sends", "comes"])
def test_flows_are_bounded(attack: str) -> None:
    limits = Limits(spis_per_host_and_peer_max=4, uncredited_spis_per_peer_max=3, mappings_max=64)
    play = Playbook(limits)
    goes_out(play, BOB, OUT_B)
    comes_to(play, BOB, IN_B)
    for n in range(100):
        host = ALICE if attack != "comes" else BOB
        id_ = 1000 + n
        events: dict[str, Event] = {
            "assigns": says(host, ICRQ, local=id_),
            "sends": sends(host, id_),
            "comes": comes(id_),
        }
        play >> events[attack]
        assert play.tracker.mapping_count == len(play.mappings) <= 10
    assert play.tracker.owner(back(IN_B)) == BOB, "others' share is their own"
