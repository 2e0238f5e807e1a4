"""The documents about events: what the daemon answers to `events`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from throughway.control.reading import DocumentMismatch, Fields
from throughway.control.records import Record

PAGE_EVENTS_MAX: Final = 1000
"""Events in one answer at most; each is some hundred bytes."""

CURSOR_CHARACTERS_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class HappenedEvent(Record):
    """Something that happened: when, by the wall clock in UTC, and a name of docs/events.md with its fields.

    `cursor` asks for what came after it.
    """

    cursor: str
    at: str
    name: str
    fields: Mapping[str, object]

    @classmethod
    def from_json(cls, document: object, where: str = "event") -> Self:
        """Read an event. Raises DocumentMismatch."""
        read = Fields(document, where)
        found = read.value_or_none("fields")
        if not isinstance(found, dict):
            raise DocumentMismatch(f"{where}.fields", "must be an object")
        return cls(cursor=read.text("cursor"), at=read.text("at"), name=read.text("name"), fields=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage(Record):
    """Some events, the oldest first, and the cursor by which to ask for those that follow.

    `missed` is how many came between the cursor that was given and the first of these, and are gone. `is_other_run`
    says that the daemon was started anew since that cursor: then nobody can say how many were missed.
    """

    events: tuple[HappenedEvent, ...]
    next: str
    missed: int = 0
    is_other_run: bool = False
    has_more: bool = False

    @classmethod
    def from_json(cls, document: object, where: str = "page") -> Self:
        """Read a page. Raises DocumentMismatch."""
        read = Fields(document, where)
        rows = read.items("events")
        return cls(
            events=tuple(HappenedEvent.from_json(row, f"{where}.events[{at}]") for at, row in enumerate(rows)),
            next=read.text("next"),
            missed=read.integer("missed"),
            is_other_run=read.flag("is_other_run"),
            has_more=read.flag("has_more"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsQuery(Record):
    """The params of `events`: at most `limit`, those after the cursor `after`, else from the oldest that is there."""

    after: str | None = None
    limit: int = PAGE_EVENTS_MAX

    def __post_init__(self) -> None:
        """Refuse pages that are empty or beyond the bound."""
        if not 1 <= self.limit <= PAGE_EVENTS_MAX:
            raise DocumentMismatch("params.limit", f"must be from 1 to {PAGE_EVENTS_MAX}")
        if self.after is not None and len(self.after) > CURSOR_CHARACTERS_MAX:
            raise DocumentMismatch("params.after", "is not a cursor that an earlier page gave")

    @classmethod
    def from_json(cls, document: object, where: str = "params") -> Self:
        """Read the params; each may be left out. Raises DocumentMismatch."""
        read = Fields(document, where)
        read.only("after", "limit")
        return cls(
            after=read.text_or_none("after") if read.has("after") else None,
            limit=read.integer("limit") if read.has("limit") else PAGE_EVENTS_MAX,
        )
