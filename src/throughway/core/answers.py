"""Which host answers what comes with an SPI: evidence from the times of packets alone.

Only the owner of an SPI can read what comes with it. If a host sends a packet within milliseconds of one that came
in, time after time, then it reads them. Chance can do the same for a while; how long is a matter of counting.

*The test.* Of `n` packets that came in, `k` were followed by one of the host within a window. If the host knew
nothing of them, each would be with a probability of no more than `c`, the share of time that such windows before its
own packets cover. So many or more then happen with a probability of at most exp(-n D(k/n, c)), where D is the
divergence of Kullback and Leibler (Chernoff's bound for the binomial distribution). `c` is taken half as large again,
since rates change.

*What the test would take for answers, and what is done about it.*

- Packets in bursts are not independent. Only the first packet of a burst counts, on both sides.
- Two regular streams keep step: if one packet follows another at 3 ms, so does the next. Then other delays are as
  frequent, one period on; answers stand out among all delays of up to a second.
- Hosts speak to each other through the peer: what A sends comes back out of B's tunnel a round trip later, and the next
  packet of A may follow that at a constant delay, set by A's own timer. Then A's packets are as regular among
  themselves. An answer is not: it follows what came in more closely than it follows what the host sent before.

What comes in about a round trip behind a packet of the host is left out altogether: it may be that very packet.

A host that is merely answered *by* the peer (what comes in follows what it sent a round trip later) cannot be told from
one whose packets the peer passes on to another host. Such an *echo* is evidence, but no proof, however strong it looks.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import log, sqrt
from typing import Final

WINDOWS_MS: Final = (
    *((0.0, 1.0), (0.0, 2.0), (1.0, 2.0), (1.0, 3.0), (2.0, 4.0), (3.0, 5.0)),
    *((0.0, 4.0), (2.0, 6.0), (4.0, 8.0), (0.0, 8.0), (8.0, 16.0), (0.0, 30.0)),
)
"""Within which an answer may follow, in milliseconds: the kernel's own, a program's, one behind Wi-Fi, a busy one. A
host answers most of the time about as fast, so narrow windows find answers that are few."""

ANSWER_MAX_S: Final = 0.03
"""No window is longer."""

DELAYS_S: Final = 1.0
"""Up to this delay answers have to stand out, and a host's own regularity is looked for. It is longer than the way to a
peer and back, and than the usual intervals of regular streams."""

_RATE_SLACK: Final = 1.5

_RELAY_S: Final = 0.015
"""By how much a relayed packet may differ from one and a half, or half, of the round trip that IKE messages took."""

CERTAIN: Final = 27.6
"""The surprise from which on chance is ruled out: -ln of 10^-12. A contest of 16 hosts asks thousands of times, with
all windows and readings, so it goes wrong by chance less often than once in 10^8 times."""

SUSPECT: Final = 9.2
"""The surprise from which on a host may be one that answers: -ln of 10^-4."""

ECHO_MAX: Final = 21.5
"""What being answered counts at the most, however regular it is: it may come from another tunnel."""

ECHO_WINDOW_S: Final = 0.004
"""How exactly what comes in has to keep one distance from what the host sent: a path's jitter."""

_ECHO_BINS_A_SECOND: Final = 2.0 / ECHO_WINDOW_S
_ECHO_BINS: Final = int(_ECHO_BINS_A_SECOND * DELAYS_S) + 2


def starts(times: Iterable[float], gap_s: float) -> list[float]:
    """Keep the first packet of each burst: what comes `gap_s` or more after the one before it."""
    kept: list[float] = []
    before = float("-inf")
    for at in times:
        if at - before >= gap_s:
            kept.append(at)
        before = at
    return kept


def without(times: Sequence[float], others: Sequence[float]) -> list[float]:
    """Leave out what came so close to other packets that an answer may be theirs."""
    within_s = ANSWER_MAX_S
    return [at for at in times if bisect_left(others, at - within_s) == bisect_right(others, at + within_s)]


