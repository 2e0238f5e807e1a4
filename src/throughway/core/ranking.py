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

from throughway.core.bindings import Binding, PeerState
from throughway.core.credits import NEVER, HostAtPeer, remember
from throughway.core.events import IkeExchange, IkeMessageSeen
from throughway.core.ids import Host
from throughway.core.limits import Limits

_JITTER_S: Final = 0.002
"""How exactly a beginning is met, on a path with little jitter. A miss weighs by its third power only."""

_SLACK: Final = 0.1
"""By which share of it a round trip may be shorter than an IKE exchange, which has work to do at its far end."""

_SOON_S: Final = 0.05
_SHARE_EXACT: Final = 0.99
_SHARE_EXACT_LATER: Final = 0.02
"""How many beginnings are met exactly. The others are lost, late, or of hosts without anything to say."""

_OVERTAKEN_S: Final = 0.025
_SHARE_OVERTAKEN: Final = 0.02
"""By how much a packet may be late, and how many are, because the network let others overtake it."""

_DECADES: Final = 10.0
"""What is not exact may come any time from `_SOON_S` to an hour later, each factor of e being as likely."""

SHORTLIST: Final = 32
LATE_SHORTLIST: Final = 64
"""Candidates of one SPI among which shares are divided; the same where its first packet was lost or overtaken. Then
no beginning fits, and likely are those whose own beginnings fit no other SPI."""

ENOUGH: Final = 0.9998
"""The share that those who get copies have together, if they are not too many."""

_AT_FIRST_S: Final = 0.7
"""For so long more may get copies, where fewer have less than enough: nobody answered anything yet."""

_UNPROVEN_S: Final = 2.5
_UNLIKELY: Final = 0.00002
"""For so long who has copies keeps them with this share: answers take some seconds, and beginnings alone mislead."""

_MOST: Final = 0.99
_SLIGHT: Final = 0.0002
"""Where one has most of it, a candidate with a share below this gets no copies: there may be a hundred such."""

_STAYS: Final = 0.004
"""With this share, a candidate that has copies keeps them beside the likelier ones: shares go up and down."""

_WORK_MAX_S: Final = 0.05
"""For how long a peer works on an IKE message. Within this time more than a round trip it uses what it agreed on."""

_SHARE_UNANSWERED: Final = 0.002
"""How many begin while the answer that brought them is on its way, or is lost behind us."""

_UNANSWERED: Final = log(0.5 / _WORK_MAX_S)
"""The fit of an SPI that came in this time after what the host has to repeat: its answer may as well have been lost as
the message."""

_REPEATED_S: Final = 0.25
"""A message that comes again sooner was copied on its way; who waits for an answer in vain waits longer."""

_BRING_CHILD: Final = (IkeExchange.FIRST_CHILD, IkeExchange.CHILD)
"""Exchanges in which a repeated message may mean that the peer's answer was lost, and what it agreed on is in use."""

_QUESTIONS_REMEMBERED: Final = 32
"""Exchanges of a host and a peer, of which an end may say something again. No usual IKEv2 window is larger, so that
one is forgotten only long after its end (RFC 7296 section 2.3)."""

_FEWEST: Final = 3
_TOGETHER_S: Final = 2.0
"""SPIs that began within this time may have been matched with one beginning of a host."""

_EXPLAINED: Final = -8.0
"""The fit of a host whose beginning is another SPI's: that of one which began hours ago."""

_RIVALLED: Final = 0.1
_RIVALS: Final = 6
"""How many SPIs are divided again for a new one, if they have so large a share of its likely owners."""

_CLAIMED_AT_FIRST: Final = 0.5
_CLAIMED_MAX: Final = 0.95
"""A host is never quite explained by what it probably owns."""


def timing(host: HostAtPeer, at: float, round_trip_s: float, *, is_first: bool) -> float:
    """Say how well an SPI that came first at this time fits the beginnings of a host: ln of a density in 1/s.

    `is_first` tells whether it came with sequence number 1. If not, the packet that may have met a beginning was lost.
    """
    share_exact = _SHARE_EXACT if is_first else _SHARE_EXACT_LATER
    misses_s = (
        abs(at - host.agreed_at) if host.agreed_at > host.said_at else _missed(at - host.said_at, round_trip_s),
        _missed(at - host.began_at, round_trip_s),
    )
    miss_s = min(misses_s)
    age_s = max(0.0, at - max(host.agreed_at, host.said_at, host.began_at))
    exact = 1.0 / _JITTER_S / (1.0 + miss_s / _JITTER_S) ** 3
    late = 1.0 / (_SOON_S + age_s) / _DECADES
    about = _SHARE_OVERTAKEN / _OVERTAKEN_S if miss_s < _OVERTAKEN_S else 0.0
    if host.said_at > host.agreed_at and 0.0 <= _work_s(at, host, round_trip_s) <= _WORK_MAX_S:
        about = max(about, _SHARE_UNANSWERED / _WORK_MAX_S)
    return log(share_exact * exact + about + (1.0 - share_exact) * late + 1e-12)


def _work_s(at: float, host: HostAtPeer, round_trip_s: float) -> float:
    """Return for how long the peer worked on what a host said, if it used what they agreed on at this time."""
    return at - host.said_at - (1.0 - _SLACK) * round_trip_s


def _missed(took_s: float, round_trip_s: float) -> float:
    """Return by how much an answer was too early or too late for a round trip, which an IKE exchange found too long."""
    slack_s = _SLACK * round_trip_s
    return max(0.0, abs(took_s - round_trip_s + slack_s) - slack_s)


