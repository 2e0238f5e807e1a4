"""Protocols without ports other than ESP: what names their flows, and what is none of our business."""

import struct
from collections.abc import Callable

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import GRE
from scapy.packet import Packet, Raw

from throughway.core import discriminators
from throughway.core.reasons import Reason
from throughway.dataplane.abi import PuntKind

from .gateway import (
    ALICE,
    BOB,
    CARRIED,
    DROP,
    OUTSIDE,
    PASS,
    PEER,
    REINJECTED,
    ROUTER,
    STRANGER,
    TAKEN,
    THEIRS,
    Gateway,
    gre,
    l2tp,
    l2tp_control,
    other,
    pptp,
    readdressed,
    record_route,
    to_inside,
    to_peer,
)

_KEYED = 1 << 32
Build = Callable[[str, str], Packet]

NAMED = [
    pytest.param(lambda a, b: gre(a, b, key=0xCAFE), 47, _KEYED | 0xCAFE, id="GRE with a key"),
    pytest.param(lambda a, b: gre(a, b, key=0), 47, _KEYED, id="GRE with the key 0"),
    pytest.param(lambda a, b: gre(a, b, key=0xCAFE, checksum=True), 47, _KEYED | 0xCAFE, id="GRE, checksum and key"),
    pytest.param(gre, 47, 0, id="GRE without a key"),
    pytest.param(lambda a, b: gre(a, b, checksum=True), 47, 0, id="GRE with a checksum"),
    pytest.param(lambda a, b: gre(a, b, size=0), 47, 0, id="GRE with nothing in it"),
    pytest.param(
        lambda a, b: IP(src=a, dst=b) / GRE(chksum_present=1, key_present=1, seqnum_present=1, key=0xFFFFFFFF),
        47,
        _KEYED | 0xFFFFFFFF,
        id="GRE as scapy writes it",
    ),
    pytest.param(lambda a, b: gre(a, b, key=3, options=record_route(9)), 47, _KEYED | 3, id="GRE behind IP options"),
    pytest.param(lambda a, b: l2tp(a, b, 0x01020304), 115, 0x01020304, id="L2TPv3 data"),
    pytest.param(lambda a, b: l2tp(a, b, 0xFFFFFFFF, size=0), 115, 0xFFFFFFFF, id="an empty L2TPv3 session"),
    pytest.param(lambda a, b: l2tp_control(a, b, 0x0A0B0C0D), 115, _KEYED | 0x0A0B0C0D, id="L2TPv3 control"),
    pytest.param(lambda a, b: l2tp_control(a, b, 0), 115, _KEYED, id="L2TPv3 control before an ID is assigned"),
    pytest.param(lambda a, b: other(a, b, 4), 4, 0, id="IP in IP"),
    pytest.param(lambda a, b: other(a, b, 41), 41, 0, id="IPv6 in IP"),
    pytest.param(lambda a, b: other(a, b, 94, size=0), 94, 0, id="another protocol, and nothing in it"),
    pytest.param(lambda a, b: other(a, b, 255), 255, 0, id="the last protocol"),
]


@pytest.mark.parametrize(("build", "protocol", "discriminator"), NAMED)
def test_to_the_peer(gateway: Gateway, build: Build, protocol: int, discriminator: int) -> None:
    """The first packet is asked about, and once its host has the flow, it leaves with our address."""
    packet = build(ALICE, STRANGER)
    key = to_peer(ALICE, discriminator, STRANGER, protocol)
    assert gateway.from_inside(packet).verdict == TAKEN
    (punt,) = gateway.punted()
    assert (punt.kind, punt.key, punt.frame[14:]) == (PuntKind.HELD, key, bytes(packet))
    assert gateway.knows_peer(STRANGER)
    gateway.decide(key, ALICE)
    out = gateway.from_inside(packet, mark=REINJECTED | THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, readdressed(packet, src=OUTSIDE), THEIRS)
    assert gateway.is_open(key)
    assert gateway.from_inside(packet).packet == readdressed(packet, src=OUTSIDE)
    assert gateway.counted() == {Reason.PUNTED: 1, Reason.TRANSLATED_TO_PEER: 2, Reason.REINJECTED: 1}


@pytest.mark.parametrize(("build", "protocol", "discriminator"), NAMED)
def test_to_the_inside(gateway: Gateway, build: Build, protocol: int, discriminator: int) -> None:
    packet = build(PEER, OUTSIDE)
    key = to_inside(discriminator, PEER, protocol)
    assert gateway.from_outside(packet).verdict == TAKEN
    (punt,) = gateway.punted()
    assert (punt.kind, punt.key, punt.frame[14:]) == (PuntKind.HELD, key, bytes(packet))
    gateway.decide(key, ALICE)
    out = gateway.pass_held(key, packet)
    assert (out.verdict, out.packet) == (PASS, readdressed(packet, dst=ALICE))
    assert gateway.is_open(key)
    out = gateway.from_outside(packet, mark=THEIRS)
    assert (out.packet, out.mark) == (readdressed(packet, dst=ALICE), CARRIED | THEIRS)


@pytest.mark.parametrize(("build", "protocol", "discriminator"), NAMED)
def test_from_a_stranger_it_is_the_stacks(gateway: Gateway, build: Build, protocol: int, discriminator: int) -> None:
    """Nobody inside spoke to the peer: the router's own stack takes it, or says that it does not know it."""
    packet = build(STRANGER, OUTSIDE)
    out = gateway.from_outside(packet, mark=THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, bytes(packet), THEIRS)
    gateway.know_peer(STRANGER, by_host=False)
    assert gateway.from_outside(packet).verdict == PASS, "the router alone spoke to it"
    assert gateway.punted() == []
    gateway.know_peer(STRANGER)
    assert gateway.from_outside(packet).verdict == TAKEN
    assert [punt.key for punt in gateway.punted()] == [to_inside(discriminator, STRANGER, protocol)]


