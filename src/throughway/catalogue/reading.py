"""Text of a protocol's file -> Protocol. What is wrong is told with file, line, key and remedy (docs/protocols.md)."""

import re
import tomllib
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Any, Final, TypeVar

from throughway.catalogue.lines import Path, line_of, lines_of, words_of
from throughway.catalogue.protocol import (
    SIZE_MAX_BYTES,
    Carrier,
    Default,
    Nat,
    Pattern,
    Protocol,
    Recognise,
    Side,
    Step,
    Switch,
    Timers,
    Transport,
)
from throughway.core.errors import SettingsRejected

_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SYNTAX: Final = re.compile(r"\(at line (\d+), column \d+\)$")
_PATTERN_SIZE_MAX: Final = 64
_OFFSET_MAX: Final = 1400
"""A pattern must lie in the first packet as any link carries it whole."""

_TIMER_MAX_S: Final = 7 * 86_400
_TEXT_MAX: Final = 2000
_OWN_IP_PROTOCOLS: Final = frozenset({1, 6, 17, 58})
"""ICMP, TCP, UDP and ICMPv6: to take one of them whole for a VPN would be a mistake."""

_Choice = TypeVar("_Choice", bound=StrEnum)


class ProtocolRejected(SettingsRejected):
    """A protocol's file cannot be taken. The operator is to blame; `line` is counted from 1."""

    def __init__(self, file: str, line: int, path: Path, remedy: str) -> None:
        super().__init__(f"{file}, line {line}" + (f", {words_of(path)}" if path else ""), remedy)
        self.file = file
        self.line = line