def time_answer(state: PeerState, host: HostAtPeer, event: IkeMessageSeen, now: float) -> None:
    """Learn how far away the peer is, from how soon it answers what was said once; a copy says nothing new.

    What the peer asks and the host answers is timed nowhere: the peer's next copy of it would pass for an answer.
    """
    asked = (event.initiator_spi, event.exchange, event.exchange_id)
    if asked not in host.questions:
        remember(host.questions, asked, now if event.from_host else None, _QUESTIONS_REMEMBERED)
        return
    asked_at = host.questions[asked]
    if asked_at is None:
        return
    if event.from_host:
        if now - asked_at < _REPEATED_S:
            return
        if event.exchange in _BRING_CHILD and host.agreed_at < host.said_at <= now - _REPEATED_S:
            _time_lost_answer(state, host)
    elif asked_at != NEVER:
        state.round_trip_s = min(state.round_trip_s, now - asked_at)
    host.questions[asked] = NEVER


def _time_lost_answer(state: PeerState, host: HostAtPeer) -> None:
    """Learn from a repeated message that the SPIs which came when its answer was due may be the host's.

    The answer may have been lost, and the peer uses what the host has yet to hear of (RFC 7296 section 2.1).
    """
    for binding in state.open.values():
        work_s = _work_s(binding.first_at, host, state.round_trip_s)
        if 0.0 <= work_s <= _WORK_MAX_S and binding.candidates.get(host.host, _UNANSWERED) < _UNANSWERED:
            binding.candidates[host.host] = _UNANSWERED
            weigh(binding, host.host)


def choose(state: PeerState, binding: Binding, now: float, limits: Limits) -> tuple[Host, ...]:
    """Return the candidates that get copies from now on, best last."""
    candidates = binding.candidates
    if len(candidates) <= limits.fan_out_max:
        release(state, binding)
        return tuple(sorted(candidates, key=lambda host: (binding.weights[host], host)))
    divide(state, binding, now)
    shares = binding.shares
    best = sorted(shares, key=lambda host: (shares[host], host), reverse=True)
    chosen: list[Host] = []
    together = 0.0
    age_s = now - binding.first_at
    most = limits.fan_out_first_max if binding.is_credited and age_s < _AT_FIRST_S else limits.fan_out_max
    for host in best[: limits.fan_out_late_max if binding.is_late else most]:
        share = shares[host]
        if len(chosen) >= _FEWEST and (together >= ENOUGH or (shares[best[0]] >= _MOST and share < _SLIGHT)):
            break
        chosen.append(host)
        together += share
    if age_s < _UNPROVEN_S or len(chosen) >= limits.fan_out_max:
        stays = _UNLIKELY if age_s < _UNPROVEN_S else _STAYS
        chosen += [host for host in binding.offered if shares.get(host, 0.0) >= stays and host not in chosen]
    return tuple(reversed(chosen[: limits.fan_out_late_max]))


def weigh(binding: Binding, host: Host) -> None:
    """Sum up what speaks for a candidate, as a logarithm."""
    told = binding.answers.get(host, 0.0) + binding.echoes.get(host, 0.0)
    binding.weights[host] = binding.candidates[host] + told - binding.passed_over.get(host, 0.0)


def divide(state: PeerState, binding: Binding, now: float) -> None:
    """Divide an SPI anew among its best candidates, given what other SPIs claim of them."""
    # What others claim of a host they claimed without knowing of a new SPI, so at first it does not count for all.
    # Where the first packet was lost, no beginning fits better, and the hosts that others leave over are the likely
    # ones.
    claimed_max = _CLAIMED_MAX if binding.shares or binding.is_late else _CLAIMED_AT_FIRST
    release(state, binding)
    claimed = state.claimed
    weights = binding.weights
    few = list(binding.candidates) if binding.is_late else nlargest(SHORTLIST, binding.candidates, weights.__getitem__)
    top = max(weights[host] for host in few)
    shares = {}
    for host in few:
        known = state.hosts.get(host)
        left = known.credits_left(now) if known and binding.is_credited else 0
        explained = min(claimed_max, claimed.get(host, 0.0) / left) if left else 0.0
        shares[host] = exp(max(-60.0, weights[host] - top)) * (1.0 - explained)
    if len(shares) > LATE_SHORTLIST:
        shares = {host: shares[host] for host in nlargest(LATE_SHORTLIST, shares, shares.__getitem__)}
    total = sum(shares.values())
    binding.shares = {host: share / total for host, share in shares.items()}
    for host, share in binding.shares.items():
        claimed[host] = claimed.get(host, 0.0) + share


def rivals_of(state: PeerState, binding: Binding) -> list[Binding]:
    """List the SPIs that claim most of what a new one claims too: they are to be divided again."""
    wanted = [host for host, share in binding.shares.items() if share >= _RIVALLED and host in state.claimed]
    if not wanted:
        return []
    rivalry = [
        (sum(other.shares.get(host, 0.0) for host in wanted), number, other)
        for number, other in enumerate(state.open.values())
        if other.shares and other is not binding
    ]
    return [other for most, _, other in nlargest(_RIVALS, rivalry) if most >= _RIVALLED]


def explain(state: PeerState, binding: Binding, owner: Host) -> None:
    """Note that a beginning of this host was that of an SPI of its own, so it fits no other one."""
    for other in state.open.values():
        fit = other.candidates.get(owner)
        if fit is not None and fit > _EXPLAINED and abs(other.first_at - binding.first_at) < _TOGETHER_S:
            other.candidates[owner] = _EXPLAINED
            weigh(other, owner)


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
