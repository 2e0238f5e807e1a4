"""The table of script/detection-table: flows of each protocol by truth, by us and by nDPI 4.2."""

import json
import sys
from pathlib import Path

from tests.captures import captures_folder
from tests.detection.truth import ROWS, compared


def main() -> int:
    """Print the table and what differs; 0 when nothing unexpected was named and nDPI finds no more of any protocol."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else captures_folder()
    if folder is None or not (folder / "index.json").is_file():
        print("There are no captures: name a folder with an index.json.", file=sys.stderr)  # noqa: T201
        return 2
    captures = list(compared(folder, json.loads((folder / "index.json").read_text())))
    lines = [f"{'protocol':<12}{'truth':>8}{'ours':>8}{'nDPI 4.2':>10}"]
    worse = False
    totals = [0, 0, 0]
    for row in ROWS:
        numbers = [sum(getattr(capture, whose)[row] for capture in captures) for whose in ("truth", "ours", "ndpi")]
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
        worse = worse or numbers[1] < numbers[2]
        lines.append(f"{row:<12}{numbers[0]:>8}{numbers[1]:>8}{numbers[2]:>10}")
    lines.append(f"{'total':<12}{totals[0]:>8}{totals[1]:>8}{totals[2]:>10}")
    without = [capture for capture in captures if not capture.is_vpn]
    lines += ["", f"{len(captures)} captures, of which {len(without)} without VPN.", "", "Missed:"]
    lines += [f"  {capture.file}: {name}" for capture in captures for name in capture.missed]
    lines += ["", "Named and not in the truth:"]
    lines += [f"  {capture.file}: {words}" for capture in captures for words in capture.unexpected]
    lines += ["", "Named by their IP header, which the truth looks through:"]
    lines += [f"  {capture.file}: {words}" for capture in captures for words in capture.looked_through]
    print("\n".join(lines))  # noqa: T201
    return int(worse or any(capture.unexpected for capture in captures))


if __name__ == "__main__":
    sys.exit(main())
