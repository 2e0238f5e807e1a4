"""What the lab builds is what scapy builds, and what our own parsers read."""

from ipaddress import IPv4Address
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import GRE
from scapy.packet import Raw

from throughway.core.events import IkeExchange
from throughway.lab.packets import builder
from throughway.lab.packets.builder import Packet, filler, joined, repeated
from throughway.wire import ike, ipv4

ALICE = IPv4Address("10.77.0.11")
PEER = IPv4Address("198.51.100.10")
SHARED = IPv4Address("192.0.2.2")

packets = st.builds(
    Packet,
    source=st.ip_addresses(v=4),
    destination=st.ip_addresses(v=4),
    protocol=st.integers(0, 255),
    payload=st.binary(max_size=200),
    identification=st.integers(0, 0xFFFF),
    ttl=st.integers(0, 255),
    dont_fragment=st.booleans(),
    more_fragments=st.booleans(),
    fragment_offset=st.integers(0, 0x1FFF).map(lambda units: units * 8),
    service=st.integers(0, 255),
)


@given(packets)
def test_what_is_written_is_read_again_as_it_was(packet: Packet) -> None:
    assert Packet.read(packet.to_bytes()) == packet


@given(packets)
def test_scapy_writes_the_same_bytes(packet: Packet) -> None:
    flags = "DF" * packet.dont_fragment + "+MF" * packet.more_fragments
    oracle = IP(
        src=str(packet.source),
        dst=str(packet.destination),
        proto=packet.protocol,
        id=packet.identification,
        ttl=packet.ttl,
        flags=flags.removeprefix("+"),
        frag=packet.fragment_offset // 8,
        tos=packet.service,
    ) / Raw(packet.payload)
    assert packet.to_bytes() == bytes(oracle)


def test_a_packet_with_a_wrong_header_checksum_is_not_read() -> None:
    data = bytearray(Packet(ALICE, PEER, 50, bytes(8)).to_bytes())
    data[10] ^= 1
    assert Packet.read(bytes(data)) is None


def test_a_packet_after_the_gateway_differs_in_ttl_and_one_address() -> None:
    sent = Packet(ALICE, PEER, 50, b"12345678", identification=7, dont_fragment=True)
    assert sent.after(2, source=SHARED) == Packet(
        SHARED, PEER, 50, b"12345678", identification=7, ttl=62, dont_fragment=True
    )


def test_fragments_are_those_that_scapy_cuts() -> None:
    packet = Packet(ALICE, PEER, 50, filler(4000, 1), identification=9)
    parts = packet.cut(4)
    oracle = fragment(IP(packet.to_bytes()), fragsize=len(parts[0].payload))  # type: ignore[no-untyped-call]
    assert [part.to_bytes() for part in parts] == [bytes(IP(bytes(one))) for one in oracle]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_fragments_in_any_order_are_the_packet_again(order: tuple[int, ...]) -> None:
    packet = Packet(ALICE, PEER, 50, filler(4001, 1), identification=9)
    parts = packet.cut(4)
    assert joined(parts[at] for at in order) == [packet]


def test_a_packet_without_one_of_its_fragments_is_not_whole() -> None:
    parts = Packet(ALICE, PEER, 50, filler(4000, 1)).cut(4)
    for missing in range(4):
        assert joined(part for at, part in enumerate(parts) if at != missing) == []


def test_packets_that_come_again_are_counted() -> None:
    parts = Packet(ALICE, PEER, 50, filler(4000, 1)).cut(4)
    assert repeated(parts) == 0
    assert repeated([*parts, parts[3], parts[3], parts[0]]) == 3


def test_what_is_too_small_to_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes cannot be cut into 4"):
        Packet(ALICE, PEER, 50, bytes(16)).cut(4)


def test_fillers_of_different_seeds_differ_at_every_place() -> None:
    one, other = filler(400, 1), filler(400, 2)
    assert all(one[at : at + 4] != other[at : at + 4] for at in range(0, 400, 4))


def test_esp_gre_and_udp_are_those_of_scapy() -> None:
    body = filler(50, 3)
    assert builder.esp(0x1234, 7, body) == bytes(ESP(spi=0x1234, seq=7, data=body))
    assert builder.gre(None, body) == bytes(GRE(proto=0x0800) / Raw(body))
    assert builder.gre(9, body) == bytes(GRE(proto=0x0800, key_present=1, key=9) / Raw(body))
    oracle = IP(src=str(ALICE), dst=str(PEER)) / UDP(sport=500, dport=4500) / Raw(body)
    assert builder.udp(ALICE, PEER, (500, 4500), body) == bytes(oracle)[20:]


def test_l2tpv3_messages_have_their_ids_where_the_rfc_has_them() -> None:
    assert builder.l2tpv3(5, b"data") == b"\0\0\0\5data"
    message = builder.l2tpv3_control(6, [builder.avp(0, b"\0\1")])
    assert message.hex(" ", 2) == "0000 0000 c803 0014 0000 0006 0000 0000 8008 0000 0000 0001"


def test_an_icmp_error_is_that_of_scapy() -> None:
    quoted = Packet(SHARED, PEER, 50, bytes(8)).to_bytes()
    oracle = ICMP(type=3, code=4, nexthopmtu=1300) / Raw(quoted)
    assert builder.icmp(3, 4, quoted, rest=1300) == bytes(oracle)
    assert ipv4.checksum(builder.icmp(11, 0, quoted)) == 0


@pytest.mark.parametrize(("number", "exchange"), [(34, IkeExchange.INITIAL), (35, IkeExchange.FIRST_CHILD)])
def test_ike_is_read_by_our_parser(number: int, exchange: IkeExchange) -> None:
    asks = ike.parse(builder.ike((1, 2), number, 3, answers=False, body=bytes(10)))
    answers = ike.parse(builder.ike((1, 2), number, 3, answers=True))
    assert asks is not None
    assert answers is not None
    assert (asks.initiator_spi, asks.responder_spi, asks.exchange, asks.size) == (1, 2, exchange, 38)
    assert asks.exchange_id == answers.exchange_id == 3
    assert bool(answers.flags & ike.FLAG_RESPONSE)
