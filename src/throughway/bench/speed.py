"""Packets a second through the three routers, in interleaved rounds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from throughway.bench import traffic
from throughway.bench.routers import Bed, Kind
from throughway.bench.statistics import Estimate, estimate, ratios
from throughway.core.flows import Direction

WAYS = (Direction.TO_PEER, Direction.TO_INSIDE)


@dataclass(frozen=True, slots=True)
class Speed:
    """The frames a second of each round, by router and direction, with so many mappings in Throughway's table."""

    mappings: int
    per_second: dict[tuple[Kind, Direction], list[float]] = field(default_factory=dict)

    def both_ways(self, kind: Kind) -> list[float]:
        """Return the frames a second of as many frames each way, by round."""
        there, back = (self.per_second[kind, way] for way in WAYS)
        return [2 / (1 / one + 1 / other) for one, other in zip(there, back, strict=True)]

    def ratio_to(self, other: Kind) -> Estimate:
        """Estimate how much faster Throughway is than another router, both ways together."""
        return estimate(ratios(self.both_ways(Kind.THROUGHWAY), self.both_ways(other)))

    def ratio_one_way(self, other: Kind, way: Direction) -> Estimate:
        """Estimate how much faster Throughway is than another router in one direction."""
        return estimate(ratios(self.per_second[Kind.THROUGHWAY, way], self.per_second[other, way]))

    def to_json(self) -> dict[str, object]:
        """Return a form for programs."""
        return {
            "mappings": self.mappings,
            "packets_per_second": {
                kind.value: {way.name.lower(): round(median(self.per_second[kind, way])) for way in WAYS}
                for kind in Kind
            },
            **{
                f"ratio_to_{other.value}": {
                    **self.ratio_to(other).to_json(),
                    **{way.name.lower(): self.ratio_one_way(other, way).to_json() for way in WAYS},
                }
                for other in (Kind.MASQUERADE, Kind.FORWARDING)
            },
        }


def measure(bed: Bed, rounds: int, frames: int, tunnels: int, mappings: int, step: Callable[[str], None]) -> Speed:
    """Send so many frames through each router, in each direction and round. Raises WrongAnswer.

    Rounds begin with another router each, so that none has always the same one before it.
    """
    speed = Speed(mappings)
    kinds = list(Kind)
    for number in range(rounds):
        step(f"{mappings:,} mappings: round {number + 1} of {rounds}")
        for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
            for way in WAYS if number % 2 else reversed(WAYS):
                done = traffic.burst(bed, bed.routers[kind], way, frames, tunnels)
                speed.per_second.setdefault((kind, way), []).append(done.per_second)
    return speed
