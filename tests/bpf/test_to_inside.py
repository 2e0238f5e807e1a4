"""outside_ingress, whole ESP packets: what is known is translated, what is not ours is left alone."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP

from throughway.core.reasons import Reason

from .gateway import (
    ALICE,
    BOB,
    CARRIED,
    DROP,
    ETHERNET,
    OUTSIDE,
    PASS,
    PEER,
    REINJECTED,
    ROUTER,
    STRANGER,
    TAKEN,
    THEIRS,
    Gateway,
    esp,
    readdressed,
    record_route,
    to_inside,
)


@pytest.mark.parametrize("size", [0, 1, 64, 1400, 1472])
def test_known_flow_is_readdressed_and_nothing_else_changes(gateway: Gateway, size: int) -> None:
    gateway.decide(to_inside(), ALICE)
    packet = esp(PEER, OUTSIDE, size=size, ttl=57, tos=0x2E, id=4711)
    out = gateway.from_outside(packet)
    assert out.verdict == PASS
    assert out.packet == readdressed(packet, dst=ALICE)
    assert out.packet[20:] == bytes(packet)[20:]
    assert gateway.counted() == {Reason.TRANSLATED_TO_INSIDE: 1}


def test_ip_options_move_the_esp_header(gateway: Gateway) -> None:
    gateway.decide(to_inside(0x2222), ALICE)
    packet = esp(PEER, OUTSIDE, 0x2222, options=record_route(9))
    out = gateway.from_outside(packet)
    assert (out.verdict, out.packet) == (PASS, readdressed(packet, dst=ALICE))


def test_ethernet_padding_is_no_part_of_the_packet(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    packet = esp(PEER, OUTSIDE, size=2)
    out = gateway.from_outside(bytes(packet) + bytes(16))
    assert out.packet == readdressed(packet, dst=ALICE) + bytes(16)
    mapping = gateway.mapping(to_inside())
    assert mapping is not None and (mapping.packets, mapping.octets) == (1, len(packet))


def test_a_wrong_header_checksum_stays_wrong(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    out = gateway.from_outside(esp(PEER, OUTSIDE, chksum=0x1234))
    assert out.verdict == PASS
    assert out.packet[10:12] != readdressed(out.packet)[10:12]


def test_mapping_counts_packets_bytes_and_time(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    sizes = [len(esp(PEER, OUTSIDE, size=size)) for size in (10, 200, 1000)]
    for size in (10, 200, 1000):
        gateway.from_outside(esp(PEER, OUTSIDE, size=size))
    mapping = gateway.mapping(to_inside())
    assert mapping is not None
    assert (mapping.packets, mapping.octets) == (3, sum(sizes))
    assert mapping.last_ns >= mapping.created_ns - 10**7


@pytest.mark.parametrize("mark", [0, THEIRS])
def test_mark_says_carried_and_keeps_what_is_not_ours(gateway: Gateway, mark: int) -> None:
    gateway.decide(to_inside(), ALICE)
    assert gateway.from_outside(esp(PEER, OUTSIDE), mark).mark == mark | CARRIED
    assert gateway.from_outside(esp(PEER, OUTSIDE), mark | REINJECTED).mark == mark | CARRIED | REINJECTED


def test_a_clone_of_ours_passes_untouched(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    packet = bytes(esp(PEER, OUTSIDE))
    out = gateway.from_outside(packet, mark=CARRIED | THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, packet, CARRIED | THEIRS)
    assert gateway.counted() == {}


def test_the_routers_own_tunnel_passes_untouched(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ROUTER)
    packet = bytes(esp(PEER, OUTSIDE))
    out = gateway.from_outside(packet, mark=THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, packet, THEIRS)
    assert gateway.counted() == {Reason.ROUTER_OWN: 1}


@pytest.mark.parametrize(
    ("spi", "reason", "verdict"),
    [(0, Reason.RESERVED_SPI, DROP), (255, Reason.RESERVED_SPI, DROP), (256, Reason.PUNTED, TAKEN)],
)
def test_reserved_spis_are_dropped(gateway: Gateway, spi: int, reason: Reason, verdict: int) -> None:
    assert gateway.from_outside(esp(PEER, OUTSIDE, spi)).verdict == verdict
    assert gateway.counted() == {reason: 1}


@pytest.mark.parametrize("size", range(8))
def test_esp_without_its_header_is_malformed(gateway: Gateway, size: int) -> None:
    packet = IP(src=PEER, dst=OUTSIDE, proto=50) / bytes(size)
    assert gateway.from_outside(bytes(packet) + bytes(16)).verdict == DROP
    assert gateway.counted() == {Reason.MALFORMED: 1}


def test_a_packet_that_was_cut_short_is_malformed(gateway: Gateway) -> None:
    assert gateway.from_outside(bytes(esp(PEER, OUTSIDE))[:-1]).verdict == DROP
    assert gateway.counted() == {Reason.MALFORMED: 1}


def test_a_stranger_gets_nothing_in(gateway: Gateway) -> None:
    assert gateway.from_outside(esp(STRANGER, OUTSIDE)).verdict == DROP
    assert gateway.counted() == {Reason.NO_CANDIDATE: 1}
    assert gateway.punted() == []
    assert gateway.pending(to_inside(peer=STRANGER)) is None


def test_the_same_spi_from_another_peer_is_another_flow(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    gateway.from_outside(esp(STRANGER, OUTSIDE))
    assert gateway.counted() == {Reason.NO_CANDIDATE: 1}


def test_a_put_back_packet_without_mapping_goes_nowhere(gateway: Gateway) -> None:
    assert gateway.from_outside(esp(PEER, OUTSIDE), mark=REINJECTED).verdict == DROP
    assert gateway.counted() == {Reason.NO_CANDIDATE: 1}


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(esp(PEER, "192.0.2.2"), id="another destination"),
        pytest.param(IP(src=PEER, dst=OUTSIDE) / UDP(sport=4500, dport=4500) / bytes(20), id="ESP in UDP"),
        pytest.param(IP(src=PEER, dst=OUTSIDE) / TCP(), id="TCP"),
        pytest.param(IP(src=PEER, dst=OUTSIDE) / ICMP(), id="ping"),
        pytest.param(IP(src=PEER, dst=OUTSIDE, proto=51) / bytes(24), id="AH"),
        pytest.param(IP(src=PEER, dst=OUTSIDE, proto=50, version=6) / bytes(24), id="version 6 in the header"),
        pytest.param(IP(src=PEER, dst=OUTSIDE, proto=50, ihl=4) / bytes(24), id="IHL below 5"),
        pytest.param(IP(src=PEER, dst=OUTSIDE, proto=50, len=19) / bytes(24), id="length below IHL"),
    ],
)
def test_what_is_not_ours_passes_untouched(gateway: Gateway, packet: IP) -> None:
    out = gateway.from_outside(packet, mark=THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, bytes(packet), THEIRS)
    assert gateway.counted() == {}


@pytest.mark.parametrize("ethertype", [0x86DD, 0x8100, 0x0806])
def test_other_ethertypes_pass_untouched(gateway: Gateway, ethertype: int) -> None:
    gateway.decide(to_inside(), ALICE)
    packet = bytes(IPv6() / ESP(spi=0x1000)) if ethertype == 0x86DD else bytes(esp(PEER, OUTSIDE))
    out = gateway.from_outside(packet, link=ETHERNET + ethertype.to_bytes(2))
    assert (out.verdict, out.packet) == (PASS, packet)


@pytest.mark.parametrize("hosts", [[ALICE], [ALICE, BOB]])
def test_what_cannot_be_readdressed_is_dropped(gateway: Gateway, hosts: list[str]) -> None:
    """The kernel mends no checksum at an odd offset, so a link header of 15 bytes makes it refuse."""
    gateway.configure(link_header_size=15)
    gateway.decide(to_inside(), *hosts)
    packet = esp(PEER, OUTSIDE)
    assert gateway.from_outside(packet, link=ETHERNET + b"\x08\x00\x00").verdict == DROP
    assert gateway.counted() == {Reason.REWRITE_FAILED: 1}


def test_without_an_outside_address_everything_passes(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    gateway.configure(addresses=())
    for destination in (OUTSIDE, ROUTER):
        packet = bytes(esp(PEER, destination))
        out = gateway.from_outside(packet)
        assert (out.verdict, out.packet) == (PASS, packet)
    assert gateway.counted() == {}
