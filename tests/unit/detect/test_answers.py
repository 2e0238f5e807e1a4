"""Which answer stands, what looks random, and how many discriminators are kept."""

import pytest

from tests.unit.detect.traffic import noise
from throughway.detect.answers import Answer, Notes, better, looks_random


@pytest.mark.parametrize(
    ("held", "new", "stands"),
    [
        (None, ("ike", 0.5), "ike"),
        (("ike", 0.9), ("openvpn", 0.99), "openvpn"),
        (("ike", 0.9), ("openvpn", 0.9), "ike"),
        (("esp-udp", 0.9), ("ike-natt", 0.9), "ike-natt"),
        (("ike-natt", 0.9), ("esp-udp", 0.99), "ike-natt"),
        (("wireguard", 0.99), ("tailscale", 0.9), "tailscale"),
    ],
)
def test_the_surer_answer_stands_and_the_more_exact_one(
    held: tuple[str, float] | None, new: tuple[str, float], stands: str
) -> None:
    before = Answer(*held, "") if held else None
    assert better(before, Answer(*new, "")).protocol == stands


def test_random_bytes_look_random_and_others_do_not() -> None:
    assert all(looks_random(noise(size, size)) for size in (32, 64, 128, 1000))
    assert not any(looks_random(data) for data in (bytes(32), b"GET /index.html HTTP/1.1\r\nHost: example.net", b""))


def test_notes_are_kept_once_in_order_and_within_their_bound() -> None:
    notes = Notes(2)
    for words in ("b", "a", "b", "c"):
        notes.add(words)
    assert notes.words() == ("b", "a")
