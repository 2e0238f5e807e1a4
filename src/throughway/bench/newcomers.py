"""What a tunnel costs that nobody knows yet: how late its first packet is, and how many can begin in a second."""

import time
from dataclasses import dataclass
from statistics import median

from throughway.bench import traffic
from throughway.bench.compare import WrongAnswer, compare
from throughway.bench.frames import Flag
from throughway.bench.routers import HOSTS_MAX, Bed, Kind
from throughway.bench.speed import WAYS
from throughway.bench.statistics import percentile
from throughway.core.flows import Direction
from throughway.lab.waiting import holds_within

PAIRS = HOSTS_MAX
"""Hosts, each with a peer of its own, that take turns: so none of them comes near its limits."""

FIRST_SPI = 0x1000000
SPIS = 1 << 31
"""So many that each frame has one of its own: its sequence number, from the first SPI on."""

OUTSTANDING_MAX = 512
"""First frames on their way at the same time; the ring has room for some 2,300."""


@dataclass(frozen=True, slots=True)
class Latency:
    """From one end to the other, in microseconds."""

    known: tuple[float, ...]
    first: tuple[float, ...]

    def to_json(self) -> dict[str, object]:
        """Return a form for programs."""
        return {
            name: {"median": median(values), "p99": percentile(values, 0.99), "count": len(values)}
            for name, values in (("known", self.known), ("first_of_a_tunnel", self.first))
        }


def latency(bed: Bed, way: Direction, count: int) -> Latency:
    """Send single frames, of a known tunnel and the first ones of new tunnels in turn.

    To the inside only hosts and peers that have met can have new ones: see `per_second`. Raises WrongAnswer.
    """
    router = bed.routers[Kind.THROUGHWAY]
    bed.ends.forget_latencies()
    flags = Flag.IN_ORDER | Flag.STAMPED
    plans = (
        router.plan(way, traffic.FIRST_SPI, 1, flags=flags),
        router.plan(way, FIRST_SPI, SPIS, PAIRS, flags),
    )
    known: list[int] = []
    new: list[int] = []
    for _ in range(count):
        for plan, numbers in zip(plans, (known, new), strict=True):
            before = bed.ends.received()
            _, sent = traffic.send(bed, router, way, plan, 1, batch=1)
            if not holds_within(lambda before=before: bed.ends.received() > before, traffic.ARRIVES_WITHIN_S):  # type: ignore[misc]
                raise WrongAnswer(f"a single frame {way.name.lower()} did not arrive")
            numbers.append(sent.start)
    return Latency(tuple(bed.ends.latencies(known)), tuple(bed.ends.latencies(new)))


def per_second(bed: Bed, count: int) -> float:
    """Begin so many tunnels, a first frame out and then one back for each, and return how many that is a second.

    A sample of the frames is compared. Raises WrongAnswer, also when one is lost.
    """
    router = bed.routers[Kind.THROUGHWAY]
    spent = 0.0
    for way in WAYS:
        bed.ends.forget_samples()
        start = bed.ends.next_sequence
        plan = router.plan(way, FIRST_SPI, SPIS, PAIRS, Flag.IN_ORDER)
        base, began = bed.ends.received(), time.perf_counter()
        sent = 0
        while sent < count:
            if sent - (bed.ends.received() - base) < OUTSTANDING_MAX:
                sent += len(traffic.send(bed, router, way, plan, min(64, count - sent))[1])
            elif time.perf_counter() - began > traffic.ARRIVES_WITHIN_S * 4:
                break
        if not holds_within(lambda base=base, sent=sent: bed.ends.received() - base >= sent, traffic.ARRIVES_WITHIN_S):  # type: ignore[misc]
            raise WrongAnswer(f"of {count} new tunnels {way.name.lower()} {bed.ends.received() - base} began")
        spent += time.perf_counter() - began
        compare("new tunnels", bed.ends.samples(), router.arriving(plan, way), range(start, start + count))
    return count / spent
