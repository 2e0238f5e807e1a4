"""Link layers: every stack of tags leads to the same IP packet."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.mpls import MPLS
from scapy.layers.dot11 import Dot11, Dot11QoS, RadioTap
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import LLC, SNAP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.ppp import HDLC, PPP, PPPoE
from scapy.packet import Packet, Raw

from throughway.wire import frames

V4, V6 = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(), IPv6(src="fe80::1", dst="fe80::2") / UDP()


@pytest.mark.parametrize("ip", [V4, V6])
@pytest.mark.parametrize(
    ("link_type", "link"),
    [
        (1, Ether()),
        (1, Ether() / Dot1Q(vlan=5)),
        (1, Ether() / Dot1AD(vlan=5) / Dot1Q(vlan=6)),
        (1, Ether() / PPPoE() / PPP()),
        (1, Ether() / Dot1Q(vlan=5) / PPPoE() / PPP()),
        (1, Ether() / MPLS(label=16, s=0) / MPLS(label=17, s=1)),
        (9, PPP()),
        (50, HDLC() / PPP()),
        (113, CookedLinux()),
        (113, CookedLinux() / Dot1Q(vlan=5)),
        (276, CookedLinuxV2()),
        (276, CookedLinuxV2() / Dot1Q(vlan=5)),
        (276, CookedLinuxV2(proto=0x8864) / PPPoE() / PPP()),
        (276, CookedLinuxV2(proto=0x8847) / MPLS(label=16, s=1)),
        (113, CookedLinux(proto=0x8864) / PPPoE() / PPP()),
        (113, CookedLinux(proto=0x8847) / MPLS(label=16, s=1)),
        (105, Dot11(type=2, subtype=0) / LLC() / SNAP()),
        (105, Dot11(type=2, subtype=8) / Dot11QoS() / LLC() / SNAP()),
        (1, Dot3() / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP()),
        (1, Ether() / Dot1Q(vlan=5) / MPLS(label=16, s=1)),
        (100, LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP()),
        (109, Raw(pack("=III", 2, 0x1234, 0))),
        (117, Raw(pack("!BBBB", 61, 2, 0, 0) + bytes(60))),
        (166, Raw(b"\0\x03") / PPP()),
        (204, Raw(b"\1") / PPP()),
        (204, Raw(b"\1") / HDLC() / PPP()),
        (192, Raw(pack("<BBHI", 0, 0, 8, 1)) / Ether()),
        (192, Raw(pack("<BBHI", 0, 0, 12, 105) + bytes(4)) / Dot11(type=2, subtype=0) / LLC() / SNAP()),
        (127, RadioTap() / Dot11(type=2, subtype=0) / LLC() / SNAP()),
    ],
)
def test_the_packet_is_where_scapy_put_it(link_type: int, link: Packet, ip: Packet) -> None:
    frame = bytes(link / ip)
    at = frames.ip_offset(link_type, frame)
    assert at is not None
    assert frame[at:] == bytes(ip)


@pytest.mark.parametrize("link_type", [12, 14, 101, 228, 229])
def test_raw_packets_begin_at_once(link_type: int) -> None:
    assert frames.ip_offset(link_type, bytes(V4)) == 0


def test_the_packet_that_netfilter_logged_is_one_of_the_attributes() -> None:
    logged = b"\2\0\0\1" + pack("<HH4s", 8, 1, b"\x08\0\1\0") + pack("<HH", 5, 10) + b"\0\0\0\0"
    frame = logged + pack("<HH", 4 + len(bytes(V4)), 9) + bytes(V4)
    assert frames.ip_offset(239, frame) == len(frame) - len(bytes(V4))
    assert frames.ip_offset(239, logged) is None


@pytest.mark.parametrize("link_type", [0, 108])
@pytest.mark.parametrize("family", [b"\2\0\0\0", b"\0\0\0\2", b"\x1e\0\0\0"])
def test_loopbacks_have_four_bytes_in_any_order(link_type: int, family: bytes) -> None:
    assert frames.ip_offset(link_type, family + bytes(V4)) == 4


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (bytes(Ether(type=0x0806)) + bytes(28), "ARP"),
        (bytes(Ether() / PPPoE() / PPP(proto=0xC021)) + bytes(20), "PPP's link control"),
        (bytes(Ether())[:14] + b"", "nothing behind the header"),
    ],
)
def test_what_is_no_ip_has_no_offset(frame: bytes, what: str) -> None:
    assert frames.ip_offset(1, frame) is None, what


def test_encrypted_and_management_frames_are_passed_over() -> None:
    protected = Dot11(type=2, subtype=0, FCfield="protected")
    assert frames.ip_offset(105, bytes(protected / LLC() / SNAP() / V4)) is None
    assert frames.ip_offset(105, bytes(Dot11(type=0, subtype=8)) + bytes(60)) is None


def test_unknown_link_types_are_known_as_such() -> None:
    assert not frames.is_known(220)
    assert frames.ip_offset(220, bytes(V4)) is None


@given(st.sampled_from([0, 1, 9, 12, 50, 51, 101, 104, 105, 108, 113, 127, 276]), st.binary(max_size=100))
def test_no_bytes_raise(link_type: int, frame: bytes) -> None:
    at = frames.ip_offset(link_type, frame)
    assert at is None or 0 <= at < len(frame)
