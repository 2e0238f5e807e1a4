"""What an operator sets: a position, of a protocol or a family, at a place."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, Self

from throughway.core.blocking import Address, At
from throughway.core.errors import SettingsRejected

OVERRIDES_MAX: Final = 1024
"""Settings for devices and peers. Each is an element of a map in the packet filter, looked up at once."""


class Position(StrEnum):
    """Where a switch stands."""

    ON = "on"
    OFF = "off"
    UNASSISTED = "unassisted"
    """NAT as the plain kernel does it: without the tracker, and without the helper."""


@dataclass(frozen=True, slots=True)
class Place:
    """For whom a position holds: a device, a peer, both, or everybody where neither is named."""

    device: Address | None = None
    peer: Address | None = None

    def __post_init__(self) -> None:
        """Refuse a device and a peer that cannot speak to each other."""
        if self.device and self.peer and self.device.version != self.peer.version:
            raise SettingsRejected("peer", f"{self.peer} and {self.device} are of different versions of IP")

    @classmethod
    def of(cls, device: str | None, peer: str | None) -> Self:
        """Read the addresses. Raises SettingsRejected, which names the one that is none."""
        return cls(_address("device", device), _address("peer", peer))

    @property
    def is_everywhere(self) -> bool:
        """Whether it is for everybody."""
        return self.device is None and self.peer is None

    @property
    def at(self) -> At:
        """The same as a key of `core.blocking`."""
        return self.device, self.peer

    @property
    def words(self) -> str:
        """For people: `10.0.0.2 with 203.0.113.9`; empty for everybody."""
        device = str(self.device) if self.device else ""
        if self.peer is None:
            return device
        return f"{device} with {self.peer}" if device else f"with {self.peer}"


EVERYWHERE: Final = Place()


@dataclass(frozen=True, slots=True)
class Setting:
    """One switch as somebody set it. `name` is the ID of a protocol or a family."""

    name: str
    position: Position
    place: Place = EVERYWHERE


@dataclass(frozen=True, slots=True)
class Switches:
    """All that was set, each name and place once."""

    settings: tuple[Setting, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is set twice, and more than there is room for."""
        if len({(one.name, one.place) for one in self.settings}) != len(self.settings):
            raise ValueError("a switch is set twice at one place")
        if sum(not one.place.is_everywhere for one in self.settings) > OVERRIDES_MAX:
            raise SettingsRejected("override", f"there is room for {OVERRIDES_MAX}; remove some")

    def __iter__(self) -> Iterator[Setting]:
        return iter(self.settings)

    def get(self, name: str, place: Place = EVERYWHERE) -> Position | None:
        """Return what was set, None where nothing was."""
        return next((one.position for one in self.settings if (one.name, one.place) == (name, place)), None)

    def with_(self, name: str, position: Position | None, place: Place = EVERYWHERE) -> Self:
        """Return the same with one setting more, changed, or taken back where the position is None."""
        others = tuple(one for one in self.settings if (one.name, one.place) != (name, place))
        return replace(self, settings=others if position is None else (*others, Setting(name, position, place)))

    def without(self, name: str) -> Self:
        """Return the same without anything that was set of a name."""
        return replace(self, settings=tuple(one for one in self.settings if one.name != name))


def _address(key: str, text: str | None) -> Address | None:
    if text is None:
        return None
    try:
        found = ip_address(text)
    except ValueError:
        raise SettingsRejected(key, f"{text!r} is no address; write one such as 192.168.1.20") from None
    if found.is_multicast or found.is_unspecified or (found.version == 6 and found.scope_id is not None):
        raise SettingsRejected(key, f"{text} is not the address of one {key}")
    return found
