"""One more setting in the text of protocols.toml. What the operator wrote besides stays as it is, comments too."""

from collections.abc import Callable, MutableMapping
from ipaddress import ip_address
from typing import Any, Final

import tomlkit
from tomlkit.items import Table

from throughway.switches.position import Place, Position
from throughway.switches.reading import OVERRIDE, SWITCH

HEAD: Final = """\
# The switches of the VPN protocols. `throughway protocols` reads and writes this file; it may be edited by hand
# as well, and is read again when it changes. docs/protocols.md has its keys.
"""
"""What a new file begins with."""


def with_setting(text: str, name: str, position: Position | None, place: Place) -> str:
    """Write the text with one setting changed, added, or taken back where the position is None.

    The text must be one that `reading.read` takes.
    """
    document = tomlkit.parse(text or HEAD)
    if place.is_everywhere:
        _set_everywhere(document, name, position)
    else:
        _set_override(document, name, position, place)
    return tomlkit.dumps(document).rstrip() + "\n"


def without(text: str, name: str) -> str:
    """Write the text without anything that is set of a name."""
    document = tomlkit.parse(text or HEAD)
    _set_everywhere(document, name, None)
    _keep(document, lambda one: str(one["protocol"]) != name)
    return tomlkit.dumps(document).rstrip() + "\n"


def _set_everywhere(document: tomlkit.TOMLDocument, name: str, position: Position | None) -> None:
    if position is None:
        table = document.get(SWITCH, {})
        if name in table:
            del table[name]
        return
    if SWITCH not in document:
        # Before the overrides: a table that follows an array of tables reads as if it belonged to the last one.
        overrides = document.pop(OVERRIDE, None)
        document[SWITCH] = tomlkit.table()
        if overrides is not None:
            document[OVERRIDE] = overrides
    table = document[SWITCH]
    table[name] = position.value


def _set_override(document: tomlkit.TOMLDocument, name: str, position: Position | None, place: Place) -> None:
    def is_meant(one: MutableMapping[str, Any]) -> bool:
        return str(one["protocol"]) == name and _place(one) == place

    if position is None:
        return _keep(document, lambda one: not is_meant(one))
    for one in document.get(OVERRIDE, []):
        if is_meant(one):
            one["position"] = position.value
            return None
    table = tomlkit.table()
    table.trivia.indent = "\n"  # an empty line before it
    table["protocol"] = name
    if place.device:
        table["device"] = str(place.device)
    if place.peer:
        table["peer"] = str(place.peer)
    table["position"] = position.value
    if OVERRIDE not in document:
        document[OVERRIDE] = tomlkit.aot()
    document[OVERRIDE].append(table)
    return None


def _keep(document: tomlkit.TOMLDocument, is_kept: Callable[[Table], bool]) -> None:
    """Remove the overrides that are not to be kept."""
    overrides = document.get(OVERRIDE, [])
    for number in reversed(range(len(overrides))):
        if not is_kept(overrides[number]):
            del overrides[number]
    if OVERRIDE in document and not overrides:
        del document[OVERRIDE]


def _place(one: MutableMapping[str, Any]) -> Place:
    device, peer = one.get("device"), one.get("peer")
    return Place(ip_address(str(device)) if device else None, ip_address(str(peer)) if peer else None)
