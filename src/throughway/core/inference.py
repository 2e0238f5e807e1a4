"""Elimination: which hosts can still own a contested SPI.

Each inbound SPI belongs to exactly one host, and a host owns no more SPIs than it has credits (IKE
exchanges that may have agreed on a child SA, and security associations seen in its own packets).
So the SPIs and the hosts form a bipartite graph, and a host is a possible owner of an SPI exactly
when some assignment of *all* contested SPIs within the credits gives it that SPI. This finds what
counting for each host alone does not: with two SPIs contested by A and B, one credit each, a third
SPI can only be C's, although nobody knows yet which of the two is A's.
"""

from collections.abc import Mapping, Sequence

from throughway.core.ids import Host, Spi


def possible_owners(
    candidates: Mapping[Spi, Sequence[Host]], credits_left: Mapping[Host, int]
) -> dict[Spi, tuple[Host, ...]] | None:
    """Drop every candidate that no consistent assignment allows; keep the order of the others.

    `candidates` has for each contested SPI its hosts; `credits_left` has for each of those hosts how
    many SPIs it can still own. Return None where no assignment exists: then the credits are not an
    upper bound after all (an exchange was missed), and nothing may be concluded from them.
    """
    owner = _assign(candidates, credits_left)
    if owner is None:
        return None
    reach = _Reach(candidates, owner, credits_left)
    return {
        spi: tuple(host for host in hosts if host == owner[spi] or reach.may_take_over(host, owner[spi]))
        for spi, hosts in candidates.items()
    }


def _assign(candidates: Mapping[Spi, Sequence[Host]], credits_left: Mapping[Host, int]) -> dict[Spi, Host] | None:
    """Give every SPI one of its candidates within the credits, by augmenting paths, or return None."""
    owner: dict[Spi, Host] = {}
    owned: dict[Host, list[Spi]] = {host: [] for host in credits_left}
    for first in candidates:
        # Breadth first from the new SPI: take a free credit, or one from an SPI that can go elsewhere.
        came_from: dict[Host, Spi] = {}
        queue = [first]
        free: Host | None = None
        for spi in queue:
            for host in candidates[spi]:
                if host in came_from:
                    continue
                came_from[host] = spi
                if len(owned[host]) < credits_left[host]:
                    free = host
                    break
                queue.extend(owned[host])
            if free is not None:
                break
        if free is None:
            return None
        taker: Host | None = free
        while taker is not None:
            spi = came_from[taker]
            loser = owner.get(spi)
            if loser is not None:
                owned[loser].remove(spi)
            owner[spi] = taker
            owned[taker].append(spi)
            taker = loser
    return owner


class _Reach:
    """Which hosts can pass SPIs on, directly or through others, as bit masks over the hosts."""

    def __init__(
        self, candidates: Mapping[Spi, Sequence[Host]], owner: Mapping[Spi, Host], credits_left: Mapping[Host, int]
    ) -> None:
        hosts = list(credits_left)
        self._bit = {host: index for index, host in enumerate(hosts)}
        used = dict.fromkeys(hosts, 0)
        reach = [1 << index for index in range(len(hosts))]
        for spi, host in owner.items():
            used[host] += 1
            for other in candidates[spi]:
                reach[self._bit[host]] |= 1 << self._bit[other]
        for middle in range(len(hosts)):
            for start in range(len(hosts)):
                if reach[start] >> middle & 1:
                    reach[start] |= reach[middle]
        self._reach = reach
        self._free = 0
        for host, count in used.items():
            if count < credits_left[host]:
                self._free |= 1 << self._bit[host]

    def may_take_over(self, host: Host, present: Host) -> bool:
        """Say whether an SPI of `present` can go to `host`, everybody else being served all the same.

        Either the host passes one of its own on until it ends at a free credit, or until it ends at
        `present`, which has just lost one.
        """
        reached = self._reach[self._bit[host]]
        return bool(reached & (self._free | 1 << self._bit[present]))
