"""Facts from reports of IKE, and from a gateway that has no room."""

import struct

import pytest

from tests.unit.service.desk import ALICE, PEER, Desk
from throughway.core.commands import InstallMapping, Refuse
from throughway.core.events import IkeExchange
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import IpProtocol, UdpPort
from throughway.core.ports import AhObserved, IkeObserved
from throughway.core.reasons import Reason
from throughway.sessions.facts import Admitted, Detected, FlowName, Negotiated, Refused


def ike(*, floated: bool = False, from_device: bool = True, exchange: int = 34, size: int = 300) -> IkeObserved:
    flags = 0x08 if from_device else 0x20
    message = struct.pack("!QQBBBBII", 0xA1, 0, 33, 0x20, exchange, flags, 0, size)
    direction = Direction.TO_PEER if from_device else Direction.TO_INSIDE
    return IkeObserved(ALICE, PEER, direction, floated, message, host_port=1024)


@pytest.mark.parametrize(
    ("floated", "name", "port", "words"),
    [(False, "ike", 500, "UDP 500"), (True, "ike-natt", 4500, "behind the non-ESP marker, UDP 4500")],
)
def test_ike_is_known_by_its_first_message_and_told_once(floated: bool, name: str, port: int, words: str) -> None:
    desk = Desk().report(ike(floated=floated), ike(floated=floated, from_device=False))
    detected, asked, answered = desk.facts
    flow = FlowName(ALICE, PEER, IpProtocol.UDP, 1024, port)
    assert isinstance(detected, Detected)
    assert (detected.flow, detected.protocol, detected.family) == (flow, name, "ipsec")
    assert detected.evidence == f"IKEv2 IKE_SA_INIT request, initiator SPI 00000000000000a1, {words}"
    assert asked == Negotiated(ALICE, PEER, 0xA1, IkeExchange.INITIAL, 0, True, 300, flow)
    assert isinstance(answered, Negotiated)
    assert not answered.from_device


def test_messages_of_ike_on_the_port_of_esp_are_no_data() -> None:
    desk = Desk().report(ike(floated=True), ike(floated=True, from_device=False))
    (entry,) = desk.book.register.entries()
    (flow,) = entry.session.flows.values()
    assert (flow.control_to_peer, flow.control_to_inside) == (1, 1)


def test_what_is_no_ike_tells_nothing() -> None:
    broken = IkeObserved(ALICE, PEER, Direction.TO_PEER, False, bytes(28))
    assert Desk().report(broken, AhObserved(ALICE, PEER)).facts == []


def test_full_table_is_said_to_the_device_and_taken_back_when_there_is_room() -> None:
    desk = Desk()
    key = FlowKey.to_peer(IpProtocol.ESP, ALICE, PEER, 0x1001)
    desk.book.on_command(Refuse(key, Reason.REFUSED, "mappings.limit"))
    (refused,) = desk.facts
    assert isinstance(refused, Refused)
    (row,) = desk.rows()
    assert row.diagnosis is not None
    assert row.diagnosis.code == "refused"
    assert row.diagnosis.remedy.startswith("The gateway's table of tunnels is full.")
    desk.book.on_command(InstallMapping(key, ALICE))
    assert isinstance(desk.facts[1], Admitted)
    (row,) = desk.rows()
    assert (row.diagnosis, row.step) == (None, "detected")


def test_refusal_that_passes_by_itself_is_not_told() -> None:
    desk = Desk()
    key = FlowKey.to_peer(IpProtocol.L2TPV3, ALICE, PEER, 7)
    desk.book.on_command(Refuse(key, Reason.REFUSED, "answer.awaited"))
    assert desk.facts == []


@pytest.mark.parametrize(
    ("port", "discriminator", "name", "words"),
    [
        (UdpPort.IKE, 0xA1, "ike", "IKE, 0x00000000000000a1, UDP 500 at both ends"),
        (UdpPort.L2TP, 3 << 32 | 7, "l2tpv2", "L2TP, tunnel 7, UDP 1701 at both ends"),
        (UdpPort.L2TP, 1 << 32 | 7, "l2tpv3-udp", "l2tpv3-udp, control 0x00000007, UDP 1701 at both ends"),
    ],
)
def test_kept_ports_are_named_by_what_tells_their_tunnels_apart(
    port: UdpPort, discriminator: int, name: str, words: str
) -> None:
    desk = Desk()
    desk.book.on_command(InstallMapping(FlowKey.to_peer(IpProtocol.UDP, ALICE, PEER, discriminator, port), ALICE))
    (fact,) = desk.facts
    assert isinstance(fact, Detected)
    assert (fact.protocol, fact.evidence) == (name, words)
    assert fact.flow == FlowName(ALICE, PEER, IpProtocol.UDP, port, port)
