"""The engine: flows and their counts, fragments, IP in IP, bounds, and bytes of nobody's protocol."""

import random
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet import fragment as fragments_of
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import GRE
from scapy.packet import Raw

from tests.unit.detect.test_ipsec import SA_INIT
from tests.unit.detect.test_wireguard import INITIATION
from tests.unit.detect.traffic import CLIENT, SERVER, SHIPPED, Conversation, ipv4, noise, tcp, udp
from throughway.detect.engine import Detector
from throughway.detect.flows import Bounds, Flow

VPN_PORTS = (53, 443, 500, 1194, 1701, 1723, 3478, 4242, 4500, 4754, 5004, 9993, 41641, 51820)


def named(detector: Detector) -> list[str | None]:
    return [flow.answer.protocol if flow.answer else None for flow in detector.flows()]


@pytest.mark.parametrize(
    ("protocol", "payload", "expected", "notes"),
    [
        (50, pack("!II", 0xC0FFEE01, 1) + noise(40), "esp", ("SPI 0xc0ffee01",)),
        (51, pack("!BBHII", 6, 4, 0, 0xABCD1234, 1) + noise(40), "ah", ("SPI 0xabcd1234",)),
        (47, pack("!HHI", 0x2000, 0x0800, 42) + noise(40), "gre", ("key 0x2a",)),
        (47, pack("!HHHHI", 0x3001, 0x880B, 40, 128, 1) + noise(40), "pptp-gre", ("call 128",)),
        (115, pack("!I", 7) + noise(40), "l2tpv3", ("session ID 7",)),
        (4, ipv4(17, udp(1, 2, b"x")), "ipip", ()),
        (41, bytes(IPv6(src="::1", dst="::2") / Raw(b"x")), "6in4", ()),
        (4, noise(60), None, ()),
        (4, ipv4(17, udp(1, 2, b"xyz"))[:-2], None, ()),
        (47, pack("!HH", 0x0007, 0x0800) + noise(40), None, ()),
        (47, pack("!HHHH", 0x2001, 0x6400, 40, 0x0700) + noise(40), "gre", ("tunnel ID 7",)),
        (47, pack("!HH", 0x4000, 0x0800) + noise(40), "gre", ()),
        (47, pack("!HHHH", 0x2001, 0x1234, 40, 7) + noise(40), None, ()),
        (89, noise(60), None, ()),
    ],
)
def test_protocols_of_ip_are_named_by_number_and_structure(
    protocol: int, payload: bytes, expected: str | None, notes: tuple[str, ...]
) -> None:
    detector = Detector(SHIPPED)
    flow = detector.on_packet(0.0, ipv4(protocol, payload))
    assert flow is not None
    assert (flow.answer.protocol if flow.answer else None) == expected
    assert flow.notes.words() == notes
    assert not flow.has_ports


@pytest.mark.parametrize(
    ("protocol", "payload", "kept", "expected"),
    [
        (41, bytes(IPv6(src="::1", dst="::2") / Raw(b"x")), 34, "6in4"),
        (4, ipv4(17, udp(1, 2, b"x")), 12, "ipip"),
        (41, noise(60), 34, None),
        (47, pack("!HH", 0, 0x0800) + noise(40), 2, "gre"),
        (50, noise(60), 4, "esp"),
    ],
)
def test_what_the_capture_cut_off_is_named_by_what_is_there(
    protocol: int, payload: bytes, kept: int, expected: str | None
) -> None:
    flow = Detector(SHIPPED).on_packet(0.0, ipv4(protocol, payload)[: 20 + kept])
    assert flow is not None
    assert (flow.answer.protocol if flow.answer else None) == expected
    assert flow.answer is None or flow.answer.confidence == 0.7


def test_both_directions_are_one_flow_of_who_began_it() -> None:
    talk = Conversation(500).up(SA_INIT).down(SA_INIT)
    flow = talk.flow
    assert (flow.source, flow.source_port, flow.destination, flow.destination_port) == (CLIENT, 40000, SERVER, 500)
    assert (flow.packets, flow.bytes) == (2, 2 * (28 + len(SA_INIT)))


def test_what_ip_in_ip_carries_is_a_flow_too() -> None:
    detector = Detector(SHIPPED)
    inner = bytes(IP(src="10.1.1.1", dst="10.1.1.2") / GRE(key_present=1, key=7) / IP() / ICMP())
    detector.on_packet(0.0, ipv4(4, inner))
    assert named(detector) == ["ipip", "gre"]
    outer, inside = detector.flows()
    assert (outer.packets, inside.packets, inside.source_text()) == (1, 1, "10.1.1.1")


def test_ip_in_ip_in_ip_comes_to_an_end() -> None:
    data = ipv4(17, udp(1, 2, b"x"))
    for _ in range(20):
        data = ipv4(4, data)
    detector = Detector(SHIPPED)
    detector.on_packet(0.0, data)
    assert len(named(detector)) == 1  # All of them have the same ends, and are one flow.
    assert next(iter(detector.flows())).packets == 4


def test_a_fragmented_message_is_named_by_its_first_fragment_in_any_order() -> None:
    whole = IP(src="10.0.0.2", dst="198.51.100.10", id=9, proto=17) / Raw(udp(500, 500, SA_INIT))
    parts = [bytes(part) for part in fragments_of(whole, fragsize=96)]  # type: ignore[no-untyped-call]
    for order in (parts, parts[::-1]):
        detector = Detector(SHIPPED)
        for part in order:
            detector.on_packet(0.0, part)
        (flow,) = detector.flows()
        assert flow.answer is not None
        assert flow.answer.protocol == "ike"
        assert (flow.packets, flow.bytes) == (len(parts), sum(map(len, parts)))


