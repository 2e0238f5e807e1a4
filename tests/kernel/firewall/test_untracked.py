"""What has no ports passes connection tracking by, whole and in fragments, and so do ICMP errors about it.

There is no BPF here, so what it would translate arrives at the peer with the host's address: that is the
sign by which these tests know it.
"""

import socket
from itertools import permutations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.l2 import GRE
from scapy.packet import Packet, Raw

from tests.kernel.firewall.conftest import SETTINGS
from tests.kernel.firewall.net import (
    HOST,
    PEER,
    ROUTER_OUTSIDE,
    Row,
    arrives,
    counted,
    drops,
    entered,
    fragments_of,
    is_dropped,
    next_of,
    until,
)
from throughway.core.ids import IpProtocol
from throughway.dataplane import conntrack
from throughway.dataplane.nft import Nft
from throughway.policy.ruleset import transactions

WITNESS = """
table inet leaving_witness { chain out {
    type filter hook postrouting priority 300;
    ip daddr 203.0.113.9 ct state untracked meta mark & 0x10000000 != 0 counter comment "for BPF"
}; }
"""
"""Counts what leaves as BPF expects it: untracked, and with the carried bit."""

KEYED = GRE(key_present=1, key=7, proto=0x800)
PPTP_GRE = GRE(key_present=1, key=7, version=1, proto=0x880B)


def whole(protocol: int | Packet, size: int = 40) -> bytes:
    """A packet of the host to the peer: of a protocol, or with a header of its own."""
    packet = IP(src=HOST, dst=PEER, id=4711)
    if isinstance(protocol, int):
        packet.proto = protocol
        return bytes(packet / Raw(b"\x00\x00\x10\x01" + bytes(size)))
    return bytes(packet / protocol / Raw(bytes(size)))


def for_bpf(row: Row) -> int:
    return counted(row, "chain inet leaving_witness out", "for BPF")


@pytest.mark.parametrize("protocol", [4, 41, 50, 94, 97, 115, KEYED, GRE(proto=0x800)], ids=str)
def test_what_has_no_ports_leaves_untracked_for_bpf(row: Row, ours: Nft, protocol: int | Packet) -> None:
    row.nft(WITNESS)
    host, sniffer = row.raw("host"), row.sniffer("peer")
    sent = whole(protocol)
    host.sendto(sent, (PEER, 0))
    assert next_of(sniffer, protocol=sent[9])[20:] == sent[20:]
    assert for_bpf(row) == 1
    with entered(row.name("router")):
        assert (
            list(conntrack.tracked_flows([conntrack.Interest(IpProtocol.GRE), conntrack.Interest(IpProtocol.ESP)]))
            == []
        )


@pytest.mark.parametrize("protocol", [50, 115, KEYED], ids=["ESP", "L2TPv3", "GRE"])
def test_four_fragments_pass_in_every_order(row: Row, ours: Nft, protocol: int | Packet) -> None:
    host, sniffer = row.raw("host"), row.sniffer("peer")
    for number, order in enumerate(permutations(range(4)), start=1):
        sent = IP(whole(protocol, 3000))
        sent.id = number
        pieces = fragments_of(sent, 800)
        for at in order:
            host.sendto(pieces[at], (PEER, 0))
        arrived: dict[int, bytes] = {}
        while sum(map(len, arrived.values())) < len(sent) - 20:
            piece = IP(next_of(sniffer, protocol=sent.proto))
            assert (piece.src, piece.id) == (HOST, number)
            arrived[piece.frag] = bytes(piece.payload)
        assert b"".join(arrived[at] for at in sorted(arrived)) == bytes(sent)[20:], order


@pytest.mark.parametrize("destination", ["224.0.0.5", "203.0.113.255", "255.255.255.255", ROUTER_OUTSIDE])
def test_multicast_broadcast_and_the_router_itself_are_left_to_the_kernel(
    row: Row, ours: Nft, destination: str
) -> None:
    row.nft(
        "table ip seen { chain pre { type filter hook prerouting priority -100;"
        ' ip protocol 50 ct state untracked counter comment "untracked";'
        ' ip protocol 50 ct state new counter comment "new"; }; }'
    )
    host = row.raw("host")
    host.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    row.run("host", "ip route add 255.255.255.255 dev eth0 && ip route add 224.0.0.0/4 dev eth0")
    packet = IP(whole(50))
    packet.dst = destination
    if destination == "255.255.255.255":
        host.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    host.sendto(bytes(packet), (destination, 0))
    until(lambda: counted(row, "chain ip seen pre", '"new"') == 1, "conntrack sees it")
    assert counted(row, "chain ip seen pre", '"untracked"') == 0


def quoted(protocol: int | Packet, options: list[object] | None = None) -> Packet:
    """A packet that the host got from the peer, as an ICMP error of the host quotes it."""
    header = IP(src=PEER, dst=HOST, options=options or [])
    return header / protocol / Raw(bytes(8)) if isinstance(protocol, Packet) else esp_like(header, protocol)


def esp_like(header: Packet, protocol: int) -> Packet:
    header.proto = protocol
    return header / Raw(b"\x00\x00\x20\x02" + bytes(8))


