"""L2TP over UDP: control messages anywhere, data on its own port or with a frame inside."""

from struct import pack

import pytest

from tests.unit.detect.traffic import Conversation, ipv4, noise


def control(version: int, avps: bytes, connection: int = 0) -> bytes:
    ids = pack("!HH", connection, 0) if version == 2 else pack("!I", connection)
    return pack("!HH", 0xC800 | version, 12 + len(avps)) + ids + bytes(4) + avps


def avp(attribute: int, value: bytes) -> bytes:
    return pack("!HHH", 0x8000 | (6 + len(value)), 0, attribute) + value


SCCRQ = control(2, avp(0, pack("!H", 1)) + avp(2, b"\1\0") + avp(9, pack("!H", 4711)))
SCCRQ_3 = control(3, avp(0, pack("!H", 1)) + avp(61, pack("!I", 47110815)))


@pytest.mark.parametrize(("message", "protocol"), [(SCCRQ, "l2tpv2"), (SCCRQ_3, "l2tpv3-udp")])
@pytest.mark.parametrize("port", [1701, 5000])
def test_a_control_message_is_named_on_any_port(message: bytes, protocol: str, port: int) -> None:
    talk = Conversation(port).up(message)
    assert talk.answer is not None
    assert (talk.answer.protocol, talk.answer.confidence) == (protocol, 0.99)


def test_the_assigned_ids_are_noted() -> None:
    assert Conversation(1701).up(SCCRQ).flow.notes.words() == ("tunnel ID 4711",)
    assert Conversation(1701).up(SCCRQ_3).flow.notes.words() == ("control connection ID 47110815",)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\x80" + SCCRQ[1:], "no length and no sequence"),
        (SCCRQ[:12] + avp(2, b"\1\0") + avp(0, pack("!H", 1)), "a first AVP that is no Message Type"),
        (SCCRQ[:20] + b"\xff" + SCCRQ[21:], "reserved bits in an AVP"),
        (SCCRQ[:2] + b"\xff\xff" + SCCRQ[4:], "a length beyond the datagram"),
        (control(2, avp(0, pack("!H", 99))), "a message type of nobody"),
    ],
)
def test_what_no_receiver_would_take_is_not(message: bytes, why: str) -> None:
    assert Conversation(1701).up(message).protocol is None, why


def test_an_acknowledgement_alone_is_likely_on_its_own_port() -> None:
    assert Conversation(1701).up(control(2, b"", 7)).protocol == "l2tpv2"
    assert Conversation(5000).up(control(2, b"", 7)).protocol is None


def test_data_of_version_2_needs_its_port() -> None:
    data = pack("!HHH", 2, 5, 6) + b"\xff\x03\x00\x21" + noise(60)
    assert Conversation(1701).up(data).protocol == "l2tpv2"
    assert Conversation(5000).up(data).protocol is None


@pytest.mark.parametrize("cookie", [0, 4, 8])
def test_data_of_version_3_is_known_by_the_frame_inside(cookie: int) -> None:
    frame = noise(12) + b"\x08\x00" + ipv4(1, bytes(40))
    data = pack("!HHI", 3, 0, 7) + noise(cookie) + frame
    talk = Conversation(5000).up(data)
    assert talk.protocol == "l2tpv3-udp"
    assert talk.flow.notes.words() == ("session ID 7",)
    assert Conversation(5000).up(data[:8] + noise(80)).protocol is None
    alone = Conversation(1701).up(data[:8] + noise(80))
    assert alone.protocol is None
    assert alone.up(data[:8] + noise(80, 2)).protocol == "l2tpv3-udp"


@pytest.mark.parametrize(
    ("start", "packets"),
    [(b"\x00\xfd", 1), (b"\x21\x45", 1), (b"\xc0\x25", 1), (b"\xfd", 2), (b"\x3d", 2), (b"\x99", None)],
)
def test_data_of_version_2_in_the_middle_begins_with_a_protocol_of_ppp(start: bytes, packets: int | None) -> None:
    talk = Conversation(1701)
    named_at = None
    for number in range(1, 5):
        talk.up(pack("!HHHH", 0x4002, 8 + len(start) + 60, 5, 6) + start + noise(60, number))
        named_at = named_at or (number if talk.protocol == "l2tpv2" else None)
    assert named_at == packets
