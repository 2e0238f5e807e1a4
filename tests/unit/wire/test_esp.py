"""The clear front of ESP."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.ipsec import ESP

from tests.captures import ipv4_bytes, needs_captures, packets
from throughway.core.ids import IpProtocol, Spi
from throughway.wire import esp, ipv4


def test_spi_and_sequence_are_read_as_scapy_wrote_them() -> None:
    header = esp.parse(bytes(ESP(spi=0xC0FFEE01, seq=7, data=bytes(64))))
    assert header == esp.EspHeader(Spi(0xC0FFEE01), 7)
    assert not header.is_reserved


@pytest.mark.parametrize(("spi", "is_reserved"), [(0, True), (1, True), (255, True), (256, False), (0xFFFFFFFF, False)])
def test_reserved_spis_are_known(spi: int, is_reserved: bool) -> None:
    header = esp.parse(bytes(ESP(spi=spi, seq=1)))
    assert header is not None
    assert header.is_reserved is is_reserved


def test_eight_bytes_are_enough_and_seven_are_not() -> None:
    assert esp.parse(bytes.fromhex("0879355b00000001")) == esp.EspHeader(Spi(0x0879355B), 1)
    assert esp.parse(bytes.fromhex("0879355b000000")) is None


@given(st.binary(max_size=40))
def test_no_bytes_raise(data: bytes) -> None:
    assert (esp.parse(data) is None) == (len(data) < esp.HEADER_SIZE)


@needs_captures
@pytest.mark.parametrize(
    ("file", "spis"),
    [
        ("joy/ikev1.pcap", {0x0879355B, 0x1C0D7B38}),
        ("ndpi/esp.pcapng", {0x2360B0E3, 0xF0092CB5}),
    ],
)
def test_spis_of_a_capture_are_those_that_tshark_lists(file: str, spis: set[int]) -> None:
    read = [ipv4.parse(data) for _, frame in packets(file) if (data := ipv4_bytes(frame)) is not None]
    headers = [esp.parse(packet.payload) for packet in read if packet and packet.protocol == IpProtocol.ESP]
    assert {header.spi for header in headers if header} == spis
