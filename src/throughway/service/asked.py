"""What the control socket answers about sessions and events."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from throughway.control.errors import ErrorCode, RequestRefused
from throughway.control.event_schema import EventPage, EventsQuery
from throughway.control.server import Method, Params
from throughway.control.session_schema import Session, SessionPage, SessionQuery, SessionsQuery
from throughway.core.addresses import Slots
from throughway.core.tracker import Tracker
from throughway.service import sessions
from throughway.service.book import Book
from throughway.service.happenings import Happenings
from throughway.service.sessions import Rows


class Asked:
    """Answers from the book of sessions, which it has read anew at the first page of each listing."""

    def __init__(
        self,
        book: Book,
        tracker: Tracker,
        happenings: Happenings,
        refresh: Callable[[], Awaitable[None]],
        slots: Callable[[], Slots],
    ) -> None:
        """Answer from these. `refresh` reads all counters; `slots` are our addresses as they are now."""
        self._book: Final = book
        self._tracker: Final = tracker
        self._happenings: Final = happenings
        self._refresh: Final = refresh
        self._slots: Final = slots

    @property
    def methods(self) -> dict[str, Method]:
        """What is answered here, by the name of the method."""
        return {"sessions": self._answer_sessions, "session": self._answer_session, "events": self._answer_events}

    def _rows(self) -> Rows:
        return Rows(self._tracker, self._book.noticing, self._slots(), time.monotonic())

    async def _answer_sessions(self, params: Params) -> SessionPage:
        query = SessionsQuery.from_json(params)
        if query.after is None:
            await self._refresh()
        return sessions.page(self._book.register.entries(), self._rows().row, query)

    async def _answer_session(self, params: Params) -> Session:
        query = SessionQuery.from_json(params)
        await self._refresh()
        entry = self._book.register.find(query.id)
        if entry is None:
            raise RequestRefused(
                ErrorCode.PARAMS,
                f"there is no session {query.id[:128]!a}",
                "`throughway sessions --json` has the IDs of those that there are, and of those that ended lately",
            )
        return self._rows().row(entry)

    async def _answer_events(self, params: Params) -> EventPage:
        return self._happenings.page(EventsQuery.from_json(params))
