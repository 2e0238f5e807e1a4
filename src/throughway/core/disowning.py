"""What hosts say against themselves: that an SPI is not their own.

INVALID_SPI is a word of IKE (RFC 7296 section 1.5), and is believed. An ICMP error is the kernel's, which says the same
for a VPN program whose socket is full (record 0009). So it counts of a silent host only, and as little as it may:

- a candidate of several is ruled out by it until it sends again with a security association from before;
- who has the SPI alone keeps it, and those get copies beside it that may own it, too.
"""

from typing import Final

from throughway.core import deciding
from throughway.core.bindings import Binding, PeerState
from throughway.core.commands import Command
from throughway.core.credits import HostAtPeer, remember
from throughway.core.events import RefusalKind
from throughway.core.ids import Host, Spi
from throughway.core.limits import Limits

_DISOWNED_REMEMBERED: Final = 64
"""SPIs of one host and peer that ICMP errors are remembered of. Of one that is forgotten the host stays ruled out."""


def disown(
    state: PeerState, known: HostAtPeer, spi: Spi, how: RefusalKind, now: float, limits: Limits
) -> list[Command]:
    """Believe a host that an SPI is not its own, as long as somebody else may own it."""
    host = known.host
    is_sure = how is RefusalKind.INVALID_SPI
    if is_sure:
        known.disowned.pop(spi, None)
    elif now - known.last_seen_at < limits.silence_s:
        return []
    binding = state.bindings.get(spi)
    if binding is None or binding.is_router_sa or host not in binding.candidates:
        return []
    others = {other: fit for other, fit in binding.candidates.items() if other != host}
    if not is_sure and (not others or binding.doubted == host):
        return _let_in_others(state, binding, host, now, limits)
    others = others or dict.fromkeys(_related(state, binding, host, now, limits), 0.0)
    if not others:
        return []
    binding.disowned_by |= {host}
    if not is_sure:
        remember(known.disowned, spi, now, _DISOWNED_REMEMBERED)
    for other, fit in others.items():
        binding.weights.setdefault(other, fit)
    return deciding.settle(state, binding, others, now, limits) + deciding.reconsider(state, now, limits)


def _related(state: PeerState, binding: Binding, host: Host, now: float, limits: Limits) -> list[Host]:
    related = [other.host for other in state.related(now, limits.candidate_idle_s)]
    return [other for other in related if other != host and other not in binding.disowned_by]


def _let_in_others(state: PeerState, binding: Binding, host: Host, now: float, limits: Limits) -> list[Command]:
    """Give copies to all that may own an SPI beside the host that has it alone and doubts it; once."""
    if binding.doubted is not None:
        return []
    rivals = _related(state, binding, host, now, limits)
    if binding.is_credited:
        rivals = [other for other in rivals if state.hosts[other].credits_left(now)]
    if not rivals:
        return []
    binding.doubted = host
    least = min(0.0, binding.candidates[host])
    fits = {other: binding.rivals.get(other, least) for other in rivals[: limits.candidates_max - 1]}
    binding.weights |= fits
    commands = deciding.settle(state, binding, {**binding.candidates, **fits}, now, limits)
    return commands + deciding.reconsider(state, now, limits)


def hear_again(state: PeerState, heard: frozenset[Host], now: float, limits: Limits) -> list[Command]:
    """Give copies again to hosts that ICMP errors ruled out, and that send with what they had then."""
    commands: list[Command] = []
    for host in sorted(host for host in heard if host in state.hosts and state.hosts[host].disowned):
        known = state.hosts[host]
        for spi, said_at in list(known.disowned.items()):
            binding = state.bindings.get(spi)
            if binding is None or not any(sa.first_at < said_at < sa.last_packet_at for sa in known.outgoing.values()):
                continue
            del known.disowned[spi]
            binding.disowned_by -= {host}
            if not binding.is_router_sa and (known.credits_left(now) or not binding.is_credited):
                commands += deciding.admit(state, binding, host, now, limits)
    return commands + deciding.reconsider(state, now, limits) if commands else []
