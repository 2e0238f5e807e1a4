"""The documents about events: what the daemon answers to `events`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from throughway.control.reading import DocumentMismatch, Fields
from throughway.control.records import PageQuery, Record

PAGE_EVENTS_MAX: Final = 1000
"""Events in one answer at most; each is some hundred bytes."""


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
class EventsQuery(PageQuery):
    """The params of `events`: those that came after the one of the cursor, else from the oldest that is there."""

    MOST: ClassVar[int] = PAGE_EVENTS_MAX

    limit: int = PAGE_EVENTS_MAX
