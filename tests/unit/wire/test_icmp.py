"""ICMP errors and what they quote, with scapy as the oracle."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.layers.ipsec import ESP
from scapy.packet import Raw

from throughway.core.events import RefusalKind
from throughway.core.ids import IpProtocol, Spi
from throughway.wire import esp, icmp, ipv4

QUOTED = bytes(IP(src="198.51.100.1", dst="203.0.113.9", proto=50) / ESP(spi=0xC0FFEE01, seq=9, data=bytes(600)))


def test_quoted_esp_packet_names_its_tunnel() -> None:
    error = icmp.parse(bytes(ICMP(type=3, code=4, nexthopmtu=1400) / Raw(QUOTED[:28])))
    assert error is not None
    assert (error.type, error.code, error.next_hop_mtu) == (icmp.IcmpErrorType.DESTINATION_UNREACHABLE, 4, 1400)
    assert error.quoted.source == IPv4Address("198.51.100.1")
    assert error.quoted.protocol == IpProtocol.ESP
    assert error.quoted.total_size == len(QUOTED)
    assert esp.parse(error.quoted.payload) == esp.EspHeader(Spi(0xC0FFEE01), 9)


@pytest.mark.parametrize(
    ("number", "code", "refusal"),
    [
        (3, 2, RefusalKind.PROTOCOL_UNREACHABLE),
        (3, 3, RefusalKind.PORT_UNREACHABLE),
        (3, 1, None),
        (11, 0, None),
        (12, 2, None),
        (4, 0, None),
    ],
)
def test_only_unreachable_protocol_and_port_are_refusals(number: int, code: int, refusal: RefusalKind | None) -> None:
    error = icmp.parse(bytes(ICMP(type=number, code=code) / Raw(QUOTED)))
    assert error is not None
    assert error.refusal is refusal
    assert error.next_hop_mtu is None


def test_extensions_are_not_part_of_the_quote() -> None:
    """RFC 4884 section 4: the length counts 32-bit words, and the extension structure follows."""
    error = icmp.parse(bytes(ICMP(type=11, code=0, length=32) / Raw(QUOTED[:128] + b"extension structure")))
    assert error is not None
    assert error.quoted.payload == QUOTED[20:128]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (bytes(ICMP(type=8) / Raw(QUOTED)), "an echo request"),
        (bytes(ICMP(type=5) / Raw(QUOTED)), "a redirect"),
        (bytes(ICMP(type=3, code=2) / Raw(QUOTED[:27])), "a quote without the second word of ESP"),
        (bytes(ICMP(type=3, code=2) / Raw(b"\x65" + QUOTED[1:])), "a quote of version 6"),
        (bytes(ICMP(type=3, code=2, chksum=1) / Raw(QUOTED)), "a wrong checksum"),
        (bytes(ICMP(type=3, code=2))[:7], "cut off in its header"),
        (b"", "empty"),
    ],
)
def test_what_names_no_tunnel_is_refused(data: bytes, why: str) -> None:
    assert icmp.parse(data) is None, why


def _with_checksum(data: bytes) -> bytes:
    blank = data[:2] + bytes(2) + data[4:]
    return blank[:2] + ipv4.checksum(blank).to_bytes(2, "big") + blank[4:]


@given(st.sampled_from([3, 4, 11, 12]), st.integers(0, 255), st.binary(min_size=4, max_size=80))
def test_no_bytes_raise(number: int, code: int, rest: bytes) -> None:
    icmp.parse(rest)
    icmp.parse(_with_checksum(bytes([number, code, 0, 0]) + rest))
    icmp.parse(_with_checksum(bytes([number, code, 0, 0]) + rest[:4] + b"\x45\0\0" + rest))
