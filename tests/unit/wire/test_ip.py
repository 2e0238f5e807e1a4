"""The fast front of IP packets: what scapy writes is read, cut-off packets too, and nothing raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.packet import Packet, Raw

from throughway.wire import ip

BODY = bytes(range(40))


@pytest.mark.parametrize(
    ("packet", "header_size"),
    [
        (IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / Raw(BODY), 20),
        (IP(src="10.0.0.1", dst="10.0.0.2", options=[IPOption_NOP()] * 8) / UDP() / Raw(BODY), 28),
        (IPv6(src="fe80::1", dst="fe80::2") / UDP() / Raw(BODY), 40),
        (IPv6(src="fe80::1", dst="fe80::2") / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP() / Raw(BODY), 56),
    ],
)
def test_the_payload_is_where_scapy_put_it(packet: Packet, header_size: int) -> None:
    data = bytes(packet)
    front = ip.front(b"link" + data + b"padding", 4)
    assert front is not None
    assert (front.protocol, front.payload_at, front.end, front.size) == (17, 4 + header_size, 4 + len(data), 48)
    assert front.fragment_id is None
    assert len(front.source) == len(front.destination) == (4 if packet.version == 4 else 16)


def test_a_packet_that_was_cut_off_keeps_its_size() -> None:
    data = bytes(IP() / UDP() / Raw(BODY))[:30]
    front = ip.front(data)
    assert front is not None
    assert (front.end, front.size) == (30, 48)


@pytest.mark.parametrize(
    "packet",
    [
        IP(id=7, flags="MF", frag=3, proto=17) / Raw(BODY),
        IPv6() / IPv6ExtHdrFragment(id=7, m=1, offset=3, nh=17) / Raw(BODY),
    ],
)
def test_fragments_say_where_they_belong(packet: Packet) -> None:
    front = ip.front(bytes(packet))
    assert front is not None
    assert (front.fragment_id, front.fragment_offset, front.more_fragments) == (7, 24, True)
    assert front.protocol == 17


def test_a_total_length_of_0_is_that_of_a_packet_yet_to_be_segmented() -> None:
    data = bytearray(bytes(IP() / UDP() / Raw(BODY)))
    data[2:4] = b"\0\0"
    front = ip.front(bytes(data))
    assert front is not None
    assert front.size == 48


def test_a_chain_of_extension_headers_comes_to_an_end() -> None:
    packet = IPv6(nh=60)
    for _ in range(20):
        packet = packet / IPv6ExtHdrDestOpt(nh=60)
    assert ip.front(bytes(packet)) is None


@given(st.binary(max_size=80), st.integers(0, 90))
def test_no_bytes_raise(data: bytes, at: int) -> None:
    front = ip.front(data, at)
    assert front is None or at <= front.payload_at <= len(data)
