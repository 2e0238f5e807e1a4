"""Run the fuzzing by the million, on all processors.

python -m tests.fuzz [--packets N] [--bpf N] [--seed S] [--jobs N] [--findings FOLDER]

N inputs go through the parsers and N packets through the BPF programs, which needs root and the built object; 0 leaves
one out. The work is cut into pieces, each with a seed of its own that follows from S, so that the same S is the same
inputs whatever the number of jobs. What should not have been is written to FOLDER: the input, and beside it what was
said of it. Ends with status 1 if there was any.
"""

import argparse
import hashlib
import os
import sys
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.fuzz.running import Finding, Work, run
from tests.fuzz.work import through_bpf, through_parsers

PIECE: Final = 20_000
"""Inputs of one piece of work: a second or two."""

SHOWN_MOST: Final = 10


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
    parsers = Work("parsers", through_parsers, chosen.packets, PIECE)
    programs = Work("BPF programs", through_bpf, chosen.bpf, PIECE)
    for work in (parsers, programs):
        findings += run(work, chosen.seed, chosen.jobs, console)
    for finding in findings[:SHOWN_MOST]:
        console.print(f"{finding.what}: {finding.said[:400]}", markup=False)
    if findings:
        save(findings, chosen.findings)
        console.print(f"inputs and what was said of them are in {chosen.findings}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
