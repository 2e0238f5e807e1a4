"""Puts the held packets of decided flows back, and opens the flows whose packets got lost on the way.

The kernel opens a flow when the last packet that was held has passed on its way out: it counts them. A packet that
something behind us drops (another table's `policy drop`) is never counted, and the flow would stay closed for
good. So when nothing is left to put back and nothing has moved for `WATCHDOG_S`, the kernel is asked to open the
flow unless it handed over one more packet meanwhile.
"""

from collections.abc import Callable
from typing import Final, Protocol

from throughway.core.flows import FlowKey
from throughway.dataplane.held import GAP_S, HeldPackets
from throughway.dataplane.inject import Sent

WATCHDOG_S: Final = 0.02
"""Measured: packets that are put back pass within 2 ms, so 20 ms without one mean that it is lost."""

_RETRY_S: Final = 0.001
_BUSY_MAX_S: Final = 0.05
"""A send buffer is full for a few milliseconds at the most. A program that drops the frame on its way out, because
the address or the mapping is gone, looks the same to the sender, and would for ever."""

_FRAMES_MAX: Final = 128
"""Frames sent by one call, so that it returns within about a millisecond."""


class PendingFlows(Protocol):
    """What the kernel knows of undecided flows."""

    def unpassed(self, key: FlowKey) -> tuple[int, int] | None:
        """Tell (handed over, not seen since) in packets of a flow that is being drained; None of all others."""

    def open_if(self, key: FlowKey, handed_over: int) -> bool:
        """Open the flow if the kernel has handed over exactly so many of its packets; tell whether it did."""


class Drain:
    """Continues all releases, a bounded number of packets at a time. Times are in monotonic seconds."""

    def __init__(
        self,
        held: HeldPackets,
        pending: PendingFlows,
        send: Callable[[bytes], Sent],
        ring_is_empty: Callable[[], bool],
        finished: Callable[[FlowKey, float], None] = lambda key, now: None,
    ) -> None:
        """`finished` is told which flow is open, and when."""
        self._held = held
        self._pending = pending
        self._send = send
        self._ring_is_empty = ring_is_empty
        self._finished = finished
        self._budget = _FRAMES_MAX
        self.lost = 0
        """Packets that were put back and never passed, or could not be put back; not those dropped for a bound."""

    def run(self, now: float) -> float | None:
        """Put back what is due, and return when to be called again; None when no flow is being released."""
        self._budget = _FRAMES_MAX
        wakes = [wake for key in self._held.released() if (wake := self._run_one(key, now)) is not None]
        return min(wakes, default=None)

    def start(self, key: FlowKey, now: float) -> None:
        """Let the flow's packets out, and send what is due of them at once."""
        self._held.release(key, now)
        self._budget = _FRAMES_MAX
        self._run_one(key, now)

    def _run_one(self, key: FlowKey, now: float) -> float | None:
        """Send what is due of one flow, within what is left of the budget; return when to look again."""
        while (frame := self._held.next_frame(key, now)) is not None:
            if not self._budget:
                return now
            self._budget -= 1
            # Nothing holds a packet that was held, so where it was dropped the interface is full.
            is_full = self._send(frame) in (Sent.BUSY, Sent.DROPPED)
            if is_full and now - self._held.progressed_at(key) < _BUSY_MAX_S:
                return now + _RETRY_S
            self._held.pop(key, now)
        return self._wait_or_finish(key, now)

    def _wait_or_finish(self, key: FlowKey, now: float) -> float | None:
        """Look after a flow of which nothing can be sent now; return when to look again, None when it is over."""
        if self._held.has_frames(key):
            return self._held.progressed_at(key) + GAP_S
        if now - self._held.progressed_at(key) < WATCHDOG_S:
            return self._held.progressed_at(key) + WATCHDOG_S
        counts = self._pending.unpassed(key)
        if counts is None:
            self._finish(key, now)
            return None
        handed_over, unpassed = counts
        # The count was read before the ring was looked at: what is in the ring now belongs to it or is newer.
        if self._ring_is_empty() and self._pending.open_if(key, handed_over):
            self.lost += max(0, unpassed - self._held.dropped(key))
            self._finish(key, now)
            return None
        self._held.touch(key, now)
        return now + WATCHDOG_S

    def _finish(self, key: FlowKey, now: float) -> None:
        self._held.forget(key)
        self._finished(key, now)
