"""Removes what is over from the kernel's table of undecided flows, and from the packets held here.

The table is bounded, and an entry that nobody removes keeps another tunnel out. A flow that was opened has no use for
its entry, but a processor that looked before may be about to use it: it is removed a moment later. For what nobody
opened all entries are walked, a few at a time. One that is over is removed when a second walk finds it unchanged.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from throughway.core.flows import FlowKey
from throughway.dataplane.abi import PendingRecord, PendingState
from throughway.dataplane.held import HeldPackets
from throughway.dataplane.tables import Tables

_EVERY_S: Final = 1.0
_OPEN_S: Final = 0.1
"""For how long the entry of a flow that was opened is left. No processor handles one packet for so long."""
_ENTRIES_MAX: Final = 64
"""Entries that are looked at by one call: about a millisecond."""


class Sweep:
    """Walks the undecided flows once a second. Times are in monotonic seconds."""

    def __init__(
        self, held: HeldPackets, tables: Tables, ring_is_empty: Callable[[], bool], undecided_max_s: float
    ) -> None:
        self._held = held
        self._tables = tables
        self._ring_is_empty = ring_is_empty
        self._undecided_max_s = undecided_max_s
        self._next_at = 0.0
        self._walk: Iterator[tuple[FlowKey, PendingRecord]] | None = None
        self._seen: dict[FlowKey, PendingRecord] = {}
        self._seen_before: dict[FlowKey, PendingRecord] = {}
        self._opened: deque[tuple[float, FlowKey]] = deque()
        self._dropped = 0

    def expect(self, key: FlowKey, now: float) -> None:
        """Remove the entry of a flow that is open now, in a moment."""
        self._opened.append((now + _OPEN_S, key))

    def run(self, now: float) -> float:
        """Remove what is due, walk on if it is time, and return when to be called again."""
        self._remove_opened(now)
        walk_at = self._run_walk(now)
        return min(walk_at, self._opened[0][0]) if self._opened else walk_at

    def _remove_opened(self, now: float) -> None:
        for _ in range(_ENTRIES_MAX):
            if not self._opened or self._opened[0][0] > now:
                return
            _, key = self._opened.popleft()
            pending = self._tables.pending(key)
            if pending is not None and pending.state is PendingState.DONE and key not in self._held:
                self._tables.forget_pending(key)

    def _run_walk(self, now: float) -> float:
        if self._walk is None:
            if now < self._next_at:
                return self._next_at
            self._next_at = now + _EVERY_S
            self._drop_overdue(now)
            self._seen_before, self._seen = self._seen, {}
            self._walk = self._tables.all_pending()
        looked_at = 0
        for key, pending in islice(self._walk, _ENTRIES_MAX):
            looked_at += 1
            self._look_at(key, pending, now)
        if looked_at == _ENTRIES_MAX:
            return now
        self._walk = None
        return self._next_at

    def take_dropped(self) -> int:
        """Return how many held packets were dropped since the last time this was asked."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def _drop_overdue(self, now: float) -> None:
        """Drop the flows that got no decision; their next packet asks again."""
        for key in self._held.overdue(now - self._undecided_max_s):
            self._tables.forget_pending(key)
            self._dropped += self._held.forget(key)

    def _look_at(self, key: FlowKey, pending: PendingRecord, now: float) -> None:
        if key in self._held:
            return
        if pending.state is PendingState.DRAINING:
            # Nobody puts anything back: the daemon that began it is gone, or nothing reached the ring.
            self._held.release(key, now)
        elif pending.state is PendingState.REFUSED and pending.until_ns > now * 1e9:
            return
        elif self._seen_before.get(key) == pending:
            if pending.state is not PendingState.WAITING or self._ring_is_empty():
                self._tables.forget_pending(key)
        else:
            self._seen[key] = pending
