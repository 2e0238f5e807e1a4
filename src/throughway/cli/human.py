"""Numbers as people read them: short, with their unit, and of the same width from one second to the next."""

from collections.abc import Sequence
from typing import Final

_SIZE_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_COUNT_UNITS: Final = ("", "k", "M", "G", "T", "P")

_MINUTE_S: Final = 60
_HOUR_S: Final = 60 * _MINUTE_S
_DAY_S: Final = 24 * _HOUR_S


def size(size_bytes: int) -> str:
    """Return a number of bytes with a binary unit: "0 B", "999 B", "1.2 MiB"."""
    return _scaled(size_bytes, 1024, 1000, _SIZE_UNITS, " ")


def count(number: int) -> str:
    """Return a number whole up to 9,999, and shortened above: "12.3k", "4.0M"."""
    return f"{number:,}" if number < 10_000 else _scaled(number, 1000, 1000, _COUNT_UNITS, "")


def duration(seconds: float) -> str:
    """Return a time by its two largest units: "0s", "42s", "3m 2s", "2h 5m", "3d 4h"."""
    whole = int(max(seconds, 0))
    if whole < _MINUTE_S:
        return f"{whole}s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m {whole % _MINUTE_S}s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h {whole % _HOUR_S // _MINUTE_S}m"
    return f"{whole // _DAY_S}d {whole % _DAY_S // _HOUR_S}h"


def shortened(words: Sequence[str], shown: int) -> str:
    """Return the first words and how many are left out: "0x1234abcd +2"; "-" for none."""
    if not words:
        return "-"
    left_out = len(words) - shown
    listed = ", ".join(printable(word) for word in words[:shown])
    return f"{listed} +{left_out}" if left_out > 0 else listed


def plural(number: int, noun: str, many: str = "") -> str:
    """Return the number with its noun: "1 session", "3 sessions"; `many` is for nouns that do not take an s alone."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {many or noun + 's'}"


def printable(text: str) -> str:
    """Return foreign text without what would steer a terminal; each such character becomes a question mark."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _scaled(number: int, step: int, limit: int, units: Sequence[str], space: str) -> str:
    value = float(number)
    for unit in units:
        # Compared as it will be shown, so that 999.96 does not become "1000.0".
        if round(value, 1) < limit or unit == units[-1]:
            break
        value /= step
    return f"{value:.0f}{space}{unit}" if unit == units[0] else f"{value:.1f}{space}{unit}"
