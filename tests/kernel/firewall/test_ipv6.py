"""The IPv6 filter: no translation, IPsec to inside hosts by default (RFC 6092), and without it what hosts began."""

import socket

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6
from scapy.layers.ipsec import AH, ESP
from scapy.packet import Packet, Raw

from tests.kernel.firewall.net import HOST6, PEER6, Row, arrives, drops, is_dropped
from throughway.dataplane.nft import Nft
from throughway.policy.ruleset import RulesetSettings, transactions

MARKER = b"Throughway over IPv6"
OTHER_PEER6 = "2001:db8:2::a"

HEADERS: dict[str, Packet] = {
    "ESP": ESP(spi=0x2002, seq=1, data=MARKER),
    "AH before UDP": AH(nh=17, spi=0x2002, seq=1, icv=bytes(12)) / UDP(sport=4000, dport=4000) / Raw(MARKER),
    "AH before ESP": AH(nh=50, spi=0x2002, seq=1, icv=bytes(12)) / ESP(spi=1000, seq=1, data=MARKER),
    "IKE": UDP(sport=500, dport=500) / Raw(MARKER),
    "HIP": Raw(b"\x3b\x04" + bytes(38) + MARKER),
}
NUMBERS = {"ESP": 50, "AH before UDP": 51, "AH before ESP": 51, "IKE": 17, "HIP": 139}


def packet(name: str, source: str = PEER6, destination: str = HOST6) -> bytes:
    return bytes(IPv6(src=source, dst=destination, nh=NUMBERS[name]) / HEADERS[name])


@pytest.fixture(autouse=True)
def neighbours(row: Row) -> None:
    """Wait until all know each other: what comes before that is lost."""
    row.run("host", f"ping -6 -q -i 0.2 -c 1 -w 5 {PEER6}")


def lay(nft: Nft, *, ipv6_ipsec: bool) -> None:
    for transaction in transactions(RulesetSettings(insides=("lan0",), outside="wan0", ipv6_ipsec=ipv6_ipsec)):
        nft.apply(transaction)


@pytest.mark.parametrize("name", HEADERS)
def test_ipsec_reaches_a_host_that_never_spoke_by_default(row: Row, nft: Nft, name: str) -> None:
    lay(nft, ipv6_ipsec=True)
    peer, sniffer = row.raw("peer", socket.AF_INET6), row.sniffer("host")
    assert arrives(row, lambda: peer.sendto(packet(name), (HOST6, 0)), sniffer, MARKER)


@pytest.mark.parametrize("name", HEADERS)
def test_with_the_switch_off_only_what_the_host_began_comes_in(row: Row, nft: Nft, name: str) -> None:
    lay(nft, ipv6_ipsec=False)
    row.run("peer", f"ip addr add {OTHER_PEER6}/64 dev eth0 nodad")
    peer, host = row.raw("peer", socket.AF_INET6), row.raw("host", socket.AF_INET6)
    at_host, at_peer = row.sniffer("host"), row.sniffer("peer")
    assert is_dropped(row, lambda: peer.sendto(packet(name), (HOST6, 0)), at_host, MARKER)
    assert arrives(row, lambda: host.sendto(packet(name, HOST6, PEER6), (PEER6, 0)), at_peer, MARKER)
    assert arrives(row, lambda: peer.sendto(packet(name), (HOST6, 0)), at_host, MARKER)
    stranger = packet(name, OTHER_PEER6)
    before = drops(row, "not asked for")
    assert is_dropped(row, lambda: peer.sendto(stranger, (HOST6, 0)), row.sniffer("host"), MARKER)
    assert drops(row, "not asked for") > before


def test_another_spi_of_the_same_peer_needs_no_state_of_its_own(row: Row, nft: Nft) -> None:
    """RFC 6092 section 3.2.4: the state is of the two addresses and the protocol, never of the SPI."""
    lay(nft, ipv6_ipsec=False)
    peer, host, at_host, at_peer = (
        row.raw("peer", socket.AF_INET6),
        row.raw("host", socket.AF_INET6),
        row.sniffer("host"),
        row.sniffer("peer"),
    )
    assert arrives(row, lambda: host.sendto(packet("ESP", HOST6, PEER6), (PEER6, 0)), at_peer, MARKER)
    answer = bytes(IPv6(src=PEER6, dst=HOST6, nh=50) / ESP(spi=0x77777777, seq=1, data=b"another SPI"))
    assert arrives(row, lambda: peer.sendto(answer, (HOST6, 0)), at_host, b"another SPI")


@pytest.mark.parametrize(
    "error", [ICMPv6PacketTooBig(mtu=1280), ICMPv6DestUnreach(code=1)], ids=["too big", "unreachable"]
)
@pytest.mark.parametrize("ipv6_ipsec", [True, False])
@pytest.mark.parametrize("began", [True, False])
def test_errors_come_in_for_ipsec_that_may_and_for_flows_that_are_known(
    row: Row, nft: Nft, error: Packet, ipv6_ipsec: bool, began: bool
) -> None:
    lay(nft, ipv6_ipsec=ipv6_ipsec)
    peer, host, at_host, at_peer = (
        row.raw("peer", socket.AF_INET6),
        row.raw("host", socket.AF_INET6),
        row.sniffer("host"),
        row.sniffer("peer"),
    )
    sent = packet("ESP", HOST6, PEER6)
    if began:
        assert arrives(row, lambda: host.sendto(sent, (PEER6, 0)), at_peer, MARKER)
    message = bytes(IPv6(src=PEER6, dst=HOST6) / error / Raw(sent))
    passes = ipv6_ipsec or began
    check = arrives if passes else is_dropped
    assert check(row, lambda: peer.sendto(message, (HOST6, 0)), at_host, MARKER)
    assert drops(row, "not asked for") == (not passes)


@pytest.mark.parametrize("ipv6_ipsec", [True, False])
def test_everything_else_still_needs_to_be_asked_for(row: Row, nft: Nft, ipv6_ipsec: bool) -> None:
    lay(nft, ipv6_ipsec=ipv6_ipsec)
    peer, host = row.udp("peer", PEER6, 500), row.udp("host", HOST6, 4500)
    assert is_dropped(row, lambda: peer.sendto(b"unasked", (HOST6, 4500)), host, b"unasked")
    assert drops(row, "not asked for") == 1
