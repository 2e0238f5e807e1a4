"""From evidence to verdicts, for the SPIs of one peer.

The rule that everything here keeps: a host is ruled out only by what proves that the SPI is not its
own. While more than one is left, each gets a copy (RFC 4303 section 3.4.2 lets a host discard what it does
not know), so nothing stalls while we are not sure.
"""

from collections.abc import Collection, Iterable
from heapq import nlargest

from throughway.core import ranking
from throughway.core.bindings import ESTABLISHED, Binding, PeerState
from throughway.core.commands import Command, FanOut, InstallMapping, Record, Reinject, RemoveMapping, give
from throughway.core.credits import HostAtPeer
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Spi
from throughway.core.inference import possible_owners
from throughway.core.limits import Limits
from throughway.core.verdicts import Basis

MATCHED_MAX = 64
"""Contested SPIs of one peer up to which elimination looks at all of them together. Its cost grows with
the square of the hosts; above, each host is ruled out by its own credits alone."""


_CROWDED_S = 0.05
"""What begins so shortly after another tunnel of the peer may be one of a flood: some thousand SPIs a second."""

DORMANT_MAX = 16
"""Idle SPIs of one host and peer that are remembered. What is older has been replaced by so many since."""


def key_of(path: Path, spi: Spi) -> FlowKey:
    """Name the flow of an SPI that comes from a peer."""
    return FlowKey.to_inside(IpProtocol.ESP, path, spi)


def claim(state: PeerState, spi: Spi, sequence: int, now: float, limits: Limits) -> list[Command]:
    """Decide about an SPI that came from the peer and that nobody owns yet; empty if nobody can.

    A security association counts its packets from 1 (RFC 4303 section 2.2). One that starts before
    our eyes was announced by an exchange, so the credits say who can own it. One that is older, or
    that no credit explains, may be anybody's who exchanges something with this peer.
    """
    if (known := state.wake(spi)) is not None:
        known.last_packet_at = now
        return [InstallMapping(key_of(state.path, spi), known.offered[0]), Reinject(key_of(state.path, spi))]
    is_new = sequence <= limits.new_sa_sequence_max
    credited: list[HostAtPeer] = []
    if is_new and state.contested_count < limits.contested_spis_per_peer_max:
        credited = state.with_credit(now, limits.candidate_idle_s)
    related = credited or state.related(now, limits.candidate_idle_s)
    if not related:
        return []
    commands: list[Command] = []
    if not credited:
        commands += _make_room(state, len(related), limits)
    fits = {
        host.host: ranking.timing(host, now, state.round_trip_s, is_first=sequence == 1) if is_new else 0.0
        for host in sorted(related, key=lambda host: (max(host.agreed_at, host.said_at, host.began_at), host.host))
    }
    if len(fits) > limits.candidates_max:
        fits = {host: fits[host] for host in nlargest(limits.candidates_max, fits, key=lambda host: fits[host])}
    binding = Binding(
        spi,
        first_at=now,
        last_packet_at=now,
        is_credited=bool(credited),
        candidates=fits,
        judged_count=state.judged_count,
    )
    binding.is_late = bool(credited) and sequence != 1
    state.keep(binding)
    commands += settle(state, binding, fits, now, limits)
    commands += reconsider(state, now, limits, binding.offered if len(binding.candidates) == 1 else ())
    if len(binding.candidates) == 1 and binding.is_credited:
        commands += _make_room_of(state, binding, limits)
    commands.append(Reinject(key_of(state.path, spi)))
    for other in ranking.rivals_of(state, binding):
        commands += offer(state, other, now, limits)
    return commands


def give_to_router(state: PeerState, spi: Spi, now: float, limits: Limits) -> list[Command]:
    """Believe the kernel that it has the security association, whatever was believed before."""
    known = state.wake(spi) or state.bindings.get(spi)
    if known is not None:
        _release(state, known)
        _give_up_claims(state, known, ())
        ranking.release(state, known)
        state.drop(spi)
    first_at = known.first_at if known else now
    binding = Binding(spi, first_at=first_at, last_packet_at=now, is_credited=True, candidates={})
    commands = settle(state, binding, {ROUTER: 0.0}, now, limits, Basis.ROUTER_SA)
    return commands + reconsider(state, now, limits)


def reconsider(state: PeerState, now: float, limits: Limits, hosts: Iterable[Host] | None = None) -> list[Command]:
    """Rule out what the credits now rule out.

    A host without a credit owns none of the contested SPIs; with `hosts` only these are asked whether they have one.
    Where few are contested, all of them are looked at together.
    """
    commands: list[Command] = []
    asked = set(hosts) if hosts is not None else {host for one in state.open.values() for host in one.candidates}
    while True:
        spent = {host for host in asked if host in state.hosts and not state.hosts[host].credits_left(now)}
        asked = set()
        for binding in list(state.open.values()) if spent else ():
            if not binding.is_credited or spent.isdisjoint(binding.candidates):
                continue
            if len(binding.candidates) - len(spent) > limits.fan_out_max:
                commands += _strike(state, binding, spent, now, limits)
                continue
            left = {host: fit for host, fit in binding.candidates.items() if host not in spent}
            if left:
                commands += settle(state, binding, left, now, limits)
                asked.update(left if len(left) == 1 else ())
        if not asked:
            asked = _match(state, now, limits, commands)
        if not asked:
            return commands


