"""Numbers as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throughway.cli.human import count, duration, plural, printable, shortened, size


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1 << 20, "1.0 MiB"),
        (1_258_291, "1.2 MiB"),
        (1023 << 20, "1.0 GiB"),
        (999 << 30, "999.0 GiB"),
        (1 << 64, "16384.0 PiB"),
    ],
)
def test_sizes_have_a_binary_unit(size_bytes: int, shown: str) -> None:
    assert size(size_bytes) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (1204, "1,204"), (9999, "9,999"), (10_000, "10.0k"), (999_960, "1.0M"), (12_345_678, "12.3M")],
)
def test_counts_are_whole_as_long_as_they_are_short(number: int, shown: str) -> None:
    assert count(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-0.1, "0s"), (0.4, "0s"), (59.9, "59s"), (182, "3m 2s"), (7500, "2h 5m"), (93784, "1d 2h"), (86400, "1d 0h")],
)
def test_durations_have_their_two_largest_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_long_lists_are_shortened_and_counted() -> None:
    assert shortened([], 1) == "-"
    assert shortened(["0x1"], 1) == "0x1"
    assert shortened(["0x1", "0x2", "0x3"], 1) == "0x1 +2"
    assert shortened(["0x1", "0x2", "0x3"], 2) == "0x1, 0x2 +1"


def test_nouns_agree_with_their_number() -> None:
    assert [plural(number, "session") for number in (0, 1, 1200)] == ["0 sessions", "1 session", "1,200 sessions"]


def test_what_steers_a_terminal_is_not_printed() -> None:
    assert printable("esp\x1b[2J\r\n\x07\ud800Büro") == "esp?[2J????Büro"


@given(st.integers(min_value=0, max_value=1 << 64))
def test_numbers_stay_within_their_column(number: int) -> None:
    assert len(size(min(number, 999 << 50))) <= 9
    assert len(count(number)) <= 8


@given(st.integers(min_value=1, max_value=1 << 63))
def test_more_is_never_shown_as_less(number: int) -> None:
    def value(text: str) -> float:
        digits, unit = text.split()
        return float(digits) * float(1024 ** ("B", "KiB", "MiB", "GiB", "TiB", "PiB").index(unit))

    assert value(size(number)) <= value(size(number + number // 4 + 1))