def read(text: str, file: str, structures: Collection[str]) -> Protocol:
    """Read the file of one protocol. `structures` are the names of code that it may ask for.

    Raises ProtocolRejected at the first thing that is wrong.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _SYNTAX.search(str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise ProtocolRejected(file, line, (), f"this is not TOML: {_SYNTAX.sub('', str(error)).strip()}") from error
    lines = lines_of(text)

    def reject(path: Path, remedy: str) -> ProtocolRejected:
        return ProtocolRejected(file, line_of(lines, path), path, remedy)

    return _protocol(_Table(values, (), reject), structures)


def _protocol(top: "_Table", structures: Collection[str]) -> Protocol:
    identity = top.text("id", needed=True)
    family = top.text("family") or identity
    for key, name in (("id", identity), ("family", family)):
        if not _ID.fullmatch(name):
            raise top.reject(key, "use at most 32 small letters, digits and hyphens, such as `my-vpn`")
    recognise = _recognise(top.table("recognise", needed=True), structures)
    nat, timers, switch = top.table("nat"), top.table("timers"), top.table("switch")
    protocol = Protocol(
        id=identity,
        name=top.text("name", needed=True),
        family=family,
        recognise=recognise,
        summary=top.text("summary"),
        sources=top.texts("sources"),
        discriminator=top.text("discriminator"),
        nat=Nat(nat.choice("carried_by", Carrier, Carrier.MASQUERADE), nat.text("needs")),
        timers=Timers(
            timers.number("idle_s", 1, _TIMER_MAX_S, None), timers.number("keepalive_s", 1, _TIMER_MAX_S, None)
        ),
        switch=Switch(switch.choice("default", Default, Default.ON), switch.text("off_blocks")),
        establishment=tuple(
            Step(step.text("name", needed=True), step.text("seen", needed=True)) for step in top.tables("establishment")
        ),
        quirks=top.texts("quirks"),
        tell=top.text("tell"),
    )
    top.finish()
    return protocol


def _recognise(table: "_Table", structures: Collection[str]) -> Recognise:
    transport = table.choice("transport", Transport, None)
    recognise = Recognise(
        transport,
        table.numbers("ip_protocols", 0, 255),
        table.numbers("ports", 1, 65_535),
        table.texts("structures"),
        tuple(_pattern(pattern) for pattern in table.tables("pattern")),
    )
    for name in recognise.structures:
        if name not in structures:
            raise table.reject("structures", f"there is no structure `{name}`; those that are: {_list(structures)}")
    if transport is Transport.IP and not recognise.ip_protocols:
        raise table.reject("ip_protocols", "say which IP protocols it has, such as `ip_protocols = [99]`")
    if transport is not Transport.IP and recognise.ip_protocols:
        raise table.reject("ip_protocols", f'remove it, or set `transport = "ip"`: {transport} is one itself')
    if transport is Transport.IP and recognise.ports:
        raise table.reject("ports", 'remove them, or set `transport = "udp"`: such packets have no ports')
    taken = _OWN_IP_PROTOCOLS & set(recognise.ip_protocols)
    if taken:
        raise table.reject("ip_protocols", f"remove {min(taken)}: everything else on the network uses it too")
    if recognise.is_declared and transport is not Transport.IP and not recognise.ports and not recognise.patterns:
        raise table.reject("", "add `ports` or a `[[recognise.pattern]]`: there is nothing to recognise it by")
    return recognise


def _pattern(table: "_Table") -> Pattern:
    wanted = table.hexadecimal("bytes")
    mask = table.hexadecimal("mask") or b"\xff" * len(wanted)
    if not wanted:
        raise table.reject("bytes", 'give the bytes to look for in hexadecimal, such as `bytes = "1a2b3c4d"`')
    if len(mask) != len(wanted):
        raise table.reject("mask", f"make it as long as `bytes`, {len(wanted)} bytes")
    if any(byte & ~bits for byte, bits in zip(wanted, mask, strict=True)):
        raise table.reject("bytes", "clear the bits that `mask` leaves out, or set them in `mask`")
    pattern = Pattern(
        table.number("offset", 0, _OFFSET_MAX, 0),
        wanted,
        mask,
        table.number("size_min_bytes", 0, SIZE_MAX_BYTES, 0),
        table.number("size_max_bytes", 0, SIZE_MAX_BYTES, SIZE_MAX_BYTES),
        table.choice("side", Side, Side.EITHER),
    )
    if pattern.size_max_bytes < max(pattern.size_min_bytes, pattern.offset + len(wanted)):
        raise table.reject("size_max_bytes", "raise it: no packet can be so short and have the pattern")
    return pattern


class _Table:
    """One table of the file: hands out its values once, checked, and at the end knows which keys nobody asked for."""

    def __init__(self, values: dict[str, Any], path: Path, reject: Callable[[Path, str], ProtocolRejected]) -> None:
        self._values = values
        self._path = path
        self._reject = reject
        self._asked: set[str] = set()
        self._inner: list[_Table] = []

    def reject(self, key: str, remedy: str) -> ProtocolRejected:
        """Make the error about a key of this table, or about the table where the key is empty."""
        return self._reject((*self._path, key) if key else self._path, remedy)

    def text(self, key: str, *, needed: bool = False) -> str:
        """Return a text, or an empty one where there is none and none is needed."""
        value = self._take(key)
        if value is None and not needed:
            return ""
        if not isinstance(value, str) or not value.strip() or len(value) > _TEXT_MAX:
            raise self.reject(key, f'give a text, such as `{key} = "…"`, of at most {_TEXT_MAX} characters')
        return value.strip()

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self._take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
            raise self.reject(key, f'give a list of texts, such as `{key} = ["…"]`')
        return tuple(one.strip() for one in value)

    def number(self, key: str, low: int, high: int, default: Any) -> Any:
        """Return a whole number within bounds, or the default."""
        value = self._take(key)
        if value is None:
            return default
        if not _is_number(value, low, high):
            raise self.reject(key, f"give a whole number from {low} to {high}")
        return value

    def numbers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """Return a list of whole numbers within bounds."""
        value = self._take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(_is_number(one, low, high) for one in value):
            raise self.reject(key, f"give a list of whole numbers from {low} to {high}: `{key} = [{high // 2}]`")
        return tuple(dict.fromkeys(value))

    def choice(self, key: str, kind: type[_Choice], default: _Choice | None) -> _Choice:
        """Return one of a few words, or the default where there is one."""
        value = self._take(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or value not in set(kind):
            raise self.reject(key, f"use one of {_list([word.value for word in kind])}")
        return kind(value)

    def hexadecimal(self, key: str) -> bytes:
        """Return bytes that are written in hexadecimal; none where the key is absent."""
        value = self._take(key)
        try:
            found = b"" if value is None else bytes.fromhex(value)
        except (TypeError, ValueError) as error:
            raise self.reject(key, f'write bytes in hexadecimal, such as `{key} = "1a2b3c4d"`') from error
        if len(found) > _PATTERN_SIZE_MAX:
            raise self.reject(key, f"use at most {_PATTERN_SIZE_MAX} bytes")
        return found

    def table(self, key: str, *, needed: bool = False) -> "_Table":
        """Return a table inside this one; an empty one where there is none and none is needed."""
        value = self._take(key)
        if (value is None and needed) or not isinstance(value, dict | None):
            raise self.reject(key, f"add a table `[{words_of((*self._path, key))}]`")
        return self._within(value or {}, (*self._path, key))

    def tables(self, key: str) -> "list[_Table]":
        """Return the tables of an array of them."""
        value = self._take(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(one, dict) for one in value)):
            raise self.reject(key, f"write it as tables, each begun by `[[{words_of((*self._path, key))}]]`")
        return [self._within(one, (*self._path, key, number)) for number, one in enumerate(value or [])]

    def finish(self) -> None:
        """Refuse keys that mean nothing, here and in all tables inside: a misspelt key must not be passed over."""
        for key in self._values:
            if key not in self._asked:
                raise self.reject(key, f"remove it, or mend its spelling; keys here are {_list(self._asked)}")
        for inner in self._inner:
            inner.finish()

    def _take(self, key: str) -> Any:
        self._asked.add(key)
        return self._values.get(key)

    def _within(self, values: dict[str, Any], path: Path) -> "_Table":
        table = _Table(values, path, self._reject)
        self._inner.append(table)
        return table


def _is_number(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _list(words: Collection[str]) -> str:
    return ", ".join(f"`{word}`" for word in sorted(words))
