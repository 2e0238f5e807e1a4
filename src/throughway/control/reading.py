"""How a received JSON object is read: key by key, each with its type, each failure with its path."""

import math
from enum import StrEnum
from typing import TypeGuard, TypeVar

_Choice = TypeVar("_Choice", bound=StrEnum)


class DocumentMismatch(ValueError):
    """A document does not have the shape that it must have. `where` is the path of the key."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where} {problem}")
        self.where = where


class Fields:
    """Read a JSON object key by key; what is missing or of another type raises DocumentMismatch."""

    def __init__(self, document: object, where: str) -> None:
        if not isinstance(document, dict):
            raise DocumentMismatch(where, "must be an object")
        self._document: dict[str, object] = document
        self._where = where

    def has(self, key: str) -> bool:
        """Whether the object has the key at all."""
        return key in self._document

    def only(self, *known: str) -> None:
        """Refuse every other key."""
        for key in self._document:
            if key not in known:
                takes = f"takes {', '.join(known)}" if known else "takes nothing"
                raise DocumentMismatch(self._where, f"{takes}, and not {key[:64]!a}")

    def text(self, key: str) -> str:
        """Return a string."""
        value = self._value(key)
        if not isinstance(value, str):
            raise self._mismatch(key, "must be a string")
        return value

    def text_or_none(self, key: str) -> str | None:
        """Return a string, or None for null."""
        return None if self._value(key) is None else self.text(key)

    def value_or_none(self, key: str) -> object:
        """Return what is still to be read; None for null, and for what is not there."""
        return self._document.get(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings."""
        values = self.items(key)
        if not all(isinstance(value, str) for value in values):
            raise self._mismatch(key, "must be a list of strings")
        return tuple(str(value) for value in values)

    def flag(self, key: str) -> bool:
        """Return true or false; no number passes for either."""
        value = self._value(key)
        if not isinstance(value, bool):
            raise self._mismatch(key, "must be true or false")
        return value

    def integer(self, key: str) -> int:
        """Return a whole number of any size; 1.0 is none."""
        value = self._value(key)
        if not _is_integer(value):
            raise self._mismatch(key, "must be a whole number")
        return value

    def integer_or_none(self, key: str) -> int | None:
        """Return a whole number, or None for null."""
        return None if self._value(key) is None else self.integer(key)

    def number(self, key: str) -> float:
        """Return a finite number."""
        value = self._value(key)
        if _is_integer(value) and abs(value) <= 1 << 53:
            return float(value)
        if not isinstance(value, float) or not math.isfinite(value):
            raise self._mismatch(key, "must be a number")
        return value

    def integers(self, key: str) -> dict[str, int]:
        """Return an object whose values are whole numbers."""
        value = self._value(key)
        if not isinstance(value, dict):
            raise self._mismatch(key, "must be an object of whole numbers")
        read = Fields(value, f"{self._where}.{key}")
        return {str(name): read.integer(name) for name in value}

    def choice(self, key: str, choices: type[_Choice]) -> _Choice:
        """Return one of a closed list of words."""
        value = self.text(key)
        if value not in list(choices):
            raise self._mismatch(key, f"must be one of {', '.join(choices)}")
        return choices(value)

    def items(self, key: str) -> list[object]:
        """Return a list whose items are still to be read."""
        value = self._value(key)
        if not isinstance(value, list):
            raise self._mismatch(key, "must be a list")
        return value

    def _value(self, key: str) -> object:
        if key not in self._document:
            raise self._mismatch(key, "is missing")
        return self._document[key]

    def _mismatch(self, key: str, problem: str) -> DocumentMismatch:
        return DocumentMismatch(f"{self._where}.{key}", problem)


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
