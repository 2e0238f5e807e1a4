"""Conversations about L2TP over IP and over UDP: what a control message explains, and who waits for whom."""

from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook
from throughway.core import discriminators
from throughway.core.commands import InstallMapping, KeepPort, Record, Refuse, Reinject, RemoveMapping
from throughway.core.events import (
    AdoptedFlow,
    CountersRead,
    EspFromInside,
    Event,
    FlowCount,
    L2tpControl,
    L2tpControlSeen,
    MappingsAdopted,
    OutsideAddressesChanged,
    PortlessFromInside,
    PortlessUnclaimed,
    PortsRemembered,
    TimerExpired,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, Path, Peer, Spi, UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.core.tunnels import Refusal, Tunnels

ALICE, BOB, CAROL = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11, 12))
PEER, OTHER = (Peer(IPv4Address(f"203.0.113.{n}")) for n in (9, 10))
OUT_A, OUT_B, OUT_C, IN_A, IN_B, IN_C = 0xA1, 0xB1, 0xC1, 0xA2, 0xB2, 0xC2
SCCRQ, ICRQ, DISCONNECT = 1, 10, 14
LIMITS = Limits()
control = discriminators.of_l2tpv3_control


@dataclass(frozen=True)
class Carrier:
    """L2TPv3 as it is carried: its IP protocol, and its port over UDP."""

    protocol: int
    port: int

    def play(self, limits: Limits = LIMITS) -> Playbook:
        """A gateway that keeps port 1701 with every peer."""
        return Playbook(limits, {UdpPort.L2TP: PortSetting.KEEP})

    def out(self, host: Host, name: int, peer: Peer = PEER) -> FlowKey:
        return FlowKey.to_peer(self.protocol, host, peer, name, self.port)

    def back(self, name: int, slot: int = 0) -> FlowKey:
        return FlowKey.to_inside(self.protocol, Path(PEER, slot), name, self.port)

    def sends(self, host: Host, name: int, peer: Peer = PEER) -> PortlessFromInside:
        return PortlessFromInside(host, peer, self.protocol, name, port=self.port)

    def comes(self, name: int, slot: int = 0) -> PortlessUnclaimed:
        return PortlessUnclaimed(Path(PEER, slot), self.protocol, name, self.port)

    def says(self, host: Host, kind: int, *, from_host: bool = True, **ids: int) -> L2tpControlSeen:
        named: dict[str, int] = {"control_connection_id": 0, **ids}
        return L2tpControlSeen(
            host, PEER, from_host, L2tpControl(message_type=kind, **named), port=self.port, host_port=self.port
        )


@pytest.fixture(params=[Carrier(115, 0), Carrier(17, UdpPort.L2TP)], ids=["IP", "UDP"])
def over(request: pytest.FixtureRequest) -> Carrier:
    carrier = request.param
    assert isinstance(carrier, Carrier)
    return carrier


def tell(play: Playbook, *events: Event) -> None:
    for event in events:
        play >> event


def counters(at: float, *keys: FlowKey) -> CountersRead:
    return CountersRead(tuple(FlowCount(key, 2, 200, at) for key in keys))


# What a control message explains


def test_a_host_with_a_control_connection_waits_for_none_of_that_kind(over: Carrier) -> None:
    """Its sessions that nobody announced still do."""
    play = over.play()
    tell(play, over.sends(ALICE, OUT_A), over.says(BOB, SCCRQ, assigned_connection_id=IN_B))
    key = over.out(BOB, control(OUT_B))
    play >> over.sends(BOB, control(OUT_B)) << InstallMapping(key, BOB) << Reinject(key)
    (play >> over.sends(BOB, OUT_B)).nothing()


def test_a_host_with_a_session_waits_with_its_control_connection(over: Carrier) -> None:
    play = over.play()
    tell(play, over.sends(ALICE, OUT_A), over.says(BOB, ICRQ, local_session_id=IN_B))
    (play >> over.sends(BOB, control(OUT_B))).nothing()


