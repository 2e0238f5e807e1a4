"""What the daemon learns from packets that pass: control messages of L2TPv3, and AH that is refused."""

import struct
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP
from scapy.packet import Packet, Raw

from throughway.core.flows import Direction
from throughway.core.reasons import Reason
from throughway.dataplane import abi
from throughway.dataplane.abi import ObservedKind, PuntKind

from .gateway import (
    ALICE,
    BOB,
    NEXT_HOP,
    OUTSIDE,
    PASS,
    PEER,
    REINJECTED,
    ROUTER,
    STRANGER,
    THEIRS,
    Gateway,
    cut,
    l2tp,
    l2tp_control,
    other,
    record_route,
    to_inside,
)

_AVPS = struct.pack("!HHHH", 0x8008, 0, 0, 1) + struct.pack("!HHHI", 0x800A, 0, 61, 0xABCD)
"""Message type SCCRQ, and the assigned control connection ID (RFC 3931 sections 5.4.1, 5.4.3)."""


@pytest.mark.parametrize(
    ("program", "source", "destination", "direction"),
    [
        ("inside_ingress", ALICE, STRANGER, Direction.TO_PEER),
        ("inside_egress", STRANGER, ALICE, Direction.TO_INSIDE),
    ],
)
def test_control_messages_are_observed_and_pass(
    gateway: Gateway, program: str, source: str, destination: str, direction: Direction
) -> None:
    packet = l2tp_control(source, destination, 5, _AVPS, options=record_route(2))
    out = gateway.run(program, packet, mark=THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, bytes(packet), THEIRS)
    (seen,) = gateway.observed()
    assert (seen.kind, seen.protocol, seen.direction) == (ObservedKind.CONTROL, 115, direction)
    assert (str(seen.host), str(seen.peer)) == (ALICE, STRANGER)
    assert seen.message == bytes(packet)[20 + 12 + 4 :], "from the control header on"
    assert seen.size == len(seen.message)
    assert gateway.knows_peer(STRANGER) is (direction is Direction.TO_PEER)


@pytest.mark.parametrize("size", [0, 1, 499, 500, 501, 1400])
def test_512_bytes_of_a_message_are_told(gateway: Gateway, size: int) -> None:
    packet = l2tp_control(ALICE, PEER, avps=bytes(at & 0xFF for at in range(size)))
    gateway.run("inside_ingress", bytes(packet) + bytes(30))
    (seen,) = gateway.observed()
    assert seen.message == bytes(packet)[24:][: abi.CONTROL_MESSAGE_MAX]
    assert seen.size == 12 + size


def test_of_a_fragmented_message_the_first_fragment_is_told(gateway: Gateway) -> None:
    pieces = cut(l2tp_control(ALICE, PEER, 3, bytes(1500)))
    for piece in reversed(pieces):
        gateway.run("inside_ingress", piece)
    (seen,) = gateway.observed()
    assert seen.message == bytes(pieces[0])[24:][: abi.CONTROL_MESSAGE_MAX]
    assert seen.size == len(pieces[0]) - 24


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(l2tp(ALICE, STRANGER, 7), id="data"),
        pytest.param(IP(src=ALICE, dst=STRANGER, proto=115) / Raw(bytes(11)), id="half a control header"),
        pytest.param(other(ALICE, STRANGER, 47), id="GRE"),
        pytest.param(bytes(l2tp_control(ALICE, STRANGER))[:-1], id="cut off"),
    ],
)
def test_all_else_is_not(gateway: Gateway, packet: Packet | bytes) -> None:
    for program in ("inside_ingress", "inside_egress"):
        assert gateway.run(program, packet).verdict == PASS
    assert gateway.observed() == []
    assert not gateway.knows_peer(STRANGER)


