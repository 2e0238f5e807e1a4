"""What counters show of ESP: which tunnels are in use, and in a whole reading who is silent, or only sends."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from throughway.core import disowning, repairing, resolving, strays
from throughway.core.bindings import PeerState
from throughway.core.bounds import Bounds
from throughway.core.commands import Command
from throughway.core.events import FlowCount
from throughway.core.flows import Direction
from throughway.core.ids import Path, Spi

_JUDGED_MAX: Final = 256
"""Peers that are judged at once: some milliseconds, in which packets wait."""


class Judging:
    """Takes in a reading piece by piece, and judges the peers that it told of when all of it is there."""

    def __init__(self, peers: Mapping[Path, PeerState], bounds: Bounds, tracing: resolving.Tracing) -> None:
        self._peers: Final = peers
        self._bounds: Final = bounds
        self._tracing: Final = tracing
        self._in_use: Final[dict[Path, None]] = {}
        """Of whom the reading that goes on has said something."""

    @property
    def has_more(self) -> bool:
        """Whether peers are left that the last reading told of."""
        return bool(self._in_use)

    def count(self, counts: Iterable[FlowCount]) -> None:
        """Note which tunnels are in use."""
        for count in counts:
            for path in self._bounds.paths_of(count.key):
                if state := self._peers.get(path):
                    self._in_use[path] = None
                    self._count(state, count)

    def _count(self, state: PeerState, count: FlowCount) -> None:
        spi = Spi(count.key.discriminator)
        at = count.last_packet_at
        if count.key.direction is Direction.TO_INSIDE:
            if (binding := state.bindings.get(spi)) and at > binding.last_packet_at:
                repairing.received(binding, at)
        elif (host := state.hosts.get(count.key.host)) and (sa := host.outgoing.get(spi)):
            if at > sa.last_packet_at:
                state.heard.add(host.host)
            sa.last_packet_at = max(sa.last_packet_at, at)
            host.last_seen_at = max(host.last_seen_at, at)
            self._bounds.touch(host.host, state.path.peer, at)

    def judge(self, now: float) -> list[Command]:
        """Do what a whole reading of the counters shows, once for each; the next peers of many.

        Where nothing is in use nothing is judged: silence tells only beside what comes.
        """
        commands: list[Command] = []
        for path in list(islice(self._in_use, _JUDGED_MAX)):
            del self._in_use[path]
            state = self._peers.get(path)
            if state is not None and state.judged_at < now:
                state.judged_at = now
                state.judged_count += 1
                commands += self._judge(state, now)
        return commands

    def _judge(self, state: PeerState, now: float) -> list[Command]:
        """Do what takes seconds to show: who is silent, who only sends, what has to be traced."""
        heard = frozenset(state.heard)
        state.heard.clear()
        limits = self._bounds.limits
        commands = resolving.pass_over(state, heard, now, limits)
        commands += disowning.hear_again(state, heard, now, limits)
        commands += strays.take_back(state, now, limits)
        commands += repairing.audit(state, now, limits)
        commands += repairing.doubt_silent(state, now, limits)
        return commands + self._tracing.adjust(state)
