"""Boot several guests, a few at a time, and boot again those whose crypto does not work."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from throughway.lab.errors import GaveUp, LabFailed
from throughway.lab.uml import BOOT_LIMIT_S, BOOTS_MAX, Guest
from throughway.lab.waiting import wait_until

AT_ONCE: Final = 2
"""Guests that boot at the same time; each keeps a core busy."""


@dataclass
class Boot:
    """One guest on its way up."""

    guest: Guest
    began: float
    boots: int = 1

    def is_done(self, now: float) -> bool:
        """Whether the guest takes tasks; a boot that is of no use is begun again, and noted in the guest.

        Raises LabFailed when the guest has had all its boots, GaveUp when one takes too long.
        """
        failure = self.guest.failure()
        if failure is None:
            if now - self.began > BOOT_LIMIT_S:
                raise GaveUp(f"guest {self.guest.name} to boot", BOOT_LIMIT_S, self.guest.log)
            return self.guest.is_booted
        if self.boots == BOOTS_MAX:
            raise LabFailed(f"guest {self.guest.name} failed {BOOTS_MAX} boots: {failure}", self.guest.log)
        self.guest.stop()
        self.guest.reboots.append(failure)
        self.boots += 1
        self.began = now
        self.guest.boot()
        return False


def boot(guests: Sequence[Guest], *, at_once: int = AT_ONCE, clock: Callable[[], float] = time.monotonic) -> None:
    """Boot guests until all take tasks; what had to be booted again is in each guest's `reboots`."""
    waiting = list(guests)
    booting: list[Boot] = []

    def all_are_up() -> bool:
        booting[:] = [one for one in booting if not one.is_done(clock())]
        while waiting and len(booting) < at_once:
            guest = waiting.pop(0)
            guest.boot()
            booting.append(Boot(guest, clock()))
        return not booting

    wait_until(all_are_up, BOOT_LIMIT_S * BOOTS_MAX * len(guests), "the guests to boot")
