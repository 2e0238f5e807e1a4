"""Datagrams whose port hosts keep pass connection tracking by, whole, and so do ICMP errors about them.

There is no BPF here, so what it would translate arrives with the host's address.
"""

import socket
from ipaddress import IPv4Address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP, IPOption_NOP
from scapy.packet import Packet, Raw

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
)
from tests.kernel.firewall.test_untracked import WITNESS
from throughway.core.errors import KernelRefused
from throughway.core.ids import IpProtocol, UdpPort
from throughway.core.ids import Peer as PeerAddress
from throughway.core.kept_ports import PortSetting
from throughway.dataplane.conntrack import Interest, tracked_flows
from throughway.dataplane.ctflush import flush_port
from throughway.dataplane.nft import Nft
from throughway.policy.kept import PortRules, keep, translate
from throughway.policy.ruleset import RulesetSettings, transactions, update

KEEPER = PeerAddress(IPv4Address(PEER))
PORTS = [UdpPort.IKE, UdpPort.L2TP]


def lay(row: Row, nft: Nft, ports: PortRules) -> None:
    with entered(row.name("router")):
        outside = socket.if_nametoindex("wan0")
    for transaction in transactions(RulesetSettings(insides=("lan0",), outside="wan0", attached=outside, ports=ports)):
        nft.apply(transaction)


@pytest.fixture
def keeping(row: Row, nft: Nft) -> Nft:
    """The router with our table, where both ports were learned of the peer."""
    lay(row, nft, PortRules(learned=[(KEEPER, port) for port in PORTS]))
    row.nft(WITNESS)
    return nft


def for_bpf(row: Row) -> int:
    return counted(row, "chain inet leaving_witness out", "for BPF")


def flows(row: Row, port: int) -> int:
    with entered(row.name("router")):
        return len(list(tracked_flows([Interest(IpProtocol.UDP, port)])))


def datagram(sport: int, dport: int, size: int = 40) -> Packet:
    return IP(src=HOST, dst=PEER, id=4711) / UDP(sport=sport, dport=dport) / Raw(b"kept" + bytes(size))


@pytest.mark.parametrize("port", PORTS)
def test_what_keeps_its_port_leaves_untracked_and_marked(row: Row, keeping: Nft, port: int) -> None:
    host, sniffer = row.raw("host"), row.sniffer("peer")
    host.sendto(bytes(datagram(port, port)), (PEER, 0))
    assert IP(next_of(sniffer, protocol=17)).src == HOST
    assert for_bpf(row) == 1
    assert flows(row, port) == 0


@pytest.mark.parametrize(("sport", "dport"), [(4711, 500), (500, 4711), (4500, 4500), (500, 1701)])
def test_every_other_datagram_is_masqueraded(row: Row, keeping: Nft, sport: int, dport: int) -> None:
    host, sniffer = row.raw("host"), row.sniffer("peer")
    host.sendto(bytes(datagram(sport, dport)), (PEER, 0))
    assert IP(next_of(sniffer, protocol=17)).src == ROUTER_OUTSIDE


def test_a_peer_comes_and_goes(row: Row, ours: Nft) -> None:
    host, sniffer = row.raw("host"), row.sniffer("peer")

    def source() -> str:
        host.sendto(bytes(datagram(500, 500)), (PEER, 0))
        return str(IP(next_of(sniffer, protocol=17)).src)

    assert source() == ROUTER_OUTSIDE
    for _ in range(2):
        ours.apply(update(keep(KEEPER, UdpPort.IKE)).to_json())
    assert source() == HOST
    ours.apply(update(translate(KEEPER, UdpPort.IKE)).to_json())
    assert source() == ROUTER_OUTSIDE
    with pytest.raises(KernelRefused):
        ours.apply(update(translate(KEEPER, UdpPort.IKE)).to_json())


@pytest.mark.parametrize(
    ("setting", "source"), [(PortSetting.KEEP, HOST), (PortSetting.TRANSLATE, ROUTER_OUTSIDE)], ids=str
)
def test_the_operators_word_holds_for_every_peer(row: Row, nft: Nft, setting: PortSetting, source: str) -> None:
    lay(row, nft, PortRules(dict.fromkeys(UdpPort, setting), [(KEEPER, UdpPort.IKE)]))
    host, sniffer = row.raw("host"), row.sniffer("peer")
    host.sendto(bytes(datagram(500, 500)), (PEER, 0))
    assert IP(next_of(sniffer, protocol=17)).src == source


def test_fragments_are_put_together_first_and_leave_cut_again(row: Row, keeping: Nft) -> None:
    host, sniffer = row.raw("host"), row.sniffer("peer")
    sent = datagram(500, 500, 4000)
    first, *later = fragments_of(IP(bytes(sent)), 1200)
    for piece in (*later, first):
        host.sendto(piece, (PEER, 0))
    arrived: dict[int, bytes] = {}
    while sum(map(len, arrived.values())) < len(sent) - 20:
        came = IP(next_of(sniffer, protocol=17))
        assert came.src == HOST
        arrived[came.frag] = bytes(came.payload)
    assert b"".join(arrived[at] for at in sorted(arrived)) == bytes(sent)[20:]


def quoted(sport: int = 500, dport: int = 500, **ip: Any) -> Packet:
    """What the host got from the peer, as its ICMP error quotes it."""
    return IP(src=PEER, dst=HOST, **ip) / UDP(sport=sport, dport=dport) / Raw(bytes(28))


@pytest.mark.parametrize("port", PORTS)
def test_errors_about_it_leave_untracked_for_bpf(row: Row, keeping: Nft, port: int) -> None:
    host, sniffer = row.raw("host"), row.sniffer("peer")
    sent = bytes(IP(src=HOST, dst=PEER) / ICMP(type=11, code=1) / quoted(port, port))
    assert arrives(row, lambda: host.sendto(sent, (PEER, 0)), sniffer, sent[20:])
    assert for_bpf(row) == 1


@pytest.mark.parametrize(
    "about",
    [quoted(dport=4000), quoted(500, 1701), quoted(frag=7), quoted(options=[IPOption_NOP()] * 4)],
    ids=["another port", "two ports", "a later fragment", "options"],
)
def test_errors_about_anything_else_never_leave(row: Row, keeping: Nft, about: Packet) -> None:
    host, sniffer = row.raw("host"), row.sniffer("peer")
    sent = bytes(IP(src=HOST, dst=PEER) / ICMP(type=3, code=3) / about)
    assert is_dropped(row, lambda: host.sendto(sent, (PEER, 0)), sniffer, bytes(about)[8:])
    assert drops(row, "would leave untranslated") == 1


def test_what_was_tracked_of_the_port_and_the_peer_is_forgotten_and_nothing_else(row: Row, ours: Nft) -> None:
    own = row.udp("router", ROUTER_OUTSIDE, 500)
    own.sendto(b"the router's own", (PEER, 500))
    host, sniffer = row.raw("host"), row.sniffer("peer")
    for sport, dport in ((500, 500), (4711, 500), (1701, 1701)):
        assert arrives(row, lambda s=sport, d=dport: host.sendto(bytes(datagram(s, d)), (PEER, 0)), sniffer, b"kept")  # type: ignore[misc]
    with entered(row.name("router")):
        assert flush_port(IPv4Address("203.0.113.8"), UdpPort.IKE) == 0
        assert flush_port(KEEPER, UdpPort.IKE) == 1
    assert (flows(row, 500), flows(row, 1701)) == (2, 1)
