"""Verdicts that may be wrong go back to fan-out, never straight to a rival: at no moment are two tunnels dead.

What is a sign, and what follows:

- *A host sends with a new SPI and nothing comes to it.* Its own SPI may be one that went to others: because two hosts
  chose the same, or by a wrong verdict. It is made a candidate of what others have, some at a time and each once, and
  stays one of those where something speaks for it.
- *A host whose SPI was given to it by answers begins anew with IKE, or falls silent while packets keep coming.* Its
  rivals of then get copies again, and it gets copies of what they have by answers.
"""

from collections.abc import Mapping
from typing import Final

from throughway.core import deciding
from throughway.core.bindings import Binding, PeerState
from throughway.core.commands import Command
from throughway.core.credits import NEVER, REKEYED_S, HostAtPeer, remember
from throughway.core.ids import Host
from throughway.core.limits import Limits
from throughway.core.verdicts import Basis

_IN_USE_S: Final = 10.0
"""An SPI with which something came within this time is in use."""

_ON_ITS_WAY_S: Final = 2.0
"""For so long after a host began with a new SPI, what comes with one older by `REKEYED_S` says nothing of it."""

_AUDIT_S: Final = 60.0
"""For so long at the most an audit that finds nothing keeps other hosts from theirs."""

_AUDITED_REMEMBERED: Final = 256
"""SPIs that a host was offered and is not offered again."""

_PATIENCE_MAX: Final = 10
"""Audits after which the time between two is doubled no more."""


def received(binding: Binding, at: float) -> None:
    """Note that something came with an SPI."""
    binding.last_packet_at = max(binding.last_packet_at, at)
    binding.readings += 1


def audit(state: PeerState, now: float, limits: Limits) -> list[Command]:
    """Look for a host that only sends, and offer it SPIs of others; one host of a peer at a time.

    An audit that found two hosts with one SPI is over. One of an SPI that is idle waits for packets to compare, which
    may be long: it keeps its auditor, whose own the SPI may be, and nobody else from an audit.
    """
    if any(_is_audited(state, binding, now) for binding in state.open.values()):
        return []
    suspects = {known.host: known for known in state.creditors.values() if _may_be_one_way(known, now, limits)}
    if suspects:
        receive = _receiving(state, suspects)
        for known in [known for host, known in suspects.items() if host not in receive][:1]:
            known.audits += 1
            known.audited_at = now
            return _offer_others(state, known, now, limits)
    return []


def _is_audited(state: PeerState, binding: Binding, now: float) -> bool:
    auditor = state.hosts.get(binding.auditor) if binding.auditor is not None else None
    if auditor is None or binding.is_shared:
        return False
    return now - binding.last_packet_at < _IN_USE_S and now - auditor.audited_at < _AUDIT_S


def _may_be_one_way(known: HostAtPeer, now: float, limits: Limits) -> bool:
    """Whether a host goes on to send with a new SPI, may own one to the inside, and was not audited of late."""
    if known.began_at == NEVER or not known.credits_left(now) or now < known.unseen_until:
        return False
    patience_s = limits.one_way_s * 2.0 ** min(known.audits, _PATIENCE_MAX)
    is_due = now - max(known.began_at, known.audited_at) >= patience_s
    is_sending = known.last_seen_at - known.began_at >= limits.one_way_s / 2 and now - known.last_seen_at < _IN_USE_S
    return is_due and is_sending


def _receiving(state: PeerState, suspects: Mapping[Host, HostAtPeer]) -> set[Host]:
    """Find those of some hosts that have had something since they began with their new SPIs.

    What another host has by now does not count, nor do the copies of an audit.
    """
    receiving: set[Host] = set()
    for binding in state.bindings.values():
        auditor = None if binding.is_shared else binding.auditor
        for host in binding.offered:
            if host in suspects and host != auditor and _is_after(binding, suspects[host]):
                receiving.add(host)
    for host, known in suspects.items():
        if any(_is_after(state.dormant[spi], known) for spi in known.dormant):
            receiving.add(host)
    return receiving


def _is_after(binding: Binding, known: HostAtPeer) -> bool:
    """Whether something came with an SPI that was not on its way already when a host began with its new one."""
    is_old = binding.first_at < known.began_at - REKEYED_S
    return binding.last_packet_at > known.began_at + (_ON_ITS_WAY_S if is_old else 0.0)


def _offer_others(state: PeerState, known: HostAtPeer, now: float, limits: Limits) -> list[Command]:
    """Make a host a candidate of a few SPIs in use that it was not offered yet: where it was ruled out first."""
    in_use = [
        binding
        for binding in state.bindings.values()
        if binding.basis not in (None, Basis.ROUTER_SA) and now - binding.last_packet_at < _IN_USE_S
    ]
    in_use = [one for one in in_use if known.host not in one.offered and one.spi not in known.audited]
    in_use.sort(key=lambda one: (known.host in one.rivals, one.spi in state.by_answers, -one.audits), reverse=True)
    commands: list[Command] = []
    for binding in in_use[: limits.fan_out_max]:
        admitted = deciding.admit(state, binding, known.host, now, limits)
        if admitted:
            binding.audits += 1
            binding.auditor, binding.audited_packets = known.host, 0
            remember(known.audited, binding.spi, None, _AUDITED_REMEMBERED)
        commands += admitted
    return commands


def doubt(state: PeerState, host: Host, now: float, limits: Limits) -> list[Command]:
    """Doubt what a host was given by answers."""
    commands: list[Command] = []
    for spi in list(state.by_answers):
        binding = state.bindings[spi]
        if binding.offered == (host,) and now - binding.last_packet_at < _IN_USE_S:
            commands += _shake(state, binding, now, limits)
    return commands


def doubt_silent(state: PeerState, now: float, limits: Limits) -> list[Command]:
    """Doubt what hosts were given by answers that have sent nothing for long, while packets keep coming."""
    commands: list[Command] = []
    for spi in list(state.by_answers):
        binding = state.bindings[spi]
        if _is_silent(state, binding.offered[0], now, limits.silence_s) and now - binding.last_packet_at < _IN_USE_S:
            commands += _shake(state, binding, now, limits)
    return commands


def _is_silent(state: PeerState, host: Host, now: float, silence_s: float) -> bool:
    known = state.hosts.get(host)
    return known is None or now - known.last_seen_at >= silence_s


def _shake(state: PeerState, binding: Binding, now: float, limits: Limits) -> list[Command]:
    """Open a contest again, once: with the rivals that may own the SPI, and those that are silent with theirs."""
    if binding.is_shaken:
        return []
    binding.is_shaken = True
    owner = binding.offered[0]
    theirs = [state.bindings[spi] for spi in state.by_answers if spi != binding.spi]
    exchanged = [
        (other, other.offered[0])
        for other in theirs
        if other.offered[0] in binding.rivals and _is_silent(state, other.offered[0], now, limits.silence_s)
    ]
    free = [host for host in binding.rivals if host in state.hosts and state.hosts[host].credits_left(now)]
    commands: list[Command] = []
    for other, _ in exchanged:
        commands += deciding.admit(state, other, owner, now, limits)
    rivals = [*free, *(rival for _, rival in exchanged)]
    for host in dict.fromkeys(rivals):
        commands += deciding.admit(state, binding, host, now, limits)
    return commands
