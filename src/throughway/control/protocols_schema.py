"""The documents about protocols and their switches: what the daemon answers, and what its methods take."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from throughway.control.reading import Fields
from throughway.control.records import Record


class Position(StrEnum):
    """Where a switch stands."""

    ON = "on"
    OFF = "off"
    UNASSISTED = "unassisted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolRow(Record):
    """One protocol of the catalogue, and its switch for everybody.

    `decided_by` is the switch that says so, the ID of the protocol or its family, and empty where it is the default.
    `file` is empty for those that come with Throughway. `flows` are those detected that still are, `blocked` those of
    them that are blocked; both are None where no daemon runs.
    """

    id: str
    name: str
    family: str
    position: Position
    decided_by: str
    default: Position
    file: str
    summary: str
    recognised_by: str
    carried_by: str
    needs: str
    off_blocks: str
    quirks: tuple[str, ...]
    tell: str
    flows: int | None = None
    blocked: int | None = None

    @classmethod
    def from_json(cls, document: object, where: str = "protocol") -> Self:
        """Read a row. Raises DocumentMismatch."""
        read = Fields(document, where)
        return cls(
            id=read.text("id"),
            name=read.text("name"),
            family=read.text("family"),
            position=read.choice("position", Position),
            decided_by=read.text("decided_by"),
            default=read.choice("default", Position),
            file=read.text("file"),
            summary=read.text("summary"),
            recognised_by=read.text("recognised_by"),
            carried_by=read.text("carried_by"),
            needs=read.text("needs"),
            off_blocks=read.text("off_blocks"),
            quirks=read.texts("quirks"),
            tell=read.text("tell"),
            flows=read.integer_or_none("flows"),
            blocked=read.integer_or_none("blocked"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideRow(Record):
    """A switch that is set for a device, a peer, or both; the other one is empty."""

    name: str
    position: Position
    device: str
    peer: str

    @classmethod
    def from_json(cls, document: object, where: str = "override") -> Self:
        """Read a row. Raises DocumentMismatch."""
        read = Fields(document, where)
        return cls(
            name=read.text("name"),
            position=read.choice("position", Position),
            device=read.text("device"),
            peer=read.text("peer"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocols(Record):
    """All protocols and overrides, and the folder that they were read from."""

    protocols: tuple[ProtocolRow, ...]
    overrides: tuple[OverrideRow, ...]
    folder: str

    @classmethod
    def from_json(cls, document: object, where: str = "protocols") -> Self:
        """Read the document. Raises DocumentMismatch."""
        read = Fields(document, where)
        rows, overrides = read.items("protocols"), read.items("overrides")
        return cls(
            protocols=tuple(ProtocolRow.from_json(row, f"{where}.protocols[{at}]") for at, row in enumerate(rows)),
            overrides=tuple(OverrideRow.from_json(row, f"{where}.overrides[{at}]") for at, row in enumerate(overrides)),
            folder=read.text("folder"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolsQuery(Record):
    """The params of `protocols`: none."""

    @classmethod
    def from_json(cls, document: object, where: str = "params") -> Self:
        """Read the params. Raises DocumentMismatch."""
        Fields(document, where).only()
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchQuery(Record):
    """The params of `switch`: a protocol or family, a position or None to take back what was set, and for whom."""

    name: str
    position: Position | None
    device: str | None = None
    peer: str | None = None

    @classmethod
    def from_json(cls, document: object, where: str = "params") -> Self:
        """Read the params. Raises DocumentMismatch."""
        read = Fields(document, where)
        read.only("name", "position", "device", "peer")
        position = read.text_or_none("position")
        return cls(
            name=read.text("name"),
            position=None if position is None else read.choice("position", Position),
            device=read.text_or_none("device") if read.has("device") else None,
            peer=read.text_or_none("peer") if read.has("peer") else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AddQuery(Record):
    """The params of `protocol-add`: the text of a protocol's file, and its name, for errors."""

    text: str
    file: str

    @classmethod
    def from_json(cls, document: object, where: str = "params") -> Self:
        """Read the params. Raises DocumentMismatch."""
        read = Fields(document, where)
        read.only("text", "file")
        return cls(text=read.text("text"), file=read.text("file"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveQuery(Record):
    """The params of `protocol-remove`: the ID of one of the operator's protocols."""

    id: str

    @classmethod
    def from_json(cls, document: object, where: str = "params") -> Self:
        """Read the params. Raises DocumentMismatch."""
        read = Fields(document, where)
        read.only("id")
        return cls(id=read.text("id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed(Record):
    """What a change has done: for which name, and how many known flows are blocked from now on, or no more."""

    name: str
    blocked: int = 0
    lifted: int = 0

    @classmethod
    def from_json(cls, document: object, where: str = "changed") -> Self:
        """Read the document. Raises DocumentMismatch."""
        read = Fields(document, where)
        return cls(name=read.text("name"), blocked=read.integer("blocked"), lifted=read.integer("lifted"))
