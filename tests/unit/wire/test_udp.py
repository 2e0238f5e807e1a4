"""UDP and the non-ESP marker."""

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP
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