def _strike(state: PeerState, binding: Binding, spent: set[Host], now: float, limits: Limits) -> list[Command]:
    """Strike hosts off a long list of candidates. While others have copies, who gets theirs waits for a reading."""
    for host in spent:
        binding.candidates.pop(host, None)
    _give_up_claims(state, binding, binding.candidates)
    offered = tuple(host for host in binding.offered if host not in spent)
    if not offered:
        return offer(state, binding, now, limits)
    if len(offered) == len(binding.offered):
        return []
    binding.offered = offered
    return [give(key_of(state.path, binding.spi), offered)]


def _match(state: PeerState, now: float, limits: Limits, commands: list[Command]) -> set[Host]:
    """Rule out what no assignment of all contested SPIs allows, if they are few. Return who owns one more by that."""
    if state.contested_count > MATCHED_MAX:
        return set()
    contested = state.contested
    left = {
        host: state.hosts[host].credits_left(now)
        for binding in contested.values()
        for host in binding.candidates
        if host in state.hosts
    }
    if len(left) > MATCHED_MAX:
        return set()
    owners: set[Host] = set()
    lists = {spi: tuple(host for host in one.candidates if host in left) for spi, one in contested.items()}
    for spi, hosts in (possible_owners(lists, left) or {}).items():
        binding = contested[spi]
        if hosts and len(hosts) < len(binding.candidates):
            commands += settle(state, binding, {host: binding.candidates[host] for host in hosts}, now, limits)
            owners.update(hosts if len(hosts) == 1 else ())
    return owners


def settle(
    state: PeerState,
    binding: Binding,
    candidates: dict[Host, float],
    now: float,
    limits: Limits,
    basis: Basis | None = None,
) -> list[Command]:
    """Make the candidates of a binding what evidence left of them, and say what follows in the data plane.

    `basis` is why one is left; without it, the credits are.
    """
    _release(state, binding)
    _give_up_claims(state, binding, candidates)
    is_news = binding.basis is not None or not binding.offered
    binding.candidates = candidates
    binding.basis = None
    state.keep(binding)
    if len(candidates) > 1:
        commands = offer(state, binding, now, limits)
        if is_news:
            hosts = [str(host) for host in binding.offered]
            commands.append(_record("mapping.contested", state, binding, hosts=hosts, candidates=len(candidates)))
        return commands
    (host,) = candidates
    owner = state.hosts.get(host)
    ranking.release(state, binding)
    binding.auditor = None
    binding.suspected = {}
    binding.answers, binding.echoes, binding.passed_over, binding.weights = {}, {}, {}, dict(candidates)
    binding.offered = (host,)
    binding.basis = basis or _basis(state, binding, owner, now)
    if binding.basis is Basis.ANSWERS:
        state.by_answers.add(binding.spi)
    if owner is not None and (binding.is_credited or basis is Basis.ANSWERS):
        owner.own()
        binding.is_paid = True
        ranking.explain(state, binding, host)
    return [
        InstallMapping(key_of(state.path, binding.spi), host),
        _record("mapping.installed", state, binding, host=str(host), basis=binding.basis.value),
    ]


def _basis(state: PeerState, binding: Binding, owner: HostAtPeer | None, now: float) -> Basis:
    """Say why one candidate is left, where no answers did it at once."""
    if binding.disowned_by:
        return Basis.DISOWNED
    if not binding.is_credited or owner is None or now < owner.unseen_until:
        return Basis.ONLY_HOST
    return Basis.ANSWERS if state.by_answers else Basis.CREDIT


def _release(state: PeerState, binding: Binding) -> None:
    state.by_answers.discard(binding.spi)
    if not binding.is_paid:
        return
    binding.is_paid = False
    for host in binding.offered:
        if owner := state.hosts.get(host):
            owner.disown()
            state.creditors[host] = owner


def _give_up_claims(state: PeerState, binding: Binding, left: Collection[Host]) -> None:
    """Take back what candidates had for the SPI since an earlier run, where they are none any more."""
    for host in binding.claimants.difference(left):
        known = state.hosts.get(host)
        if known is not None and known.carried_over:
            known.carried_over -= 1
            if known.credits_out:  # Else an SPI that the host sends has used it, which proves one of its own.
                known.credits_out -= 1
                known.use_up_credit()
    binding.claimants = binding.claimants.intersection(left) if len(left) > 1 else frozenset()


def offer(state: PeerState, binding: Binding, now: float, limits: Limits) -> list[Command]:
    """Give copies to the best candidates, if these are others than before."""
    chosen = ranking.choose(state, binding, now, limits)
    if set(chosen) == set(binding.offered) and len(binding.offered) > 1:
        return []
    binding.offered = chosen
    return [FanOut(key_of(state.path, binding.spi), chosen)]


