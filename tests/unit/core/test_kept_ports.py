"""Conversations from which is learned that a peer needs port 500 kept, and that it does not."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook
from throughway.core.commands import Command, KeepPort, Record, RememberPort, TranslatePort
from throughway.core.events import IkeExchange, IkeMessageSeen, L2tpControl, L2tpControlSeen, PortsRemembered
from throughway.core.ids import ROUTER, Host, Peer, UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.core.limits import Limits

ALICE, BOB, CAROL = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11, 12))
PEER, OTHER = (Peer(IPv4Address(f"203.0.113.{n}")) for n in (9, 10))
LIMITS = Limits()
IKE = UdpPort.IKE


def begins(host: Host, spi: int, host_port: int = 500, peer: Peer = PEER) -> IkeMessageSeen:
    """The first message of a negotiation, or a repetition of it."""
    return IkeMessageSeen(host, peer, spi, IkeExchange.INITIAL, 0, True, False, host_port=host_port, is_first=True)


def goes_on(host: Host, spi: int, *, from_host: bool = False, host_port: int = 500) -> IkeMessageSeen:
    """A message that answers another one."""
    return IkeMessageSeen(host, PEER, spi, IkeExchange.INITIAL, 0, from_host, False, host_port=host_port)


def answered(play: Playbook, host: Host, spi: int) -> None:
    play >> begins(host, spi)
    play.nothing()
    play >> goes_on(host, spi)
    play.nothing()


def unanswered(play: Playbook, host: Host, spi: int, gaps: tuple[float, ...] = (0, 1, 2)) -> list[Command]:
    """Let a host begin and repeat itself as vpnc does; return the last answer."""
    for gap in gaps:
        play.now += gap
        play >> begins(host, spi)
    return play.answer


def kept_for(host: Host, why: str) -> Record:
    return Record("port.kept", {"peer": str(PEER), "port": 500, "host": str(host), "why": why})


def translated(peer: Peer, why: str) -> Record:
    return Record("port.translated", {"peer": str(peer), "port": 500, "why": why})


def test_an_answer_that_comes_to_another_host_has_the_port_kept_at_once(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    play >> begins(BOB, 0xB)
    play >> goes_on(ALICE, 0xB) << KeepPort(PEER, IKE) << RememberPort(PEER, IKE)
    play << kept_for(BOB, "answered-to-standard-port")
    play.finish()
    assert play.tracker.ports_learned() == [(PEER, IKE)]
    play >> goes_on(ALICE, 0xB)
    play.nothing()


def test_silence_to_one_host_and_an_answer_to_another_one_begin_a_trial(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    assert KeepPort(PEER, IKE) in unanswered(play, BOB, 0xB)
    assert kept_for(BOB, "unanswered") in play.answer
    play.finish()
    play.now += 4
    play >> begins(BOB, 0xB)
    play.nothing()
    play >> goes_on(BOB, 0xB) << RememberPort(PEER, IKE)
    play.finish()
    assert play.kept == {(PEER, IKE)}


@pytest.mark.parametrize(("short_s", "begins_trial"), [(0.01, False), (0.0, True)])
def test_silence_counts_from_its_limit_on(play: Playbook, short_s: float, begins_trial: bool) -> None:
    answered(play, ALICE, 0xA)
    unanswered(play, BOB, 0xB, (0, 0.5, LIMITS.port_unanswered_s - 0.5 - short_s))
    assert (KeepPort(PEER, IKE) in play.answer) is begins_trial


def test_a_trial_that_helps_nobody_ends_and_is_not_repeated_for_an_hour(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    unanswered(play, BOB, 0xB)
    assert TranslatePort(PEER, IKE) in unanswered(play, BOB, 0xB, (4, 4, 4))
    assert translated(PEER, "unanswered-too") in play.answer
    assert play.kept == set()
    play.now += 60
    play >> goes_on(ALICE, 0xA)
    unanswered(play, BOB, 0xBB)
    assert play.kept == set()
    play.now += LIMITS.port_pause_s
    play >> goes_on(ALICE, 0xA)
    unanswered(play, BOB, 0xBBB)
    assert play.kept == {(PEER, IKE)}


def test_a_trial_ends_when_its_host_gives_up(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    unanswered(play, BOB, 0xB)
    play.wait_until(play.now + LIMITS.port_trial_s - 1)
    assert play.kept == {(PEER, IKE)}
    play.wait_until(play.now + LIMITS.sweep_every_s + 1)
    assert play.kept == set()


def test_the_answer_to_somebody_else_does_not_confirm_a_trial(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    unanswered(play, BOB, 0xB)
    play >> goes_on(ALICE, 0xA)
    play.nothing()
    play.wait_until(play.now + LIMITS.port_trial_s + LIMITS.sweep_every_s)
    assert play.kept == set()


def test_a_confirmed_port_stays_kept_whoever_is_unanswered(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    play >> begins(BOB, 0xB)
    play >> goes_on(ALICE, 0xB)
    unanswered(play, CAROL, 0xC, (0, 1, 2, 4, 8))
    assert play.kept == {(PEER, IKE)}


@pytest.mark.parametrize(
    ("gaps", "since_answer"),
    [((0, 5), 0), ((0, 0.5, 0.5), 0), ((0, 1, 2), LIMITS.udp_idle_s + 1)],
    ids=["too few", "too fast", "the other host's answer is long ago"],
)
def test_nothing_is_concluded_too_early(play: Playbook, gaps: tuple[float, ...], since_answer: float) -> None:
    answered(play, ALICE, 0xA)
    play.wait_until(play.now + since_answer)
    unanswered(play, BOB, 0xB, gaps)
    assert play.kept == set()


def test_a_peer_that_answers_nobody_is_down(play: Playbook) -> None:
    play >> begins(ALICE, 0xA)
    unanswered(play, BOB, 0xB, (0, 1, 2, 4, 8, 16))
    assert play.kept == set()


def test_what_a_host_goes_on_asking_is_no_sign_of_life_of_the_peer(play: Playbook) -> None:
    """The peer is down, and one host still asks after its IKE SA."""
    answered(play, ALICE, 0xA)
    play.wait_until(play.now + LIMITS.udp_idle_s + 1)
    play >> goes_on(ALICE, 0xA, from_host=True)
    unanswered(play, BOB, 0xB, (0, 1, 2, 4))
    assert play.kept == set()


def test_one_answer_ends_the_counting(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    unanswered(play, BOB, 0xB, (0, 4))
    play >> goes_on(BOB, 0xB)
    unanswered(play, BOB, 0xBB, (1, 4))
    assert play.kept == set()


def test_a_host_that_has_another_port_could_not_keep_it(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    for gap in (0, 1, 2, 4):
        play.now += gap
        play >> begins(BOB, 0xB, host_port=4711)
    play >> goes_on(ALICE, 0xB, host_port=4711)
    assert play.kept == set()


def test_the_routers_own_answers_are_known_by_what_it_sends(play: Playbook) -> None:
    play >> begins(ROUTER, 0xA) >> goes_on(ROUTER, 0xA, from_host=True)
    unanswered(play, BOB, 0xB)
    assert play.kept == {(PEER, IKE)}


def test_another_peer_stays_as_it_is(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    play >> begins(BOB, 0xB)
    play >> goes_on(ALICE, 0xB)
    play >> begins(CAROL, 0xC, peer=OTHER)
    assert play.kept == {(PEER, IKE)}


@pytest.mark.parametrize("setting", [PortSetting.KEEP, PortSetting.TRANSLATE])
def test_what_the_operator_has_settled_is_not_learned(setting: PortSetting) -> None:
    play = Playbook(ports={IKE: setting})
    play >> PortsRemembered(((PEER, IKE),))
    play.nothing()
    answered(play, ALICE, 0xA)
    play >> begins(BOB, 0xB) >> goes_on(ALICE, 0xB)
    unanswered(play, CAROL, 0xC)
    assert play.kept == set()


def test_what_an_earlier_run_learned_is_kept_from_the_start(play: Playbook) -> None:
    play >> PortsRemembered(((PEER, IKE), (OTHER, UdpPort.L2TP)))
    play << KeepPort(PEER, IKE) << KeepPort(OTHER, UdpPort.L2TP)
    play.finish()
    assert play.tracker.ports_learned() == [(PEER, IKE), (OTHER, UdpPort.L2TP)]


def test_above_the_bound_the_oldest_makes_room() -> None:
    play = Playbook(Limits(kept_ports_max=1))
    play >> PortsRemembered(((OTHER, IKE),))
    answered(play, ALICE, 0xA)
    play >> begins(BOB, 0xB)
    play >> goes_on(ALICE, 0xB) << TranslatePort(OTHER, IKE) << KeepPort(PEER, IKE) << RememberPort(PEER, IKE)
    play << translated(OTHER, "limit")
    play.finish()
    assert play.kept == {(PEER, IKE)}


def test_above_the_bound_what_an_earlier_run_learned_last_is_left_out() -> None:
    play = Playbook(Limits(kept_ports_max=1))
    play >> PortsRemembered(((PEER, IKE), (OTHER, IKE))) << KeepPort(PEER, IKE)
    play.finish()


def test_what_the_peer_begins_is_no_answer_to_somebody_else(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    answered(play, BOB, 0xB)
    (play >> goes_on(ALICE, 0xF)).nothing()
    assert play.kept == set()


def test_an_answer_to_another_host_while_trials_rest_is_not_heeded(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    unanswered(play, BOB, 0xB)
    unanswered(play, BOB, 0xB, (4, 4, 4))
    assert play.kept == set()
    (play >> goes_on(ALICE, 0xB)).nothing()
    assert play.kept == set()


def test_a_host_that_goes_on_was_answered_and_begins_to_count_anew(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    unanswered(play, BOB, 0xB, (0, 1))
    play >> goes_on(BOB, 0xB, from_host=True)
    unanswered(play, BOB, 0xBB, (1, 1))
    assert play.kept == set()
    unanswered(play, BOB, 0xBB, (1,))
    assert play.kept == {(PEER, IKE)}


def test_a_trial_for_the_router_ends_well_when_it_goes_on(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    unanswered(play, ROUTER, 0xB)
    assert play.kept == {(PEER, IKE)}
    play >> goes_on(ROUTER, 0xB, from_host=True) << RememberPort(PEER, IKE)
    play.finish()


def test_a_trial_that_ended_well_is_over(play: Playbook) -> None:
    """Neither its time nor another host without an answer ends what it has shown."""
    answered(play, ALICE, 0xA)
    unanswered(play, BOB, 0xB)
    play >> goes_on(BOB, 0xB)
    unanswered(play, CAROL, 0xC, (0, 1, 2, 4))
    assert play.kept == {(PEER, IKE)}
    play.wait_until(play.now + LIMITS.port_trial_s + 2 * LIMITS.sweep_every_s)
    assert play.kept == {(PEER, IKE)}


def test_a_port_that_is_translated_again_has_every_host_counted_anew() -> None:
    play = Playbook(Limits(kept_ports_max=1))
    play >> PortsRemembered(((PEER, IKE),))
    play >> begins(ALICE, 0xA) >> goes_on(ALICE, 0xA)
    unanswered(play, CAROL, 0xC, (0, 1))
    for host, spi in ((ALICE, 1), (BOB, 2)):
        play >> begins(host, spi, peer=OTHER)
    for spi in (1, 2):
        play >> IkeMessageSeen(ALICE, OTHER, spi, IkeExchange.INITIAL, 0, False, False, host_port=500)
    assert play.kept == {(OTHER, IKE)}
    unanswered(play, CAROL, 0xC, (2, 2))
    assert play.kept == {(OTHER, IKE)}, "only two since then"
    unanswered(play, CAROL, 0xC, (2,))
    assert play.kept == {(PEER, IKE)}


def test_an_answer_is_remembered_beyond_the_next_look_for_idle_hosts(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    play.wait_until(play.now + 2 * LIMITS.sweep_every_s)
    unanswered(play, BOB, 0xB)
    assert play.kept == {(PEER, IKE)}


def says_l2tp(host: Host, tunnel_id: int) -> L2tpControlSeen:
    """A host's SCCRQ: it is sent to the tunnel ID 0 and assigns its own."""
    message = L2tpControl(0, message_type=1, assigned_connection_id=tunnel_id, version=2)
    return L2tpControlSeen(host, PEER, True, message, port=UdpPort.L2TP, host_port=UdpPort.L2TP)


def hears_l2tp(host: Host, tunnel_id: int) -> L2tpControlSeen:
    message = L2tpControl(tunnel_id, message_type=2, assigned_connection_id=77, version=2)
    return L2tpControlSeen(host, PEER, False, message, port=UdpPort.L2TP, host_port=UdpPort.L2TP)


def test_l2tp_is_learned_in_the_same_way_and_apart(play: Playbook) -> None:
    play >> says_l2tp(ALICE, 1) >> hears_l2tp(ALICE, 1) >> says_l2tp(BOB, 2)
    assert play.mappings == {}
    play >> hears_l2tp(ALICE, 2)
    assert play.kept == {(PEER, UdpPort.L2TP)}


def test_equal_tunnel_ids_are_no_answer_to_somebody_else(play: Playbook) -> None:
    """Two hosts may both begin with 1, and each is answered by its own."""
    play >> says_l2tp(ALICE, 1) >> hears_l2tp(ALICE, 1) >> says_l2tp(BOB, 1) >> hears_l2tp(ALICE, 1)
    assert play.kept == set()