@pytest.mark.parametrize("from_host", [True, False], ids=["host", "peer"])
def test_an_announcement_after_the_first_packet_lets_the_next_host_go(over: Carrier, from_host: bool) -> None:
    """Whether the peer assigned the ID, or the host names it in its answer."""
    play = over.play()
    tell(play, over.sends(ALICE, OUT_A), over.sends(BOB, OUT_B))
    assert over.out(BOB, OUT_B) not in play.mappings
    ids = {"remote_session_id": OUT_A} if from_host else {"local_session_id": OUT_A}
    play >> over.says(ALICE, ICRQ, from_host=from_host, **ids)
    play << InstallMapping(key := over.out(BOB, OUT_B), BOB) << Reinject(key)
    play.finish()


def test_a_session_that_a_host_assigned_is_no_answer_to_another_one_of_it(over: Carrier) -> None:
    play = over.play()
    tell(play, over.says(ALICE, ICRQ, local_session_id=IN_A), over.sends(ALICE, OUT_A))
    (play >> over.sends(BOB, OUT_B)).nothing()
    tell(play, over.comes(IN_C))
    assert play.tracker.owner(over.back(IN_C)) == ALICE
    assert over.out(BOB, OUT_B) in play.mappings


def test_an_answered_control_connection_is_no_answer_to_a_session(over: Carrier) -> None:
    play = over.play()
    tell(play, over.sends(ALICE, control(OUT_A)), over.comes(control(IN_A)), over.sends(ALICE, OUT_A))
    (play >> over.sends(BOB, OUT_B)).nothing()


def test_the_latest_announcements_are_remembered(over: Carrier) -> None:
    play = over.play(Limits(spis_per_host_and_peer_max=2))
    for name in (1, 2, 1, 3):
        tell(play, over.says(BOB, ICRQ, from_host=False, local_session_id=name))
    tell(play, over.sends(ALICE, OUT_A))
    for name in (1, 3):
        play >> over.sends(BOB, name) << InstallMapping(key := over.out(BOB, name), BOB) << Reinject(key)
    (play >> over.sends(BOB, 2)).nothing()


# What people see


def test_people_see_what_is_sent_what_comes_and_what_waits(over: Carrier) -> None:
    play = over.play()
    began_at = play.now
    tell(play, over.sends(ALICE, OUT_A), over.sends(BOB, OUT_B))
    play.now += 0.5
    tell(play, over.says(BOB, ICRQ, local_session_id=IN_B), over.says(CAROL, ICRQ, local_session_id=IN_C))
    seen = {"contested": (), "rivals": 1, "port": over.port}
    assert list(play.tracker.tunnels()) == [
        Tunnels(ALICE, PEER, over.protocol, (OUT_A,), (), first_at=began_at, **seen),  # type: ignore[arg-type]
        Tunnels(BOB, PEER, over.protocol, (OUT_B,), (IN_B,), first_at=began_at, **seen),  # type: ignore[arg-type]
        Tunnels(CAROL, PEER, over.protocol, (), (IN_C,), first_at=play.now, **seen),  # type: ignore[arg-type]
    ]


def test_what_is_installed_and_what_is_taken_are_told_in_words(over: Carrier) -> None:
    play = over.play()
    named: dict[str, object] = {
        "protocol": "l2tp" if over.port else "l2tpv3",
        "peer": str(PEER),
        "discriminator": "0x000000a2",
    }
    tell(play, over.says(ALICE, ICRQ, local_session_id=IN_A))
    assert Record("flow.installed", {**named, "host": str(ALICE), "basis": "assigned"}) in play.answer
    tell(play, over.says(BOB, ICRQ, local_session_id=IN_A))
    assert Record("flow.taken", {**named, "host": str(BOB), "owner": str(ALICE)}) in play.answer
    assert play.tracker.refusals() == [
        Refusal(BOB, PEER, over.protocol, IN_A, Reason.DISCRIMINATOR_TAKEN, ALICE, play.now, play.now, over.port)
    ]
    tell(play, over.says(BOB, ICRQ, local_session_id=IN_A))
    assert not any(isinstance(command, Record) for command in play.answer), "it is told once"
    tell(play, over.says(ALICE, DISCONNECT, local_session_id=IN_A))
    play.now += LIMITS.l2tpv3_answer_s + LIMITS.counters_every_s + 0.1
    tell(play, over.says(BOB, ICRQ, local_session_id=IN_A))
    assert play.tracker.refusals() == []
    assert play.tracker.owner(over.back(IN_A)) == BOB