def widen(state: PeerState, newcomer: HostAtPeer, now: float, limits: Limits) -> list[Command]:
    """Make a host a candidate for what was decided without it.

    Its security association is older than our watch, so an SPI that came before we knew of the
    host may be its own: one that is contested, and one that went to the only host known then.
    """
    commands: list[Command] = []
    for binding in state.bindings.values():
        is_firm = binding.basis is not None and (binding.basis.is_firm or binding.is_negotiated_answer)
        if not is_firm:
            commands += admit(state, binding, newcomer.host, now, limits)
    return commands


def admit(state: PeerState, binding: Binding, host: Host, now: float, limits: Limits) -> list[Command]:
    """Make a host a candidate of one binding, unless it said that the SPI is not its own, or there are too many."""
    if host in binding.candidates or host in binding.disowned_by or len(binding.candidates) >= limits.candidates_max:
        return []
    fit = binding.rivals.get(host, min(0.0, *binding.candidates.values()))
    binding.weights[host] = fit
    return settle(state, binding, {**binding.candidates, host: fit}, now, limits)


def withdraw(state: PeerState, host: Host, now: float, limits: Limits) -> list[Command]:
    """Take a host out of all beliefs, because it is forgotten."""
    commands: list[Command] = []
    for spi in state.hosts[host].dormant:
        del state.dormant[spi]
    state.hosts[host].dormant.clear()
    for binding in list(state.bindings.values()):
        binding.rivals.pop(host, None)
        if host not in binding.candidates:
            continue
        others = {other: fit for other, fit in binding.candidates.items() if other != host}
        if others:
            commands += settle(state, binding, others, now, limits)
        else:
            commands += forget_binding(state, binding.spi)
    return commands


def forget_binding(state: PeerState, spi: Spi) -> list[Command]:
    """Drop the belief and the mapping. Its owner gets the credit back: the same SPI may come again."""
    binding = state.bindings[spi]
    _release(state, binding)
    _give_up_claims(state, binding, ())
    ranking.release(state, binding)
    state.drop(spi)
    return [RemoveMapping(key_of(state.path, spi))]


def retire(state: PeerState, spi: Spi) -> list[Command]:
    """Remove the mapping of an idle SPI. Who owned it keeps it, and the credit that it used stays used up.

    Else every rekey would leave a credit behind, and soon each host would be a candidate for each new SPI.
    """
    binding = state.bindings[spi]
    may_come_back = binding.is_paid and binding.basis is not Basis.ONLY_HOST and binding.offered[0] in state.hosts
    if not may_come_back:
        return forget_binding(state, spi)
    state.retire(spi, DORMANT_MAX)
    return [RemoveMapping(key_of(state.path, spi))]


def _make_room(state: PeerState, related: int, limits: Limits) -> list[Command]:
    """Keep what came without evidence within its own bound."""
    uncredited = state.uncredited
    if len(uncredited) < max(limits.uncredited_spis_per_peer_max, limits.uncredited_spis_per_host * related):
        return []
    return forget_binding(state, _spare(state, list(uncredited.values())).spi)


def _make_room_of(state: PeerState, latest: Binding, limits: Limits) -> list[Command]:
    """Keep a host within its own bound of what its credits give it.

    A host may say as much IKE as it likes, and so have credits for all that somebody outside forges.
    """
    (host,) = latest.candidates
    if state.hosts[host].owned <= limits.spis_per_host_and_peer_max:
        return []
    own = [one for one in state.bindings.values() if one.is_paid and one.offered == (host,) and not one.is_router_sa]
    if len(own) <= limits.spis_per_host_and_peer_max:
        return []
    return forget_binding(state, _spare(state, [one for one in own if one is not latest]).spi)


def _spare(state: PeerState, bindings: list[Binding]) -> Binding:
    """Choose what makes room, in this order: what the counters show to be idle, the newest of what they say nothing of
    yet, the least recently used.

    An SPI of a flood has the packets of its question alone, which two readings tell from a tunnel in use. Until they
    are made the newest makes room that came in a crowd: so a flood pushes out itself or the one before it, and not the
    tunnels that began shortly before.
    """
    unproven = [binding for binding in bindings if not binding.is_established]
    if not unproven:
        return min(bindings, key=lambda binding: binding.last_packet_at)
    if state.judged_count - unproven[0].judged_count > ESTABLISHED:
        return unproven[0]
    pairs = zip(reversed(unproven[:-1]), reversed(unproven), strict=False)
    return next((one for before, one in pairs if one.first_at - before.first_at < _CROWDED_S), unproven[-1])


def _record(name: str, state: PeerState, binding: Binding, **fields: object) -> Record:
    peer, spi = str(state.path.peer), f"{binding.spi:#010x}"
    return Record(name, {"protocol": "esp", "peer": peer, "spi_to_inside": spi, **fields})