def surprise(inward: Sequence[float], outward: Sequence[float], round_trip_s: float) -> tuple[float, float]:
    """Say how unlikely it is by chance that a host follows what came in so closely: -ln of the probability's bound.

    Both are the times of burst starts, ascending; `round_trip_s` is the way to the peer and back. The first is
    what is left of it where nothing else than answers explains it; the second is all of it, from `SUSPECT` on.
    """
    if not inward or not outward:
        return 0.0, 0.0
    begin, end = max(inward[0], outward[0]), min(inward[-1], outward[-1])
    came = _not_relayed(inward[bisect_left(inward, begin) : bisect_right(inward, end)], outward, round_trip_s)
    if end <= begin or not came:
        return 0.0, 0.0
    followed = sorted((outward[n] - at, n) for at in came if (n := bisect_right(outward, at)) < len(outward))
    density = _RATE_SLACK * len(outward) / (end - begin)
    sure = suspected = 0.0
    for low_ms, high_ms in WINDOWS_MS:
        low_s, size_s = low_ms / 1000.0, (high_ms - low_ms) / 1000.0
        first, last = bisect_left(followed, (low_s,)), bisect_left(followed, (low_s + size_s,))
        found = _chernoff(last - first, len(came), size_s * density)
        if found < SUSPECT / 2:
            continue
        suspected = max(suspected, found)
        answers = [n for _, n in followed[first:last]]
        if (
            found > sure
            and _stands_out(len(answers), _delays(came, outward, size_s))
            and _stands_out(len(answers), _own_rhythm(answers, outward, size_s))
        ):
            sure = found
    return sure, suspected if suspected >= SUSPECT else 0.0


def _not_relayed(inward: Sequence[float], outward: Sequence[float], round_trip_s: float) -> list[float]:
    """Leave out what may be the host's own packet, on its way through the peer to another host."""
    longest_s = 1.5 * round_trip_s + _RELAY_S
    shortest_s = max(0.0, 0.5 * round_trip_s - _RELAY_S)
    return [at for at in inward if bisect_left(outward, at - longest_s) == bisect_right(outward, at - shortest_s)]


def echo(inward: Sequence[float], outward: Sequence[float]) -> float:
    """Say how unlikely it is by chance that so much comes in at one distance behind what a host sends.

    The same measure as `surprise`, but no proof: what the host sends to another one through the peer comes in
    with that one's SPI.
    """
    if not inward or not outward:
        return 0.0
    span_s = min(inward[-1], outward[-1]) - max(inward[0], outward[0])
    if span_s <= 0.0:
        return 0.0
    distances = [0] * _ECHO_BINS
    for at in inward:
        first = bisect_left(outward, at - DELAYS_S)
        for sent in outward[first : bisect_right(outward, at, first)]:
            distances[int(_ECHO_BINS_A_SECOND * (at - sent))] += 1
    pairs = [one + next_ for one, next_ in pairwise(distances)]
    hits = max(pairs)
    best = len(pairs) - 1 - pairs[::-1].index(hits)
    others = pairs[: max(0, best - 3)] + pairs[best + 4 :]
    if not _exceeds(hits, max(others)):
        return 0.0
    chance = _RATE_SLACK * ECHO_WINDOW_S * len(outward) / span_s
    return max(0.0, _chernoff(hits, len(inward), chance) - log(2.0 * DELAYS_S / ECHO_WINDOW_S))


def _delays(came: Sequence[float], outward: Sequence[float], size_s: float) -> Counter[int]:
    """Count the delays between what came in and all that the host sent in the second after it, but for answers."""
    delays: Counter[int] = Counter()
    for at in came:
        first = bisect_right(outward, at + ANSWER_MAX_S)
        for sent in outward[first : bisect_right(outward, at + DELAYS_S)]:
            delays[int(2.0 * (sent - at) / size_s)] += 1
    return delays


def _own_rhythm(answers: Sequence[int], outward: Sequence[float], size_s: float) -> Counter[int]:
    """Count the delays between answers and what the host itself had sent in the second before."""
    delays: Counter[int] = Counter()
    for n in answers:
        sent = outward[n]
        for earlier in outward[bisect_left(outward, sent - DELAYS_S) : n]:
            delays[int(2.0 * (sent - earlier) / size_s)] += 1
    return delays


def _stands_out(count: int, delays: Counter[int]) -> bool:
    """Whether a count is by three standard deviations above that of every other delay.

    The bins are half as wide as the window, and two neighbours are taken together, so that no peak is cut in half.
    """
    return _exceeds(count, max([count + delays.get(bin_ + 1, 0) for bin_, count in delays.items()], default=0))


def _exceeds(count: int, other: int) -> bool:
    return count > other + 3.0 * sqrt(other)


def _chernoff(hits: int, trials: int, chance: float) -> float:
    """Bound how unlikely so many hits are: -ln P(at least `hits` of `trials`), each with no more than this chance."""
    share = hits / trials
    if share <= chance:
        return 0.0
    missed = (1.0 - share) * log((1.0 - share) / (1.0 - chance)) if hits < trials else 0.0
    return trials * (share * log(share / chance) + missed)
