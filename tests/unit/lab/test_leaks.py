"""Leaks are found in captures: by outer addresses, by those an ICMP error quotes, and by who asked."""

from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

from throughway.lab.leaks import NO_LEAKS, Leaks, look

HOST, OTHER, SHARED, PEER = "10.77.0.11", "10.77.0.12", "192.0.2.2", "203.0.113.20"


def esp(source: str, destination: str) -> Packet:
    return IP(src=source, dst=destination, proto=50) / Raw(b"\0\0\x10\0\0\0\0\1")


def looked(
    tmp_path: Path, *, inside: tuple[Packet, ...] = (), outside: tuple[Packet, ...] = (), dropped: int = 0
) -> Leaks:
    for name, packets in (("inside", inside), ("outside", outside)):
        wrpcap(str(tmp_path / name), [Ether() / packet for packet in (ARP(), IPv6(), *packets)])
    return look(tmp_path / "inside", tmp_path / "outside", dropped)


def test_a_clean_run_has_none(tmp_path: Path) -> None:
    leaks = looked(tmp_path, inside=(esp(HOST, PEER), esp(PEER, HOST)), outside=(esp(SHARED, PEER), esp(PEER, SHARED)))
    assert leaks == NO_LEAKS
    assert not leaks
    assert leaks.sentences() == ()


def test_what_the_provider_dropped_is_told(tmp_path: Path) -> None:
    leaks = looked(tmp_path, dropped=3)
    assert leaks
    assert leaks.sentences() == ("3 packets left the router with a private source address",)


@pytest.mark.parametrize("packet", [esp(HOST, PEER), esp(PEER, HOST)])
def test_an_inside_address_on_the_outside_is_found(packet: Packet, tmp_path: Path) -> None:
    assert looked(tmp_path, outside=(packet,)) == Leaks(named=1)


def test_an_inside_address_that_an_error_quotes_is_found(tmp_path: Path) -> None:
    error = IP(src=SHARED, dst=PEER) / ICMP(type=3, code=3) / esp(PEER, HOST)
    right = IP(src=SHARED, dst=PEER) / ICMP(type=3, code=3) / esp(PEER, SHARED)
    echo = IP(src=SHARED, dst=PEER) / ICMP(type=8) / bytes(esp(PEER, HOST))
    assert looked(tmp_path, outside=(error, right, echo)) == Leaks(named=1)


def test_a_packet_to_a_host_that_did_not_ask_is_found(tmp_path: Path) -> None:
    assert looked(tmp_path, inside=(esp(HOST, PEER), esp(PEER, HOST), esp(PEER, OTHER))) == Leaks(unasked=1)


def test_asking_afterwards_is_too_late(tmp_path: Path) -> None:
    assert looked(tmp_path, inside=(esp(PEER, HOST), esp(HOST, PEER))) == Leaks(unasked=1)


def test_an_error_from_a_router_on_the_way_and_the_own_router_need_no_asking(tmp_path: Path) -> None:
    error = IP(src="192.0.2.1", dst=HOST) / ICMP(type=11) / esp(HOST, PEER)
    hairpin = IP(src=SHARED, dst=HOST) / UDP(dport=500)
    assert looked(tmp_path, inside=(error, hairpin)) == NO_LEAKS


def test_what_tcpdump_has_not_finished_to_write_is_left_out(tmp_path: Path) -> None:
    looked(tmp_path, outside=(esp(HOST, PEER), esp(HOST, PEER)))
    whole = (tmp_path / "outside").read_bytes()
    (tmp_path / "outside").write_bytes(whole[:-3])
    assert look(tmp_path / "inside", tmp_path / "outside", 0) == Leaks(named=1)
    assert look(tmp_path / "inside", tmp_path / "never-made", 0) == NO_LEAKS
