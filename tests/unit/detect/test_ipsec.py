"""IKE on its ports and off them, the non-ESP marker, and ESP in UDP by its numbers."""

from struct import pack

import pytest

from tests.unit.detect.traffic import SHIPPED, Conversation, ipv4, noise, udp
from throughway.detect.engine import Detector

INITIATOR, RESPONDER = 0x9F01020304050607, 0x1122334455667788


def ike(version: int, exchange: int, flags: int, payloads: list[tuple[int, bytes]], responder: int = 0) -> bytes:
    chain = b""
    for number, (_, body) in enumerate(payloads):
        following = payloads[number + 1][0] if number + 1 < len(payloads) else 0
        chain += pack("!BBH", following, 0, 4 + len(body)) + body
    first = payloads[0][0] if payloads else 0
    return pack("!QQBBBBII", INITIATOR, responder, first, version, exchange, flags, 0, 28 + len(chain)) + chain


SA_INIT = ike(0x20, 34, 0x08, [(33, noise(44)), (34, noise(68)), (40, noise(32))])
SA_INIT_ANSWER = ike(0x20, 34, 0x20, [(33, noise(44)), (34, noise(68)), (40, noise(32))], RESPONDER)
AUTH = ike(0x20, 35, 0x08, [(46, noise(200))], RESPONDER)
MAIN_MODE = ike(0x10, 2, 0, [(1, noise(52)), (13, noise(16))])
MARKER = bytes(4)


def esp(spi: int, sequence: int) -> bytes:
    return pack("!II", spi, sequence) + noise(80, sequence)


def test_an_ikev2_request_on_port_500_is_named_with_its_spi() -> None:
    talk = Conversation(500).up(SA_INIT)
    assert talk.answer is not None
    assert talk.answer.protocol == "ike"
    assert talk.answer.evidence == "IKEv2 IKE_SA_INIT request, initiator SPI 9f01020304050607, UDP 500"
    assert talk.down(SA_INIT_ANSWER).flow.notes.words() == (
        "initiator SPI 9f01020304050607",
        "responder SPI 1122334455667788",
    )


@pytest.mark.parametrize("message", [SA_INIT, MAIN_MODE, AUTH])
def test_structure_beats_port(message: bytes) -> None:
    assert Conversation(33333).up(message).protocol == "ike"


@pytest.mark.parametrize("port", [4500, 12345])
def test_ike_behind_the_marker_makes_the_flow_nat_ts(port: int) -> None:
    talk = Conversation(port).up(MARKER + AUTH).up(esp(0xC0FFEE01, 1)).up(esp(0xC0FFEE01, 2))
    assert talk.protocol == "ike-natt"
    assert "SPI 0xc0ffee01" in talk.flow.notes.words()


def test_esp_before_ike_is_renamed_when_ike_comes() -> None:
    talk = Conversation(4500).up(esp(0xC0FFEE01, 70000)).up(esp(0xC0FFEE01, 70001))
    assert talk.protocol == "esp-udp"
    assert talk.down(MARKER + AUTH).protocol == "ike-natt"


def test_the_first_packet_of_a_young_sa_is_enough_and_an_old_one_needs_a_second() -> None:
    assert Conversation(4500).up(esp(0xC0FFEE01, 1)).protocol == "esp-udp"
    old = Conversation(4500).up(esp(0xC0FFEE01, 900_000))
    assert old.protocol is None
    assert old.up(esp(0xC0FFEE01, 900_003)).protocol == "esp-udp"


def test_an_spi_that_is_not_kept_takes_the_answer_back_and_one_that_is_gives_it_again() -> None:
    talk = Conversation(4500).up(esp(0x80000001, 160))
    assert talk.protocol == "esp-udp"
    assert talk.up(esp(0x80000002, 320)).protocol is None
    assert talk.up(esp(0x80000002, 321)).protocol == "esp-udp"
    assert talk.up(esp(0x80000003, 1)).protocol == "esp-udp"  # A rekey: the SPI before was kept.


def test_a_number_that_jumps_takes_back_what_its_small_beginning_said() -> None:
    talk = Conversation(4500).up(esp(0xC0FFEE01, 160))
    assert talk.protocol == "esp-udp"
    assert talk.up(esp(0xC0FFEE01, 160 + (1 << 16))).protocol is None


def null_encrypted(number: int, padding: bytes = b"\1\2", following: int = 4) -> bytes:
    """ESP with NULL encryption and an ICV of 12 bytes."""
    return pack("!II", 0xC0FFEE01, number) + bytes(60) + padding + bytes((len(padding), following)) + noise(12)


def test_what_is_not_encrypted_must_count_for_longer_and_end_as_esp_does() -> None:
    talk = Conversation(4500)
    for number in range(1, 3):
        assert talk.up(null_encrypted(number)).protocol is None
    assert talk.up(null_encrypted(3)).protocol == "esp-udp"


