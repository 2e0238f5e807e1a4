"""L2TP over UDP: the tunnel IDs that control messages assign."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throughway.core.events import L2tpControl
from throughway.wire import l2tp

SCCRQ, STOP = 1, 4


def avp(attribute: int, value: bytes, flags: int = 0x8000) -> bytes:
    """Build an AVP (RFC 2661 section 4.1)."""
    return pack("!HHH", flags | 6 + len(value), 0, attribute) + value


def control(*avps: bytes, tunnel_id: int = 0, flags: int = 0xC802, size: int | None = None) -> bytes:
    """Build a control message (RFC 2661 section 3.1)."""
    body = b"".join(avps)
    return pack("!6H", flags, 12 + len(body) if size is None else size, tunnel_id, 0, 0, 0) + body


TYPE, ASSIGNED = avp(0, pack("!H", SCCRQ)), avp(9, pack("!H", 0xCAFE))


def test_the_first_message_of_a_tunnel_assigns_its_id() -> None:
    seen = l2tp.parse_control(control(TYPE, avp(7, b"router"), ASSIGNED))
    assert seen == L2tpControl(0, SCCRQ, assigned_connection_id=0xCAFE, version=2)


def test_later_messages_are_sent_to_the_id_of_their_receiver() -> None:
    seen = l2tp.parse_control(control(avp(0, pack("!H", STOP)), ASSIGNED, tunnel_id=77))
    assert seen == L2tpControl(77, STOP, assigned_connection_id=0xCAFE, version=2)
    assert l2tp.parse_control(control(tunnel_id=77)) == L2tpControl(77, version=2)


def test_version_3_is_read_as_over_ip() -> None:
    message = pack("!HHIHH", 0xC803, 22, 5, 0, 0) + avp(61, pack("!I", 0xC0FFEE))
    assert l2tp.parse_control(message) == L2tpControl(5, assigned_connection_id=0xC0FFEE)


@pytest.mark.parametrize(
    "message",
    [
        control(TYPE)[:11],
        control(TYPE, flags=0x0002),
        control(TYPE, flags=0xC801),
        control(TYPE, flags=0x8802),
        control(TYPE, size=11),
        b"",
    ],
    ids=["cut", "data", "version 1", "without length", "length below the header", "nothing"],
)
def test_what_is_no_control_message_is_refused(message: bytes) -> None:
    assert l2tp.parse_control(message) is None


def test_an_avp_that_makes_no_sense_ends_the_reading() -> None:
    for bad in (pack("!HHH", 0x8005, 0, 9), pack("!HHH", 0x80FF, 0, 9)):
        assert l2tp.parse_control(control(TYPE, bad, ASSIGNED)) == L2tpControl(0, SCCRQ, version=2)


def test_hidden_oversized_and_second_values_do_not_count() -> None:
    hidden, long = avp(9, pack("!H", 1), flags=0xC000), avp(9, pack("!I", 1))
    seen = l2tp.parse_control(control(TYPE, hidden, long, ASSIGNED, avp(9, pack("!H", 2))))
    assert seen == L2tpControl(0, SCCRQ, assigned_connection_id=0xCAFE, version=2)


@given(st.binary(max_size=64), st.sampled_from([0xC802, 0xC803]))
def test_no_bytes_are_too_much_for_it(tail: bytes, flags: int) -> None:
    l2tp.parse_control(tail)
    l2tp.parse_control(pack("!HH", flags, 12 + len(tail)) + tail)
