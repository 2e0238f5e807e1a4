"""Conversations from which is learned that a peer needs port 500 kept, and that it does not."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook
from throughway.core.commands import Command, KeepPort, RememberPort, TranslatePort
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


def test_an_answer_that_comes_to_another_host_has_the_port_kept_at_once(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    play >> begins(BOB, 0xB)
    play >> goes_on(ALICE, 0xB) << KeepPort(PEER, IKE) << RememberPort(PEER, IKE)
    play.finish()
    assert play.tracker.ports_learned() == [(PEER, IKE)]
    play >> goes_on(ALICE, 0xB)
    play.nothing()


def test_silence_to_one_host_and_an_answer_to_another_one_begin_a_trial(play: Playbook) -> None:
    answered(play, ALICE, 0xA)
    assert KeepPort(PEER, IKE) in unanswered(play, BOB, 0xB)
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
    play.finish()
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
