"""Tell people what happens, without letting what happens often drown the rest."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from throughway.core.findings import Level
from throughway.service.gateway import Gateway
from throughway.service.happenings import Happenings
from throughway.service.options import Options

log = structlog.get_logger()

BURST: Final = 20
"""Lines of one name in one period; further ones are counted and told at the end of it."""

PERIOD_S: Final = 10.0


@dataclass(slots=True)
class _Period:
    began_at: float
    told: int = 0
    kept_back: int = 0


class Teller:
    """Writes events to the log, at most `BURST` of one name in `PERIOD_S` seconds, and keeps them all for a while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, happenings: Happenings | None = None) -> None:
        self._clock: Final = clock
        self.happenings: Final = happenings or Happenings()
        self._periods: Final[dict[str, _Period]] = {}

    def tell(self, name: str, **fields: object) -> None:
        """Write one event, or count it as kept back in the log."""
        self.happenings.add(name, fields)
        now = self._clock()
        self._end_period(name, now)
        period = self._periods.setdefault(name, _Period(began_at=now))
        if period.told < BURST:
            period.told += 1
            log.info(name, **fields)
        else:
            period.kept_back += 1

    def tell_kept_back(self) -> None:
        """Tell what was kept back in periods that are over. Without this it waits for the next event of the name."""
        now = self._clock()
        for name in list(self._periods):
            self._end_period(name, now)

    def _end_period(self, name: str, now: float) -> None:
        period = self._periods.get(name)
        if period is not None and now - period.began_at >= PERIOD_S:
            del self._periods[name]
            if period.kept_back:
                log.info("events.kept_back", name=name, count=period.kept_back)


def tell_started(options: Options, gateway: Gateway) -> None:
    """Write to the log that a gateway is at work, and what it found that wants mending."""
    log.info(
        "gateway.started",
        inside=",".join(options.inside),
        outside=options.outside,
        address=", ".join(str(address) for address in gateway.outside_addresses) or "none yet",
        attached_by=gateway.attached_by,
    )
    for finding in gateway.findings:
        if finding.level is not Level.OK:
            log.warning("firewall.finding", what=finding.what, remedy=finding.remedy, commands=finding.commands)