def test_the_routers_own_is_copied_once_and_comes_back_to_it(gateway: Gateway) -> None:
    """Also where a host has other tunnels with the same peer."""
    packet, answer = gre(OUTSIDE, PEER, key=5), gre(PEER, OUTSIDE, key=5)
    key = to_peer(ROUTER, _KEYED | 5, protocol=47)
    assert gateway.from_inside(packet).packet == bytes(packet)
    assert [(punt.kind, punt.key) for punt in gateway.punted()] == [(PuntKind.COPY, key)]
    gateway.decide(key, ROUTER)
    assert gateway.from_inside(packet).packet == bytes(packet)
    out = gateway.from_outside(answer)
    assert (out.verdict, out.packet) == (PASS, bytes(answer))
    assert gateway.punted() == []
    mapping = gateway.mapping(key)
    assert mapping is not None and mapping.packets == 1
    assert gateway.counted() == {Reason.ROUTER_OWN: 2}


def test_a_peer_that_only_the_router_speaks_to_is_known_for_that(gateway: Gateway) -> None:
    gateway.from_inside(gre(OUTSIDE, STRANGER))
    assert gateway.from_outside(gre(STRANGER, OUTSIDE, key=1)).verdict == PASS
    gateway.from_inside(gre(ALICE, STRANGER))
    assert gateway.from_outside(gre(STRANGER, OUTSIDE, key=1)).verdict == TAKEN


@pytest.mark.parametrize("address", [OUTSIDE, ALICE])
def test_pptp_is_the_kernels(gateway: Gateway, address: str) -> None:
    """Both ways, masqueraded or not; the router's own as well."""
    packet = pptp(address, PEER)
    assert gateway.from_inside(packet, mark=THEIRS).packet == bytes(packet)
    answer = pptp(PEER, OUTSIDE)
    out = gateway.from_outside(answer, mark=THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, bytes(answer), THEIRS)
    assert gateway.punted() == []
    assert gateway.counted() == {}


@pytest.mark.parametrize("protocol", sorted(discriminators.NOT_OURS))
def test_protocols_of_the_kernel_pass(gateway: Gateway, protocol: int) -> None:
    for packet, send in (
        (other(ALICE, PEER, protocol), gateway.from_inside),
        (other(PEER, OUTSIDE, protocol), gateway.from_outside),
    ):
        out = send(packet)
        assert (out.verdict, out.packet) == (PASS, bytes(packet))
    assert gateway.punted() == []


@pytest.mark.parametrize("address", ["224.0.0.18", "239.255.255.250", "255.255.255.255"])
def test_multicast_and_broadcast_pass(gateway: Gateway, address: str) -> None:
    packet = other(ALICE, address, 112)
    assert gateway.from_inside(packet).packet == bytes(packet)
    assert gateway.from_outside(other(address, OUTSIDE, 112)).verdict == PASS
    assert gateway.punted() == []


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\0\0\x08", id="half a GRE header"),
        pytest.param(struct.pack("!HH", 0x2000, 0x0800) + b"\0\0\0", id="half a key"),
        pytest.param(struct.pack("!HHI", 0xA000, 0x0800, 0), id="a checksum and no key"),
        pytest.param(struct.pack("!HHI", 2, 0x0800, 0), id="version 2"),
        pytest.param(struct.pack("!HHI", 7, 0x0800, 0), id="version 7"),
        pytest.param(struct.pack("!HHII", 0x6000, 0x0800, 0, 1) + bytes(8), id="a source route of RFC 1701"),
    ],
)
def test_gre_that_cannot_be_read_goes_nowhere(gateway: Gateway, payload: bytes) -> None:
    assert gateway.from_inside(IP(src=ALICE, dst=PEER, proto=47) / Raw(payload)).verdict == DROP
    assert gateway.from_outside(IP(src=PEER, dst=OUTSIDE, proto=47) / Raw(payload)).verdict == DROP
    assert gateway.counted() == {Reason.MALFORMED: 2}


@pytest.mark.parametrize("payload", [b"\0\0\0", bytes(4), bytes(11)])
def test_l2tpv3_that_cannot_be_read_goes_nowhere(gateway: Gateway, payload: bytes) -> None:
    assert gateway.from_inside(IP(src=ALICE, dst=PEER, proto=115) / Raw(payload)).verdict == DROP
    assert gateway.counted() == {Reason.MALFORMED: 1}


def test_numbers_that_are_equal_in_two_protocols_are_two_flows(gateway: Gateway) -> None:
    gateway.decide(to_inside(7, protocol=115), ALICE)
    gateway.decide(to_inside(0, protocol=47), BOB)
    assert IP(gateway.from_outside(l2tp(PEER, OUTSIDE, 7)).packet).dst == ALICE
    assert IP(gateway.from_outside(gre(PEER, OUTSIDE)).packet).dst == BOB
    assert gateway.from_outside(other(PEER, OUTSIDE, 4)).verdict == TAKEN
    assert [punt.key for punt in gateway.punted()] == [to_inside(0, protocol=4)]


def test_without_an_outside_address_nothing_of_a_host_leaves(gateway: Gateway) -> None:
    gateway.configure(addresses=())
    for packet in (gre(ALICE, PEER), l2tp(ALICE, PEER), other(ALICE, PEER)):
        assert gateway.from_inside(packet).verdict == DROP
    assert gateway.counted() == {Reason.NO_OUTSIDE_ADDRESS: 3}