@pytest.mark.parametrize(
    ("step", "padding", "following"),
    [(2, b"\1\2", 4), (1, b"\1\3", 4), (1, b"\1\2", 77)],
    ids=("jumps", "pads", "next"),
)
def test_what_is_in_clear_and_not_like_that_is_not_esp(step: int, padding: bytes, following: int) -> None:
    talk = Conversation(4500)
    for number in range(1, 20, step):
        talk.up(null_encrypted(number, padding, following))
    assert talk.protocol is None


def test_between_both_ports_the_first_packets_of_an_sa_need_not_look_encrypted() -> None:
    clear = pack("!II", 0xC0FFEE01, 1) + bytes(80)
    assert Conversation(4500, source_port=4500).up(clear).protocol == "esp-udp"
    assert Conversation(4500, source_port=40000).up(clear).protocol is None


def test_a_dns_query_from_port_4500_is_none() -> None:
    query = bytes.fromhex("7d1a010000010000000000000377777707657861") + b"mple\x03net\0\0\1\0\1  "
    talk = Conversation(53, source_port=4500)
    for number in range(4):
        talk.up(bytes([number]) + query[1:]).down(bytes([number]) + query[1:])
    assert talk.protocol is None


def test_esp_counts_in_four_bytes() -> None:
    assert Conversation(4500).up(esp(0xC0FFEE01, 1) + b"x").up(esp(0xC0FFEE01, 2) + b"x").protocol is None


def test_a_low_number_counts_in_the_first_packets_alone() -> None:
    talk = Conversation(4500)
    for number in range(4):
        talk.up(esp(0xC0FFEE00 + number, 900_000))
    assert talk.up(esp(0xC0FFEEFF, 1)).protocol is None


@pytest.mark.parametrize("spi", [0, 1, 255])
def test_reserved_spis_are_no_esp(spi: int) -> None:
    assert Conversation(4500).up(esp(spi, 1)).up(esp(spi, 2)).protocol is None


@pytest.mark.parametrize(("port", "expected"), [(4500, "esp-udp"), (4501, "esp-udp"), (4502, None), (443, None)])
def test_esp_in_udp_is_looked_for_on_its_ports_alone(port: int, expected: str | None) -> None:
    assert Conversation(port).up(esp(0xC0FFEE01, 1)).up(esp(0xC0FFEE01, 2)).protocol == expected


@pytest.mark.parametrize(("message", "expected"), [(SA_INIT, "ike"), (MAIN_MODE, "ike"), (noise(60), None)])
def test_a_header_that_the_capture_cut_off_is_likely_on_its_own_port(message: bytes, expected: str | None) -> None:
    whole = ipv4(17, udp(500, 500, message))
    for kept in (20, 26):
        detector = Detector(SHIPPED)
        flow = detector.on_packet(0.0, whole[: 28 + kept])
        assert flow is not None
        assert (flow.answer.protocol if flow.answer else None) == expected


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (SA_INIT + b"x", "longer than it says"),
        (SA_INIT[:-1], "shorter than it says"),
        (SA_INIT[:16] + b"\x07" + SA_INIT[17:], "a first payload of version 1"),
        (SA_INIT[:17] + b"\x30" + SA_INIT[18:], "version 3"),
        (SA_INIT[:18] + b"\x63" + SA_INIT[19:], "an exchange of nobody"),
        (SA_INIT[:19] + b"\x01" + SA_INIT[20:], "a flag that version 2 has not"),
        (bytes(8) + SA_INIT[8:], "no initiator SPI"),
    ],
)
def test_off_its_port_a_message_must_be_sound(message: bytes, why: str) -> None:
    assert Conversation(33333).up(message).protocol is None, why


def test_on_its_port_broken_senders_are_passed_over() -> None:
    """A length of 0 where the payloads fill the datagram, and payloads that do not add up in a message that does."""
    assert Conversation(500).up(MAIN_MODE[:24] + bytes(4) + MAIN_MODE[28:]).protocol == "ike"
    assert Conversation(500).up(MAIN_MODE[:30] + b"\xff\xff" + MAIN_MODE[32:]).protocol == "ike"


def test_a_notification_without_cookies_is_likely() -> None:
    notification = pack("!IBBH", 1, 1, 16, 5) + bytes(16)
    message = bytes(16) + ike(0x10, 5, 0, [(11, notification)])[16:]
    talk = Conversation(500).up(message)
    assert talk.answer is not None
    assert (talk.answer.protocol, talk.answer.confidence) == ("ike", 0.7)
    assert Conversation(501).up(message).protocol is None


def test_keepalives_and_what_openvpn_counts_are_no_esp() -> None:
    talk = Conversation(4500).up(b"\xff").down(b"\xff")
    for number in range(1, 3):
        talk.up(pack("!BBHI", 0x48, 0, 3, number) + noise(80))
    assert talk.protocol is None
