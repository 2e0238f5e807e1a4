"""Later fragments that came before the first one of their packet. Pure: the clock is an argument.

A later fragment does not say which tunnel it belongs to. The kernel hands it over and remembers that its first one is
awaited; when that one has come, the kernel says so, and what waits here goes back on its way. The two pieces of
news may come in either order, so the kernel's table is asked before a fragment waits, and again before it is dropped.

Order does not matter among the fragments of one packet. All bounds are for each sender as well, so that one that
sends nothing but later fragments fills its own share.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from throughway.core.limits import Limits
from throughway.dataplane.inject import Sent
from throughway.dataplane.records import FragmentName

_RETRY_S: Final = 0.001
_FRAMES_MAX: Final = 128
"""Frames sent by one call, so that it returns within about a millisecond."""

_CHARGE_MIN: Final = 512
"""A small fragment counts for so many bytes, which bounds their number too."""

_SHARE: Final = 8
"""One sender may have this part of all waiting bytes."""


@dataclass(slots=True)
class _Packet:
    """What waits of one packet."""

    until: float
    frames: list[bytes] = field(default_factory=list)


class EarlyFragments:
    """Holds later fragments until their first one has come. Times are in monotonic seconds."""

    def __init__(
        self, limits: Limits, has_first: Callable[[FragmentName], bool], send: Callable[[bytes], Sent]
    ) -> None:
        self._limits = limits
        self._has_first = has_first
        self._send = send
        self._packets: dict[FragmentName, _Packet] = {}
        self._number_of: Counter[IPv4Address] = Counter()
        self._charge_of: Counter[IPv4Address] = Counter()
        self._charge = 0
        self._due: deque[bytes] = deque()
        self._dropped = 0
        self.lost = 0
        """Fragments that could not be put back."""

    def __len__(self) -> int:
        """Count the fragments that are here."""
        return sum(self._number_of.values()) + len(self._due)

    def hold(self, name: FragmentName, frame: bytes, now: float) -> None:
        """Keep a fragment, or put it back at once if its first one has come."""
        if self._has_first(name):
            self._due.append(frame)
            self._send_due()
        elif self._has_room(name, frame):
            packet = self._packets.setdefault(name, _Packet(now + self._limits.early_fragment_s))
            packet.frames.append(frame)
            self._count(name.source, 1, max(len(frame), _CHARGE_MIN))
        else:
            self._dropped += 1

    def release(self, name: FragmentName) -> None:
        """Put back what waits for this first fragment. Unknown names are no error."""
        self._due.extend(self._take(name))
        self._send_due()

    def run(self, now: float) -> float | None:
        """Continue putting back, and drop what has waited too long; return when to be called again, or None."""
        while self._packets:
            name = next(iter(self._packets))
            if self._packets[name].until > now:
                break
            if self._has_first(name):
                self._due.extend(self._take(name))
            else:
                self._dropped += len(self._take(name))
        self._send_due()
        if self._due:
            return now + _RETRY_S
        return self._packets[next(iter(self._packets))].until if self._packets else None

    def take_dropped(self) -> int:
        """Return how many fragments were dropped for a bound since the last time that this was asked."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def _has_room(self, name: FragmentName, frame: bytes) -> bool:
        limits, charge = self._limits, max(len(frame), _CHARGE_MIN)
        packet = self._packets.get(name)
        return (
            (packet is None or len(packet.frames) < limits.early_fragments_per_packet_max)
            and self._number_of[name.source] < limits.early_fragments_per_address_max
            and self._charge_of[name.source] + charge <= limits.early_fragments_bytes_max // _SHARE
            and self._charge + charge <= limits.early_fragments_bytes_max
        )

    def _take(self, name: FragmentName) -> list[bytes]:
        packet = self._packets.pop(name, None)
        if packet is None:
            return []
        charge = sum(max(len(frame), _CHARGE_MIN) for frame in packet.frames)
        self._count(name.source, -len(packet.frames), -charge)
        return packet.frames

    def _count(self, source: IPv4Address, number: int, charge: int) -> None:
        self._charge += charge
        self._number_of[source] += number
        self._charge_of[source] += charge
        if not self._number_of[source]:
            del self._number_of[source], self._charge_of[source]

    def _send_due(self) -> None:
        """Send what is due, once. Its tunnel may be refused or full, so a fragment that was dropped is done."""
        for _ in range(min(len(self._due), _FRAMES_MAX)):
            sent = self._send(self._due[0])
            if sent is Sent.BUSY:
                return
            self._due.popleft()
            self.lost += sent is Sent.LOST
