"""The front of GRE: what scapy writes is read, and nothing raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import GRE, GRE_PPTP

from throughway.wire import gre

IPV4 = 0x0800


@pytest.mark.parametrize("has_checksum", [False, True])
@pytest.mark.parametrize("has_sequence", [False, True])
@pytest.mark.parametrize("key", [None, 0, 1, 42, 0xFFFFFFFF])
def test_the_key_is_read_whatever_stands_beside_it(has_checksum: bool, has_sequence: bool, key: int | None) -> None:
    """RFC 2890 section 2: the key stands behind checksum and reserved bits, and before the sequence number."""
    packet = GRE(
        chksum_present=int(has_checksum),
        key_present=int(key is not None),
        seqnum_present=int(has_sequence),
        key=key,
        sequence_number=7,
        proto=IPV4,
    )
    assert gre.parse(bytes(packet) + bytes(20)) == gre.GreHeader(0, IPV4, key)


@pytest.mark.parametrize("call_id", [0, 1, 0x8000, 0xFFFF])
def test_version_1_is_pptp_and_names_its_call(call_id: int) -> None:
    header = gre.parse(bytes(GRE_PPTP(call_id=call_id, sequence_number=1, seqnum_present=1)))
    assert header is not None
    assert (header.version, header.call_id) == (gre.VERSION_PPTP, call_id)


def test_version_0_has_no_call() -> None:
    header = gre.parse(bytes(GRE(key_present=1, key=5)))
    assert header is not None
    assert header.call_id is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("000008", "three bytes"),
        ("200008000000aa", "a key that is cut off"),
        ("a000080000000000", "a checksum and no key behind it"),
        ("00020800", "version 2"),
        ("0001880b", "version 1 without a key field"),
        ("b001880b0000000100000001", "version 1 with a checksum"),
        ("40000800" + "00" * 8, "a source route of RFC 1701"),
    ],
)
def test_what_is_not_gre_is_refused(data: str, why: str) -> None:
    assert gre.parse(bytes.fromhex(data)) is None, why


@given(st.binary(max_size=24))
def test_no_bytes_raise(data: bytes) -> None:
    header = gre.parse(data)
    assert header is None or (header.version in (0, 1) and (header.key is None or 0 <= header.key < 1 << 32))
