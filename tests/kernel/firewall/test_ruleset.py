"""Our table at work in the kernel, with real packets."""

import socket
import struct
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from tests.kernel.firewall.conftest import SETTINGS
from tests.kernel.firewall.net import (
    HOST,
    HOST6,
    PEER,
    PEER6,
    ROUTER_INSIDE,
    ROUTER_OUTSIDE,
    Row,
    arrives,
    drops,
    entered,
    is_dropped,
    next_of,
)
from throughway.core.blocking import Blocking
from throughway.core.errors import KernelRefused
from throughway.core.ids import IpProtocol
from throughway.dataplane import conntrack, sysctls
from throughway.dataplane.nft import Nft
from throughway.policy.ruleset import Ruleset, build, remove, switch, transactions, update
from throughway.policy.switches import SwitchRules, block

GOLDEN = Path(__file__).with_name("listing.golden")

STAND_IN = f"""
table netdev stand_in {{
    chain ingress {{
        type filter hook ingress device wan0 priority 0;
        ip daddr {ROUTER_OUTSIDE} ip protocol esp meta mark set meta mark | 0x10000000 ip daddr set {HOST}
    }}
    chain egress {{
        type filter hook egress device wan0 priority 0;
        ip saddr {HOST} ip protocol esp ip saddr set {ROUTER_OUTSIDE}
    }}
}}
"""
"""What the BPF programs do to one host's ESP, by the means of nft."""


def test_the_listing_reads_as_written_and_can_be_loaded_again(row: Row, ours: Nft) -> None:
    listing = row.run("router", "nft list table inet throughway")
    assert listing == GOLDEN.read_text()
    ours.apply(remove().to_json())
    row.nft(listing)
    assert row.run("router", "nft list table inet throughway") == listing


def test_a_listing_with_everything_switched_off_can_be_loaded_again(row: Row, ours: Nft) -> None:
    """With exceptions for devices and peers of both versions of IP, and elements in the sets."""
    device, peer = ip_address(HOST), ip_address(PEER)
    at = {(device, None): False, (device, peer): True, (None, ip_address("2001:db8::9")): False}
    blocking = [Blocking(number, True, at) for number in (4, 41, 47, 50, 51, 99, 115)]
    calls = Blocking(IpProtocol.GRE, True, at, is_pptp=True)
    rules = SwitchRules([*blocking, calls], has_flows=True, without_helper=calls, unassisted=frozenset({47, 115}))
    ours.apply(switch(replace(SETTINGS, switches=rules)).to_json())
    ours.apply(update(*block({(IPv4Address(HOST), IPv4Address(PEER), 17, 4000, 1194): "openvpn"})).to_json())
    stateless = "nft -s list table inet throughway"
    listing = row.run("router", stateless)
    assert listing.count("@th,") > 0
    ours.apply(remove().to_json())
    row.nft(listing)
    assert row.run("router", stateless) == listing


def test_hosts_are_masqueraded_and_get_their_answers(row: Row, ours: Nft) -> None:
    host, peer = row.udp("host", HOST, 4000), row.udp("peer", PEER, 7)
    host.sendto(b"ask", (PEER, 7))
    asked, source = peer.recvfrom(100)
    peer.sendto(b"answer", source)
    assert (asked, source[0]) == (b"ask", ROUTER_OUTSIDE)
    assert host.recvfrom(100) == (b"answer", (PEER, 7))


def test_what_nobody_asked_for_does_not_come_in(row: Row, ours: Nft) -> None:
    row.run("peer", f"ip route add 10.1.0.0/24 via {ROUTER_OUTSIDE}")
    host, peer = row.udp("host", HOST, 7), row.udp("peer", PEER, 4000)
    assert is_dropped(row, lambda: peer.sendto(b"unasked", (HOST, 7)), host, b"unasked")
    assert drops(row, "not asked for") == 1


def test_the_operators_port_forwarding_still_comes_in(row: Row, ours: Nft) -> None:
    row.nft(
        "table ip forwarding { chain pre { type nat hook prerouting priority -100;"
        f" iifname wan0 udp dport 8080 dnat to {HOST}:80; }}; }}"
    )
    host, peer = row.udp("host", HOST, 80), row.udp("peer", PEER, 4000)
    assert arrives(row, lambda: peer.sendto(b"page?", (ROUTER_OUTSIDE, 8080)), host, b"page?")


def test_traffic_of_the_router_itself_is_left_alone(row: Row, ours: Nft) -> None:
    router, peer, host = row.udp("router", "", 5000), row.udp("peer", PEER, 7), row.udp("host", HOST, 7)
    router.sendto(b"out", (PEER, 7))
    assert peer.recvfrom(100) == (b"out", (ROUTER_OUTSIDE, 5000))
    router.sendto(b"in", (HOST, 7))
    assert host.recvfrom(100) == (b"in", (ROUTER_INSIDE, 5000))
    peer.sendto(b"new", (ROUTER_OUTSIDE, 5000))
    assert router.recvfrom(100) == (b"new", (PEER, 7))
    router.sendto(b"loop", ("127.0.0.1", 5000))
    assert router.recv(100) == b"loop"


