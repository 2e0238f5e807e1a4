"""Text of protocols.toml -> what was set. What is wrong is told with file, line, key and remedy (docs/protocols.md).

[switch]
openvpn = "off"

[[override]]
protocol = "openvpn"
device = "192.168.1.20"
position = "on"
"""

import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, Final

from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue.lines import Path, line_of, lines_of, words_of
from throughway.core.errors import SettingsRejected
from throughway.switches.board import objection
from throughway.switches.position import EVERYWHERE, Place, Position, Setting, Switches

SWITCH: Final = "switch"
OVERRIDE: Final = "override"

_SYNTAX: Final = re.compile(r"\(at line (\d+), column \d+\)$")
_TOP_KEYS: Final = (SWITCH, OVERRIDE)
_OVERRIDE_KEYS: Final = ("protocol", "device", "peer", "position")

_Reject = Callable[[Path, str], "SwitchesRejected"]


class SwitchesRejected(SettingsRejected):
    """The file of the switches cannot be taken. The operator is to blame; `line` is counted from 1."""

    def __init__(self, file: str, line: int, path: Path, remedy: str) -> None:
        super().__init__(f"{file}, line {line}" + (f", {words_of(path)}" if path else ""), remedy)
        self.file = file
        self.line = line


def read(text: str, file: str, catalogue: Catalogue) -> Switches:
    """Read what was set. Raises SwitchesRejected at the first thing that is wrong."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _SYNTAX.search(str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise SwitchesRejected(file, line, (), f"this is not TOML: {_SYNTAX.sub('', str(error)).strip()}") from error
    lines = lines_of(text)

    def reject(path: Path, remedy: str) -> SwitchesRejected:
        return SwitchesRejected(file, line_of(lines, path), path, remedy)

    _only(values, _TOP_KEYS, (), reject)
    settings: dict[tuple[str, Place], Setting] = {}
    if values.get(OVERRIDE) and (OVERRIDE, 0) not in lines:
        raise reject((OVERRIDE,), f"write tables, each begun by `[[{OVERRIDE}]]`")
    for path, setting in (*_everywhere(values, reject), *_overrides(values, reject)):
        if problem := objection(catalogue, setting):
            raise reject(path, problem)
        if (setting.name, setting.place) in settings:
            raise reject(path, "this is set twice; remove one of the two")
        settings[setting.name, setting.place] = setting
    try:
        return Switches(tuple(settings.values()))
    except SettingsRejected as error:
        raise reject((error.key,), error.remedy) from None


def _everywhere(values: dict[str, Any], reject: _Reject) -> Iterator[tuple[Path, Setting]]:
    table = values.get(SWITCH, {})
    if not isinstance(table, dict):
        raise reject((SWITCH,), f'write a table: `[{SWITCH}]`, and below it lines such as `openvpn = "off"`')
    for name, value in table.items():
        path = (SWITCH, name)
        yield path, Setting(name, _position(path, value, reject), EVERYWHERE)


def _overrides(values: dict[str, Any], reject: _Reject) -> Iterator[tuple[Path, Setting]]:
    tables = values.get(OVERRIDE, [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise reject((OVERRIDE,), f"write tables, each begun by `[[{OVERRIDE}]]`")
    for number, one in enumerate(tables):
        path: Path = (OVERRIDE, number)
        _only(one, _OVERRIDE_KEYS, path, reject)
        name = _text(one, "protocol", path, reject)
        if name is None:
            raise reject(path, 'say of which protocol or family, such as `protocol = "openvpn"`')
        device, peer = (_text(one, key, path, reject) for key in ("device", "peer"))
        try:
            place = Place.of(device, peer)
        except SettingsRejected as error:
            raise reject((*path, error.key), error.remedy) from None
        if place.is_everywhere:
            raise reject(path, f"name a `device`, a `peer`, or both; what holds for everybody stands in `[{SWITCH}]`")
        yield (*path, "protocol"), Setting(name, _position((*path, "position"), one.get("position"), reject), place)


def _position(path: Path, value: object, reject: _Reject) -> Position:
    if not isinstance(value, str) or value not in set(Position):
        raise reject(path, f"use one of {', '.join(f'`{word}`' for word in Position)}, in quotation marks")
    return Position(value)


def _text(table: dict[str, Any], key: str, path: Path, reject: _Reject) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise reject((*path, key), "write a text, in quotation marks")
    return value


def _only(table: dict[str, Any], known: tuple[str, ...], path: Path, reject: _Reject) -> None:
    for key in table:
        if key not in known:
            raise reject((*path, key), f"remove it, or mend its spelling; keys here are {', '.join(known)}")
