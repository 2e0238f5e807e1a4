"""What all documents of the control socket have in common: they are dataclasses, and become JSON objects."""

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum


class Document:
    """The base of the documents in `schema` and `protocols_schema`."""

    __slots__ = ()

    def to_json(self) -> dict[str, object]:
        """Return the document as a JSON object, its keys in the order of the fields."""
        return {field.name: _json_of(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]


def _json_of(value: object) -> object:
    match value:
        case Document():
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
