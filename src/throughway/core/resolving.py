"""Contests that credits leave open, decided by who answers; and verdicts that turn out to be wrong.

While an SPI is contested, the times of its packets and of those that its candidates send are noted in the data plane,
and read a few times a second. Three kinds of evidence are added up, each as -ln of how likely it is by chance:

- the host answers what comes in (`answers.surprise`): as much as it is;
- what comes in follows what the host sends (`answers.echo`): no more than `ECHO_MAX`, since hosts talk to each other;
- the SPI began when the host's exchange ended (`ranking.timing`): no more than `TIMING_MAX`.

A candidate that leads all others by `CERTAIN` is the owner. So answers decide alone, echo and timing only together.
Where two hosts answer nothing is decided: they have the same SPI, or get the same packets.
"""

from bisect import bisect_right
from collections.abc import Iterable
from heapq import merge
from typing import Final

from throughway.core import answers, deciding, ranking
from throughway.core.bindings import Binding, PeerState
from throughway.core.commands import Command, Trace, Untrace
from throughway.core.events import FlowTrace
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol
from throughway.core.limits import Limits
from throughway.core.verdicts import Basis

TIMING_MAX: Final = 9.2
"""What the beginnings count at the most: a third of what makes certain, -ln of 10^-4."""

HISTORY: Final = 1024
"""Times of one flow that are remembered, 16 times what a trace holds."""

_AUDITED: Final = 40
"""Packets that have to be compared before an audit may end."""

_FEWEST: Final = 10
"""Packets of an SPI below which nothing is compared."""

_MORE: Final = 6
"""Packets that have to come before they are compared again; later it is a sixth of all."""

_SILENT: Final = 0.3
_NO_SIGN: Final = 0.05
"""What speaks against a candidate of many that had copies for two seconds and sent nothing, or sent without a sign."""


class Tracing:
    """Which flows' times are noted, for all peers together. Counts them against `Limits.traces_max`."""

    def __init__(self, limits: Limits) -> None:
        self._limits: Final = limits
        self.count = 0

    def begin(self, state: PeerState, keys: Iterable[FlowKey]) -> list[Command]:
        """Note the times of some flows more, as far as there is room."""
        commands: list[Command] = []
        for key in keys:
            if key not in state.traced and self.count < self._limits.traces_max:
                state.traced.add(key)
                self.count += 1
                commands.append(Trace(key))
        return commands

    def end(self, state: PeerState, keys: Iterable[FlowKey], *, is_removed: bool = False) -> list[Command]:
        """Note the times of some flows no more; those of flows that are removed end by themselves."""
        commands: list[Command] = []
        for key in keys:
            if key in state.traced:
                state.traced.discard(key)
                state.times.pop(key, None)
                self.count -= 1
                if not is_removed:
                    commands.append(Untrace(key))
        return commands

    def adjust(self, state: PeerState) -> list[Command]:
        """Note what is wanted now, and nothing else."""
        state.watched = {host for binding in state.open.values() for host in _compared(binding, self._limits)}
        wanted = {deciding.key_of(state.path, spi) for spi in state.open}
        wanted.update(key for host in state.watched for key in _outward_keys(state, host))
        return self.end(state, list(state.traced - wanted)) + self.begin(state, wanted)

    def begin_for(self, state: PeerState, binding: Binding) -> list[Command]:
        """Note the times of the flows that tell who owns one more contested SPI."""
        keys = [deciding.key_of(state.path, binding.spi)]
        for host in _compared(binding, self._limits):
            if host not in state.watched:
                state.watched.add(host)
                keys += _outward_keys(state, host)
        return self.begin(state, keys)


def _compared(binding: Binding, limits: Limits) -> list[Host]:
    """List the candidates that get copies; where there are more that may be likely, the next likely ones too."""
    more = binding.shares if len(binding.offered) >= limits.fan_out_max else ()
    # Those that were struck off a long list since the last reading are still in both.
    return [host for host in dict.fromkeys((*binding.offered, *more)) if host in binding.candidates]


def _outward_keys(state: PeerState, host: Host) -> list[FlowKey]:
    known = state.hosts.get(host)
    spis = known.outgoing if known else ()
    return [FlowKey.to_peer(IpProtocol.ESP, host, state.path.peer, spi) for spi in spis]


def note(state: PeerState, traces: Iterable[FlowTrace], limits: Limits) -> None:
    """Take the times of packets that were read."""
    for trace in traces:
        if trace.key not in state.traced:
            continue
        times = state.times.setdefault(trace.key, [])
        fresh = answers.starts(trace.times, limits.trace_gap_s)
        times += fresh[bisect_right(fresh, times[-1]) if times else 0 :]
        del times[:-HISTORY]


