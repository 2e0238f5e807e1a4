"""When the last packet of an evidence passed."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

from throughway.lab.diagnoses.evidence import Evidence

DEVICE, PEER = "10.77.0.11", "203.0.113.20"
BEGAN = 1_700_000_000.0


def datagram(size: int = 100, port: int = 500) -> Packet:
    return IP(src=DEVICE, dst=PEER) / UDP(sport=31000, dport=port) / Raw(bytes(size - 28))


def complete_at(tmp_path: Path, evidence: Evidence, *packets: Packet, since_s: float = 0.0) -> float | None:
    """Return the second in which it was complete, where one packet comes in each."""
    frames = [Ether() / ARP()]
    frames[0].time = BEGAN
    for number, packet in enumerate(packets, 1):
        frames.append(Ether() / packet)
        frames[-1].time = BEGAN + number
    wrpcap(str(tmp_path / "capture"), frames)
    found = evidence.complete_at(tmp_path / "capture", IPv4Address(DEVICE), BEGAN + since_s)
    return None if found is None else found - BEGAN


def test_the_last_of_so_many_packets_counts(tmp_path: Path) -> None:
    assert complete_at(tmp_path, Evidence(2, 17, 500), *[datagram()] * 3) == 2.0
    assert complete_at(tmp_path, Evidence(4, 17, 500), *[datagram()] * 3) is None


def test_what_came_before_does_not_count(tmp_path: Path) -> None:
    assert complete_at(tmp_path, Evidence(1, 17, 500), *[datagram()] * 3, since_s=1.5) == 2.0


@pytest.mark.parametrize(
    "other",
    [
        IP(src=PEER, dst=DEVICE) / UDP(sport=31000, dport=500),
        IP(src=DEVICE, dst=PEER) / TCP(dport=500),
        IP(src=DEVICE, dst=PEER, frag=185, proto=17) / Raw(b"\x79\x18\x01\xf4later part"),
        datagram(port=4500),
        datagram(size=99),
    ],
    ids=["from the peer", "other protocol", "later fragment", "other port", "too small"],
)
def test_other_packets_do_not_count(other: Packet, tmp_path: Path) -> None:
    assert complete_at(tmp_path, Evidence(1, 17, 500, 100), other, datagram()) == 2.0


def test_protocols_without_ports_are_counted_by_their_number(tmp_path: Path) -> None:
    esp = IP(src=DEVICE, dst=PEER, proto=50) / Raw(bytes(16))
    assert complete_at(tmp_path, Evidence(1, 50), datagram(), esp) == 2.0


def test_packets_in_vain_are_counted_from_the_last_answer_on(tmp_path: Path) -> None:
    answer = IP(src=PEER, dst=DEVICE) / UDP(sport=500, dport=31000)
    evidence = Evidence(2, 17, 500, in_vain=True)
    assert complete_at(tmp_path, evidence, datagram(), datagram(), answer, datagram(), datagram(), datagram()) == 5.0
    assert complete_at(tmp_path, evidence, datagram(), datagram(), answer, datagram()) is None
    other = IP(src=PEER, dst=DEVICE) / UDP(sport=501, dport=31000)
    assert complete_at(tmp_path, evidence, datagram(), other, datagram()) == 3.0
