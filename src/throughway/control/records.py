"""What all documents of the control socket have in common: how they become JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import ClassVar, Final, Self

from throughway.control.reading import DocumentMismatch, Fields

CURSOR_CHARACTERS_MAX: Final = 256


class Record:
    """A document. Its classes are frozen dataclasses."""

    __slots__ = ()

    def to_json(self) -> dict[str, object]:
        """Return the document as a JSON object, its keys in the order of the fields."""
        return {field.name: _json_of(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]


def refuse_negative(record: Record) -> None:
    """Refuse a record with a number below zero. Raises DocumentMismatch."""
    for field in fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if isinstance(value, (int, float)) and value < 0:
            raise DocumentMismatch(field.name, "must not be below zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery(Record):
    """The params of what is asked for in pages: at most `limit`, those behind the cursor `after`; from the first on
    without it. `MOST` is the largest page, and the usual one."""

    MOST: ClassVar[int]

    after: str | None = None
    limit: int = 0

    def __post_init__(self) -> None:
        """Refuse pages that are empty or beyond the bound."""
        if not 1 <= self.limit <= self.MOST:
            raise DocumentMismatch("params.limit", f"must be from 1 to {self.MOST}")
        if self.after is not None and len(self.after) > CURSOR_CHARACTERS_MAX:
            raise DocumentMismatch("params.after", "is not a cursor that an earlier page gave")

    @classmethod
    def from_json(cls, document: object, where: str = "params") -> Self:
        """Read the params; each may be left out. Raises DocumentMismatch."""
        read = Fields(document, where)
        read.only("after", "limit")
        return cls(
            after=read.text_or_none("after") if read.has("after") else None,
            limit=read.integer("limit") if read.has("limit") else cls.MOST,
        )


def _json_of(value: object) -> object:
    match value:
        case Record():
            return value.to_json()
        case Enum():
            return value.value
        case tuple():
            return [_json_of(item) for item in value]
        case Mapping():
            return dict(value)
        case float():
            return round(value, 3)
        case _:
            return value
