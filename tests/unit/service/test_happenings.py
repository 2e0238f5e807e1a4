"""A reader of events loses none without being told how many."""

from datetime import UTC, datetime, timedelta

import pytest

from throughway.control.errors import RequestRefused
from throughway.control.event_schema import PAGE_EVENTS_MAX, EventsQuery
from throughway.service.happenings import EVENTS_MAX, Happenings
from throughway.service.telling import BURST, Teller


def filled(count: int) -> Happenings:
    happenings = Happenings("0a1b2c3d")
    for number in range(count):
        happenings.add("thing.happened", {"number": number})
    return happenings


def numbers(happenings: Happenings, after: str | None = None, limit: int = PAGE_EVENTS_MAX) -> list[object]:
    return [event.fields["number"] for event in happenings.page(EventsQuery(after=after, limit=limit)).events]


def test_pages_have_every_event_once() -> None:
    happenings = filled(25)
    seen: list[object] = []
    after = None
    while True:
        page = happenings.page(EventsQuery(after=after, limit=10))
        seen += [event.fields["number"] for event in page.events]
        after = page.next
        assert page.missed == 0
        if not page.has_more:
            break
    assert seen == list(range(25))
    assert happenings.page(EventsQuery(after=after)).events == ()
    happenings.add("thing.happened", {"number": 25})
    assert numbers(happenings, after) == [25]


def test_reader_that_was_too_slow_is_told_how_many_it_missed() -> None:
    happenings = filled(10)
    after = happenings.page(EventsQuery()).next
    for number in range(10, 10 + EVENTS_MAX + 7):
        happenings.add("thing.happened", {"number": number})
    page = happenings.page(EventsQuery(after=after))
    assert page.missed == 7
    assert page.events[0].fields["number"] == 17


def test_first_page_misses_nothing_since_nothing_was_read() -> None:
    assert filled(EVENTS_MAX + 5).page(EventsQuery()).missed == 0


def test_cursor_of_another_run_begins_at_the_oldest_and_says_so() -> None:
    page = filled(3).page(EventsQuery(after="ffffffff-900"))
    assert (page.is_other_run, page.missed, len(page.events)) == (True, 0, 3)


def test_cursor_that_is_ahead_of_all_waits_for_the_next() -> None:
    happenings = filled(3)
    assert numbers(happenings, "0a1b2c3d-900") == []


@pytest.mark.parametrize("cursor", ["", "x", "0a1b2c3d-", "0a1b2c3d--1", "0a1b2c3d-²"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(RequestRefused, match="is no cursor of an event"):
        filled(1).page(EventsQuery(after=cursor))


def test_event_has_its_time_in_utc_and_values_that_are_json() -> None:
    happenings = Happenings("0a1b2c3d")
    at = datetime(2026, 11, 22, 17, 9, 28, 456000, UTC)
    happenings.add("thing.happened", {"peers": ("a", "b"), "what": "x" * 1000, "is": True, "none": None}, at)
    (event,) = happenings.page(EventsQuery()).events
    assert event.to_json() == {
        "cursor": "0a1b2c3d-1",
        "at": "2026-11-22T17:09:28.456Z",
        "name": "thing.happened",
        "fields": {"peers": ["a", "b"], "what": "x" * 512, "is": True, "none": None},
    }


def test_what_the_log_keeps_back_is_an_event_all_the_same() -> None:
    teller = Teller(lambda: 0.0)
    for number in range(BURST + 5):
        teller.tell("thing.happened", number=number)
    assert numbers(teller.happenings) == list(range(BURST + 5))


def test_event_has_the_time_at_which_it_happened_and_not_that_of_the_question() -> None:
    happenings = Happenings("0a1b2c3d")
    before = datetime.now(UTC)
    happenings.add("thing.happened", {})
    after = datetime.now(UTC)
    for _ in range(2):
        (event,) = happenings.page(EventsQuery()).events
        assert (
            before <= datetime.fromisoformat(event.at) + timedelta(milliseconds=1) <= after + timedelta(milliseconds=1)
        )