def resolve(state: PeerState, now: float, limits: Limits) -> list[Command]:
    """Compare the packets of contested SPIs with those of their candidates, and decide what can be."""
    left = limits.compared_per_read_max
    outward: dict[Host, list[float]] = {}
    compared: list[Binding] = []
    for binding in list(state.open.values()):
        inward = state.times.get(deciding.key_of(state.path, binding.spi), [])
        fresh = len(inward) - bisect_right(inward, binding.compared_until)
        if len(inward) < _FEWEST or fresh < max(_MORE, len(inward) // _MORE):
            continue
        hosts = _compared(binding, limits)
        if left < len(hosts):
            break
        left -= len(hosts)
        binding.compared_until = inward[-1]
        binding.audited_packets += fresh
        for host in hosts:
            if host not in outward:
                outward[host] = list(merge(*(state.times.get(key, ()) for key in _outward_keys(state, host))))
            _compare(binding, host, inward, outward[host], state.round_trip_s)
        compared.append(binding)
        # What was looked at goes behind the rest, so that everything has its turn.
        state.open[binding.spi] = state.open.pop(binding.spi)
    commands: list[Command] = []
    for binding in compared:
        if len(binding.candidates) > 1:
            commands += _decide(state, binding, outward, now, limits)
    for binding in list(state.open.values()):
        if len(binding.candidates) > limits.fan_out_max:
            commands += deciding.offer(state, binding, now, limits)
    return commands


def _compare(binding: Binding, host: Host, inward: list[float], outward: list[float], round_trip_s: float) -> None:
    binding.answers[host], binding.suspected[host] = answers.surprise(inward, outward, round_trip_s)
    binding.echoes[host] = min(answers.ECHO_MAX, answers.echo(inward, outward))
    ranking.weigh(binding, host)


def _decide(
    state: PeerState, binding: Binding, outward: dict[Host, list[float]], now: float, limits: Limits
) -> list[Command]:
    """Give the SPI to the candidate that leads all others by enough, if there is one."""
    if binding.is_shared or (binding.auditor is not None and binding.audited_packets < _AUDITED):
        return []
    told = {host: binding.answers.get(host, 0.0) + binding.echoes.get(host, 0.0) for host in binding.candidates}
    best = max(told, key=lambda host: told[host])
    others = [host for host in told if host != best]
    lead = told[best] - max(told[host] for host in others)
    earlier = binding.candidates[best] - max(binding.candidates[host] for host in others)
    if lead + max(-TIMING_MAX, min(TIMING_MAX, earlier)) < answers.CERTAIN:
        return _end_audit(state, binding, best, now, limits)
    # Who alone had it before an audit has it beside the auditor: two hosts may have chosen the same SPI.
    is_taken = binding.auditor == best and len(others) == 1
    if is_taken or any(binding.suspected.get(host, 0.0) for host in others):
        return _share(binding)
    if _answers_another(state, binding, best, outward.get(best, [])):
        return []
    others.sort(key=lambda host: (told[host], binding.candidates[host]))
    binding.rivals = {host: binding.candidates[host] for host in others[-limits.fan_out_max :]}
    commands = deciding.settle(state, binding, {best: binding.candidates[best]}, now, limits, Basis.ANSWERS)
    return commands + deciding.reconsider(state, now, limits, (best,))


def _answers_another(state: PeerState, binding: Binding, host: Host, outward: list[float]) -> bool:
    """Whether what the host seems to answer may as well be what comes with another SPI at the same moments."""
    for other in state.open.values():
        told = other.answers.get(host, 0.0) + other.echoes.get(host, 0.0)
        if other is binding or told < answers.SUSPECT:
            continue
        inward = state.times.get(deciding.key_of(state.path, binding.spi), [])
        rest = answers.without(inward, state.times.get(deciding.key_of(state.path, other.spi), []))
        if answers.surprise(rest, outward, state.round_trip_s)[0] < answers.CERTAIN:
            return True
    return False


def _share(binding: Binding) -> list[Command]:
    binding.is_shared = binding.auditor is not None
    return []


def _end_audit(state: PeerState, binding: Binding, best: Host, now: float, limits: Limits) -> list[Command]:
    """Go back to the verdict before an audit, where its host still leads and nothing speaks for the auditor."""
    auditor = binding.auditor
    if auditor is None or auditor == best:
        return []
    if binding.suspected.get(auditor) or binding.echoes.get(auditor, 0.0) >= answers.SUSPECT:
        return _share(binding)
    binding.auditor = None
    left = {host: fit for host, fit in binding.candidates.items() if host != auditor}
    return deciding.settle(state, binding, left, now, limits, Basis.ANSWERS)


def pass_over(state: PeerState, heard: frozenset[Host], now: float, limits: Limits) -> list[Command]:
    """Let candidates that had copies and gave no sign make room, so that each is offered in the end."""
    commands: list[Command] = []
    for binding in [one for one in state.open.values() if len(one.candidates) > limits.fan_out_max]:
        for host in binding.offered:
            if host in binding.candidates and not binding.answers.get(host) and not binding.echoes.get(host):
                against = _NO_SIGN if host in heard else _SILENT
                binding.passed_over[host] = binding.passed_over.get(host, 0.0) + against
                ranking.weigh(binding, host)
        commands += deciding.offer(state, binding, now, limits)
    return commands