@pytest.mark.parametrize(
    "about", [quoted(50), quoted(115), quoted(4), quoted(KEYED), quoted(50, [IPOption_NOP()] * 4)], ids=repr
)
def test_errors_about_what_has_no_ports_leave_untracked_for_bpf(row: Row, ours: Nft, about: Packet) -> None:
    row.nft(WITNESS)
    host, sniffer = row.raw("host"), row.sniffer("peer")
    kinds = ((3, 2), (3, 4), (4, 0), (11, 1), (12, 0))
    for kind, code in kinds:
        sent = bytes(IP(src=HOST, dst=PEER) / ICMP(type=kind, code=code) / about)
        assert arrives(row, lambda sent=sent: host.sendto(sent, (PEER, 0)), sniffer, sent[20:])  # type: ignore[misc]
    assert for_bpf(row) == len(kinds)


@pytest.mark.parametrize(
    "about",
    [
        quoted(UDP(sport=500, dport=4000)),
        quoted(TCP(sport=1723, dport=4000)),
        quoted(ICMP(type=0)),
        quoted(51),
        quoted(PPTP_GRE),
        quoted(KEYED, [IPOption_NOP()] * 4),
        quoted(50) / Raw(bytes(600)),
        Raw(b"\x65" + bytes(quoted(50))[1:]),
        Raw(bytes(quoted(50))[:19]),
    ],
    ids=range(9),
)
def test_errors_about_what_nobody_knows_never_leave(row: Row, ours: Nft, about: Packet) -> None:
    host, sniffer = row.raw("host"), row.sniffer("peer")
    sent = bytes(IP(src=HOST, dst=PEER) / ICMP(type=3, code=2) / about)
    assert is_dropped(row, lambda: host.sendto(sent, (PEER, 0)), sniffer, bytes(about)[8:])
    assert drops(row, "would leave untranslated") == 1


def test_a_redirect_about_what_has_no_ports_never_leaves(row: Row, ours: Nft) -> None:
    host, sniffer = row.raw("host"), row.sniffer("peer")
    about = quoted(50)
    sent = bytes(IP(src=HOST, dst=PEER) / ICMP(type=5, code=1, gw="10.1.0.77") / about)
    assert is_dropped(row, lambda: host.sendto(sent, (PEER, 0)), sniffer, bytes(about)[8:])


def test_an_error_about_a_flow_that_the_kernel_knows_is_translated_by_it(row: Row, ours: Nft) -> None:
    host, peer, raw, sniffer = (
        row.udp("host", HOST, 4000),
        row.udp("peer", PEER, 7),
        row.raw("host"),
        row.sniffer("peer"),
    )
    host.sendto(b"ask", (PEER, 7))
    assert peer.recvfrom(100) == (b"ask", (ROUTER_OUTSIDE, 4000))
    about = IP(src=PEER, dst=HOST) / UDP(sport=7, dport=4000) / Raw(b"too late")
    raw.sendto(bytes(IP(src=HOST, dst=PEER) / ICMP(type=3, code=3) / about), (PEER, 0))
    error = IP(next_of(sniffer, protocol=1))
    assert (error.src, error.payload.payload.dst) == (ROUTER_OUTSIDE, ROUTER_OUTSIDE)


def test_ah_is_refused_at_once_with_the_reason_and_counted(row: Row, ours: Nft) -> None:
    raw, sniffer, at_peer = row.raw("host"), row.sniffer("host"), row.sniffer("peer")
    sent = whole(51)
    assert is_dropped(row, lambda: raw.sendto(sent, (PEER, 0)), at_peer, sent[20:])
    error = IP(next_of(sniffer, protocol=1))
    assert (error[ICMP].type, error[ICMP].code) == (3, 13)
    assert (error[ICMP].payload.dst, error[ICMP].payload.proto) == (PEER, 51)
    assert "packets 1 " in row.run("router", "nft list counter inet throughway ah_refused")


@pytest.mark.parametrize("laid_late", [True, False])
def test_a_flow_from_before_our_rules_does_not_leave_untranslated(row: Row, nft: Nft, laid_late: bool) -> None:
    row.nft("table ip early { chain c { type filter hook forward priority 0; ct state new accept; }; }")
    host, sniffer = row.udp("host", HOST, 4000), row.sniffer("peer")
    if laid_late:
        assert arrives(row, lambda: host.sendto(b"before", (PEER, 7)), sniffer, b"before")
    for transaction in transactions(SETTINGS):
        nft.apply(transaction)
    if laid_late:
        assert is_dropped(row, lambda: host.sendto(b"after", (PEER, 7)), sniffer, b"after")
    else:
        assert arrives(row, lambda: host.sendto(b"after", (PEER, 7)), sniffer, b"after")
    assert drops(row, "original left untranslated") == laid_late


def test_what_somebody_else_keeps_from_being_tracked_does_not_leave(row: Row, ours: Nft) -> None:
    row.nft("table ip other { chain c { type filter hook prerouting priority -300; udp dport 9 notrack; }; }")
    host, sniffer = row.udp("host", HOST, 4000), row.sniffer("peer")
    assert is_dropped(row, lambda: host.sendto(b"untracked", (PEER, 9)), sniffer, b"untracked")
    assert drops(row, "untracked by others") == 1
