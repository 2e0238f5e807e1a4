"""Run the fuzzing by the million, on all processors.

python -m tests.fuzz [--packets N] [--bpf N] [--seed S] [--jobs N] [--findings FOLDER]

N inputs go through the parsers and N packets through the BPF programs, which needs root and the built object; 0 leaves
one out. The work is cut into pieces, each with a seed of its own that follows from S, so that the same S is the same
inputs whatever the number of jobs. What should not have been is written to FOLDER: the input, and beside it what was
said of it. Ends with status 1 if there was any.
"""

import argparse
import hashlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.fuzz.parsers import Finding
from tests.fuzz.work import through_bpf, through_parsers

PIECE: Final = 20_000
"""Inputs of one piece of work: a second or two."""

SHOWN_MOST: Final = 10


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of input, and how many."""

    name: str
    do: Callable[[str, int], list[Finding]]
    count: int

    def pieces(self, seed: int) -> Iterator[tuple[str, int]]:
        """Cut it into seeds and counts."""
        for number, begin in enumerate(range(0, self.count, PIECE)):
            yield f"{seed}:{number}", min(PIECE, self.count - begin)


def run(work: Work, seed: int, jobs: int, console: Console) -> list[Finding]:
    """Do all of it, with a bar, and return what was found."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    findings: list[Finding] = []
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=fresh) as pool, Progress(*columns, console=console) as progress:
        bar = progress.add_task(work.name, total=work.count)
        pieces = work.pieces(seed)
        # A few at a time, so that Ctrl-C need not wait for hundreds.
        while batch := list(islice(pieces, jobs * 2)):
            for (_, count), found in zip(batch, pool.map(work.do, *zip(*batch, strict=True)), strict=True):
                findings += found
                progress.advance(bar, count)
    return findings


def save(findings: list[Finding], folder: Path) -> None:
    """Write each input to a file, named after it, and what was said beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for finding in findings:
        stem = f"{finding.what}-{hashlib.sha256(finding.data).hexdigest()[:12]}"
        (folder / f"{stem}.bin").write_bytes(finding.data)
        (folder / f"{stem}.txt").write_text(f"{finding.said}\n")


def main() -> int:
    """Run as a program."""
    options = argparse.ArgumentParser(prog="script/fuzz", description="Mutated packets, by the million.")
    options.add_argument(
        "--packets", type=int, default=10_000_000, help="inputs for the parsers (default: ten million)"
    )
    options.add_argument(
        "--bpf", type=int, default=1_000_000, help="packets for the BPF programs (default: one million)"
    )
    options.add_argument("--seed", type=int, default=0, help="another number, other inputs (default: 0)")
    options.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each processor)"
    )
    options.add_argument("--findings", type=Path, default=Path("build/fuzz"), help="folder for what is found")
    chosen = options.parse_args()
    console = Console()
    if chosen.bpf and os.geteuid() != 0:
        console.print("BPF programs are loaded by root: run it as root, or with --bpf 0")
        return 2
    findings: list[Finding] = []
    for work in (Work("parsers", through_parsers, chosen.packets), Work("BPF programs", through_bpf, chosen.bpf)):
        if work.count:
            began = time.monotonic()
            found = run(work, chosen.seed, chosen.jobs, console)
            took_s = time.monotonic() - began
            console.print(
                f"{work.name}: {work.count:,} inputs in {took_s:.0f} s, seed {chosen.seed}, {len(found)} findings"
            )
            findings += found
    for finding in findings[:SHOWN_MOST]:
        console.print(f"{finding.what}: {finding.said[:400]}", markup=False)
    if findings:
        save(findings, chosen.findings)
        console.print(f"inputs and what was said of them are in {chosen.findings}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