# Turns


def test_who_waits_is_let_out_or_refused_in_time(over: Carrier) -> None:
    play = over.play()
    tell(play, over.sends(ALICE, OUT_A))
    play.now += 0.5
    tell(play, over.sends(BOB, OUT_B), over.sends(CAROL, OUT_C))
    answers = play.answers_until(play.now + LIMITS.l2tpv3_wait_s)
    assert RemoveMapping(over.out(ALICE, OUT_A)) in answers
    assert InstallMapping(over.out(BOB, OUT_B), BOB) in answers
    assert Refuse(over.out(CAROL, OUT_C), Reason.REFUSED, "answer.awaited") in answers
    assert RemoveMapping(over.out(BOB, OUT_B)) in answers, "Carol still waited then"
    assert play.mappings == {}
    assert play.tracker.mapping_count == 0


def test_who_waits_shortly_when_a_turn_ends_goes_on_waiting(over: Carrier) -> None:
    play = over.play()
    tell(play, over.sends(ALICE, OUT_A), over.sends(BOB, OUT_B))
    play.wait_until(play.now + LIMITS.l2tpv3_turn_s + LIMITS.l2tpv3_answer_s - 0.1)
    tell(play, over.sends(CAROL, OUT_C))
    answers = play.answers_until(play.now + 0.1)
    assert InstallMapping(over.out(BOB, OUT_B), BOB) in answers
    assert not any(isinstance(command, Refuse) for command in answers)
    tell(play, over.comes(IN_B))
    assert over.out(CAROL, OUT_C) in play.mappings


def test_what_waits_is_bounded(over: Carrier) -> None:
    play = over.play(Limits(spis_per_host_and_peer_max=2))
    tell(play, over.sends(ALICE, OUT_A), over.sends(BOB, 1), over.sends(BOB, 2))
    play >> over.sends(BOB, 3) << Refuse(over.out(BOB, 3), Reason.REFUSED, "mappings.limit")
    play.finish()


def test_the_least_recently_used_flow_of_a_host_makes_room_each_way(over: Carrier) -> None:
    play = over.play(Limits(spis_per_host_and_peer_max=2))
    for number in (1, 2):
        play.now += 1
        tell(play, over.sends(ALICE, 0x10 + number), over.comes(0x20 + number))
    play.now += 1
    tell(play, counters(play.now, over.out(ALICE, 0x11), over.back(0x21)))
    tell(play, over.sends(ALICE, 0x13), over.comes(0x23))
    assert set(play.mappings) == {over.out(ALICE, n) for n in (0x11, 0x13)} | {over.back(n) for n in (0x21, 0x23)}
    assert play.tracker.mapping_count == 4


@pytest.mark.parametrize(
    ("limits", "cause"), [({"mappings_max": 2}, "mappings.limit"), ({"hosts_per_peer_max": 1}, "hosts.limit")], ids=str
)
def test_what_does_not_fit_is_refused_with_its_cause(over: Carrier, limits: dict[str, int], cause: str) -> None:
    play = over.play(Limits(**limits))
    tell(play, over.sends(ALICE, OUT_A), over.comes(IN_A))
    if cause == "mappings.limit":
        play >> over.comes(IN_C) << Refuse(over.back(IN_C), Reason.REFUSED, cause)
    play >> over.sends(BOB, OUT_B) << Refuse(over.out(BOB, OUT_B), Reason.REFUSED, cause)
    (play >> over.says(BOB, ICRQ, local_session_id=IN_B)).nothing()
    assert play.tracker.mapping_count == len(play.mappings) == 2


def test_one_peer_has_a_bounded_number_of_flows_to_the_last_one(over: Carrier) -> None:
    play = over.play(Limits(spis_per_peer_max=2))
    for host, name in ((ALICE, IN_A), (BOB, IN_B), (CAROL, IN_C)):
        tell(play, over.says(host, ICRQ, local_session_id=name))
    assert set(play.mappings) == {over.back(IN_A), over.back(IN_B)}


