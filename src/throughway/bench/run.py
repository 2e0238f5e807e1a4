"""One run of the bench, from the first figure to the last."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from throughway.bench import beginnings, filling, newcomers, speed, traffic
from throughway.bench.beginnings import Beginnings
from throughway.bench.compare import WrongAnswer
from throughway.bench.ends import within
from throughway.bench.filling import Filled, Idle
from throughway.bench.newcomers import Latency
from throughway.bench.routers import Bed, Kind
from throughway.bench.speed import Speed
from throughway.core.flows import Direction
from throughway.core.ids import IpProtocol
from throughway.dataplane import conntrack

ROUNDS: Final = 20
ROUNDS_MIN: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is measured. `tunnels` are the sizes of the table, a mapping in each direction for each."""

    rounds: int = ROUNDS
    frames: int = 100_000
    tunnels: tuple[int, ...] = (1, 5_000, 50_000, 500_000)
    singles: int = 500
    newcomers: int = 1_500
    flows_per_second: int = 10_000
    flows_s: float = 60.0
    flows_before_s: float = 45.0
    """For so long before anything is measured. Five of twelve VPNs are sessions of their own: 16,384 after 40 s."""
    idle_s: float = 30.0


QUICK: Final = Extent(
    rounds=3, frames=5_000, tunnels=(1, 1_000), singles=50, newcomers=300, flows_s=3.0, flows_before_s=1.0, idle_s=3.0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All figures of a run."""

    rounds: int
    frames: int
    speeds: tuple[Speed, ...]
    filled: tuple[Filled, ...]
    idle: Idle
    latencies: dict[Direction, Latency]
    new_tunnels_per_second: float
    beginnings: Beginnings

    def to_json(self) -> dict[str, object]:
        """Return a form for programs."""
        first = self.speeds[0]
        return {
            "rounds": self.rounds,
            "frames_per_round": self.frames,
            "ratio_to_masquerade": first.ratio_to(Kind.MASQUERADE).to_json(),
            "ratio_to_forwarding": first.ratio_to(Kind.FORWARDING).to_json(),
            "by_mappings": [one.to_json() for one in self.speeds],
            "tables": [one.to_json(self.filled[0]) for one in self.filled],
            "idle_with_full_table": self.idle.to_json(),
            "latency_us": {way.name.lower(): one.to_json() for way, one in self.latencies.items()},
            "new_tunnels_per_second": round(self.new_tunnels_per_second),
            "new_flows": self.beginnings.to_json(),
        }


def run(extent: Extent, step: Callable[[str], None]) -> Results:
    """Measure everything. Raises WrongAnswer where a router delivered something else than it should, LabFailed and
    KernelRefused where the machine cannot do it.
    """
    step("making three routers")
    with Bed() as bed:
        _open(bed)
        step("new tunnels")
        rate = newcomers.per_second(bed, extent.newcomers)
        step("latency")
        latencies = {way: newcomers.latency(bed, way, extent.singles) for way in speed.WAYS}
        step(_words_of_flows(extent))
        begun = beginnings.begin(bed, extent.flows_per_second, extent.flows_s, extent.flows_before_s)
        bed.start_afresh()
        _open(bed)
        filled: list[Filled] = []
        speeds: list[Speed] = []
        for tunnels in extent.tunnels:
            step(f"{2 * tunnels:,} mappings: filling the table")
            filled.append(filling.fill(bed, tunnels))
            speeds.append(speed.measure(bed, extent.rounds, extent.frames, tunnels, 2 * tunnels, step))
        step(f"{filled[-1].mappings:,} mappings: the daemon at rest")
        idle = filling.idle(bed, extent.idle_s)
    return Results(
        rounds=extent.rounds,
        frames=extent.frames,
        speeds=tuple(speeds),
        filled=tuple(filled),
        idle=idle,
        latencies=latencies,
        new_tunnels_per_second=rate,
        beginnings=begun,
    )


def run_flows(extent: Extent, step: Callable[[str], None]) -> Beginnings:
    """Measure nothing but how flows that begin are recognised. Raises as `run` does."""
    step("making three routers")
    with Bed() as bed:
        step(_words_of_flows(extent))
        return beginnings.begin(bed, extent.flows_per_second, extent.flows_s, extent.flows_before_s)


def _words_of_flows(extent: Extent) -> str:
    return f"{extent.flows_per_second:,} new flows a second for {extent.flows_s:.0f} s"


def _open(bed: Bed) -> None:
    """Have one tunnel pass every router, and see that masquerade tracks it both ways."""
    for router in bed.routers.values():
        traffic.open_tunnel(bed, router)
    with within(bed.routers[Kind.MASQUERADE].namespace.path):
        flows = list(conntrack.tracked_flows((conntrack.Interest(IpProtocol.ESP),)))
    if len(flows) != 1 or not flows[0].is_answered:
        raise WrongAnswer(f"masquerade tracks {len(flows)} ESP flows, and not the one with answers")
