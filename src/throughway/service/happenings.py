"""The latest events, for whoever asks over the control socket: a ring with a cursor."""

import secrets
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from throughway.control.errors import ErrorCode, RequestRefused
from throughway.control.event_schema import EventPage, EventsQuery, HappenedEvent

EVENTS_MAX: Final = 4096
"""Events that are kept; the oldest makes room."""

_VALUE_CHARACTERS_MAX: Final = 512
"""Of a field that is neither a number nor a flag."""

_Kept = tuple[float, str, Mapping[str, object]]
"""When it happened, in seconds of the wall clock, its name and its fields."""


class Happenings:
    """Keeps the latest events. A cursor is the run of the daemon and the number of an event: `5f3a9c01-17`."""

    def __init__(self, run: str | None = None) -> None:
        """Begin a run; its name is random, so that no cursor of another one fits."""
        self._run: Final = run or secrets.token_hex(4)
        self._events: Final[deque[_Kept]] = deque(maxlen=EVENTS_MAX)
        self._last = 0

    def add(self, name: str, fields: Mapping[str, object], at: datetime | None = None) -> None:
        """Keep one event, to be written when somebody asks: most never are. Its fields must not change any more."""
        self._last += 1
        self._events.append((at.timestamp() if at else time.time(), name, fields))

    def page(self, query: EventsQuery) -> EventPage:
        """Return what followed a cursor. Raises RequestRefused for what is no cursor."""
        after, is_other_run = self._number(query.after)
        oldest = self._last - len(self._events) + 1
        missed = 0 if query.after is None or is_other_run else max(0, oldest - after - 1)
        skipped = max(0, after - oldest + 1)
        kept = enumerate(islice(self._events, skipped, skipped + query.limit), oldest + skipped)
        cut = tuple(self._written(number, one) for number, one in kept)
        reached = oldest + skipped + len(cut) - 1
        return EventPage(
            events=cut,
            next=self._cursor(reached),
            missed=missed,
            is_other_run=is_other_run,
            has_more=reached < self._last,
        )

    def _written(self, number: int, kept: _Kept) -> HappenedEvent:
        at, name, fields = kept
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        plain = {key: _plain(value) for key, value in fields.items()}
        return HappenedEvent(cursor=self._cursor(number), at=when, name=name, fields=plain)

    def _cursor(self, number: int) -> str:
        return f"{self._run}-{number}"

    def _number(self, cursor: str | None) -> tuple[int, bool]:
        """Read a cursor: the number of an event, and whether it is of another run, which begins at the oldest."""
        if cursor is None:
            return 0, False
        run, _, number = cursor.partition("-")
        if not number.isascii() or not number.isdigit():
            message = f"{cursor!a} is no cursor of an event"
            raise RequestRefused(ErrorCode.PARAMS, message, "`throughway events --json` tells them")
        if run != self._run:
            return 0, True
        return min(int(number), self._last), False


def _plain(value: object) -> object:
    """Make a value fit for JSON."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value)[:_VALUE_CHARACTERS_MAX]
