"""The pages of a listing of sessions come from one look at the tracker."""

import asyncio
from collections.abc import Iterator
from ipaddress import IPv4Address

from tests.unit.service.desk import ALICE, BOB, OUTSIDE, PEER, Desk
from throughway.control.session_schema import SessionPage
from throughway.core.events import PortlessFromInside
from throughway.core.tracker import Tracker
from throughway.core.tunnels import Tunnels
from throughway.service.asked import Asked

PROTOCOL = 94


class Watched(Tracker):
    """Counts how often all tunnels are walked."""

    walks = 0

    def tunnels(self) -> Iterator[Tunnels]:
        self.walks += 1
        return super().tunnels()


async def nothing() -> None:
    """Read no counters."""


def test_following_pages_need_no_other_look() -> None:
    async def listing() -> list[SessionPage]:
        answer = asked.methods["sessions"]
        assert callable(answer)
        pages = []
        after = None
        while True:
            page = await answer({"limit": 1, **({"after": after} if after else {})})
            assert isinstance(page, SessionPage)
            pages.append(page)
            if page.next is None:
                return pages
            after = page.next

    desk = Desk()
    desk.tracker = tracker = Watched()
    desk.happen(*(PortlessFromInside(host, PEER, PROTOCOL, 0) for host in (ALICE, BOB)))
    asked = Asked(desk.book, tracker, desk.teller.happenings, nothing, lambda: (IPv4Address(OUTSIDE),))
    tracker.walks = 0
    first = asyncio.run(listing())
    assert {row.device for page in first for row in page.sessions} == {str(ALICE), str(BOB)}
    assert tracker.walks == 1
    assert len(asyncio.run(listing())) == len(first)
    assert tracker.walks == 2
