"""What is small is read at once; what is large is never more than a small part of the processor."""

import asyncio
import math

from throughway.service.pacing import BURST_S, REST, paced


class Work:
    """A processor whose time is told by hand, and pieces that take some of it."""

    def __init__(self, pieces: int, piece_s: float) -> None:
        self.now = 0.0
        self.rests: list[float] = []
        self.taken: list[int] = []
        self._pieces, self._piece_s = pieces, piece_s

    def read(self, burst_s: float = BURST_S) -> float:
        pieces = iter(range(self._pieces))
        return asyncio.run(paced(pieces, self._take, burst_s=burst_s, clock=lambda: self.now, sleep=self._sleep))

    def _take(self, piece: int) -> None:
        self.taken.append(piece)
        self.now += self._piece_s

    async def _sleep(self, seconds: float) -> None:
        self.rests.append(seconds)


def test_what_is_small_is_read_at_once_and_rested_for_behind() -> None:
    work = Work(4, BURST_S / 8)
    owed_s = work.read()
    assert work.taken == [0, 1, 2, 3]
    assert not any(work.rests), "others have their turn, and nothing waits"
    assert owed_s == work.now * REST


def test_what_is_large_rests_while_it_is_read() -> None:
    work = Work(1000, BURST_S / 4)
    owed_s = work.read()
    assert work.taken == list(range(1000))
    assert max(work.rests) <= 2 * BURST_S * REST
    rested = sum(work.rests) + owed_s
    assert abs(work.now / (work.now + rested) - 1 / (1 + REST)) < 1e-9


def test_nothing_to_read_owes_nothing() -> None:
    assert Work(0, 1.0).read() == 0.0


def test_what_may_not_take_long_rests_behind() -> None:
    work = Work(1000, BURST_S / 4)
    owed_s = work.read(math.inf)
    assert not any(work.rests)
    assert abs(owed_s - work.now * REST) < 1e-6
