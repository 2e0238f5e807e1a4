"""UDP whose port is kept: named by what is behind the UDP header, translated with its checksum, and nobody else's."""

import struct
from ipaddress import IPv4Address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Packet, Raw

from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, UdpPort
from throughway.core.reasons import Reason
from throughway.dataplane.abi import KeptFlag, ObservedKind, PuntKind

from .gateway import (
    ALICE,
    BOB,
    CARRIED,
    DROP,
    OUTSIDE,
    PASS,
    PEER,
    REDIRECT,
    REINJECTED,
    ROUTER,
    STRANGER,
    TAKEN,
    THEIRS,
    Gateway,
    cut,
    quote,
    sum_of_icmp,
)

SPI = 0xF00D_CAFE_0123_4567
TUNNEL = 3 << 32
CONTROL = 1 << 32


def ike(source: str, destination: str, spi: int = SPI, size: int = 60, **udp: Any) -> Packet:
    """Build an IKE message between ports 500, with this much behind its header."""
    header = struct.pack("!QQBBBBII", spi, 7, 33, 0x20, 34, 8, 0, 28 + size)
    ports = {"sport": 500, "dport": 500} | udp
    return IP(src=source, dst=destination, id=4711) / UDP(**ports) / Raw(header + bytes(i & 0xFF for i in range(size)))


def l2tp(source: str, destination: str, message: bytes) -> Packet:
    return IP(src=source, dst=destination) / UDP(sport=1701, dport=1701) / Raw(message)


def readdressed(packet: Packet, **addresses: str) -> bytes:
    """Return what the packet is with other addresses and the checksums that scapy computes: the oracle."""
    changed = IP(bytes(packet))
    for name, address in addresses.items():
        setattr(changed, name, address)
    del changed.chksum
    if changed[UDP].chksum:
        del changed[UDP].chksum
    return bytes(changed)


def to_inside(spi: int = SPI, peer: str = PEER, port: int = 500, slot: int = 0) -> FlowKey:
    return FlowKey.to_inside(IpProtocol.UDP, Path(Peer(IPv4Address(peer)), slot), spi, port)


def to_peer(host: str = ALICE, spi: int = SPI, peer: str = PEER, port: int = 500) -> FlowKey:
    return FlowKey.to_peer(IpProtocol.UDP, Host(IPv4Address(host)), Peer(IPv4Address(peer)), spi, port)


def keep(gateway: Gateway, flags: KeptFlag = KeptFlag.IKE | KeptFlag.L2TP, peer: str = PEER) -> None:
    gateway.loaded.maps["kept_ports"].update(IPv4Address(peer).packed, struct.pack("=I", flags))


@pytest.fixture
def keeping(gateway: Gateway) -> Gateway:
    """A gateway where hosts keep both ports with the peer."""
    keep(gateway)
    return gateway


def test_ike_to_the_peer_leaves_with_our_address_and_a_right_checksum(keeping: Gateway) -> None:
    packet = ike(ALICE, PEER)
    assert keeping.from_inside(packet).verdict == TAKEN
    (punt,) = keeping.punted()
    assert (punt.kind, punt.key, punt.frame[14:]) == (PuntKind.HELD, to_peer(), bytes(packet))
    keeping.decide(to_peer(), ALICE)
    out = keeping.from_inside(packet, mark=REINJECTED | THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, readdressed(packet, src=OUTSIDE), THEIRS)


def test_ike_to_the_inside_goes_to_its_host(keeping: Gateway) -> None:
    packet = ike(PEER, OUTSIDE)
    assert keeping.from_outside(packet).verdict == TAKEN
    (punt,) = keeping.punted()
    assert punt.key == to_inside()
    keeping.decide(to_inside(), BOB)
    inside = keeping.pass_held(to_inside(), packet)
    assert (inside.verdict, inside.packet) == (PASS, readdressed(packet, dst=BOB))
    again = keeping.from_outside(packet)
    assert (again.verdict, again.packet, again.mark) == (PASS, readdressed(packet, dst=BOB), CARRIED)


def test_a_datagram_without_checksum_keeps_none(keeping: Gateway) -> None:
    packet = IP(bytes(ike(ALICE, PEER, chksum=0)))
    keeping.decide(to_peer(), ALICE)
    out = keeping.from_inside(packet)
    assert out.packet == readdressed(packet, src=OUTSIDE)
    assert IP(out.packet)[UDP].chksum == 0


