"""A short run of what `script/fuzz` does by the million: no input crashes what reads it, or is taken for another."""

import pytest

from tests.fuzz import parsers
from throughway.core.ids import Spi
from throughway.wire import esp, ike

INPUTS = 20_000


def test_mutated_input_is_read_as_what_it_is() -> None:
    assert parsers.fuzz("tests", INPUTS) == []


def test_the_same_seed_is_the_same_input(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    monkeypatch.setattr(parsers, "inputs", lambda: ((seen.append, (b"some bytes",)),))
    parsers.fuzz("one", 50)
    parsers.fuzz("one", 50)
    parsers.fuzz("another", 50)
    assert seen[:50] == seen[50:100] != seen[100:]


def test_a_parser_that_raises_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ike, "HEADER_SIZE", 0)
    found = parsers.fuzz("tests", 2000)
    assert any(finding.said.startswith("error") for finding in found)


def test_a_parser_that_reads_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esp, "parse", lambda data: esp.EspHeader(Spi(0x1000), 1))
    assert parsers.fuzz("tests", 2000)
