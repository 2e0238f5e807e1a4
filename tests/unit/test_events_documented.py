"""docs/events.md has every event that the daemon logs or the tracker records, with its level and its fields."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "throughway"
PAGE = ROOT / "docs" / "events.md"

LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "tell": "info",
    "Record": "info",
    "_record": "info",
    "_told": "info",
}
"""The calls whose first argument is the name of an event, with the level at which it is written."""

NAME = re.compile(r"[a-z_]+(\.[a-z_-]+)+")
NOT_FIELDS = {"exc_info"}
"""Keywords of the logger itself."""

Event = tuple[str, frozenset[str]]
"""Level and fields."""


def dictionary_keys(node: ast.AST) -> set[str]:
    """Return the literal keys of all dictionaries below a node."""
    return {
        key.value
        for each in ast.walk(node)
        if isinstance(each, ast.Dict)
        for key in each.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


def events_in(source: str) -> Iterator[tuple[str, Event]]:
    """Yield name, level and fields of every event in a file; `_record` adds what it gives to all of its own, and
    `_told` the session."""
    tree = ast.parse(source)
    common = {
        key
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "_record"
        for key in dictionary_keys(node)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and node.args and isinstance(first := node.args[0], ast.Constant)):
            continue
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called not in LEVELS or not isinstance(first.value, str) or not NAME.fullmatch(first.value):
            continue
        fields = {keyword.arg for keyword in node.keywords if keyword.arg} - NOT_FIELDS
        fields |= set().union(*(dictionary_keys(each) for each in node.args[1:]))
        added = common if called == "_record" else {"session"} if called == "_told" else set[str]()
        yield first.value, (LEVELS[called], frozenset(fields | added))


def events() -> dict[str, Event]:
    """Collect all events; one that several places log has the fields of all of them."""
    found: dict[str, Event] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        for name, (level, fields) in events_in(file.read_text()):
            known_level, known = found.get(name, (level, frozenset()))
            assert level == known_level, f"{name} has two levels"
            found[name] = level, known | fields
    return found


def documented() -> dict[str, Event]:
    """Read the rows of the page's tables: name, level, fields, meaning."""
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \|([^|]*)\| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert len({name for name, *_ in rows}) == len(rows), "an event has two rows"
    assert all(meaning.strip() for *_, meaning in rows)
    return {name: (level, frozenset(re.findall(r"`([a-z_]+)`", fields))) for name, level, fields, _ in rows}


def test_every_event_is_documented_with_its_level_and_fields() -> None:
    assert documented() == events()


def test_what_the_source_has_is_found() -> None:
    """The collecting itself: loggers, records with a dictionary, and those with what they have in common."""
    source = """
def _record(name, peer, **fields):
    return Record(name, {"peer": peer, **fields})

def f(self):
    log.warning("a.b", x=1)
    self._log.exception("a.failed", id=7, exc_info=None)
    Record("c.d-e", {"old": 1, "new": 2})
    _record("f.g", peer, hosts=[])
    log.info("no event")
    print("h.i")
"""
    assert dict(events_in(source)) == {
        "a.b": ("warning", frozenset({"x"})),
        "a.failed": ("error", frozenset({"id"})),
        "c.d-e": ("info", frozenset({"old", "new"})),
        "f.g": ("info", frozenset({"peer", "hosts"})),
    }
