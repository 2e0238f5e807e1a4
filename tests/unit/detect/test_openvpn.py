"""OpenVPN in its three protections, on UDP and TCP, from the first packet and from the middle."""

from struct import pack

import pytest

from tests.unit.detect.traffic import SHIPPED, Conversation, ipv4, noise, udp
from throughway.detect.engine import Detector

CLIENT, SERVER = noise(8, 11), noise(8, 22)
NOW = 0x65000000


def packet(
    opcode: int, session: bytes, acks: tuple[int, ...], remote: bytes, number: int | None, hmac: int = 0
) -> bytes:
    head = bytes([opcode << 3]) + session
    if hmac:
        head += noise(hmac) + pack("!II", (number or 0) + 1, NOW)
    body = bytes([len(acks)]) + b"".join(pack("!I", ack) for ack in acks) + (remote if acks else b"")
    return head + body + (pack("!I", number) if number is not None else b"")


def wrapped(opcode: int, session: bytes, replay: int, rest: int) -> bytes:
    return bytes([opcode << 3]) + session + pack("!II", replay, NOW) + noise(32 + rest)


def data_v2(number: int, peer: int = 0) -> bytes:
    return pack("!II", 0x48000000 | peer, number) + noise(60, number)


@pytest.mark.parametrize("hmac", [0, 16, 20, 28, 32, 48, 64])
def test_resets_that_answer_each_other_are_certain(hmac: int) -> None:
    talk = Conversation(4444).up(packet(7, CLIENT, (), b"", 0, hmac))
    assert talk.answer is not None
    assert (talk.answer.protocol, talk.answer.confidence) == ("openvpn", 0.9)
    talk.down(packet(8, SERVER, (0,), CLIENT, 0, hmac))
    assert talk.answer.confidence == 0.99
    assert talk.flow.notes.words() == (f"session {CLIENT.hex()}", f"session {SERVER.hex()}")


def test_tls_crypt_is_known_by_what_it_leaves_in_clear() -> None:
    talk = Conversation(443).up(wrapped(7, CLIENT, 1, 5))
    assert talk.protocol == "openvpn"
    talk.down(wrapped(8, SERVER, 1, 17))
    assert talk.answer is not None
    assert talk.answer.confidence == 0.99


def test_tls_crypt_v2_ends_with_a_key_of_the_length_that_it_says() -> None:
    key = noise(300) + pack("!H", 302)
    reset = wrapped(10, CLIENT, 0x0F000001, 5) + key
    assert Conversation(443).up(reset).protocol == "openvpn"
    assert Conversation(443).up(reset[:-2] + pack("!H", 301)).protocol is None


def test_a_reset_of_tls_crypt_v2_that_the_capture_cut_off_is_known_by_its_front() -> None:
    reset = wrapped(10, CLIENT, 0x0F000001, 5) + noise(300)
    flow = Detector(SHIPPED).on_packet(0.0, ipv4(17, udp(40000, 443, reset))[:96])
    assert flow is not None
    assert flow.answer is not None
    assert flow.answer.protocol == "openvpn"


def test_an_answer_to_another_session_is_not_certain() -> None:
    talk = Conversation(4444).up(packet(7, CLIENT, (), b"", 0)).down(packet(8, SERVER, (0,), noise(8, 99), 0))
    assert talk.answer is not None
    assert talk.answer.confidence == 0.9


def test_from_the_middle_sessions_that_answer_each_other_are_enough() -> None:
    talk = Conversation(4444).up(packet(4, CLIENT, (3,), SERVER, 7) + noise(100))
    assert talk.protocol is None
    assert talk.down(packet(5, SERVER, (7,), CLIENT, None)).protocol == "openvpn"


def test_data_alone_is_known_by_its_counter() -> None:
    talk = Conversation(4444).down(data_v2(100)).down(data_v2(101))
    assert talk.protocol is None
    assert talk.down(data_v2(102)).protocol == "openvpn"


def test_on_its_own_port_two_packets_of_data_are_enough() -> None:
    talk = Conversation(1194).down(data_v2(100))
    assert talk.protocol is None
    assert talk.down(data_v2(101)).protocol == "openvpn"


def test_data_that_is_not_encrypted_is_not_openvpns() -> None:
    talk = Conversation(1194)
    for number in range(100, 110):
        talk.down(pack("!II", 0x48000000, number) + b"player 1 stands still".ljust(60))
    assert talk.protocol is None


def test_acknowledgements_count_on_by_what_they_acknowledge() -> None:
    acks = [packet(5, CLIENT, (number,), SERVER, None) for number in (3, 3, 4)]
    talk = Conversation(4444).up(acks[0]).up(acks[1])
    assert talk.protocol is None
    assert talk.up(acks[2]).protocol == "openvpn"


@pytest.mark.parametrize("numbers", [(100, 100, 100), (100, 200, 300), (102, 101, 100)])
def test_data_whose_numbers_do_not_count_on_is_not(numbers: tuple[int, ...]) -> None:
    talk = Conversation(4444)
    for number in numbers:
        talk.down(data_v2(number))
    assert talk.protocol is None


def test_a_peer_id_that_no_server_gives_is_not_openvpns() -> None:
    talk = Conversation(4444)
    for number in range(100, 110):
        talk.down(data_v2(number, 0x654321))
    assert talk.protocol is None


@pytest.mark.parametrize(
    ("datagram", "why"),
    [
        (packet(7, CLIENT, (), b"", 0) + b"x", "a byte too long"),
        (packet(7, CLIENT, (), b"", 1), "a packet ID that a reset has not"),
        (packet(7, bytes(8), (), b"", 0), "no session"),
        (bytes([0x39]) + packet(7, CLIENT, (), b"", 0)[1:], "a key ID that a reset has not"),
        (wrapped(7, CLIENT, 1_000_000, 5), "a reset that was sent a million times"),
    ],
)
def test_what_only_begins_like_a_reset_is_not(datagram: bytes, why: str) -> None:
    assert Conversation(1194).up(datagram).protocol is None, why


def framed(data: bytes) -> bytes:
    return pack("!H", len(data)) + data


@pytest.mark.parametrize("hmac", [0, 20, 64])
def test_on_tcp_each_packet_has_its_length_before_it(hmac: int) -> None:
    talk = Conversation(443).says(framed(packet(7, CLIENT, (), b"", 0, hmac)))
    assert talk.protocol == "openvpn"
    talk.says(framed(packet(8, SERVER, (0,), CLIENT, 0, hmac)), client=False)
    assert talk.answer is not None
    assert talk.answer.confidence == 0.99


def test_on_tcp_a_packet_may_come_in_pieces() -> None:
    data = framed(packet(7, CLIENT, (), b"", 0))
    talk = Conversation(443)
    for byte in data[:-1]:
        assert talk.says(bytes([byte])).protocol is None
    assert talk.says(data[-1:]).protocol == "openvpn"
