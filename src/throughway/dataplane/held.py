"""The packets of undecided flows: in order, and bounded by flow and in bytes. Pure: the clock is an argument.

The kernel hands over the packets of an unknown flow with a sequence number and drops its own copy. Here they wait
until the flow is released; then they come out in the order of their numbers. Two CPUs may put neighbours into the
ring the wrong way round, so a missing number is waited for, but never longer than `GAP_S`: it may have been lost
with an earlier daemon.

When all held bytes together reach their bound, the newest packet of whoever holds most gives way (the peer for
what comes from outside, the host for what comes from inside), so a flood pushes out only itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from ipaddress import IPv4Address
from typing import Final

from throughway.core.flows import FlowKey
from throughway.dataplane.turns import sender_of

GAP_S: Final = 0.02
"""For how long a released flow waits for a missing number. Neighbours that were swapped are microseconds apart."""


@dataclass(slots=True)
class _Flow:
    """What is held of one flow: a heap of (sequence, frame), and the number that is due."""

    since: float
    progressed_at: float
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    due: int = 0
    is_released: bool = False
    dropped: int = 0


class HeldPackets:
    """Holds packets until their flow is released or dropped. Sizes are in bytes, times in monotonic seconds."""

    def __init__(self, flows_max: int, per_flow_max: int, bytes_max: int) -> None:
        self._flows_max = flows_max
        self._per_flow_max = per_flow_max
        self._bytes_max = bytes_max
        self._flows: dict[FlowKey, _Flow] = {}
        self._released: dict[FlowKey, None] = {}
        self._flows_of: dict[IPv4Address, dict[FlowKey, None]] = {}
        self._bytes_of: dict[IPv4Address, int] = {}
        self._bytes = 0

    def __contains__(self, key: FlowKey) -> bool:
        return key in self._flows

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def size_bytes(self) -> int:
        """The bytes held in total."""
        return self._bytes

    def undecided(self) -> Iterator[FlowKey]:
        """Name the flows that were not released yet, oldest first."""
        return (key for key, flow in self._flows.items() if not flow.is_released)

    def is_undecided(self, key: FlowKey) -> bool:
        """Tell whether packets of the flow wait for a decision."""
        flow = self._flows.get(key)
        return flow is not None and not flow.is_released

    def released(self) -> list[FlowKey]:
        """Name the flows that were released and not forgotten, the first released first."""
        return list(self._released)

    def has_frames(self, key: FlowKey) -> bool:
        """Tell whether a packet of the flow is held."""
        flow = self._flows.get(key)
        return flow is not None and bool(flow.frames)

    def progressed_at(self, key: FlowKey) -> float:
        """Tell when the flow was begun or released, or gave its last packet. It must be known."""
        return self._flows[key].progressed_at

    def dropped(self, key: FlowKey) -> int:
        """Count the packets of the flow that were dropped for the bounds. It must be known."""
        return self._flows[key].dropped

    def hold(self, key: FlowKey, sequence: int, frame: bytes, now: float) -> int:
        """Keep one packet, and return how many packets had to be dropped for the bounds: this one or others."""
        flow = self._flows.get(key)
        if flow is None:
            if len(self._flows) >= self._flows_max:
                return 1
            flow = self._flows[key] = _Flow(since=now, progressed_at=now)
            self._flows_of.setdefault(sender_of(key), {})[key] = None
        if len(flow.frames) >= self._per_flow_max:
            flow.dropped += 1
            return 1
        heappush(flow.frames, (sequence, frame))
        self._count(key, len(frame))
        dropped = 0
        while self._bytes > self._bytes_max:
            self._drop_newest_of(max(self._bytes_of, key=self._bytes_of.__getitem__))
            dropped += 1
        return dropped

    def release(self, key: FlowKey, now: float) -> None:
        """Let the packets of the flow out from now on, also those that are still to come."""
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = _Flow(since=now, progressed_at=now)
            self._flows_of.setdefault(sender_of(key), {})[key] = None
        if not flow.is_released:
            flow.is_released = True
            flow.progressed_at = now
            self._released[key] = None

    def next_frame(self, key: FlowKey, now: float) -> bytes | None:
        """Show the packet that is due, or None when there is none, or it has to be waited for."""
        flow = self._flows.get(key)
        if flow is None or not flow.is_released or not flow.frames:
            return None
        sequence, frame = flow.frames[0]
        if sequence > flow.due and now - flow.progressed_at < GAP_S:
            return None
        return frame

    def pop(self, key: FlowKey, now: float) -> None:
        """Take out the packet that `next_frame` showed."""
        flow = self._flows[key]
        sequence, frame = heappop(flow.frames)
        flow.due = max(flow.due, sequence + 1)
        flow.progressed_at = now
        self._count(key, -len(frame))

    def touch(self, key: FlowKey, now: float) -> None:
        """Begin the wait for progress anew."""
        self._flows[key].progressed_at = now

    def forget(self, key: FlowKey) -> int:
        """Forget the flow, and return how many of its packets are dropped by that. Unknown keys are no error."""
        flow = self._flows.pop(key, None)
        if flow is None:
            return 0
        self._released.pop(key, None)
        sender = sender_of(key)
        self._count(key, -sum(len(frame) for _, frame in flow.frames))
        flows = self._flows_of[sender]
        del flows[key]
        if not flows:
            del self._flows_of[sender]
            self._bytes_of.pop(sender, None)
        return len(flow.frames)

    def overdue(self, since: float) -> list[FlowKey]:
        """Name the undecided flows that were begun at this time or before."""
        return [key for key in self.undecided() if self._flows[key].since <= since]

    def _count(self, key: FlowKey, size: int) -> None:
        sender = sender_of(key)
        self._bytes += size
        self._bytes_of[sender] = self._bytes_of.get(sender, 0) + size

    def _drop_newest_of(self, sender: IPv4Address) -> None:
        """Drop the last packet of the newest flow of this sender that has one."""
        for key in reversed(self._flows_of[sender]):
            frames = self._flows[key].frames
            if frames:
                newest = max(range(len(frames)), key=lambda at: frames[at][0])
                _, frame = frames.pop(newest)
                heapify(frames)
                self._flows[key].dropped += 1
                self._count(key, -len(frame))
                return
