"""Pings through a tunnel, and the exact account of which were answered."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from throughway.lab.errors import LabFailed
from throughway.lab.place import Place, Task
from throughway.lab.waiting import holds_within, wait_until

RETRY_S: Final = 0.1
"""How long after a ping that could not even be sent (no interface yet, no route) the next is tried."""

USUAL_BYTES: Final = 56
"""What ping sends behind its own header, unless told."""

_ANSWERED: Final = re.compile(r"bytes from .*icmp_seq=(\d+)")
_UNANSWERED: Final = re.compile(r"no answer yet for icmp_seq=(\d+)")
_SUMMARY: Final = re.compile(r"^(\d+) packets transmitted", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PingTally:
    """What became of a series of pings. Sequence numbers count from 1."""

    sent: int
    answered: frozenset[int]

    @property
    def lost(self) -> list[int]:
        """The sequence numbers without an answer before the last answered one.

        What was sent after it may still be under way, so it is not called lost.
        """
        return [number for number in range(1, max(self.answered, default=0)) if number not in self.answered]


def tally(output: str) -> PingTally:
    """Read what ping wrote, also while it still runs."""
    answered = frozenset(int(number) for number in _ANSWERED.findall(output))
    summary = _SUMMARY.findall(output)
    seen = max((*answered, *(int(number) for number in _UNANSWERED.findall(output))), default=0)
    return PingTally(int(summary[-1]) if summary else seen, answered)


@dataclass
class FirstReply:
    """Ping through a device until one answer comes; also before the device exists.

    `poll` is to be called again and again; it never waits, so that many can be watched at once.
    """

    place: Place
    device: str
    target: str
    may_ping: Callable[[], bool]
    started: float = field(default_factory=time.monotonic)
    reply_s: float | None = None
    _task: Task | None = None
    _retry_at: float = 0.0

    def poll(self) -> bool:
        """Look whether the answer has come, trying again where a ping could not be sent; return whether it has."""
        if self.reply_s is not None:
            return True
        now = time.monotonic()
        if self._task is None:
            if now >= self._retry_at and self.may_ping():
                # With -c and -w together ping ends at the first answer.
                argv = ("ping", "-n", "-I", self.device, "-i", "0.2", "-c", "1", "-w", "3600", self.target)
                self._task = self.place.start(*argv)
            return False
        status = self._task.status()
        if status == 0:
            self.reply_s = now - self.started
        elif status is not None:
            self._task = None
            self._retry_at = now + RETRY_S
        return self.reply_s is not None

    def give_up(self) -> None:
        """End the ping that waits for an answer."""
        if self._task is not None and self._task.status() is None:
            self._task.interrupt()


class Pinging:
    """Pings at a steady rate through a device, until stopped."""

    def __init__(
        self,
        place: Place,
        device: str,
        target: str,
        *,
        interval_s: float,
        count: int | None = None,
        size_bytes: int = USUAL_BYTES,
    ) -> None:
        bound = () if count is None else ("-c", str(count), "-W", "1")
        # -O reports an unanswered ping when the next is sent, so the account is right at any time.
        how = ("-I", device, "-i", f"{interval_s:g}", "-s", str(size_bytes), *bound)
        self._task = place.start("ping", "-n", "-O", *how, target)

    def tally(self) -> PingTally:
        """Return the account so far."""
        return tally(self._task.output())

    def has_ended(self) -> bool:
        """Whether ping has ended, by its count or because it was stopped."""
        return self._task.status() is not None

    def stop(self) -> PingTally:
        """End the pings and return the account."""
        if self._task.status() is None:
            self._task.interrupt()
            holds_within(self.has_ended, 5.0)
        return self.tally()


def wait_for_answers(pings: Sequence[Pinging], count: int, limit_s: float) -> None:
    """Wait until `count` more pings of each series than now have been answered.

    Raises GaveUp when they are not within the limit, LabFailed when a series has ended by itself.
    """
    wanted = [len(ping.tally().answered) + count for ping in pings]

    def have_come() -> bool:
        ended = [ping for ping in pings if ping.has_ended()]
        if ended:
            raise LabFailed(f"pings ended by themselves: {[ping.tally() for ping in ended]}")
        return all(len(ping.tally().answered) >= least for ping, least in zip(pings, wanted, strict=True))

    wait_until(have_come, limit_s, f"{count} answers to each of {len(pings)} series of pings")
