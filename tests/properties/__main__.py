"""Run the laws over as many histories as are asked for, on all processors: `script/test --laws N`.

python -m tests.properties N [--seed S] [--jobs N] [--law PART]

Each law gets N examples of hypothesis, in pieces with seeds that follow from S, so that the same S is the same
histories. What breaks a law is made small and printed. Ends with status 1 if anything did.
"""

import argparse
import os
import sys
from functools import partial
from typing import Final

from rich.console import Console

from tests.fuzz.running import Finding, Work, run
from tests.properties.trying import LAWS, try_law

PIECE: Final = 100
"""Examples of one piece of work: one to eight seconds, law 7 the longest."""


def main() -> int:
    """Run as a program."""
    options = argparse.ArgumentParser(prog="script/test --laws", description="The laws over many histories.")
    options.add_argument("examples", type=int, help="histories for each law")
    options.add_argument("--seed", type=int, default=0, help="another number, other histories (default: 0)")
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options.add_argument("--law", default="", help="only laws whose name has this in it")
    chosen = options.parse_args()
    console = Console()
    findings: list[Finding] = []
    for name in LAWS:
        if chosen.law in name:
            work = Work(name, partial(try_law, name), chosen.examples, PIECE)
            findings += run(work, chosen.seed, chosen.jobs, console)
    for finding in findings:
        console.print(f"{finding.what}: {finding.said}", markup=False, highlight=False)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
