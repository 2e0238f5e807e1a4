"""All protocols together: those that come with Throughway, and the operator's."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from throughway.catalogue.protocol import Protocol
from throughway.core.errors import SettingsRejected


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The protocols, each ID once, in the order in which they were given."""

    protocols: tuple[Protocol, ...]

    @classmethod
    def of(cls, protocols: Iterable[Protocol]) -> Self:
        """Build a catalogue. Raises SettingsRejected where an ID comes twice, or is the name of another's family."""
        found: dict[str, Protocol] = {}
        for protocol in protocols:
            if protocol.id in found:
                raise SettingsRejected(protocol.id, "this ID is taken by another protocol; choose another one")
            found[protocol.id] = protocol
        for protocol in found.values():
            if protocol.family in found and found[protocol.family].family != protocol.family:
                raise SettingsRejected(
                    protocol.id, f"its family `{protocol.family}` is the ID of a protocol of another family"
                )
        return cls(tuple(found.values()))

    def __iter__(self) -> Iterator[Protocol]:
        return iter(self.protocols)

    def __len__(self) -> int:
        return len(self.protocols)

    @property
    def ids(self) -> frozenset[str]:
        """The IDs of all protocols."""
        return frozenset(protocol.id for protocol in self.protocols)

    @property
    def families(self) -> tuple[str, ...]:
        """The families, each once, in order."""
        return tuple(dict.fromkeys(protocol.family for protocol in self.protocols))

    def get(self, identity: str) -> Protocol | None:
        """Return the protocol with this ID."""
        return next((protocol for protocol in self.protocols if protocol.id == identity), None)

    def of_family(self, family: str) -> tuple[Protocol, ...]:
        """Return the protocols of a family."""
        return tuple(protocol for protocol in self.protocols if protocol.family == family)
