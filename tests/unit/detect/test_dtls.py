"""AnyConnect's DTLS, beside the DTLS of others."""

from struct import pack

import pytest

from tests.unit.detect.traffic import CLIENT, SERVER, SHIPPED, Conversation, ipv4, noise, tcp, udp
from throughway.detect.engine import Detector

PSK, ECDHE = (0x00A9, 0x00FF), (0xC02B, 0xC02F)


def hello(session: bytes, suites: tuple[int, ...], extensions: tuple[int, ...] = (), cookie: bytes = b"") -> bytes:
    body = pack("!H", 0xFEFD) + noise(32) + bytes([len(session)]) + session + bytes([len(cookie)]) + cookie
    body += pack("!H", 2 * len(suites)) + b"".join(pack("!H", suite) for suite in suites) + b"\x01\x00"
    listed = b"".join(pack("!HH", extension, 0) for extension in extensions)
    body += pack("!H", len(listed)) + listed
    size = len(body).to_bytes(3, "big")
    handshake = b"\x01" + size + b"\0\0" + b"\0\0\0" + size + body
    return record(22, 0xFEFF, 0, 0, handshake)


def record(kind: int, version: int, epoch: int, sequence: int, body: bytes) -> bytes:
    return pack("!BHHHIH", kind, version, epoch, sequence >> 32, sequence & 0xFFFFFFFF, len(body)) + body


def test_a_session_agreed_on_before_with_nothing_but_shared_keys_is_anyconnect() -> None:
    talk = Conversation(443).up(hello(noise(32), PSK, (13, 35)))
    assert talk.protocol == "anyconnect"
    assert talk.flow.notes.words() == (f"session {noise(32).hex()}",)


@pytest.mark.parametrize(
    ("datagram", "whose"),
    [
        (hello(b"", ECDHE, (10, 11, 13, 14)), "WebRTC"),
        (hello(b"", PSK), "CoAP"),
        (hello(noise(32), ECDHE, (14,)), "WebRTC, resumed"),
        (hello(noise(32), PSK, (0,)), "a client that names its server"),
        (hello(noise(32), PSK, (), noise(20)), "a hello that repeats a cookie"),
        (hello(noise(32), ECDHE), "somebody's, resumed, without TLS beside it"),
    ],
)
def test_the_dtls_of_others_is_not_named(datagram: bytes, whose: str) -> None:
    assert Conversation(443).up(datagram).protocol is None, whose


def test_ciscos_own_version_is_known_by_a_handshake_or_by_records_that_count_on() -> None:
    assert Conversation(443).up(record(22, 0x0100, 0, 0, noise(80))).protocol == "anyconnect"
    talk = Conversation(443).up(record(23, 0x0100, 1, 500, noise(80)))
    assert talk.protocol is None
    assert talk.up(record(23, 0x0100, 1, 501, noise(80))).protocol == "anyconnect"


def test_tls_beside_it_makes_sure_and_is_named_with_it() -> None:
    detector = Detector(SHIPPED)
    detector.on_packet(0.0, ipv4(6, tcp(50000, 443, 1, 0x18, b"\x16\x03\x01\x02\x00\x01" + noise(200))))
    detector.on_packet(0.1, ipv4(17, udp(50001, 443, hello(noise(32), ECDHE))))
    tls, dtls = detector.flows()
    assert tls.answer is not None
    assert dtls.answer is not None
    assert (tls.answer.protocol, tls.answer.confidence) == ("anyconnect", 0.7)
    assert (dtls.answer.protocol, dtls.answer.confidence) == ("anyconnect", 0.9)


def test_tls_to_another_server_does_not_speak_for_it() -> None:
    detector = Detector(SHIPPED)
    detector.on_packet(0.0, ipv4(6, tcp(50000, 443, 1, 0x18, b"\x16\x03\x01\x02\x00\x01" + noise(200)), CLIENT, CLIENT))
    detector.on_packet(0.1, ipv4(17, udp(50001, 443, hello(noise(32), ECDHE)), CLIENT, SERVER))
    assert [flow.answer for flow in detector.flows()] == [None, None]
