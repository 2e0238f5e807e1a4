"""What becomes of flows when the outside has another address."""

import socket
from ipaddress import IPv4Address

import pytest

from tests.kernel.firewall.conftest import SETTINGS
from tests.kernel.firewall.net import HOST, PEER, ROUTER_OUTSIDE, Row, arrives, drops, entered, is_dropped, until
from throughway.core.ids import IpProtocol
from throughway.dataplane.conntrack import Interest, tracked_flows
from throughway.dataplane.ctflush import BATCH, flush_of, flush_untranslated
from throughway.dataplane.nft import Nft
from throughway.policy.ruleset import transactions

FAR = "192.0.2.9"
NEW = "198.51.100.1"
OLD_ADDRESS = IPv4Address(ROUTER_OUTSIDE)


@pytest.fixture
def moved(row: Row, ours: Nft) -> Row:
    """A provider that gives the router another address, beside the old one, and takes only packets from that."""
    row.run("peer", f"ip addr add {FAR}/32 dev lo && ip addr add 198.51.100.9/24 dev eth0")
    row.run("router", f"ip route add {FAR} via {PEER}")
    return row


def move(row: Row) -> None:
    row.run("router", f"ip addr add {NEW}/24 dev wan0 && ip route replace {FAR} via 198.51.100.9")
    row.run("peer", f"ip route add unreachable {ROUTER_OUTSIDE}/32")


def udp_flows(row: Row, port: int) -> list[IPv4Address]:
    with entered(row.name("router")):
        return sorted(flow.reply.destination for flow in tracked_flows([Interest(IpProtocol.UDP, port)]))


def test_a_flow_recovers_with_its_next_packet(moved: Row) -> None:
    host, far = moved.udp("host", HOST, 4000), moved.udp("peer", FAR, 4500)
    host.sendto(b"before", (FAR, 4500))
    assert far.recvfrom(100)[1][0] == ROUTER_OUTSIDE
    move(moved)

    host.sendto(b"keeps its old address", (FAR, 4500))
    assert far.recvfrom(100)[1][0] == ROUTER_OUTSIDE

    with entered(moved.name("router")):
        assert flush_of(OLD_ADDRESS) == 1
    host.sendto(b"retransmitted", (FAR, 4500))
    data, source = far.recvfrom(100)
    assert (data, source[0]) == (b"retransmitted", NEW)
    far.sendto(b"answer", source)
    assert host.recvfrom(100) == (b"answer", (FAR, 4500))
    assert udp_flows(moved, 4500) == [IPv4Address(NEW)]


def test_only_what_was_translated_to_the_address_goes(moved: Row) -> None:
    moved.nft(
        "table ip forwarding { chain pre { type nat hook prerouting priority -100;"
        f" iifname wan0 udp dport 8080 dnat to {HOST}:80; }}; }}"
    )
    host, router = moved.udp("host", HOST, 4000), moved.udp("router", "", 5000)
    server, peer = moved.udp("host", HOST, 80), moved.udp("peer", PEER, 4000)
    ports = range(20000, 20000 + 3 * BATCH + 7)
    for port in ports:
        host.sendto(b"x", (PEER, port))
    router.sendto(b"of the router", (PEER, 4000))
    assert peer.recv(100) == b"of the router"
    assert arrives(moved, lambda: peer.sendto(b"page?", (ROUTER_OUTSIDE, 8080)), server, b"page?")
    move(moved)
    host.sendto(b"new", (FAR, 4500))

    with entered(moved.name("router")):
        assert flush_of(OLD_ADDRESS) == len(ports) + 1
        left = {(flow.original.source, flow.original.destination) for flow in tracked_flows([Interest(IpProtocol.UDP)])}
        assert flush_of(OLD_ADDRESS) == 0
    assert left == {(OLD_ADDRESS, IPv4Address(PEER)), (IPv4Address(HOST), IPv4Address(FAR))}


def test_an_address_that_nothing_uses_flushes_nothing(moved: Row) -> None:
    host, far = moved.udp("host", HOST, 4000), moved.udp("peer", FAR, 4500)
    assert arrives(moved, lambda: host.sendto(b"before", (FAR, 4500)), far, b"before")
    with entered(moved.name("router")):
        assert flush_of(IPv4Address("192.0.2.77")) == 0
    assert udp_flows(moved, 4500) == [OLD_ADDRESS]


@pytest.fixture
def begun(row: Row, nft: Nft) -> socket.socket:
    """A host whose flow began before our rules, untranslated, in a table that has only just begun to track."""
    row.nft("table inet tracks { chain c { type filter hook forward priority 0; ct state new accept; }; }")
    host, peer = row.udp("host", HOST, 4000), row.udp("peer", PEER, 4500)
    row.run("peer", f"ip route add {HOST} via {ROUTER_OUTSIDE}")
    assert arrives(row, lambda: host.sendto(b"before", (PEER, 4500)), peer, b"before")
    for transaction in transactions(SETTINGS):
        nft.apply(transaction)
    assert is_dropped(row, lambda: host.sendto(b"untranslated", (PEER, 4500)), peer, b"untranslated")
    assert drops(row, "original left untranslated") == 1
    return host


def flush(row: Row) -> int:
    with entered(row.name("router")):
        return flush_untranslated({socket.if_nametoindex("lan0")}, socket.if_nametoindex("wan0"))


def test_a_flow_from_before_our_rules_is_translated_from_its_next_packet_on(row: Row, begun: socket.socket) -> None:
    peer = row.udp("peer", PEER, 4500)
    assert flush(row) == 1
    begun.sendto(b"after", (PEER, 4500))
    assert peer.recvfrom(100)[1][0] == ROUTER_OUTSIDE
    assert flush(row) == 0


def test_what_does_not_go_through_the_outside_is_left_alone(row: Row, begun: socket.socket) -> None:
    """The router's own flows, those to the router, those to a third network, and those that are translated."""
    row.run("router", "ip link add dmz0 type dummy 2>/dev/null || ip tuntap add dmz0 mode tun")
    row.run("router", "ip addr add 10.5.0.1/24 dev dmz0 && ip link set dmz0 up")
    router, own = row.udp("router", "", 5000), row.udp("router", "10.1.0.1", 7)
    router.sendto(b"of the router", (PEER, 4000))
    begun.sendto(b"to the router", ("10.1.0.1", 7))
    assert own.recv(100) == b"to the router"
    begun.sendto(b"to the third network", ("10.5.0.9", 9))
    begun.sendto(b"translated", (PEER, 9))
    kept = [(HOST, 7), (HOST, 9), (HOST, 9), (ROUTER_OUTSIDE, 4000)]

    def flows() -> list[tuple[str, int]]:
        with entered(row.name("router")):
            found = [flow.original for flow in tracked_flows([Interest(IpProtocol.UDP)])]
        return sorted((str(each.source), each.destination_key) for each in found)

    until(lambda: flows() == sorted([*kept, (HOST, 4500)]), f"the flows are there: {flows()}")
    assert flush(row) == 1
    assert flows() == kept
