"""outside_egress: an inside address never leaves, the router's own tunnels go their way."""

import struct
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import IP, TCP, UDP

from throughway.core.ids import Host
from throughway.core.reasons import Reason
from throughway.dataplane import abi

from .gateway import (
    ALICE,
    BOB,
    CARRIED,
    DROP,
    ETHERNET,
    OUTSIDE,
    PASS,
    PEER,
    REDIRECT,
    REINJECTED,
    ROUTER,
    STRANGER,
    TAKEN,
    THEIRS,
    Gateway,
    esp,
    readdressed,
    record_route,
    to_peer,
)


@pytest.mark.parametrize("size", [0, 1, 64, 1400])
def test_known_flow_leaves_with_our_address(gateway: Gateway, size: int) -> None:
    gateway.decide(to_peer(), ALICE)
    packet = esp(ALICE, PEER, size=size, ttl=63, id=99)
    out = gateway.from_inside(packet, mark=THEIRS | CARRIED)
    assert (out.verdict, out.packet, out.mark) == (PASS, readdressed(packet, src=OUTSIDE), THEIRS)
    assert gateway.counted() == {Reason.TRANSLATED_TO_PEER: 1}
    mapping = gateway.mapping(to_peer())
    assert mapping is not None and (mapping.packets, mapping.octets) == (1, len(packet))


def test_ip_options_move_the_esp_header(gateway: Gateway) -> None:
    gateway.decide(to_peer(), ALICE)
    packet = esp(ALICE, PEER, options=record_route(3))
    assert gateway.from_inside(packet).packet == readdressed(packet, src=OUTSIDE)


def test_nobody_may_use_the_flow_of_another_host(gateway: Gateway) -> None:
    gateway.decide(to_peer(ALICE), ALICE)
    assert gateway.from_inside(esp(BOB, PEER)).verdict == TAKEN
    assert gateway.counted() == {Reason.PUNTED: 1}
    (punt,) = gateway.punted()
    assert punt.key == to_peer(BOB)


def test_unknown_flow_is_held_and_makes_its_peer_known(gateway: Gateway) -> None:
    packet = esp(ALICE, STRANGER)
    assert gateway.from_inside(packet).verdict == TAKEN
    (punt,) = gateway.punted()
    assert punt.key == to_peer(ALICE, peer=STRANGER)
    assert punt.frame[punt.link_header_size :] == bytes(packet)
    assert gateway.knows_peer(STRANGER)


def test_a_put_back_packet_passes_before_the_flow_is_open(gateway: Gateway) -> None:
    packet = esp(ALICE, PEER)
    gateway.from_inside(packet)
    gateway.from_inside(packet)
    gateway.decide(to_peer(), ALICE)
    assert not gateway.is_open(to_peer())
    out = gateway.from_inside(packet, mark=REINJECTED | THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, readdressed(packet, src=OUTSIDE), THEIRS)
    assert not gateway.is_open(to_peer())
    gateway.from_inside(packet, mark=REINJECTED)
    assert gateway.is_open(to_peer())


def test_a_put_back_packet_without_mapping_goes_nowhere(gateway: Gateway) -> None:
    assert gateway.from_inside(esp(ALICE, PEER), mark=REINJECTED).verdict == DROP
    assert gateway.counted() == {Reason.NO_CANDIDATE: 1}


def test_a_packet_held_from_outside_is_turned_round(gateway: Gateway) -> None:
    packet = bytes(esp(PEER, OUTSIDE))
    out = gateway.from_inside(packet, mark=REINJECTED | THEIRS)
    assert (out.verdict, out.packet, out.mark) == (REDIRECT, packet, REINJECTED | THEIRS)


def test_a_packet_held_for_an_address_that_is_gone_goes_nowhere(gateway: Gateway) -> None:
    gateway.configure(addresses=(IPv4Address("192.0.2.77"),))
    assert gateway.from_inside(esp(PEER, OUTSIDE), mark=REINJECTED).verdict == DROP
    assert gateway.counted() == {Reason.NO_CANDIDATE: 1}


def test_without_an_outside_address_nothing_leaves(gateway: Gateway) -> None:
    gateway.decide(to_peer(), ALICE)
    gateway.configure(addresses=())
    assert gateway.from_inside(esp(ALICE, PEER)).verdict == DROP
    assert gateway.from_inside(esp(ROUTER, PEER)).verdict == DROP
    assert gateway.counted() == {Reason.NO_OUTSIDE_ADDRESS: 2}