def test_a_checksum_that_comes_to_0_is_written_as_all_ones(keeping: Gateway) -> None:
    """RFC 768: 0 would say that there is none."""
    packet = IP(bytes(ike(ALICE, PEER)))
    there = IP(readdressed(packet, src=OUTSIDE))
    low = int.from_bytes(bytes(there[UDP].payload)[-2:])
    total = low + there[UDP].chksum
    filler = (total & 0xFFFF) + (total >> 16)
    packet = IP(bytes(ike(ALICE, PEER))[:-2] + filler.to_bytes(2))
    del packet[UDP].chksum
    packet = IP(bytes(packet))
    keeping.decide(to_peer(), ALICE)
    out = IP(keeping.from_inside(packet).packet)
    assert out[UDP].chksum == 0xFFFF
    assert bytes(out) == readdressed(packet, src=OUTSIDE)


def test_every_copy_of_a_fan_out_has_a_right_checksum(keeping: Gateway) -> None:
    keeping.decide(to_inside(), BOB, ALICE)
    last = keeping.from_outside(ike(PEER, OUTSIDE))
    assert (last.verdict, last.packet) == (PASS, readdressed(ike(PEER, OUTSIDE), dst=ALICE))
    assert keeping.counted()[Reason.FAN_OUT_COPY] == 1


L2TP_MESSAGES = [
    pytest.param(struct.pack("!6H", 0xC802, 12, 0x1234, 0, 0, 0), TUNNEL | 0x1234, id="version 2, control"),
    pytest.param(struct.pack("!6H", 0xC802, 12, 0, 0, 0, 0), TUNNEL, id="version 2, before an ID is assigned"),
    pytest.param(struct.pack("!3H", 0x0002, 0x1234, 9) + b"data", TUNNEL | 0x1234, id="version 2, data"),
    pytest.param(
        struct.pack("!4H", 0x4002, 12, 0x1234, 9) + b"data", TUNNEL | 0x1234, id="version 2, data with length"
    ),
    pytest.param(struct.pack("!2HI2H", 0xC803, 12, 0xA0B0C0D, 0, 0), CONTROL | 0xA0B0C0D, id="version 3, control"),
    pytest.param(struct.pack("!2HI", 0x0003, 0, 0xA0B0C0D) + b"data", 0xA0B0C0D, id="version 3, data"),
]


@pytest.mark.parametrize(("message", "discriminator"), L2TP_MESSAGES)
def test_l2tp_of_both_versions_has_a_name(keeping: Gateway, message: bytes, discriminator: int) -> None:
    packet = l2tp(ALICE, PEER, message)
    key = to_peer(spi=discriminator, port=UdpPort.L2TP)
    assert keeping.from_inside(packet).verdict == TAKEN
    (punt,) = keeping.punted()
    assert punt.key == key
    keeping.decide(key, ALICE)
    assert keeping.pass_held(key, packet).packet == readdressed(packet, src=OUTSIDE)


@pytest.mark.parametrize(
    "packet",
    [
        ike(ALICE, PEER, spi=0),
        IP(src=ALICE, dst=PEER) / UDP(sport=500, dport=500) / Raw(b"short"),
        l2tp(ALICE, PEER, b"\xc8\x02\0\x0c"),
        l2tp(ALICE, PEER, struct.pack("!2H", 0xC803, 4) + b"\0\0"),
        l2tp(ALICE, PEER, struct.pack("!6H", 0xC801, 12, 1, 0, 0, 0)),
    ],
    ids=["no SPI", "short IKE", "short version 2", "short version 3", "version 1"],
)
def test_what_has_no_name_does_not_leave(keeping: Gateway, packet: Packet) -> None:
    assert keeping.from_inside(packet).verdict == DROP
    assert keeping.counted()[Reason.MALFORMED] == 1


@pytest.mark.parametrize(
    ("packet", "flags"),
    [
        (ike(PEER, OUTSIDE), KeptFlag.L2TP),
        (ike(PEER, OUTSIDE), KeptFlag.NONE),
        (ike(STRANGER, OUTSIDE), KeptFlag.IKE),
        (ike(PEER, OUTSIDE, dport=4711), KeptFlag.IKE),
        (ike(PEER, OUTSIDE, sport=4711), KeptFlag.IKE),
        (ike(PEER, OUTSIDE, sport=4500, dport=4500), KeptFlag.IKE),
        (IP(src=PEER, dst=OUTSIDE, proto=17) / Raw(b"short"), KeptFlag.IKE),
    ],
    ids=["the other port", "none", "another peer", "to another port", "from another port", "floated", "cut"],
)
def test_all_other_datagrams_are_the_kernels(gateway: Gateway, packet: Packet, flags: KeptFlag) -> None:
    keep(gateway, flags)
    outcome = gateway.from_outside(packet, mark=THEIRS)
    assert (outcome.verdict, outcome.packet, outcome.mark) == (PASS, bytes(packet), THEIRS)
    assert gateway.punted() == []


