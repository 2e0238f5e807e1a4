"""How long the kernel remembers the flows of VPNs: read from the entries themselves."""

import socket

import pytest

from tests.kernel.firewall.net import HOST, HOST6, PEER, PEER6, Row, arrives, counted, entered
from throughway.core.ids import IpProtocol
from throughway.core.limits import Limits
from throughway.core.tracked import TrackedFlow
from throughway.dataplane.conntrack import Interest, tracked_flows
from throughway.dataplane.nft import Nft
from throughway.policy.timers import VPN_UDP_PORTS

LIMITS = Limits()
SLACK_S = 10
"""An entry is read a moment after its timer was started."""


def flow(row: Row, protocol: IpProtocol, port: int) -> TrackedFlow:
    with entered(row.name("router")):
        (found,) = tracked_flows([Interest(protocol, port)])
    return found


@pytest.mark.parametrize("port", VPN_UDP_PORTS)
def test_udp_of_vpns_is_remembered_for_five_minutes_from_the_first_packet_on(row: Row, ours: Nft, port: int) -> None:
    host, peer = row.udp("host", HOST, 4000), row.udp("peer", PEER, port)
    host.sendto(b"ask", (PEER, port))
    _, source = peer.recvfrom(100)
    assert LIMITS.udp_idle_s - SLACK_S < flow(row, IpProtocol.UDP, port).timeout_s <= LIMITS.udp_idle_s
    peer.sendto(b"answer", source)
    host.recv(100)
    answered = flow(row, IpProtocol.UDP, port)
    assert answered.is_answered
    assert LIMITS.udp_idle_s - SLACK_S < answered.timeout_s <= LIMITS.udp_idle_s


def test_other_udp_keeps_the_timers_of_the_kernel(row: Row, ours: Nft) -> None:
    host, peer = row.udp("host", HOST, 4000), row.udp("peer", PEER, 53)
    assert arrives(row, lambda: host.sendto(b"ask", (PEER, 53)), peer, b"ask")
    assert flow(row, IpProtocol.UDP, 53).timeout_s <= 30


def test_the_control_connection_of_pptp_outlives_tcp_keepalives(row: Row, ours: Nft) -> None:
    server = row.open("peer", socket.AF_INET, socket.SOCK_STREAM, bind=(PEER, 1723))
    server.listen()
    client = row.open("host", socket.AF_INET, socket.SOCK_STREAM, bind=(HOST, 4001))
    client.connect((PEER, 1723))
    with server.accept()[0]:
        left = flow(row, IpProtocol.TCP, 1723).timeout_s
    assert LIMITS.pptp_control_idle_s - SLACK_S < left <= LIMITS.pptp_control_idle_s


@pytest.mark.parametrize(("source", "port", "is_long"), [(4000, 51820, True), (500, 500, True), (4000, 53, False)])
def test_udp_over_ipv6_is_remembered_for_five_minutes_but_for_well_known_ports(
    row: Row, ours: Nft, source: int, port: int, is_long: bool
) -> None:
    row.nft(
        "table ip6 seen { chain out { type filter hook postrouting priority 300;"
        f' udp dport {port} ct expiration > {LIMITS.udp_idle_s - SLACK_S}s counter comment "long"; }}; }}'
    )
    host, peer = row.udp("host", HOST6, source), row.udp("peer", PEER6, port)
    for question in (b"ask", b"ask again"):
        assert arrives(row, lambda question=question: host.sendto(question, (PEER6, port)), peer, question)  # type: ignore[misc]
    assert counted(row, "chain ip6 seen out", '"long"') == is_long