def test_the_routers_own_control_messages_are_observed_where_they_leave(gateway: Gateway) -> None:
    packet = l2tp_control(OUTSIDE, STRANGER, 0, _AVPS)
    assert gateway.from_inside(packet).packet == bytes(packet)
    (seen,) = gateway.observed()
    assert (seen.kind, str(seen.host), str(seen.peer)) == (ObservedKind.CONTROL, ROUTER, STRANGER)
    assert [punt.kind for punt in gateway.punted()] == [PuntKind.COPY]


def test_a_held_message_is_observed_and_counts_as_back(gateway: Gateway) -> None:
    key = to_inside(1 << 32 | 5, protocol=115)
    packet = l2tp_control(PEER, OUTSIDE, 5, _AVPS)
    gateway.from_outside(packet)
    gateway.decide(key, ALICE)
    gateway.pass_held(key, packet)
    assert gateway.is_open(key)
    (seen,) = gateway.observed()
    assert (seen.kind, str(seen.host), seen.direction) == (ObservedKind.CONTROL, ALICE, Direction.TO_INSIDE)


def test_who_floods_uses_up_a_budget_of_its_own(gateway: Gateway) -> None:
    gateway.configure(ike_per_address=5)
    for _ in range(20):
        gateway.run("inside_egress", l2tp_control(PEER, ALICE, 5))
    assert len(gateway.observed()) == 5
    gateway.run("inside_ingress", l2tp_control(ALICE, PEER, 5))
    assert len(gateway.observed()) == 1


@pytest.fixture
def routed(wan: int) -> None:
    """Let the router have a way to the peers, and forward."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    with IPRoute() as route:
        route.route("replace", dst="default", gateway=NEXT_HOP)


@pytest.mark.usefixtures("routed")
def test_ah_of_a_host_is_told_once_a_second_for_each_peer(gateway: Gateway) -> None:
    """The packet filter refuses it; here it passes."""
    packet = other(ALICE, STRANGER, 51)
    for _ in range(5):
        out = gateway.run("inside_ingress", packet, mark=THEIRS)
        assert (out.verdict, out.packet, out.mark) == (PASS, bytes(packet), THEIRS)
    gateway.run("inside_ingress", other(BOB, STRANGER, 51))
    gateway.run("inside_ingress", other(ALICE, PEER, 51))
    assert [(each.kind, str(each.host), str(each.peer)) for each in gateway.observed()] == [
        (ObservedKind.AH, ALICE, STRANGER),
        (ObservedKind.AH, BOB, STRANGER),
        (ObservedKind.AH, ALICE, PEER),
    ]
    assert not gateway.knows_peer(STRANGER)


@pytest.mark.usefixtures("routed")
def test_ah_to_the_router_itself_or_to_a_group_is_not_refused(gateway: Gateway) -> None:
    for destination in (OUTSIDE, "224.0.0.18"):
        gateway.run("inside_ingress", other(ALICE, destination, 51))
    assert gateway.observed() == []


def test_ah_to_a_host_is_none_of_its(gateway: Gateway) -> None:
    gateway.run("inside_egress", other(PEER, ALICE, 51))
    assert gateway.observed() == []


@pytest.mark.usefixtures("routed")
def test_ah_to_many_peers_is_bounded(gateway: Gateway) -> None:
    gateway.configure(ike_per_address=5)
    for number in range(20):
        gateway.run("inside_ingress", other(ALICE, f"198.51.100.{number}", 51))
    assert len(gateway.observed()) == 5


def test_what_is_forwarded_outwards_untranslated_is_counted(gateway: Gateway) -> None:
    """Packets of the router's own have no interface that they came in by, and are not counted."""
    packet = other(ALICE, PEER, 17)
    assert gateway.from_inside(packet).verdict == PASS
    assert gateway.counted() == {}
    out = gateway.run("outside_egress", packet, mark=REINJECTED, came_by=gateway.ifindex)
    assert (out.verdict, out.packet) == (PASS, bytes(packet))
    assert gateway.counted() == {Reason.UNTRANSLATED: 1}
    gateway.run("outside_egress", other(OUTSIDE, PEER, 17), came_by=gateway.ifindex)
    assert gateway.counted() == {}