def test_a_port_is_kept_with_every_peer_where_the_operator_wants_that(gateway: Gateway) -> None:
    gateway.configure(ports_kept=KeptFlag.IKE)
    assert gateway.from_inside(ike(ALICE, STRANGER)).verdict == TAKEN
    (punt,) = gateway.punted()
    assert punt.key == to_peer(peer=STRANGER)


def test_what_masquerade_has_translated_passes(keeping: Gateway) -> None:
    """A host whose flow connection tracking still has, or one with another port."""
    packet = ike(OUTSIDE, PEER, sport=1024)
    assert keeping.from_inside(packet).packet == bytes(packet)


def test_strangers_and_the_routers_own_pass_to_the_stack(keeping: Gateway) -> None:
    keeping.know_peer(PEER, by_host=False)
    packet = ike(PEER, OUTSIDE)
    assert keeping.from_outside(packet).packet == bytes(packet)
    keeping.know_peer(PEER, by_host=True)
    keeping.decide(to_peer(ROUTER), ROUTER)
    keeping.decide(to_inside(), ROUTER)
    assert keeping.from_outside(packet).packet == bytes(packet)


def test_the_routers_own_ike_is_told_and_passes(keeping: Gateway) -> None:
    packet = ike(OUTSIDE, PEER)
    assert keeping.from_inside(packet).packet == bytes(packet)
    (punt,) = keeping.punted()
    assert (punt.kind, punt.key) == (PuntKind.COPY, to_peer(ROUTER))
    (seen,) = keeping.observed()
    assert (seen.kind, str(seen.host), seen.host_port) == (ObservedKind.IKE, ROUTER, 500)


def test_fragments_follow_their_first_one_both_ways(keeping: Gateway) -> None:
    keeping.decide(to_peer(), ALICE)
    keeping.decide(to_inside(), BOB)
    whole_out, whole_in = ike(ALICE, PEER, size=3000), ike(PEER, OUTSIDE, size=3000)
    out = [IP(keeping.from_inside(piece).packet) for piece in cut(whole_out)]
    inside = [IP(keeping.from_outside(piece).packet) for piece in cut(whole_in)]
    for pieces, wanted in ((out, readdressed(whole_out, src=OUTSIDE)), (inside, readdressed(whole_in, dst=BOB))):
        assert {(piece.src, piece.dst) for piece in pieces} == {(IP(wanted).src, IP(wanted).dst)}
        assert b"".join(bytes(piece.payload) for piece in pieces) == wanted[20:]


def test_a_fragment_before_its_first_one_waits_and_one_of_another_port_passes(keeping: Gateway) -> None:
    first, *_, last = cut(ike(PEER, OUTSIDE, sport=4500, dport=4500, size=3000))
    assert keeping.from_outside(last).verdict == TAKEN
    assert keeping.from_outside(first).packet == bytes(first)
    held, told = keeping.punted()
    assert (held.kind, told.kind) == (PuntKind.FRAGMENT, PuntKind.FIRST_FRAGMENT)
    back = keeping.from_inside(last, mark=CARRIED | REINJECTED)
    assert back.verdict == REDIRECT
    assert keeping.from_outside(last).packet == bytes(last)


@pytest.mark.parametrize("checksum", [None, 0], ids=["checksum", "none"])
@pytest.mark.parametrize("code", [1, 4])
def test_an_error_about_what_a_host_sent_comes_to_it(keeping: Gateway, checksum: int | None, code: int) -> None:
    keeping.decide(to_peer(), ALICE)
    sent = ike(ALICE, PEER, **({} if checksum is None else {"chksum": checksum}))
    left = keeping.from_inside(sent).packet
    error = IP(src=STRANGER, dst=OUTSIDE) / ICMP(type=3, code=code, nexthopmtu=1400) / quote(IP(left))
    inside = keeping.from_outside(error)
    assert (inside.verdict, inside.mark) == (PASS, CARRIED)
    assert IP(inside.packet).dst == ALICE
    assert inside.packet[28:] == bytes(sent)
    assert sum_of_icmp(inside.packet) == 0xFFFF


