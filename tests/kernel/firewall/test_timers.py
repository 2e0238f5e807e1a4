"""How long the kernel remembers the flows of VPNs: read from the entries themselves."""

import socket
import time
from dataclasses import replace

import pytest

from tests.kernel.firewall.conftest import SETTINGS
from tests.kernel.firewall.net import HOST, HOST6, PEER, PEER6, Row, arrives, counted, entered, until
from throughway.core.ids import IpProtocol
from throughway.core.limits import Limits
from throughway.core.tracked import TrackedFlow
from throughway.dataplane.conntrack import Interest, tracked_flows
from throughway.dataplane.nft import Nft
from throughway.policy.ruleset import transactions
from throughway.policy.timers import VPN_UDP_PORTS

LIMITS = Limits()
SLACK_S = 10
"""An entry is read a moment after its timer was started."""
SHORT_S = 2
TICK_S = 0.02
"""The kernel counts in ticks, of which it may take one less."""


@pytest.fixture
def short(row: Row, nft: Nft) -> Nft:
    """The router with our table, and every timer cut short."""
    for transaction in transactions(SETTINGS, replace(LIMITS, udp_idle_s=SHORT_S, pptp_control_idle_s=SHORT_S)):
        nft.apply(transaction)
    return nft


def life_s(row: Row, protocol: IpProtocol, port: int, since: float) -> float:
    """Wait until the kernel has forgotten the one flow there is, and return how long after its last packet that was."""
    last = flow(row, protocol, port)

    def is_gone() -> bool:
        with entered(row.name("router")):
            return not list(tracked_flows([Interest(protocol, port)]))

    until(is_gone, f"{last} is forgotten")
    return time.monotonic() - since


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


def test_udp_is_forgotten_at_its_limit_and_not_before(row: Row, short: Nft) -> None:
    host, peer = row.udp("host", HOST, 4000), row.udp("peer", PEER, 4500)
    host.sendto(b"ask", (PEER, 4500))
    _, source = peer.recvfrom(100)
    began = time.monotonic()
    peer.sendto(b"answer", source)
    host.recv(100)
    assert SHORT_S - TICK_S <= life_s(row, IpProtocol.UDP, 4500, began) < SHORT_S + 1


def test_unanswered_udp_is_forgotten_at_the_same_limit(row: Row, short: Nft) -> None:
    host, peer = row.udp("host", HOST, 4000), row.udp("peer", PEER, 500)
    began = time.monotonic()
    assert arrives(row, lambda: host.sendto(b"ask", (PEER, 500)), peer, b"ask")
    assert SHORT_S - TICK_S <= life_s(row, IpProtocol.UDP, 500, began) < SHORT_S + 1


def test_the_control_connection_of_pptp_is_forgotten_at_its_limit(row: Row, short: Nft) -> None:
    server = row.open("peer", socket.AF_INET, socket.SOCK_STREAM, bind=(PEER, 1723))
    server.listen()
    client = row.open("host", socket.AF_INET, socket.SOCK_STREAM, bind=(HOST, 4001))
    client.connect((PEER, 1723))
    with server.accept()[0]:
        began = time.monotonic()
        client.sendall(b"last words")
        assert SHORT_S - TICK_S <= life_s(row, IpProtocol.TCP, 1723, began) < SHORT_S + 1
