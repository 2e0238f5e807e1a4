"""Hosts that reach each other by an address of the outside, through port forwarding of the operator."""

import pytest
from scapy.layers.inet import IP

from tests.kernel.firewall.net import HOST, ROUTER_INSIDE, ROUTER_OUTSIDE, Row, next_of
from throughway.dataplane.nft import Nft

SERVER = "10.1.0.3"
FORWARDING = f"""
table ip forwarding {{ chain pre {{
    type nat hook prerouting priority -100;
    ip daddr {{ {ROUTER_OUTSIDE}, {ROUTER_INSIDE}, 198.51.100.53 }} udp dport 8080 dnat to {SERVER}:80
}}; }}
"""


@pytest.fixture
def forwarding(row: Row, ours: Nft) -> Row:
    row.run("host", f"ip addr add {SERVER}/24 dev eth0")
    row.nft(FORWARDING)
    return row


@pytest.mark.parametrize("client_address", [HOST, SERVER], ids=["another host", "the server itself"])
def test_a_host_is_seen_with_the_outside_address_and_gets_its_answer(forwarding: Row, client_address: str) -> None:
    """RFC 4787 REQ-9 a: the external source address."""
    client, server = forwarding.udp("host", client_address, 4000), forwarding.udp("host", SERVER, 80)
    client.sendto(b"page?", (ROUTER_OUTSIDE, 8080))
    question, seen_as = server.recvfrom(100)
    assert (question, seen_as[0]) == (b"page?", ROUTER_OUTSIDE)
    server.sendto(b"page", seen_as)
    assert client.recvfrom(100) == (b"page", (ROUTER_OUTSIDE, 8080))


def test_a_second_outside_address_hairpins_as_itself(forwarding: Row) -> None:
    forwarding.run("router", "ip addr add 203.0.113.77/24 dev wan0")
    forwarding.nft(FORWARDING.replace(ROUTER_OUTSIDE, "203.0.113.77").replace("chain pre", "chain second"))
    client, server = forwarding.udp("host", HOST, 4000), forwarding.udp("host", SERVER, 80)
    client.sendto(b"page?", ("203.0.113.77", 8080))
    assert server.recvfrom(100)[1][0] == "203.0.113.77"


@pytest.mark.parametrize("redirected", [ROUTER_INSIDE, "198.51.100.53"])
def test_other_redirections_of_the_operator_keep_their_sources(forwarding: Row, redirected: str) -> None:
    client, sniffer = forwarding.udp("host", HOST, 4000), forwarding.sniffer("host")
    client.sendto(b"page?", (redirected, 8080))
    while (packet := IP(next_of(sniffer, protocol=17))).dst != SERVER:
        pass
    assert (packet.src, packet.dport) == (HOST, 80)
