"""ZeroTier, Nebula and SoftEther, as their sources write their packets."""

from struct import pack

import pytest

from tests.unit.detect.traffic import Conversation, noise

ALICE, BOB = bytes.fromhex("8056c2e21c"), bytes.fromhex("1d71939404")
NOW_MS = 1_700_000_000_000


def zerotier(source: bytes, destination: bytes, flags: int, rest: bytes, seed: int = 1) -> bytes:
    return noise(8, seed) + destination + source + bytes([flags]) + noise(8) + rest


HELLO = zerotier(ALICE, BOB, 0, pack("!BBBBHQ", 1, 12, 1, 14, 2, NOW_MS) + ALICE + b"\0" + noise(64) + b"\0" * 20)


@pytest.mark.parametrize("port", [9993, 443])
def test_a_hello_repeats_its_senders_address(port: int) -> None:
    talk = Conversation(port).up(HELLO)
    assert talk.answer is not None
    assert (talk.answer.protocol, talk.answer.confidence) == ("zerotier", 0.99)
    assert talk.flow.notes.words() == (f"node {ALICE.hex()}",)


def test_a_hello_of_another_sender_is_not() -> None:
    forged = HELLO[:13] + BOB + HELLO[18:]
    assert Conversation(443).up(forged).protocol is None


def test_nodes_that_name_each_other_are_enough_on_their_port() -> None:
    up, down = zerotier(ALICE, BOB, 8, noise(60)), zerotier(BOB, ALICE, 8, noise(60))
    assert Conversation(9993).up(up).down(down).protocol == "zerotier"
    assert Conversation(9993).up(up).down(up).protocol is None
    assert Conversation(443).up(up).down(down).protocol is None


def nebula(kind: int, subtype: int, index: int, counter: int, rest: bytes) -> bytes:
    return pack("!BBHIQ", 0x10 | kind, subtype, 0, index, counter) + rest


def test_a_nebula_handshake_is_known_by_its_header() -> None:
    first, second = nebula(0, 0, 0, 1, noise(200)), nebula(0, 0, 77, 2, noise(200))
    assert Conversation(4242).up(first).protocol == "nebula"
    assert Conversation(53).up(first).down(second).protocol == "nebula"


@pytest.mark.parametrize(
    "message",
    [
        nebula(0, 0, 0, 2, noise(200)),
        nebula(0, 0, 7, 1, noise(200)),
        nebula(0, 0, 0, 1, bytes(200)),
        nebula(0, 0, 0, 1, b""),
        nebula(0, 5, 0, 1, noise(200)),
        nebula(9, 0, 0, 1, noise(200)),
    ],
)
def test_what_only_begins_like_nebula_is_not(message: bytes) -> None:
    assert Conversation(4243).up(message).protocol is None


def test_on_its_own_port_nebulas_header_is_enough() -> None:
    assert Conversation(4242).up(nebula(0, 0, 0, 1, bytes(200))).protocol == "nebula"


def test_nebula_messages_are_known_by_counters_that_go_on() -> None:
    talk = Conversation(4242)
    for counter in (10, 11):
        talk.up(nebula(1, 0, 0x5EED5EED, counter, noise(100)))
    assert talk.protocol is None
    assert talk.up(nebula(1, 0, 0x5EED5EED, 12, noise(100))).protocol == "nebula"


@pytest.mark.parametrize(("index", "payload"), [(99, noise(100)), (0x5EED5EED, b"state of player 1".ljust(100))])
def test_small_indices_and_clear_text_are_not_nebulas(index: int, payload: bytes) -> None:
    talk = Conversation(4242)
    for counter in range(10, 20):
        talk.up(nebula(1, 0, index, counter, payload))
    assert talk.protocol is None


def test_softether_tells_a_client_how_it_is_seen() -> None:
    talk = Conversation(5004).up(b"B").down(b"IP=203.0.113.9,PORT=50123")
    assert talk.answer is not None
    assert talk.answer.protocol == "softether"
    assert "203.0.113.9 port 50123" in talk.answer.evidence


@pytest.mark.parametrize(
    "text", [b"IP=", b"IP=203.0.113.9", b"IP=x,PORT=1", b"IP=203.0.113.9,PORT=x", b"IP=1.2.3.4,PORT="]
)
def test_what_only_begins_so_is_not_softethers(text: bytes) -> None:
    assert Conversation(5004).up(b"B").down(text).protocol is None


def test_softethers_requests_are_known_by_their_names() -> None:
    names = [(b"opcode", b"nat_t_connect_request"), (b"tran_id", noise(8))]
    request = pack("!I", 2) + b"".join(pack("!I", len(n) + 1) + n + pack("!II", 2, 1) + v for n, v in names)
    assert Conversation(5004).up(request).protocol == "softether"
    assert Conversation(5004).up(request.replace(b"tran_id", b"xxxx_id")).protocol is None
