"""What follows from contests that an earlier run left open. Its tables tell who had copies, and nothing of why."""

from collections import Counter
from math import log
from typing import Final

from throughway.core.bindings import PeerState
from throughway.core.limits import Limits
from throughway.core.ranking import ENOUGH, weigh

_LEFT_OUT: Final = -1.0
"""The fit of a candidate without copies, where as many as may had them: each has a turn in the end."""


def restore_candidates(state: PeerState, limits: Limits) -> None:
    """Make all hosts candidates of what was contested, where more may have been than had copies.

    Those that had copies are the likelier ones. Were they the only ones, an owner that was still to have its turn
    would get nothing until it agrees on another SPI.
    """
    if len(state.hosts) <= limits.fan_out_max:
        return
    hosts = [host.host for host in state.hosts.values() if host.may_receive_esp]
    for binding in state.open.values():
        fit = _LEFT_OUT if len(binding.offered) >= limits.fan_out_max else log(1.0 - ENOUGH)
        left_out = [host for host in hosts if host not in binding.candidates]
        for host in left_out[: limits.candidates_max - len(binding.candidates)]:
            binding.candidates[host] = fit
            weigh(binding, host)


def carry_over_credits(state: PeerState) -> None:
    """Credit hosts with what an earlier run had them contest: what they negotiate from now on is for other SPIs.

    A tunnel has an SPI both ways, and those towards the peer have given their credits.
    """
    for binding in state.open.values():
        binding.claimants = frozenset(binding.candidates)
    for host, claims in Counter(host for binding in state.open.values() for host in binding.claimants).items():
        known = state.hosts[host]
        missing = max(0, known.owned + claims - known.credits_in)
        known.carried_over += missing
        known.credits_in += missing
        known.credits_out += missing
