"""L2TPv3 over IP: session IDs and the IDs that control messages assign."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throughway.core.events import L2tpControl
from throughway.wire import l2tpv3

SCCRQ, ICRQ = 1, 10
HIDDEN = 0x4000


def avp(attribute: int, value: bytes, *, flags: int = 0x8000, vendor: int = 0) -> bytes:
    """Build an AVP (RFC 3931 section 5.1)."""
    return pack("!HHH", flags | 6 + len(value), vendor, attribute) + value


def control(*avps: bytes, connection_id: int = 0, flags: int = 0xC803) -> bytes:
    """Build a control message from its header on (RFC 3931 section 3.2.1)."""
    body = b"".join(avps)
    return pack("!HHIHH", flags, 12 + len(body), connection_id, 0, 0) + body


MESSAGE_TYPE = avp(0, pack("!H", SCCRQ))
ASSIGNED = avp(61, pack("!I", 0xC0FFEE))
LOCAL, REMOTE = avp(63, pack("!I", 0x1111)), avp(64, pack("!I", 0x2222))
OTHER = avp(7, b"router")


def test_the_first_message_of_a_control_connection_assigns_its_id() -> None:
    message = control(MESSAGE_TYPE, OTHER, ASSIGNED)
    assert l2tpv3.parse_control(message) == L2tpControl(0, SCCRQ, assigned_connection_id=0xC0FFEE)


def test_a_call_names_the_sessions_of_both_ends() -> None:
    message = control(avp(0, pack("!H", ICRQ)), LOCAL, REMOTE, connection_id=0xABCD)
    assert l2tpv3.parse_control(message) == L2tpControl(0xABCD, ICRQ, None, 0x1111, 0x2222)


def test_an_acknowledgement_says_nothing_but_whom_it_is_for() -> None:
    assert l2tpv3.parse_control(control(connection_id=7)) == L2tpControl(7)


def test_hidden_and_foreign_attributes_count_as_absent() -> None:
    hidden = avp(61, bytes(20), flags=0x8000 | HIDDEN)
    foreign = avp(63, pack("!I", 9), vendor=9)
    assert l2tpv3.parse_control(control(MESSAGE_TYPE, hidden, foreign, LOCAL)) == L2tpControl(
        0, SCCRQ, local_session_id=0x1111
    )


def test_of_an_attribute_that_comes_twice_the_first_counts() -> None:
    message = control(LOCAL, avp(63, pack("!I", 5)))
    assert l2tpv3.parse_control(message) == L2tpControl(0, local_session_id=0x1111)


def test_a_message_that_is_cut_off_says_what_is_there() -> None:
    """Only the first 512 bytes are observed."""
    message = control(MESSAGE_TYPE, ASSIGNED, avp(7, bytes(600)), LOCAL)
    assert l2tpv3.parse_control(message[:512]) == L2tpControl(0, SCCRQ, 0xC0FFEE)


@pytest.mark.parametrize("size", [0, 5])
def test_an_attribute_shorter_than_its_header_ends_the_reading(size: int) -> None:
    broken = pack("!HHH", 0x8000 | size, 0, 61)
    assert l2tpv3.parse_control(control(LOCAL, broken, REMOTE)) == L2tpControl(0, local_session_id=0x1111)


def test_a_value_of_the_wrong_size_is_none() -> None:
    assert l2tpv3.parse_control(control(avp(61, bytes(3)), avp(63, bytes(5)))) == L2tpControl(0)


def test_what_is_behind_the_length_is_not_read() -> None:
    assert l2tpv3.parse_control(control(LOCAL) + REMOTE) == L2tpControl(0, local_session_id=0x1111)


@pytest.mark.parametrize("flags", [0x0003, 0xC802, 0x4803, 0x8803, 0xC003])
def test_only_control_messages_of_version_3_are_read(flags: int) -> None:
    assert l2tpv3.parse_control(control(LOCAL, flags=flags)) is None


def test_session_ids() -> None:
    assert l2tpv3.session_id(bytes.fromhex("0000002aff")) == 42
    assert l2tpv3.session_id(bytes(4)) == 0
    assert l2tpv3.session_id(bytes(3)) is None


@given(st.one_of(st.binary(max_size=64), st.binary(max_size=64).map(control)))
def test_no_bytes_raise(data: bytes) -> None:
    read = l2tpv3.parse_control(data)
    assert read is None or 0 <= read.control_connection_id < 1 << 32
    l2tpv3.session_id(data)
