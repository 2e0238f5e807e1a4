"""Reading what is large, piece by piece, so that it costs little of the processor at any time, however large it is."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

REST: Final = 20
"""Reading rests for this many times as long as it took: a full table costs 5 % of a core and not all of it."""

BURST_S: Final = 0.02
"""After so long of the processor's time reading rests before it goes on. What is small is read at once; a million
mappings that all moved take ten seconds of the processor, which nothing should see as ten seconds of a busy daemon."""

_T = TypeVar("_T")


async def paced(
    pieces: Iterator[_T],
    take: Callable[[_T], None],
    *,
    burst_s: float = BURST_S,
    clock: Callable[[], float] = time.thread_time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> float:
    """Hand over all pieces, and return for how many seconds is still to be rested when they are through.

    Both making a piece and taking it count as work, by the processor's time. Others have their turn after each. What
    may not take long is given an endless burst, and all its rest is owed.
    """
    spent = 0.0
    while True:
        began = clock()
        piece = next(pieces, None)
        if piece is not None:
            take(piece)
        spent += clock() - began
        if piece is None:
            return spent * REST
        if spent >= burst_s:
            await sleep(spent * REST)
            spent = 0.0
        else:
            await sleep(0)