def test_esp_of_hosts_is_not_tracked_and_keeps_its_bytes_both_ways(row: Row, ours: Nft) -> None:
    row.nft(STAND_IN)
    host, peer = row.esp("host"), row.esp("peer")
    host.sendto(b"\x00\x00\x10\x01 to peer", (PEER, 0))
    assert peer.recv(2000)[20:] == b"\x00\x00\x10\x01 to peer"
    peer.sendto(b"\x00\x00\x20\x02 to host", (ROUTER_OUTSIDE, 0))
    assert host.recv(2000)[20:] == b"\x00\x00\x20\x02 to host"
    with entered(row.name("router")):
        assert list(conntrack.tracked_flows([conntrack.Interest(IpProtocol.ESP)])) == []


def test_fragments_of_untracked_esp_pass_each_by_itself(row: Row, ours: Nft) -> None:
    row.nft(STAND_IN)
    sniffer, host = row.sniffer("peer"), row.esp("host")
    host.sendto(b"\x00\x00\x10\x01" + bytes(2500), (PEER, 0))
    sizes = [len(next_of(sniffer, protocol=50)) for _ in range(2)]
    assert sum(sizes) == 2504 + 2 * 20


def test_the_pptp_helper_is_attached_to_control_connections(row: Row, ours: Nft) -> None:
    with entered(row.name("router")):
        sysctls.enable()
    server = row.open("peer", socket.AF_INET, socket.SOCK_STREAM, bind=(PEER, 1723))
    server.listen()
    client = row.open("host", socket.AF_INET, socket.SOCK_STREAM, bind=(HOST, 4001))
    client.connect((PEER, 1723))
    with server.accept()[0], entered(row.name("router")):
        (flow,) = conntrack.tracked_flows([conntrack.Interest(IpProtocol.TCP, 1723)])
    assert flow.helper == "pptp"
    assert (str(flow.original.source), flow.original.source_key) == (HOST, 4001)
    assert str(flow.reply.destination) == ROUTER_OUTSIDE
    assert flow.sent is not None and flow.sent.packets >= 2
    assert flow.age_s is not None and flow.age_s < 5


def test_ipv6_goes_out_and_only_answers_come_in(row: Row, ours: Nft) -> None:
    host, peer = row.udp("host", HOST6, 4000), row.udp("peer", PEER6, 7)
    stranger = row.udp("peer", PEER6, 8)
    assert arrives(row, lambda: host.sendto(b"ask", (PEER6, 7)), peer, b"ask")
    assert arrives(row, lambda: peer.sendto(b"answer", (HOST6, 4000)), host, b"answer")
    assert is_dropped(row, lambda: stranger.sendto(b"unasked", (HOST6, 4000)), host, b"unasked")
    assert drops(row, "not asked for") == 1


@pytest.mark.parametrize(("host_address", "peer_address", "size"), [(HOST, PEER, 1360), (HOST6, PEER6, 1340)])
def test_the_mss_is_clamped_to_the_route_both_ways(
    row: Row, ours: Nft, host_address: str, peer_address: str, size: int
) -> None:
    row.run("router", "ip link set wan0 mtu 1400")
    family = socket.AF_INET6 if ":" in peer_address else socket.AF_INET
    at_host, at_peer = row.sniffer("host"), row.sniffer("peer")
    server = row.open("peer", family, socket.SOCK_STREAM, bind=(peer_address, 80))
    server.listen()
    client = row.open("host", family, socket.SOCK_STREAM, bind=(host_address, 4002))
    client.connect((peer_address, 80))
    server.accept()[0].close()
    assert _mss_of(next_of(at_peer, protocol=6)) == size
    assert _mss_of(next_of(at_host, protocol=6)) == size


def test_a_transaction_that_fails_changes_nothing(row: Row, ours: Nft) -> None:
    before = row.run("router", "nft --handle list ruleset")
    nowhere = {
        "add": {"rule": {"family": "inet", "table": "throughway", "chain": "nowhere", "expr": [{"accept": None}]}}
    }
    with pytest.raises(KernelRefused, match="No such file or directory"):
        ours.apply(Ruleset((*build(SETTINGS).commands, nowhere)).to_json())
    assert row.run("router", "nft --handle list ruleset") == before


def test_applying_and_removing_leaves_the_tables_of_others_byte_for_byte(row: Row, nft: Nft) -> None:
    row.nft(
        "table inet filter { set s { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 } }\n"
        "chain forward { type filter hook forward priority 0; policy drop; ip saddr @s counter drop; }; }\n"
        "table ip throughway { chain theirs { type nat hook postrouting priority 100; oifname wan0 masquerade; }; }"
    )
    before = row.run("router", "nft --handle list ruleset")
    for transaction in transactions(SETTINGS) * 2:
        nft.apply(transaction)
    nft.apply(remove().to_json())
    nft.apply(remove().to_json())
    assert row.run("router", "nft --handle list ruleset") == before


def _mss_of(packet: bytes) -> int:
    """Read the MSS of a first segment: option 2, the first one that Linux sends (RFC 9293 section 3.2)."""
    tcp = packet[20:] if packet[0] >> 4 == 4 else packet[40:]
    assert tcp[13] & 2, "not a SYN"
    kind, length, size = struct.unpack_from("!BBH", tcp, 20)
    assert (kind, length) == (2, 4)
    return int(size)
