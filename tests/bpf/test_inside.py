"""The inside interfaces: IKE is observed, nothing is changed and nothing is stopped."""

from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Packet, Raw

from throughway.core.flows import Direction
from throughway.core.reasons import Reason

from .gateway import (
    ALICE,
    BOB,
    OUTSIDE,
    PASS,
    PEER,
    REINJECTED,
    ROUTER,
    STRANGER,
    THEIRS,
    Gateway,
    cut,
    esp,
    record_route,
    to_inside,
)

_HEADER = bytes(range(1, 29))
_MARKER = bytes(4)


def _ike(source: str, destination: str, port: int, message: bytes = _HEADER + b"more", **ip: Any) -> Packet:
    return IP(src=source, dst=destination, **ip) / UDP(sport=port, dport=port) / Raw(message)


@pytest.mark.parametrize(("port", "before"), [(500, b""), (4500, _MARKER)])
def test_ike_of_a_host_is_observed_and_makes_its_peer_known(gateway: Gateway, port: int, before: bytes) -> None:
    packet = bytes(_ike(ALICE, STRANGER, port, before + _HEADER + b"more"))
    out = gateway.run("inside_ingress", packet, mark=THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, packet, THEIRS)
    (seen,) = gateway.observed()
    assert (str(seen.host), str(seen.peer), seen.direction) == (ALICE, STRANGER, Direction.TO_PEER)
    assert (seen.floated, seen.size, seen.message) == (port == 4500, 32, _HEADER)
    assert gateway.knows_peer(STRANGER)


@pytest.mark.parametrize(("port", "before"), [(500, b""), (4500, _MARKER)])
def test_ike_to_a_host_is_observed_and_makes_nobody_known(gateway: Gateway, port: int, before: bytes) -> None:
    packet = bytes(_ike(STRANGER, ALICE, port, before + _HEADER))
    out = gateway.run("inside_egress", packet, mark=THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, packet, THEIRS)
    (seen,) = gateway.observed()
    assert (str(seen.host), str(seen.peer), seen.direction) == (ALICE, STRANGER, Direction.TO_INSIDE)
    assert not gateway.knows_peer(STRANGER) and not gateway.knows_peer(ALICE)


def test_only_the_peers_port_matters(gateway: Gateway) -> None:
    """Masquerade may give the host another port, and hosts may use any."""
    gateway.run("inside_ingress", IP(src=ALICE, dst=PEER) / UDP(sport=61000, dport=500) / _HEADER)
    gateway.run("inside_egress", IP(src=PEER, dst=ALICE) / UDP(sport=500, dport=61000) / _HEADER)
    assert len(gateway.observed()) == 2
    gateway.run("inside_ingress", IP(src=ALICE, dst=PEER) / UDP(sport=500, dport=61000) / _HEADER)
    gateway.run("inside_egress", IP(src=PEER, dst=ALICE) / UDP(sport=61000, dport=500) / _HEADER)
    assert gateway.observed() == []


def test_the_routers_own_ike_is_observed_where_it_leaves(gateway: Gateway) -> None:
    packet = bytes(_ike(OUTSIDE, STRANGER, 500))
    assert gateway.from_inside(packet).packet == packet
    (seen,) = gateway.observed()
    assert (str(seen.host), str(seen.peer), seen.direction) == (ROUTER, STRANGER, Direction.TO_PEER)
    assert gateway.knows_peer(STRANGER)


def test_options_and_first_fragments(gateway: Gateway) -> None:
    message = _HEADER + bytes(2000)
    packet = _ike(ALICE, PEER, 500, message, options=record_route(2))
    for piece in cut(packet, 600):
        gateway.run("inside_ingress", piece)
    (seen,) = gateway.observed()
    assert (seen.size, seen.message) == (len(message), _HEADER)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(_ike(ALICE, STRANGER, 500, _HEADER[:27]), id="less than an IKE header"),
        pytest.param(_ike(ALICE, STRANGER, 4500, _HEADER + bytes(20)), id="ESP in UDP"),
        pytest.param(_ike(ALICE, STRANGER, 4500, b"\xff"), id="NAT keepalive"),
        pytest.param(_ike(ALICE, STRANGER, 4500, _MARKER + _HEADER[:27]), id="marker and too little"),
        pytest.param(_ike(ALICE, STRANGER, 501), id="another port"),
        pytest.param(IP(src=ALICE, dst=STRANGER, proto=17) / Raw(b"\1\xf4\1\xf4"), id="half a UDP header"),
        pytest.param(IP(src=ALICE, dst=STRANGER) / UDP(sport=500, dport=500, len=20) / _HEADER, id="UDP length lies"),
        pytest.param(
            IP(src=ALICE, dst=STRANGER, len=40) / UDP(sport=500, dport=500) / _HEADER, id="the IP length is shorter"
        ),
        pytest.param(IP(src=ALICE, dst=STRANGER, proto=6) / UDP(sport=500, dport=500) / _HEADER, id="TCP"),
        pytest.param(esp(ALICE, STRANGER), id="ESP"),
    ],
)
def test_all_else_passes_unobserved(gateway: Gateway, packet: Packet) -> None:
    for program in ("inside_ingress", "inside_egress"):
        out = gateway.run(program, packet)
        assert (out.verdict, out.packet) == (PASS, bytes(packet))
    assert gateway.observed() == []
    assert not gateway.knows_peer(STRANGER)
    assert gateway.counted() == {}


def test_who_floods_uses_up_a_budget_of_its_own(gateway: Gateway) -> None:
    gateway.configure(ike_per_address=5)
    for _ in range(20):
        gateway.run("inside_egress", _ike(PEER, ALICE, 500))
    assert len(gateway.observed()) == 5
    gateway.run("inside_ingress", _ike(ALICE, PEER, 500))
    gateway.run("inside_ingress", _ike(BOB, PEER, 500))
    assert len(gateway.observed()) == 2


def test_a_flood_over_its_budget_makes_no_peers_known(gateway: Gateway) -> None:
    gateway.configure(ike_per_address=5)
    for number in range(20):
        gateway.run("inside_ingress", _ike(ALICE, f"198.51.100.{number}", 500))
    assert sum(gateway.knows_peer(f"198.51.100.{number}") for number in range(20)) == 5


def test_esp_without_our_mark_counts_for_nothing(gateway: Gateway) -> None:
    gateway.from_outside(esp(PEER, OUTSIDE))
    gateway.decide(to_inside(), ALICE)
    gateway.run("inside_egress", esp(PEER, ALICE))
    assert not gateway.is_open(to_inside())
    gateway.run("inside_egress", esp(PEER, ALICE), mark=REINJECTED)
    assert gateway.is_open(to_inside())
    assert gateway.counted()[Reason.REINJECTED] == 1
