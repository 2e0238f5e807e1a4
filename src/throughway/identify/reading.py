"""One capture file through the engine: the flows go to a callback, what is wrong with the file into the result."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from throughway.catalogue.catalogue import Catalogue
from throughway.detect.engine import Detector
from throughway.detect.flows import Bounds, Flow
from throughway.identify.captures import Capture, Damaged
from throughway.wire.frames import ip_offset, is_known

_PROGRESS_EVERY = 4096
"""Frames between two calls of the progress callback."""


@dataclass(slots=True)
class Outcome:
    """What became of one file. `problems` are sentences for people; what was read in spite of them counts."""

    frames: int = 0
    flows: int = 0
    named: int = 0
    problems: list[str] = field(default_factory=list)


def identify(
    path: Path,
    catalogue: Catalogue,
    on_flow: Callable[[Flow], None],
    on_progress: Callable[[int, int], None] | None = None,
    bounds: Bounds | None = None,
) -> Outcome:
    """Read a file and hand over each flow once: when it has to leave the full table, or at the end of the file.

    `on_progress` gets how many bytes have been read, and of how many. Raises nothing for what the file is: see
    `Outcome.problems`.
    """
    outcome = Outcome()

    def over(flow: Flow) -> None:
        outcome.flows += 1
        outcome.named += flow.answer is not None
        on_flow(flow)

    detector = Detector(catalogue, bounds, over)
    strange: set[int] = set()
    try:
        with Capture(path) as capture:
            for frame in capture:
                outcome.frames += 1
                offset = ip_offset(frame.link_type, frame.data)
                if offset is not None:
                    detector.on_packet(frame.at, frame.data, offset)
                elif not is_known(frame.link_type):
                    strange.add(frame.link_type)
                if on_progress and outcome.frames % _PROGRESS_EVERY == 0:
                    on_progress(capture.position_bytes, capture.size_bytes)
    except OSError as error:
        outcome.problems.append(f"cannot be opened: {error.strerror}")
    except Damaged as damage:
        outcome.problems.append(f"{damage}; {outcome.frames} frames before that were read")
    outcome.problems += [f"frames of link type {number} cannot be read" for number in sorted(strange)]
    for flow in detector.flows():
        over(flow)
    return outcome
