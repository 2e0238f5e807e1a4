"""The figures of a run as tables for people."""

from collections.abc import Iterator
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.table import Table

from throughway.bench.beginnings import Beginnings
from throughway.bench.routers import Kind
from throughway.bench.run import Results
from throughway.bench.speed import WAYS, Speed
from throughway.bench.statistics import Estimate, percentile
from throughway.core.flows import Direction


def tables(results: Results) -> Iterator[Table]:
    """Yield the tables in the order in which they are read."""
    yield _speeds(results)
    yield _sizes(results)
    yield _newcomers(results)
    yield flows(results.beginnings)


def _speeds(results: Results) -> Table:
    title = f"Thousands of 64-byte ESP frames a second, {results.rounds} rounds; ratios of Throughway"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title)
    table.add_column("mappings", justify="right")
    table.add_column("to", no_wrap=True)
    for kind in Kind:
        table.add_column(kind.value[:4], justify="right", no_wrap=True)
    for other in (Kind.MASQUERADE, Kind.FORWARDING):
        table.add_column(f"to {other.value}", justify="right", no_wrap=True)
    for speed in results.speeds:
        for way in WAYS:
            table.add_row(
                f"{speed.mappings:,}",
                "peer" if way is Direction.TO_PEER else "inside",
                *(_thousands(speed.per_second[kind, way]) for kind in Kind),
                *(_words(speed.ratio_one_way(other, way)) for other in (Kind.MASQUERADE, Kind.FORWARDING)),
            )
        table.add_row("", "both", *_both(speed), end_section=True)
    return table


def _both(speed: Speed) -> list[str]:
    return [
        *(_thousands(speed.both_ways(kind)) for kind in Kind),
        *(_words(speed.ratio_to(other)) for other in (Kind.MASQUERADE, Kind.FORWARDING)),
    ]


def _sizes(results: Results) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="Throughway's tables")
    for heading in (*("mappings", "installed/s", "start", "kernel", "each", "daemon", "each"),):
        table.add_column(heading, justify="right")
    for one in results.filled:
        more = one.mappings - results.filled[0].mappings
        table.add_row(
            f"{one.mappings:,}",
            f"{one.added / one.install_s:,.0f}" if one.added else "",
            f"{one.start_s:.1f} s" if one.added else "",
            _mebibytes(one.kernel_bytes),
            f"{(one.kernel_bytes - results.filled[0].kernel_bytes) / more:.0f} B" if more else "",
            _mebibytes(one.rss_bytes),
            f"{(one.rss_bytes - results.filled[0].rss_bytes) / more:.0f} B" if more else "",
        )
    idle = results.idle
    table.caption = (
        f"The daemon at rest with the last table: {idle.cpu_share:.1%} of a processor over {idle.seconds:.0f} s, "
        f"memory {idle.rss_growth_bytes / 1024:+,.0f} KiB"
    )
    return table


def _newcomers(results: Results) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="Latency from end to end in microseconds")
    for heading in ("direction", "frame", "median", "99 %"):
        table.add_column(heading, justify="left" if heading in ("direction", "frame") else "right")
    for way, latency in results.latencies.items():
        for name, values in (("of a known tunnel", latency.known), ("first of a new one", latency.first)):
            word = "to the peer" if way is Direction.TO_PEER else "to the inside"
            table.add_row(word, name, f"{median(values):.0f}", f"{percentile(values, 0.99):.0f}")
    table.caption = f"New tunnels a second: {results.new_tunnels_per_second:,.0f}"
    return table


def flows(begun: Beginnings) -> Table:
    """Write what became of flows that began, and what it cost the daemon."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"New flows of TCP and UDP over {begun.seconds:.0f} s")
    for heading in ("flows/s", "VPNs", "named", "heads", "lost", "core", "daemon", "growth"):
        table.add_column(heading, justify="right")
    lost = sum(count for what, count in begun.heads.items() if what != "copied")
    table.add_row(
        f"{begun.flows / begun.seconds:,.0f}",
        f"{begun.vpns:,}",
        f"{begun.detected:,}",
        f"{begun.heads.get('copied', 0):,}",
        f"{lost:,}",
        f"{begun.cpu_share:.0%}",
        _mebibytes(begun.rss_bytes),
        f"{begun.rss_growth_bytes / 1024:+,.0f} KiB",
    )
    return table


def _thousands(values: list[float]) -> str:
    return f"{median(values) / 1000:,.0f}"


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"


def _words(estimate: Estimate) -> str:
    return f"{estimate.median:.2f} ({estimate.low:.2f}-{estimate.high:.2f})"
