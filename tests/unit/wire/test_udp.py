"""UDP and the non-ESP marker."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from throughway.wire import udp

MESSAGE = bytes(range(1, 29))


def test_ports_and_payload_are_read_as_scapy_wrote_them() -> None:
    datagram = udp.parse(bytes(UDP(sport=500, dport=4500) / Raw(MESSAGE)))
    assert datagram == udp.UdpDatagram(500, 4500, 36, MESSAGE)
    assert datagram.is_whole


def test_first_fragment_of_a_large_datagram_is_read() -> None:
    datagram = udp.parse(bytes(UDP(sport=500, dport=500, len=4008) / Raw(MESSAGE)))
    assert datagram is not None
    assert (datagram.size, datagram.payload, datagram.is_whole) == (4008, MESSAGE, False)


def test_bytes_behind_the_datagram_are_not_payload() -> None:
    datagram = udp.parse(bytes(UDP(sport=500, dport=500, len=36) / Raw(MESSAGE + b"padding")))
    assert datagram is not None
    assert datagram.payload == MESSAGE


def test_length_below_the_header_is_refused() -> None:
    assert udp.parse(bytes(UDP(len=7))) is None
    assert udp.parse(bytes(UDP())[:7]) is None


def packet(size: int = 60, **udp_fields: Any) -> bytes:
    body = Raw(bytes(i & 0xFF for i in range(size)))
    return bytes(IP(src="10.0.0.1", dst="203.0.113.9") / UDP(sport=500, dport=500, **udp_fields) / body)


def left_to_hardware(whole: bytes) -> bytes:
    """Write what Linux does where the interface computes the checksum: the sum of the pseudo header."""
    pseudo = whole[12:20] + bytes([0, 17]) + (len(whole) - 20).to_bytes(2, "big")
    total = sum(int.from_bytes(pseudo[at : at + 2], "big") for at in range(0, 12, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return whole[:26] + total.to_bytes(2, "big") + whole[28:]


@pytest.mark.parametrize("size", [0, 1, 60, 1400])
def test_a_checksum_that_was_left_to_the_hardware_is_written(size: int) -> None:
    whole = packet(size)
    assert left_to_hardware(whole) != whole
    assert udp.with_checksum(left_to_hardware(whole)) == whole
    assert udp.with_checksum(whole) == whole


def test_all_other_packets_come_back_as_they_are() -> None:
    fragment = IP(left_to_hardware(packet()))
    fragment.flags = "MF"
    for other in (packet(chksum=0), packet(chksum=0xBAD), bytes(fragment), left_to_hardware(packet())[:27], b"", b"E"):
        assert udp.with_checksum(other) == other


def test_marker_tells_ike_from_esp_and_keepalive() -> None:
    assert udp.strip_non_esp_marker(bytes(4) + MESSAGE) == MESSAGE
    assert udp.strip_non_esp_marker(b"\xc0\xff\xee\x01" + MESSAGE) is None
    assert udp.strip_non_esp_marker(b"\xff") is None
    assert udp.strip_non_esp_marker(bytes(3)) is None


@given(st.binary(max_size=40))
def test_no_bytes_raise(data: bytes) -> None:
    datagram = udp.parse(data)
    udp.strip_non_esp_marker(data)
    if datagram is not None:
        assert udp.HEADER_SIZE + len(datagram.payload) <= min(len(data), datagram.size)
