"""Work that is cut into pieces and done on all processors, with a bar. The same seed is the same work."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

TOLD_EVERY_S = 30.0
"""Between two lines about how far it is, where no terminal shows the bar."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Input that something did not bear, and what it said."""

    what: str
    said: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of input: what does a piece of it, given a seed and a count; how many there are, and in one piece."""

    name: str
    do: Callable[[str, int], list[Finding]]
    count: int
    piece: int

    def pieces(self, seed: int) -> Iterator[tuple[str, int]]:
        """Cut it into seeds and counts."""
        for number, begin in enumerate(range(0, self.count, self.piece)):
            yield f"{seed}:{number}", min(self.piece, self.count - begin)


def run(work: Work, seed: int, jobs: int, console: Console) -> list[Finding]:
    """Do all of it, with a bar and a line at the end, and return what was found."""
    if not work.count:
        return []
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    findings: list[Finding] = []
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=fresh) as pool, Progress(*columns, console=console) as progress:
        bar = progress.add_task(work.name, total=work.count)
        pieces = work.pieces(seed)
        told_at = began
        # A few at a time, so that Ctrl-C need not wait for hundreds.
        while batch := list(islice(pieces, jobs * 2)):
            for (_, count), found in zip(batch, pool.map(work.do, *zip(*batch, strict=True)), strict=True):
                findings += found
                progress.advance(bar, count)
            if not console.is_terminal and time.monotonic() - told_at >= TOLD_EVERY_S:
                told_at = time.monotonic()
                done = int(progress.tasks[bar].completed)
                console.print(f"{work.name}: {done:,} of {work.count:,} after {told_at - began:.0f} s")
    took_s = time.monotonic() - began
    console.print(f"{work.name}: {work.count:,} in {took_s:.0f} s, seed {seed}, findings: {len(findings)}")
    return findings
