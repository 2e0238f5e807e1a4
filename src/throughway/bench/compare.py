"""Compare what arrived with what had to, byte for byte: a fast wrong answer is no answer. Pure."""

from collections.abc import Sequence

from throughway.bench.frames import FRAME_SIZE, STAMP, Plan
from throughway.core.errors import ThroughwayError

RECEIVED_MIN = 0.98
"""Share of the frames of a burst that has to arrive. Each batch goes its whole way before the next: usually all do."""

_SEQUENCE = slice(38, 42)


class WrongAnswer(ThroughwayError):
    """A gateway delivered what it should not have, or lost too much; what was measured says nothing."""


def compare(where: str, arrived: Sequence[bytes], expected: Plan, numbers: range) -> None:
    """Look at each frame of a sample. Raises WrongAnswer for the first that differs, and where there is none."""
    if not arrived:
        raise WrongAnswer(f"{where}: no frame arrived to compare")
    for frame in arrived:
        sequence = int.from_bytes(frame[_SEQUENCE], "big")
        if len(frame) != FRAME_SIZE or sequence not in numbers:
            raise WrongAnswer(f"{where}: what arrived was not sent: {frame.hex()}")
        wanted = bytearray(expected.frame(sequence))
        wanted[STAMP] = frame[STAMP]
        if frame != wanted:
            at = next(index for index, pair in enumerate(zip(frame, wanted, strict=True)) if pair[0] != pair[1])
            raise WrongAnswer(f"{where}: byte {at} is wrong in {frame.hex()}, which should be {wanted.hex()}")


def count(where: str, sent: int, received: int) -> None:
    """Compare how many were sent and how many arrived. Raises WrongAnswer for more, or for far fewer."""
    if received > sent or received < sent * RECEIVED_MIN:
        raise WrongAnswer(f"{where}: of {sent} frames {received} arrived")
