"""Conversations about L2TP whose port is kept: control messages assign IDs in clear, over UDP as over IP."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook
from throughway.core import discriminators
from throughway.core.commands import InstallMapping, Record, Refuse, Reinject
from throughway.core.events import (
    L2tpControl,
    L2tpControlSeen,
    PortlessFromInside,
    PortlessUnclaimed,
    PortsRemembered,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.core.reasons import Reason

ALICE, BOB = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11))
PEER = Peer(IPv4Address("203.0.113.9"))
PATH = Path(PEER, 0)
UDP, PORT = IpProtocol.UDP, UdpPort.L2TP
NAMES = {2: discriminators.of_l2tpv2, 3: discriminators.of_l2tpv3_control}
each_version = pytest.mark.parametrize("version", [2, 3])


@pytest.fixture
def play() -> Playbook:
    """A gateway that keeps port 1701 with every peer."""
    return Playbook(ports={PORT: PortSetting.KEEP})


def out(host: Host, name: int) -> FlowKey:
    return FlowKey.to_peer(UDP, host, PEER, name, PORT)


def back(name: int) -> FlowKey:
    return FlowKey.to_inside(UDP, PATH, name, PORT)


def control(
    host: Host, version: int, to_id: int, kind: int, assigned: int | None, *, from_host: bool = True
) -> L2tpControlSeen:
    message = L2tpControl(to_id, message_type=kind, assigned_connection_id=assigned, version=version)
    return L2tpControlSeen(host, PEER, from_host, message, port=PORT, host_port=PORT)


@each_version
def test_what_a_host_assigns_is_its_own_before_the_answer_comes(play: Playbook, version: int) -> None:
    name = NAMES[version]
    play >> control(ALICE, version, 0, 1, 5) << InstallMapping(back(name(5)), ALICE)
    first = out(ALICE, name(0))
    play >> PortlessFromInside(ALICE, PEER, UDP, name(0), port=PORT) << InstallMapping(first, ALICE) << Reinject(first)
    play >> control(ALICE, version, 5, 2, 9, from_host=False)
    then = out(ALICE, name(9))
    play >> PortlessFromInside(ALICE, PEER, UDP, name(9), port=PORT) << InstallMapping(then, ALICE) << Reinject(then)
    play.finish()
    assert play.tracker.owner(back(name(5))) == ALICE
    (row,) = play.tracker.tunnels()
    assert (row.host, row.protocol, row.port) == (ALICE, UDP, PORT)


@each_version
def test_an_id_that_another_host_has_is_refused(play: Playbook, version: int) -> None:
    play >> control(ALICE, version, 0, 1, 5)
    play >> control(BOB, version, 0, 1, 5) << Record("flow.taken")
    assert play.tracker.owner(back(NAMES[version](5))) == ALICE
    (refusal,) = play.tracker.refusals()
    assert (refusal.host, refusal.port, refusal.reason) == (BOB, PORT, Reason.DISCRIMINATOR_TAKEN)


def test_both_versions_and_both_carriers_are_apart(play: Playbook) -> None:
    play >> control(ALICE, 2, 0, 1, 5) >> control(BOB, 3, 0, 1, 5)
    over_ip = L2tpControl(0, message_type=1, assigned_connection_id=5)
    play >> L2tpControlSeen(BOB, PEER, True, over_ip)
    assert len(play.mappings) == 3
    assert play.tracker.refusals() == []


def test_a_peer_that_begins_reaches_the_only_host_and_is_refused_where_there_are_two(play: Playbook) -> None:
    nobody = discriminators.of_l2tpv2(0)
    play >> PortlessUnclaimed(PATH, UDP, nobody, PORT) << Refuse(back(nobody), Reason.NO_CANDIDATE)
    play >> control(ALICE, 2, 0, 1, 5)
    play >> control(BOB, 2, 0, 1, 6)
    play >> PortlessUnclaimed(PATH, UDP, nobody, PORT) << Refuse(back(nobody), Reason.NO_CANDIDATE)


def test_what_a_host_assigned_before_its_port_was_kept_goes_on() -> None:
    play = Playbook()
    play >> control(ALICE, 2, 0, 1, 5)
    assert play.mappings == {}
    play >> PortsRemembered(((PEER, PORT),))
    name = discriminators.of_l2tpv2(5)
    play >> PortlessUnclaimed(PATH, UDP, name, PORT) << InstallMapping(back(name), ALICE) << Reinject(back(name))


def test_a_host_that_sends_from_another_port_is_the_kernels(play: Playbook) -> None:
    message = L2tpControl(0, message_type=1, assigned_connection_id=5, version=2)
    play >> L2tpControlSeen(ALICE, PEER, True, message, port=PORT, host_port=4711)
    play.nothing()
