"""IPv4 headers, with scapy as the oracle."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, IPOption_NOP
from scapy.packet import Raw

from throughway.wire import ipv4

PAYLOAD = bytes(range(40))


@pytest.mark.parametrize("options", [0, 4, 40])
def test_header_with_options_is_read_as_scapy_wrote_it(options: int) -> None:
    written = IP(
        src="192.168.1.10",
        dst="203.0.113.9",
        proto=50,
        id=0xBEEF,
        ttl=63,
        flags="DF",
        options=[IPOption_NOP()] * options,
    ) / Raw(PAYLOAD)
    packet = ipv4.parse(bytes(written))
    assert packet is not None
    assert (packet.source, packet.destination) == (IPv4Address("192.168.1.10"), IPv4Address("203.0.113.9"))
    assert (packet.protocol, packet.identification, packet.ttl) == (50, 0xBEEF, 63)
    assert (packet.header_size, packet.total_size) == (20 + options, 60 + options)
    assert packet.dont_fragment
    assert not packet.is_fragment
    assert packet.payload == PAYLOAD


def test_padding_of_the_link_is_not_payload() -> None:
    packet = ipv4.parse(bytes(IP(proto=50) / Raw(PAYLOAD)) + bytes(6))
    assert packet is not None
    assert packet.payload == PAYLOAD


@pytest.mark.parametrize(
    ("offset", "more", "is_fragment", "has_first_bytes"),
    [(0, False, False, True), (0, True, True, True), (185, True, True, False), (185, False, True, False)],
)
def test_fragments_are_told_apart(offset: int, more: bool, is_fragment: bool, has_first_bytes: bool) -> None:
    packet = ipv4.parse(bytes(IP(proto=50, frag=offset, flags="MF" if more else 0) / Raw(PAYLOAD)))
    assert packet is not None
    assert packet.fragment_offset == offset * 8
    assert (packet.is_fragment, packet.has_first_bytes) == (is_fragment, has_first_bytes)


def _header(first_byte: int, total_size: int, there: int) -> bytes:
    return bytes([first_byte, 0]) + total_size.to_bytes(2, "big") + bytes(there - 4)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (_header(0x45, 19, 20), "a total length below the header's"),
        (_header(0x44, 20, 20), "a header of 16 bytes"),
        (_header(0x65, 20, 20), "version 6"),
        (_header(0x4F, 60, 59), "options cut off"),
        (_header(0x46, 20, 24), "a total length that ends in the options"),
        (_header(0x45, 41, 40), "a payload cut off"),
        (_header(0x45, 0, 40), "a total length of 0"),
    ],
)
def test_malformed_packet_is_refused(data: bytes, why: str) -> None:
    assert ipv4.parse(data) is None, why


def test_quote_may_be_cut_off_behind_the_header_only() -> None:
    whole = bytes(IP(proto=50) / Raw(PAYLOAD))
    quoted = ipv4.parse_quoted(whole[:28])
    assert quoted is not None
    assert (quoted.total_size, quoted.payload) == (60, PAYLOAD[:8])
    assert ipv4.parse(whole[:28]) is None
    assert ipv4.parse_quoted(whole[:19]) is None


@given(st.binary(max_size=80))
def test_checksum_is_zero_over_data_that_holds_it(data: bytes) -> None:
    held = data + bytes(len(data) % 2)
    assert ipv4.checksum(held + ipv4.checksum(held).to_bytes(2, "big")) == 0


def test_checksum_of_a_header_is_scapys() -> None:
    assert ipv4.checksum(bytes(IP(src="10.0.0.1", dst="203.0.113.9", proto=50))) == 0


def test_address_is_changed_and_nothing_else_as_scapy_would() -> None:
    packet = IP(src="10.0.0.1", dst="203.0.113.9", proto=50, options=[IPOption_NOP()] * 4) / Raw(PAYLOAD)
    moved = ipv4.with_source(bytes(packet), IPv4Address("198.51.100.1"))
    moved = ipv4.with_destination(moved, IPv4Address("203.0.113.10"))
    packet.src, packet.dst = "198.51.100.1", "203.0.113.10"
    assert moved == bytes(packet)


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=76).map(lambda tail: b"\x45\0\0" + tail)))
def test_no_bytes_raise(data: bytes) -> None:
    packet = ipv4.parse_quoted(data)
    if packet is not None:
        assert packet.header_size + len(packet.payload) <= min(len(data), packet.total_size)
