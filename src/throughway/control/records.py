"""What all documents of the control socket have in common: how they become JSON."""

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum

from throughway.control.reading import DocumentMismatch


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
