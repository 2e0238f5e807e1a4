"""IPv6 packets of the lab are those of scapy."""

from ipaddress import IPv6Address

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from throughway.lab.packets import ipv6

HOST = IPv6Address("2001:db8:77::b")
FAR = IPv6Address("2001:db8:51::a")


def test_a_datagram_is_that_of_scapy() -> None:
    oracle = IPv6(src=str(HOST), dst=str(FAR)) / UDP(sport=1, dport=2) / Raw(b"odd")
    assert ipv6.packet(HOST, FAR, 17, ipv6.udp(HOST, FAR, (1, 2), b"odd")) == bytes(oracle)


def test_a_first_segment_is_that_of_scapy() -> None:
    oracle = IPv6(src=str(HOST), dst=str(FAR)) / TCP(sport=1, dport=2, seq=1, flags="S", window=65535)
    assert ipv6.packet(HOST, FAR, 6, ipv6.tcp(HOST, FAR, (1, 2), ipv6.SYN)) == bytes(oracle)


def test_the_authentication_header_tells_its_size() -> None:
    """In units of 32 bits, less two (RFC 4302 section 2.2)."""
    header = ipv6.ah(0x1000, 1, b"")
    assert (header[1] + 2) * 4 == len(header)
