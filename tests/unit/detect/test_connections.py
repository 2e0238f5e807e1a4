"""VPNs on TCP by the heads of their streams."""

from struct import pack

import pytest

from tests.unit.detect.test_ipsec import AUTH
from tests.unit.detect.traffic import CLIENT, SERVER, SHIPPED, Conversation, ipv4, noise, tcp
from throughway.detect.engine import Detector


def pptp(kind: int, size: int, rest: bytes = b"") -> bytes:
    return (pack("!HHIHH", size, 1, 0x1A2B3C4D, kind, 0) + rest).ljust(size, b"\0")


@pytest.mark.parametrize("port", [1723, 8080])
def test_pptp_is_its_magic_cookie_and_not_its_port(port: int) -> None:
    talk = Conversation(port).says(pptp(1, 156))
    assert talk.answer is not None
    assert (talk.answer.protocol, talk.answer.confidence) == ("pptp", 0.99)
    talk.says(pptp(2, 156), client=False).says(pptp(7, 168, pack("!H", 0)))
    talk.says(pptp(8, 32, pack("!HH", 128, 0)), client=False)
    assert talk.flow.notes.words() == ("call 0", "call 128")


def test_a_syn_to_1723_is_not_pptp() -> None:
    detector = Detector(SHIPPED)
    flow = detector.on_packet(0.0, ipv4(6, tcp(40000, 1723, 1, 0x02, b"")))
    assert flow is not None
    assert flow.answer is None
    assert Conversation(1723).says(b"GET / HTTP/1.1\r\n\r\n").protocol is None
    assert Conversation(1723).says(pptp(1, 156)[:4] + b"\0\0\0\0" + pptp(1, 156)[8:]).protocol is None


def test_ike_in_tcp_is_its_prefix() -> None:
    message = bytes(4) + AUTH
    talk = Conversation(4500).says(b"IKETCP" + pack("!H", 2 + len(message)) + message)
    assert talk.answer is not None
    assert talk.answer.protocol == "ike-tcp"
    assert "IKE_AUTH" in talk.answer.evidence
    assert talk.flow.notes.words()[0] == "initiator SPI 9f01020304050607"


def test_ike_in_tcp_from_the_middle_is_a_message_behind_its_length() -> None:
    message = bytes(4) + AUTH
    whole = pack("!H", 2 + len(message)) + message
    assert Conversation(4500).says(whole).protocol == "ike-tcp"
    talk = Conversation(443).says(whole[:30])
    assert talk.protocol is None
    assert talk.says(whole[30:]).protocol == "ike-tcp"
    assert Conversation(4500).says(pack("!H", 99) + message).protocol is None
    assert Conversation(4500).says(pack("!H", 66) + bytes(4) + noise(60)).protocol is None


@pytest.mark.parametrize(
    ("request_line", "protocol"),
    [
        (b"SSTP_DUPLEX_POST /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/ HTTP/1.1\r\n", "sstp"),
        (b"CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\n", "anyconnect"),
        (b"POST /vpnsvc/connect.cgi HTTP/1.1\r\n", "softether"),
        (b"POST / HTTP/1.1\r\nHost: vpn.example.net\r\nX-Aggregate-Auth: 1\r\n", "anyconnect"),
        (b"POST /login HTTP/1.1\r\n", None),
        (b"CONNECT example.net:443 HTTP/1.1\r\n", None),
    ],
)
def test_requests_in_clear_are_read(request_line: bytes, protocol: str | None) -> None:
    assert Conversation(80).says(request_line).protocol == protocol


def test_tls_alone_is_nothing_and_is_not_looked_at_further() -> None:
    talk = Conversation(443).says(b"\x16\x03\x01\x02\x00\x01" + noise(300))
    assert talk.protocol is None
    assert not talk.flow.is_open


def test_who_answers_a_syn_is_the_responder_where_the_syn_was_not_seen() -> None:
    detector = Detector(SHIPPED)
    flow = detector.on_packet(0.0, ipv4(6, tcp(1723, 40000, 1, 0x12, b""), SERVER, CLIENT))
    assert flow is not None
    assert (flow.source, flow.source_port, flow.destination_port) == (CLIENT, 40000, 1723)
