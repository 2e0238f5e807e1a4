"""What the control socket answers about sessions and events."""

import asyncio
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

KEPT_S: Final = 2.0
"""For how long what was seen of the tracker serves the pages of a listing: of a million mappings it takes seconds."""


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
        self._kept: Rows | None = None

    @property
    def methods(self) -> dict[str, Method]:
        """What is answered here, by the name of the method."""
        return {"sessions": self._answer_sessions, "session": self._answer_session, "events": self._answer_events}

    def _rows(self) -> Rows:
        """Look at the tracker, and keep that for the pages which follow at once."""
        rows = Rows(self._tracker, self._book.noticing, self._slots(), time.monotonic())
        if self._kept is None:
            asyncio.get_running_loop().call_later(KEPT_S, self._forget)
        self._kept = rows
        return rows

    def _forget(self) -> None:
        self._kept = None

    async def _answer_sessions(self, params: Params) -> SessionPage:
        query = SessionsQuery.from_json(params)
        if query.after is None:
            await self._refresh()
        rows = self._kept if query.after is not None and self._kept is not None else self._rows()
        return sessions.page(self._book.register.entries(), rows.row, query)

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