def test_what_comes_to_a_crowd_or_to_nobody_is_refused_with_its_cause(over: Carrier) -> None:
    play = over.play()
    play >> over.comes(IN_A) << Refuse(over.back(IN_A), Reason.NO_CANDIDATE, "peer.unknown")
    tell(play, over.says(ALICE, ICRQ, local_session_id=IN_A), over.says(BOB, ICRQ, local_session_id=IN_B))
    play >> over.comes(IN_C) << Refuse(over.back(IN_C), Reason.NO_CANDIDATE, "owner.ambiguous")
    play.finish()
    unassigned = discriminators.L2TPV3_UNASSIGNED
    play >> over.comes(unassigned) << Refuse(over.back(unassigned), Reason.NO_CANDIDATE, "owner.ambiguous")
    play.finish()


def test_a_peer_that_begins_reaches_the_only_host_there_is(over: Carrier) -> None:
    play = over.play()
    tell(play, over.says(ALICE, ICRQ, local_session_id=IN_A))
    key = over.back(discriminators.L2TPV3_UNASSIGNED)
    play >> over.comes(discriminators.L2TPV3_UNASSIGNED) << InstallMapping(key, ALICE) << Reinject(key)
    play.finish()


# Forgetting


def test_all_of_a_host_and_a_peer_goes_when_another_peer_needs_room(over: Carrier) -> None:
    """Who waits is let out, and what the forgotten host waited with is refused."""
    play = over.play(Limits(peers_per_host_max=1))
    tell(play, over.says(ALICE, ICRQ, local_session_id=IN_A), over.sends(ALICE, OUT_A), over.sends(BOB, OUT_B))
    play.now += 1
    play >> EspFromInside(ALICE, OTHER, Spi(0x1000), 1)
    play << RemoveMapping(over.back(IN_A)) << RemoveMapping(over.out(ALICE, OUT_A))
    play << InstallMapping(key := FlowKey.to_peer(50, ALICE, OTHER, 0x1000), ALICE) << Reinject(key)
    play.finish()
    play >> over.comes(IN_C) << Refuse(over.back(IN_C), Reason.NO_CANDIDATE, "owner.ambiguous")
    play.wait_until(play.now + LIMITS.l2tpv3_answer_s)
    assert play.mappings[over.out(BOB, OUT_B)] == (BOB,), "nobody can have answered Alice any more"
    assert play.tracker.mapping_count == len(play.mappings) == 2
    tell(play, over.sends(CAROL, OUT_C))
    play >> EspFromInside(CAROL, OTHER, Spi(0x1000), 1)
    play << Refuse(over.out(CAROL, OUT_C), Reason.REFUSED, "peers.limit")
    play << InstallMapping(key := FlowKey.to_peer(50, CAROL, OTHER, 0x1000), CAROL) << Reinject(key)
    play.finish()
    assert [row.host for row in play.tracker.tunnels() if row.peer == PEER] == [BOB]


def test_counters_keep_a_host_and_its_peer(over: Carrier) -> None:
    play = over.play(Limits(peers_per_host_max=2))
    tell(play, over.sends(ALICE, OUT_A))
    play.now += 1
    tell(play, over.sends(ALICE, OUT_A, OTHER))
    play.now += 1
    tell(play, counters(play.now, over.out(ALICE, OUT_A)))
    tell(play, EspFromInside(ALICE, Peer(IPv4Address("203.0.113.11")), Spi(0x1000), 1))
    assert over.out(ALICE, OUT_A) in play.mappings
    assert over.out(ALICE, OUT_A, OTHER) not in play.mappings


def test_idle_flows_of_a_silent_host_are_forgotten_and_those_in_use_are_not(over: Carrier) -> None:
    play = over.play()
    idle_s = LIMITS.kept_port_idle_s if over.port else LIMITS.l2tpv3_idle_s
    tell(play, over.sends(ALICE, OUT_A), over.comes(IN_A), over.says(BOB, ICRQ, local_session_id=IN_B))
    play.now += idle_s - 1
    tell(play, counters(play.now, over.back(IN_A)))
    play.now += LIMITS.sweep_every_s
    tell(play, TimerExpired())
    assert set(play.mappings) == {over.back(IN_A)}
    play.now += idle_s
    tell(play, TimerExpired())
    assert play.mappings == {}
    assert play.tracker.mapping_count == 0
    assert list(play.tracker.tunnels()) == []
    assert play.tracker.addresses.hosts_at(Path(PEER)) == []