@pytest.mark.parametrize("checksum", [None, 0], ids=["checksum", "none"])
def test_an_error_of_a_host_leaves_with_our_address_inside_and_out(keeping: Gateway, checksum: int | None) -> None:
    keeping.decide(to_inside(), ALICE)
    came = ike(PEER, OUTSIDE, **({} if checksum is None else {"chksum": checksum}))
    delivered = keeping.from_outside(came).packet
    error = IP(src=ALICE, dst=PEER) / ICMP(type=11, code=1) / quote(IP(delivered))
    out = keeping.from_inside(error)
    assert out.verdict == PASS
    assert IP(out.packet).src == OUTSIDE
    assert out.packet[28:] == bytes(came)
    assert sum_of_icmp(out.packet) == 0xFFFF


def test_errors_about_other_datagrams_are_the_kernels(keeping: Gateway) -> None:
    for sent in (ike(OUTSIDE, PEER, sport=1024), ike(OUTSIDE, STRANGER), cut(ike(OUTSIDE, PEER, size=2000))[1]):
        error = IP(src=STRANGER, dst=OUTSIDE) / ICMP(type=3, code=1) / quote(sent, 60)
        assert keeping.from_outside(error).packet == bytes(error)
    for came in (ike(PEER, ALICE, dport=1024), ike(STRANGER, ALICE)):
        error = IP(src=ALICE, dst=came.src) / ICMP(type=3, code=3) / quote(came, 60)
        assert keeping.from_inside(error).packet == bytes(error)


def test_control_messages_of_l2tp_are_observed_and_data_is_not(keeping: Gateway) -> None:
    control = struct.pack("!6H", 0xC802, 12, 5, 0, 0, 0)
    keeping.run("inside_ingress", l2tp(ALICE, PEER, control))
    keeping.run("inside_egress", l2tp(PEER, ALICE, control))
    keeping.run("inside_ingress", l2tp(ALICE, PEER, struct.pack("!3H", 2, 5, 9)))
    sent, got = keeping.observed()
    for seen in (sent, got):
        assert (seen.kind, seen.protocol, seen.message) == (ObservedKind.CONTROL, 17, control)
        assert (str(seen.host), str(seen.peer), seen.host_port) == (ALICE, PEER, 1701)


def test_each_address_has_flows_of_its_own_and_errors_about_them_are_told_apart(keeping: Gateway) -> None:
    """Two hosts with one SPI, by two addresses: what they send, what comes, and errors both ways."""
    second = "192.0.2.7"
    keeping.configure(addresses=(IPv4Address(OUTSIDE), IPv4Address(second)))
    for slot, host in enumerate((ALICE, BOB)):
        keeping.decide(to_peer(host), host, slot=slot)
        keeping.decide(to_inside(slot=slot), host)
    for address, host in ((OUTSIDE, ALICE), (second, BOB)):
        sent, came = ike(host, PEER), ike(PEER, address)
        left, delivered = keeping.from_inside(sent).packet, keeping.from_outside(came).packet
        assert left == readdressed(sent, src=address)
        assert delivered == readdressed(came, dst=host)
        refused = IP(src=STRANGER, dst=address) / ICMP(type=3, code=1) / quote(IP(left))
        inside = keeping.from_outside(refused).packet
        assert (IP(inside).dst, inside[28:]) == (host, bytes(sent))
        late = IP(src=host, dst=PEER) / ICMP(type=11, code=1) / quote(IP(delivered))
        out = keeping.from_inside(late).packet
        assert (IP(out).src, out[28:]) == (address, bytes(came))
        assert sum_of_icmp(inside) == sum_of_icmp(out) == 0xFFFF


def test_a_port_is_kept_at_every_address_of_ours(keeping: Gateway) -> None:
    keeping.configure(addresses=(IPv4Address(OUTSIDE), IPv4Address("192.0.2.7")))
    assert keeping.from_outside(ike(PEER, "192.0.2.7")).verdict == TAKEN
    assert keeping.from_inside(ike("192.0.2.7", PEER, sport=1024)).verdict == PASS
    assert keeping.from_inside(ike("192.0.2.7", PEER)).verdict == PASS
    held, copy = keeping.punted()
    assert held.key == to_inside(slot=1)
    assert (copy.kind, copy.key, copy.slot) == (PuntKind.COPY, to_peer(ROUTER), 1)


def test_the_port_at_the_hosts_end_is_told(keeping: Gateway) -> None:
    keeping.run("inside_ingress", ike(ALICE, PEER, sport=4711))
    keeping.run("inside_egress", ike(PEER, ALICE, dport=4712))
    assert [seen.host_port for seen in keeping.observed()] == [4711, 4712]
