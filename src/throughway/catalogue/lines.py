"""Where in a TOML file a key stands: tomllib tells lines for broken syntax only, and people need them always."""

import re
from typing import Final

Path = tuple[str | int, ...]
"""A key's way from the top: names of tables and keys, and positions in arrays of tables."""

_TABLE: Final = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\"' -]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"^\s*([A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')\s*(?:\.[^=]*)?=")
_MULTILINE: Final = ('"""', "'''")


def lines_of(text: str) -> dict[Path, int]:
    """Map the path of each table and key to its line, counted from 1. Keys of inline tables have none of their own."""
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    quote: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if quote is not None:
            quote = None if quote in line else quote
            continue
        if header := _TABLE.match(line):
            table = _enter(header[2], header[1] == "[[", counts)
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, key[1].strip("\"'")), number)
            quote = next((mark for mark in _MULTILINE if line.count(mark) == 1), None)
    return found


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Return the line of a key, or of what is nearest around it; 1 where nothing is."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


def words_of(path: Path) -> str:
    """Write a path as people do: `recognise.pattern[1].bytes`, counted from 1."""
    words = ""
    for part in path:
        words += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if words else part
    return words


def _enter(name: str, is_array: bool, counts: dict[Path, int]) -> Path:
    """Return the path of a table; one that is an array gets its next position, one inside an array the last one."""
    path: Path = ()
    parts = [part.strip().strip("\"'") for part in name.split(".")]
    for depth, part in enumerate(parts):
        path = (*path, part)
        if is_array and depth == len(parts) - 1:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path