# Restart


def adopted(key: FlowKey, *hosts: Host, slot: int = 0) -> AdoptedFlow:
    return AdoptedFlow(key, hosts, FlowCount(key, 5, 500, 99_999.0), slot)


def test_a_host_whose_answer_may_be_under_way_has_the_turn_after_a_restart(over: Carrier) -> None:
    play = over.play()
    tell(play, MappingsAdopted((adopted(over.out(ALICE, OUT_A), ALICE), adopted(over.back(IN_B), BOB))))
    (play >> over.sends(CAROL, OUT_C)).nothing()
    tell(play, over.comes(IN_A))
    assert play.tracker.owner(over.back(IN_A)) == ALICE
    play.wait_until(play.now + LIMITS.l2tpv3_answer_s)
    assert over.out(CAROL, OUT_C) in play.mappings


def test_adopted_control_messages_to_nobody_wait_for_nothing(over: Carrier) -> None:
    play = over.play()
    tell(play, MappingsAdopted((adopted(over.out(ALICE, discriminators.L2TPV3_UNASSIGNED), ALICE),)))
    play.now += LIMITS.l2tpv3_answer_s
    play >> over.sends(BOB, OUT_B) << InstallMapping(key := over.out(BOB, OUT_B), BOB) << Reinject(key)
    play.finish()


def test_an_adopted_flow_of_two_hosts_is_removed_and_one_of_a_host_is_adopted_once(over: Carrier) -> None:
    """Nothing of this is ever fanned out."""
    play = over.play()
    both, own = adopted(over.back(IN_C), ALICE, BOB), adopted(over.back(IN_A), ALICE)
    sent = adopted(over.out(ALICE, OUT_A), ALICE)
    play >> MappingsAdopted((both, own, sent)) << RemoveMapping(over.back(IN_C))
    play.finish()
    tell(play, MappingsAdopted((own, sent)))
    assert play.tracker.mapping_count == 2
    play.now += LIMITS.kept_port_idle_s + LIMITS.sweep_every_s
    play >> TimerExpired() << RemoveMapping(over.back(IN_A)) << RemoveMapping(over.out(ALICE, OUT_A))
    assert play.tracker.mapping_count == 0


# Port 1701, where it is learned


UDP = Carrier(17, UdpPort.L2TP)


def test_silence_to_one_host_has_the_port_kept_on_trial() -> None:
    play = Playbook()
    tell(play, UDP.says(ALICE, SCCRQ, assigned_connection_id=1))
    tell(play, UDP.says(ALICE, 2, from_host=False, control_connection_id=1, assigned_connection_id=9))
    for gap in (0, 1, 2):
        play.now += gap
        tell(play, UDP.says(BOB, SCCRQ, assigned_connection_id=2))
    assert KeepPort(PEER, UdpPort.L2TP) in play.answer


def test_what_a_host_said_while_the_port_was_translated_is_its_own_by_its_address() -> None:
    """And what it assigns from then on is given to it at once."""
    play = Playbook()
    tell(play, OutsideAddressesChanged((), (IPv4Address("192.0.2.2"), IPv4Address("192.0.2.3")), (0, 1)))
    for slot, host in enumerate((ALICE, BOB, ROUTER)):
        said = UDP.says(host, SCCRQ, assigned_connection_id=5 + slot)
        tell(play, said if host != ROUTER else L2tpControlSeen(ROUTER, PEER, True, said.message, 1, 1701, 1701))
    assert play.mappings == {}
    tell(play, PortsRemembered(((PEER, UdpPort.L2TP),)))
    for slot, host, name in ((0, ALICE, 5), (1, BOB, 6), (1, ROUTER, 7)):
        key = UDP.back(control(name), slot)
        for _ in range(2):
            play >> UDP.comes(control(name), slot) << InstallMapping(key, host) << Reinject(key)
            play.finish()
    assert play.tracker.mapping_count == 3
    play >> UDP.says(ALICE, SCCRQ, assigned_connection_id=8) << InstallMapping(UDP.back(control(8)), ALICE)
    play.finish()
