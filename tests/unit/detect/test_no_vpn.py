"""What is no VPN and looks like one in places: on its own port, and on those where little is needed to name a VPN."""

import random
from collections.abc import Callable, Iterator
from struct import pack

import pytest

from tests.unit.detect.traffic import Conversation

Talk = Iterator[tuple[bool, bytes]]
"""Who says what: True is the client."""

PORTS = (53, 443, 500, 1194, 1701, 4242, 4500, 4754, 9993, 51820, 33333)


def stun(chance: random.Random) -> Talk:
    for kind in (0x0003, 0x0001, 0x0008):
        head = pack("!HHI", kind, 0, 0x2112A442) + chance.randbytes(12)
        yield True, head
        yield False, pack("!H", kind | 0x0100) + head[2:]
    for _ in range(6):
        data = chance.randbytes(40)
        yield True, pack("!HH", 0x4001, len(data)) + data


def rtp(chance: random.Random) -> Talk:
    begin, source = chance.randrange(60_000), chance.randbytes(4)
    for number in range(12):
        head = pack("!BBHI", 0x80, 111, begin + number, 960 * number)
        yield chance.random() < 0.7, head + source + chance.randbytes(chance.choice((20, 60, 160)))


def dns(chance: random.Random) -> Talk:
    first = chance.randrange(60_000)
    for number in range(4):
        question = b"\7example\3org\0" + pack("!HH", 1, 1)
        yield True, pack("!HHHHHH", first + number, 0x0100, 1, 0, 0, 0) + question
        answer = b"\xc0\x0c" + pack("!HHIH", 1, 1, 60, 4) + chance.randbytes(4)
        yield False, pack("!HHHHHH", first + number, 0x8180, 1, 1, 0, 0) + question + answer


def dns_like_a_reset(chance: random.Random) -> Talk:
    """A query of a size that resets with tls-crypt have, whose ID begins like one; its name stands for their time."""
    for first in (0x38, 0x40, 0x50):
        for size in (54, 66, 72):
            letters = bytes(chance.choices(range(0x61, 0x7B), k=size - 18))
            name = bytes((12,)) + letters[:12] + bytes((len(letters) - 13,)) + letters[13:] + b"\0"
            yield True, pack("!BBHHHHH", first, chance.randrange(256), 0x0100, 1, 0, 0, 0) + name + pack("!HH", 1, 1)


def framed_and_counted(chance: random.Random) -> Talk:
    """Messages with a name, a count and a random body."""
    for number in range(12):
        yield True, b"\x20" + b"my\x80name!" + pack("!I", number) + chance.randbytes(60)


def utp(chance: random.Random) -> Talk:
    connection, first = chance.randrange(60_000), chance.randrange(1 << 31)
    for number in range(12):
        head = pack("!BBHIIIHH", 0x01, 0, connection, first + 3000 * number, 0, 0x100000, number, 0)
        yield bool(number % 2), head + chance.randbytes(chance.choice((0, 68, 1400)))


def mosh(chance: random.Random) -> Talk:
    for number in range(12):
        is_client = bool(number % 2)
        yield is_client, pack("!Q", (not is_client) << 63 | number) + chance.randbytes(4 * chance.randrange(8, 40))


def ipfix(chance: random.Random) -> Talk:
    for number in range(8):
        yield True, pack("!HHIII", 10, 100, 1_700_000_000 + number, 5 * number, 1) + chance.randbytes(84)


def someip(chance: random.Random) -> Talk:
    for number in range(8):
        yield True, pack("!HHIHH", 0xFFFF, 0x8100, 48, 0, number) + chance.randbytes(44)


def counted_in_clear(chance: random.Random) -> Talk:
    """A game's messages: what they are, whose, and a count, all of 32 bits."""
    for number in range(12):
        yield True, pack("!II", 0x5EED0001, number + 1) + b"x=%d y=%d" % (number, chance.randrange(99)) + bytes(40)


def gquic(chance: random.Random) -> Talk:
    connection = chance.randbytes(8)
    for number in range(12):
        yield True, b"\x0d" + connection + b"Q039" + bytes((number,)) + chance.randbytes(200)


def coap_over_dtls(chance: random.Random) -> Talk:
    """A small device that resumes a session with a shared key."""
    body = b"\xfe\xfd" + chance.randbytes(32) + b"\x20" + chance.randbytes(32) + b"\0" + b"\0\4\xc0\xa8\0\xae" + b"\1\0"
    size = len(body).to_bytes(3, "big")
    message = b"\1" + size + b"\0\0" + b"\0\0\0" + size + body
    yield True, b"\x16\xfe\xfd" + bytes(8) + pack("!H", len(message)) + message


def tftp(chance: random.Random) -> Talk:
    for number in range(6):
        yield False, pack("!HH", 3, number) + chance.randbytes(512)
        yield True, pack("!HH", 4, number)


def rpc(chance: random.Random) -> Talk:
    first = chance.randrange(1 << 31)
    for number in range(6):
        yield True, pack("!IIIIII", first + number, 0, 2, 100003, 3, 1) + bytes(16)
        yield False, pack("!II", first + number, 1) + bytes(16)


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    "talk",
    [
        stun,
        rtp,
        dns,
        dns_like_a_reset,
        framed_and_counted,
        utp,
        mosh,
        ipfix,
        someip,
        counted_in_clear,
        gquic,
        coap_over_dtls,
        tftp,
        rpc,
    ],
    ids=lambda talk: talk.__name__,
)
def test_it_is_not_named(talk: Callable[[random.Random], Talk], port: int) -> None:
    for seed in range(20):
        conversation = Conversation(port)
        for is_client, payload in talk(random.Random(seed)):  # noqa: S311
            (conversation.up if is_client else conversation.down)(payload)
        assert conversation.answer is None, seed