@pytest.mark.parametrize("spi", [0, 255])
def test_reserved_spis_never_leave(gateway: Gateway, spi: int) -> None:
    assert gateway.from_inside(esp(ALICE, PEER, spi)).verdict == DROP
    assert gateway.counted() == {Reason.RESERVED_SPI: 1}


def test_what_cannot_be_readdressed_never_leaves(gateway: Gateway) -> None:
    """The kernel mends no checksum at an odd offset, so a link header of 15 bytes makes it refuse."""
    gateway.configure(link_header_size=15)
    gateway.decide(to_peer(), ALICE)
    assert gateway.from_inside(esp(ALICE, PEER), link=ETHERNET + b"\x08\x00\x00").verdict == DROP
    assert gateway.counted() == {Reason.REWRITE_FAILED: 1}
    mapping = gateway.mapping(to_peer())
    assert mapping is not None and mapping.packets == 0


def test_esp_without_its_header_is_malformed(gateway: Gateway) -> None:
    assert gateway.from_inside(IP(src=ALICE, dst=PEER, proto=50) / bytes(7)).verdict == DROP
    assert gateway.counted() == {Reason.MALFORMED: 1}


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(IP(src=ALICE, dst=PEER) / UDP(sport=500, dport=500) / bytes(28), id="a host's IKE"),
        pytest.param(IP(src=ALICE, dst=PEER) / TCP(), id="TCP"),
        pytest.param(IP(src=OUTSIDE, dst=PEER, proto=2) / bytes(16), id="IGMP"),
    ],
)
def test_what_is_not_esp_passes_untouched(gateway: Gateway, packet: IP) -> None:
    out = gateway.from_inside(packet, mark=THEIRS | CARRIED)
    assert (out.verdict, out.packet, out.mark) == (PASS, bytes(packet), THEIRS | CARRIED)
    assert gateway.counted() == {}
    assert gateway.observed() == []


def test_the_routers_own_tunnel_leaves_untouched_and_is_told_once(gateway: Gateway) -> None:
    packet = bytes(esp(OUTSIDE, STRANGER, 0x7777, sequence=5))
    out = gateway.from_inside(packet, mark=THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, packet, THEIRS)
    (punt,) = gateway.punted()
    key = to_peer(ROUTER, 0x7777, STRANGER)
    assert (punt.kind, punt.key, punt.frame[14:]) == (abi.PuntKind.COPY, key, packet)
    assert gateway.knows_peer(STRANGER)
    gateway.decide(key, ROUTER)
    assert gateway.from_inside(packet).packet == packet
    assert gateway.punted() == []
    mapping = gateway.mapping(key)
    assert mapping is not None and mapping.packets == 1
    assert gateway.counted() == {Reason.ROUTER_OWN: 2}


def test_the_copy_of_a_large_packet_of_the_router_is_cut(gateway: Gateway) -> None:
    packet = bytes(esp(OUTSIDE, PEER, size=3000))
    assert gateway.from_inside(packet).packet == packet
    (punt,) = gateway.punted()
    assert len(punt.frame) == abi.FRAME_SMALL
    assert packet.startswith(punt.frame[14:])


def test_copies_of_the_routers_packets_have_a_budget(gateway: Gateway) -> None:
    gateway.configure(punts_per_host=3)
    for spi in range(0x1000, 0x1010):
        assert gateway.from_inside(esp(OUTSIDE, PEER, spi)).verdict == PASS
    assert len(gateway.punted()) == 3


@pytest.mark.parametrize("broken", [esp(OUTSIDE, PEER, 0), IP(src=OUTSIDE, dst=PEER, proto=50) / bytes(3)])
def test_the_routers_broken_esp_is_its_own_affair(gateway: Gateway, broken: IP) -> None:
    assert gateway.from_inside(broken).verdict == PASS
    assert gateway.punted() == []


def test_the_sender_is_known_for_icmp_errors(gateway: Gateway) -> None:
    gateway.decide(to_peer(BOB, 0xABCDEF01), BOB)
    gateway.decide(to_peer(ROUTER, 0xABCDEF02), ROUTER)
    senders = gateway.loaded.maps["senders"]
    assert senders.lookup(abi.pack_sender_key(to_peer(BOB, 0xABCDEF01), 0)) == Host(IPv4Address(BOB)).packed
    assert senders.lookup(abi.pack_sender_key(to_peer(ROUTER, 0xABCDEF02), 0)) is None
    assert struct.calcsize("=4sIQII") == senders.key_size
