"""Which candidates get copies, where there are more of them than may.

After a power cut a hundred hosts negotiate with one peer in a second, and every SPI that comes may be any host's that
has no other yet. Credits say who may own it. This says who is likely to, by when things began: a peer uses a
security association as soon as it has it (RFC 7296 section 2.1), or answers the first packet of the host one
round trip later. Nobody is ruled out by it; the order alone changes.

The shares are found together: each SPI has one owner, and no host owns more SPIs than it has credits. Dividing
every SPI among its candidates by their fit, and every host's fit by what the other SPIs claim of it, again and again,
approaches the shares that fit both ways (Sinkhorn, 1967).
"""

from heapq import nlargest
from math import exp, log
from typing import Final

from throughway.core.bindings import Binding, HostAtPeer, PeerState
from throughway.core.ids import Host
from throughway.core.limits import Limits

_JITTER_S: Final = 0.002
"""How exactly a beginning is met, on a path with little jitter. The weight of a miss falls with its square only."""

_SOON_S: Final = 0.05
_SHARE_EXACT: Final = 0.6
"""How many beginnings are met exactly. The others are lost, late, or of hosts without anything to say."""

_DECADES: Final = 10.0
"""What is not exact may come any time from `_SOON_S` to an hour later, each factor of e being as likely."""

SHORTLIST: Final = 48
"""Candidates of one SPI among which shares are divided."""

_ENOUGH: Final = 0.9995
"""The share that those who get copies have together, if they are not too many."""

_FEWEST: Final = 3
_CLAIMED_MAX: Final = 0.98
"""A host is never quite explained by what it probably owns."""


def timing(host: HostAtPeer, at: float, round_trip_s: float) -> float:
    """Say how well an SPI that came first at this time fits the beginnings of a host: ln of a density in 1/s."""
    moments = (host.agreed_at, host.said_at + round_trip_s, host.began_at + round_trip_s)
    miss_s = min(abs(at - moment) for moment in moments)
    age_s = max(0.0, at - max(host.agreed_at, host.said_at, host.began_at))
    exact = 0.5 / _JITTER_S / (1.0 + miss_s / _JITTER_S) ** 2
    late = 1.0 / (_SOON_S + age_s) / _DECADES
    return log(_SHARE_EXACT * exact + (1.0 - _SHARE_EXACT) * late + 1e-12)


def choose(state: PeerState, binding: Binding, now: float, limits: Limits) -> tuple[Host, ...]:
    """Return the candidates that get copies from now on, best last."""
    candidates = binding.candidates
    if len(candidates) <= limits.fan_out_max:
        release(state, binding)
        return tuple(sorted(candidates, key=lambda host: (weight(binding, host), host)))
    divide(state, binding, now)
    best = sorted(binding.shares, key=lambda host: (binding.shares[host], host), reverse=True)[: limits.fan_out_max]
    chosen: list[Host] = []
    together = 0.0
    for host in best:
        if together >= _ENOUGH and len(chosen) >= _FEWEST:
            break
        chosen.append(host)
        together += binding.shares[host]
    return tuple(reversed(chosen))


def weight(binding: Binding, host: Host) -> float:
    """Sum up what speaks for a candidate, as a logarithm."""
    told = binding.answers.get(host, 0.0) + binding.echoes.get(host, 0.0)
    return binding.candidates[host] + told - binding.passed_over.get(host, 0.0)


def divide(state: PeerState, binding: Binding, now: float) -> None:
    """Divide an SPI anew among its best candidates, given what other SPIs claim of them."""
    release(state, binding)
    claimed = state.claimed
    shortlist = nlargest(SHORTLIST, binding.candidates, key=lambda host: weight(binding, host))
    top = weight(binding, shortlist[0])
    shares = {}
    for host in shortlist:
        known = state.hosts.get(host)
        left = known.credits_left(now) if known and binding.is_credited else 0
        explained = min(_CLAIMED_MAX, claimed.get(host, 0.0) / left) if left else 0.0
        shares[host] = exp(max(-60.0, weight(binding, host) - top)) * (1.0 - explained)
    total = sum(shares.values())
    binding.shares = {host: share / total for host, share in shares.items()}
    for host, share in binding.shares.items():
        claimed[host] = claimed.get(host, 0.0) + share


def release(state: PeerState, binding: Binding) -> None:
    """Take back what an SPI claims of its candidates."""
    claimed = state.claimed
    for host, share in binding.shares.items():
        left = claimed.get(host, 0.0) - share
        if left > 1e-6:
            claimed[host] = left
        else:
            claimed.pop(host, None)
    binding.shares = {}
