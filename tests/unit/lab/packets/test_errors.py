from ipaddress import IPv4Address
from pathlib import Path

import pytest
from scapy.utils import rdpcap

from throughway.lab.packets.builder import Packet
from throughway.lab.packets.errors import ERRORS, is_good, write_capture

ALICE = IPv4Address("10.77.0.11")
PEER = IPv4Address("198.51.100.10")


def test_every_type_that_quotes_a_packet_and_is_forwarded_is_sent() -> None:
    """Destination unreachable, source quench, time exceeded, parameter problem (RFC 792)."""
    assert {error.kind for error in ERRORS} == {3, 4, 11, 12}


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("1,1\t1", True),
        ("1,1\t1,2", True),
        ("1,0\t1", False),
        ("0,1\t1", False),
        ("1,1\t0", False),
        ("1,2\t1", False),
        ("1\t1", False),
        ("", False),
    ],
)
def test_all_three_checksums_must_be_right(line: str, verdict: bool) -> None:
    assert is_good(line) is verdict


def test_a_capture_has_the_packets_as_they_are(tmp_path: Path) -> None:
    packets = [Packet(ALICE, PEER, 1, bytes(8), identification=number) for number in (1, 2)]
    write_capture(packets, tmp_path / "icmp.pcap")
    assert [bytes(one) for one in rdpcap(str(tmp_path / "icmp.pcap"))] == [packet.to_bytes() for packet in packets]
