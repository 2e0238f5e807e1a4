"""WireGuard on any port, by its handshake and by its counters; Tailscale by its discovery."""

from struct import pack

import pytest

from tests.unit.detect.traffic import Conversation, noise

INITIATION = pack("<II", 1, 0x11111111) + noise(124) + bytes(16)
RESPONSE = pack("<III", 2, 0x22222222, 0x11111111) + noise(64) + bytes(16)
INDEX = 0x5EED5EED
DISCO = b"TS\xf0\x9f\x92\xac" + noise(32) + noise(24) + noise(34)


def data(receiver: int, counter: int, size: int = 96) -> bytes:
    return pack("<IIQ", 4, receiver, counter) + noise(size - 16, counter)


@pytest.mark.parametrize("port", [51820, 53, 443, 4500, 500, 1194])
def test_an_initiation_is_wireguard_on_every_port(port: int) -> None:
    talk = Conversation(port).up(INITIATION)
    assert talk.answer is not None
    assert talk.answer.protocol == "wireguard"
    assert talk.answer.evidence == f"WireGuard handshake initiation, 148 bytes, index 0x11111111, UDP {port}"


def test_a_response_to_the_index_of_the_initiation_is_certain() -> None:
    talk = Conversation(53).up(INITIATION).down(RESPONSE)
    assert talk.answer is not None
    assert talk.answer.confidence == 0.99
    assert talk.flow.notes.words() == ("index 0x11111111", "index 0x22222222")


def test_filled_bytes_are_passed_over_where_initiation_and_response_belong_together() -> None:
    """Cloudflare's WARP names its customer in the three bytes."""
    filled = b"\x01abc" + INITIATION[4:], b"\x02abc" + RESPONSE[4:]
    talk = Conversation(2408).up(filled[0])
    assert talk.protocol is None
    assert talk.down(filled[1]).protocol == "wireguard"
    assert Conversation(2408).up(filled[0]).down(b"\x02abc" + pack("<II", 2, 99) + RESPONSE[12:]).protocol is None
    assert Conversation(2408).up(filled[0][:-1] + b"x").down(filled[1]).protocol is None


def test_data_is_known_by_counters_that_go_on() -> None:
    talk = Conversation(7777).up(data(INDEX, 1000))
    assert talk.protocol is None
    assert talk.up(data(INDEX, 1001)).protocol == "wireguard"


def test_data_whose_counter_jumps_is_not() -> None:
    assert Conversation(7777).up(data(INDEX, 1000)).up(data(INDEX, 900_000)).up(data(INDEX + 1, 5)).protocol is None


def test_an_initiation_with_a_cookie_waits_for_its_answer_off_its_port() -> None:
    """Without 16 bytes of zero there is little in it but its size."""
    loaded = INITIATION[:-16] + noise(16, 9)
    assert Conversation(51820).up(loaded).protocol == "wireguard"
    talk = Conversation(53).up(loaded)
    assert talk.protocol is None
    assert talk.down(RESPONSE).protocol == "wireguard"


def test_a_cookie_reply_is_known_by_whom_it_answers() -> None:
    reply = pack("<II", 3, 0x11111111) + noise(56)
    assert Conversation(53).down(reply).protocol is None
    assert Conversation(51820).down(reply).protocol == "wireguard"
    assert Conversation(51820).down(pack("<II", 3, 256) + b"www.example.org".ljust(56, b"\0")).protocol is None
    assert Conversation(53).up(INITIATION).down(reply).flow.answer is not None
    assert Conversation(53).up(INITIATION[:-16] + noise(16, 9)).down(reply).protocol == "wireguard"


@pytest.mark.parametrize("port", [53, 51820])
def test_what_counts_in_clear_text_is_not_wireguards_data(port: int) -> None:
    talk = Conversation(port)
    for counter in range(8):
        talk.up(pack("<IIQ", 4, INDEX, counter) + b"player 1 stands still".ljust(48, b"\0"))
    assert talk.protocol is None


def test_an_index_that_is_a_small_count_is_not_wireguards() -> None:
    talk = Conversation(7777)
    for counter in range(8):
        talk.up(data(7, counter))
    assert talk.protocol is None


def test_one_data_message_is_likely_on_its_own_port_alone() -> None:
    assert Conversation(51820).up(data(INDEX, 3)).protocol == "wireguard"
    assert Conversation(51821).up(data(INDEX, 3)).protocol is None


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (INITIATION + b"x", "149 bytes"),
        (INITIATION[:-1], "147 bytes"),
        (b"\x01\x00\x00\x01" + INITIATION[4:], "a byte that is not 0, and no response"),
        (b"\x04\x00\x00\x01" + data(INDEX, 1)[4:], "data with a byte that is not 0"),
        (INITIATION[:8] + bytes(140), "keys of zeros"),
        (b"\x05" + INITIATION[1:], "type 5"),
    ],
)
def test_what_only_begins_like_wireguard_is_not(message: bytes, why: str) -> None:
    assert Conversation(53).up(message).protocol is None, why


def test_discovery_makes_it_tailscale_before_and_after() -> None:
    first = Conversation(41641).up(DISCO)
    assert first.protocol == "tailscale"
    assert Conversation(41641).up(INITIATION).down(DISCO).protocol == "tailscale"
    assert first.down(INITIATION).protocol == "tailscale"


def test_discovery_that_is_cut_short_is_nothing() -> None:
    assert Conversation(41641).up(DISCO[:40]).protocol is None