def test_ipv6_with_extension_headers_and_fragments() -> None:
    front = IPv6(src="2001:db8::1", dst="2001:db8::2")
    whole = front / IPv6ExtHdrDestOpt(nh=17) / Raw(udp(40000, 53, INITIATION))
    first = front / IPv6ExtHdrFragment(nh=17, m=1, id=5) / Raw(udp(40001, 53, INITIATION)[:104])
    later = front / IPv6ExtHdrFragment(nh=17, offset=13, id=5) / Raw(udp(40001, 53, INITIATION)[104:])
    detector = Detector(SHIPPED)
    for packet in (whole, first, later):
        detector.on_packet(0.0, bytes(packet))
    assert named(detector) == ["wireguard", "wireguard"]
    assert [flow.packets for flow in detector.flows()] == [1, 2]


def test_a_flow_without_a_name_is_closed_after_its_first_datagrams() -> None:
    talk = Conversation(5555, bounds=Bounds(datagrams=4))
    for _ in range(3):
        talk.up(noise(40))
    assert talk.flow.is_open
    assert not talk.up(noise(40)).flow.is_open
    assert talk.up(INITIATION).protocol is None
    assert talk.flow.packets == 5


def test_without_following_a_named_flow_costs_nothing_more() -> None:
    talk = Conversation(53, bounds=Bounds(follow=False)).up(INITIATION)
    talk.down(pack("<III", 2, 0x22222222, 0x11111111) + noise(64) + bytes(16))
    assert not talk.flow.is_open
    assert talk.flow.namer is None
    assert talk.flow.recognisers == {}


def test_a_full_table_evicts_who_was_silent_longest_and_says_so() -> None:
    gone: list[Flow] = []
    detector = Detector(SHIPPED, Bounds(flows=3), gone.append)
    for port in (1, 2, 3):
        detector.on_packet(0.0, ipv4(17, udp(port, 53, b"x")))
    detector.on_packet(1.0, ipv4(17, udp(1, 53, b"x")))
    detector.on_packet(2.0, ipv4(17, udp(4, 53, b"x")))
    assert [flow.source_port for flow in gone] == [2]
    assert sorted(flow.source_port for flow in detector.flows()) == [1, 3, 4]


def test_a_full_table_of_flows_that_all_spoke_lately_still_evicts() -> None:
    gone: list[Flow] = []
    detector = Detector(SHIPPED, Bounds(flows=2), gone.append)
    for port in (1, 2, 1, 2, 3, 3, 4):
        detector.on_packet(0.0, ipv4(17, udp(port, 53, b"x")))
    assert [flow.source_port for flow in gone] == [1, 2]


def test_pptps_gre_and_plain_gre_of_the_same_ends_are_two_flows() -> None:
    detector = Detector(SHIPPED)
    detector.on_packet(0.0, ipv4(47, pack("!HHHHI", 0x3001, 0x880B, 40, 128, 1) + noise(40)))
    detector.on_packet(0.0, ipv4(47, pack("!HH", 0, 0x0800) + noise(40)))
    assert named(detector) == ["pptp-gre", "gre"]


@given(st.lists(st.binary(max_size=120), max_size=8))
def test_no_bytes_raise(packets: list[bytes]) -> None:
    detector = Detector(SHIPPED)
    for data in packets:
        detector.on_packet(0.0, data)


@given(
    st.sampled_from((6, 17)),
    st.sampled_from(VPN_PORTS),
    st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=8),
)
def test_no_payload_raises(protocol: int, port: int, payloads: list[tuple[bool, bytes]]) -> None:
    detector = Detector(SHIPPED)
    for up, payload in payloads:
        ports, ends = ((999, port), (CLIENT, SERVER)) if up else ((port, 999), (SERVER, CLIENT))
        head = udp(*ports, payload) if protocol == 17 else tcp(*ports, 1, 0x18, payload)
        detector.on_packet(0.0, ipv4(protocol, head, *ends))


@pytest.mark.parametrize("port", VPN_PORTS)
def test_random_payloads_on_the_ports_of_vpns_are_not_named(port: int) -> None:
    dice = random.Random(port)  # noqa: S311
    sizes = (14, 20, 26, 32, 42, 54, 64, 66, 86, 92, 148, 200, 1200)
    for _ in range(50):
        talk = Conversation(port)
        for _ in range(6):
            size = dice.choice(sizes)
            (talk.up if dice.random() < 0.5 else talk.down)(dice.randbytes(size))
        assert talk.answer is None


@pytest.mark.parametrize("first", [0x01, 0x04, 0x10, 0x11, 0x16, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0xC8])
def test_random_payloads_that_begin_like_vpns_are_not_named(first: int) -> None:
    dice = random.Random(first)  # noqa: S311
    for port in VPN_PORTS:
        talk = Conversation(port)
        for _ in range(8):
            size = dice.choice((13, 25, 41, 53, 91, 147, 500))
            (talk.up if dice.random() < 0.5 else talk.down)(bytes([first]) + dice.randbytes(size))
        assert talk.answer is None
