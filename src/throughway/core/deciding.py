"""From evidence to verdicts, for the SPIs of one peer.

The rule that everything here keeps: a host is ruled out only by what proves that the SPI is not its
own. While more than one is left, each gets a copy (RFC 4303 section 3.4.2 lets a host discard what it does
not know), so nothing stalls while we are not sure.
"""

from throughway.core.bindings import Binding, HostAtPeer, PeerState
from throughway.core.commands import Command, FanOut, InstallMapping, Record, Reinject, RemoveMapping
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Spi
from throughway.core.inference import possible_owners
from throughway.core.limits import Limits
from throughway.core.verdicts import Basis, Certain, Contested, Unknown

MATCHED_MAX = 64
"""Contested SPIs of one peer up to which elimination looks at all of them together. Its cost grows with
the square of the hosts; above, each host is ruled out by its own credits alone."""


def key_of(path: Path, spi: Spi) -> FlowKey:
    """Name the flow of an SPI that comes from a peer."""
    return FlowKey.to_inside(IpProtocol.ESP, path, spi)


def claim(state: PeerState, spi: Spi, sequence: int, now: float, limits: Limits) -> list[Command]:
    """Decide about an SPI that came from the peer and that nobody owns yet; empty if nobody can.

    A security association counts its packets from 1 (RFC 4303 section 2.2). One that starts before
    our eyes was announced by an exchange, so the credits say who can own it. One that is older, or
    that no credit explains, may be anybody's who exchanges something with this peer.
    """
    related = state.related(now, limits.candidate_idle_s)
    if not related:
        return []
    is_new = sequence <= limits.new_sa_sequence_max
    may_be_credited = is_new and len(state.contested) < limits.contested_spis_per_peer_max
    credited = [host for host in related if may_be_credited and host.credits_left(now) > 0]
    commands: list[Command] = []
    if not credited:
        commands += _make_room(state, len(related), limits)
    chosen = tuple(host.host for host in credited or related)
    binding = Binding(
        spi=spi,
        first_at=now,
        last_packet_at=now,
        candidates=chosen,
        verdict=Unknown(),
        is_credited=bool(credited),
    )
    state.keep(binding)
    commands += reconsider(state, now, limits)
    if isinstance(binding.verdict, Unknown):
        commands += _settle(state, binding, chosen, now, limits)
    commands.append(Reinject(key_of(state.path, spi)))
    return commands


def give_to_router(state: PeerState, spi: Spi, now: float, limits: Limits) -> list[Command]:
    """Believe the kernel that it has the security association, whatever was believed before."""
    binding = state.bindings.get(spi)
    if binding is None:
        binding = Binding(spi=spi, first_at=now, last_packet_at=now, candidates=(), verdict=Unknown(), is_credited=True)
    elif not binding.is_credited:
        binding.verdict, binding.is_credited = Unknown(), True  # It used no credit up, so there is none to give back.
    binding.is_router_sa = True
    return _settle(state, binding, (ROUTER,), now, limits) + reconsider(state, now, limits)


def reconsider(state: PeerState, now: float, limits: Limits) -> list[Command]:
    """Rule out what the credits now rule out, for all contested SPIs of the peer together."""
    contested = dict(state.contested)
    left = {
        host: state.hosts[host].credits_left(now)
        for binding in contested.values()
        for host in binding.candidates
        if host in state.hosts
    }
    possible = {
        spi: tuple(host for host in binding.candidates if left.get(host, 0) > 0) for spi, binding in contested.items()
    }
    if len(contested) <= MATCHED_MAX and len(left) <= MATCHED_MAX:
        possible = possible_owners(possible, left) or {}
    commands: list[Command] = []
    for spi, hosts in possible.items():
        binding = contested[spi]
        if hosts and hosts != binding.candidates:
            commands += _settle(state, binding, hosts, now, limits)
    return commands


def _settle(state: PeerState, binding: Binding, hosts: tuple[Host, ...], now: float, limits: Limits) -> list[Command]:
    """Make the candidates of a binding what evidence left of them, and say what follows in the data plane."""
    key = key_of(state.path, binding.spi)
    _release(state, binding)
    binding.candidates = hosts
    state.keep(binding)
    if len(hosts) > 1:
        binding.verdict = Contested(hosts)
        return [
            FanOut(key, offered(binding, limits)),
            _record("mapping.contested", state, binding, hosts=[str(host) for host in hosts]),
        ]
    (host,) = hosts
    owner = state.hosts.get(host)
    if binding.is_router_sa:
        basis = Basis.ROUTER_SA
    elif binding.disowned_by:
        basis = Basis.DISOWNED
    elif binding.is_credited and owner is not None and now >= owner.unseen_until:
        basis = Basis.CREDIT
    else:
        basis = Basis.ONLY_HOST
    binding.verdict = Certain(host, basis)
    if owner is not None and binding.is_credited:
        owner.own()
    return [
        InstallMapping(key, host),
        _record("mapping.installed", state, binding, host=str(host), basis=basis.value),
    ]


def _release(state: PeerState, binding: Binding) -> None:
    if not (isinstance(binding.verdict, Certain) and binding.is_credited):
        return
    if owner := state.hosts.get(binding.verdict.host):
        owner.disown()


def offered(binding: Binding, limits: Limits) -> tuple[Host, ...]:
    """The candidates that get copies now, best last. All of them, unless there are more than may."""
    return binding.candidates[-limits.fan_out_max :]


def offer_next(state: PeerState, binding: Binding, answering: frozenset[Host], limits: Limits) -> list[Command]:
    """Let candidates that stayed silent make room for the next, so that every one is offered in the end."""
    if len(binding.candidates) <= limits.fan_out_max:
        return []
    heard = offered(binding, limits)
    silent = [host for host in heard if host not in answering]
    if not silent:
        return []
    waiting = [host for host in binding.candidates if host not in heard]
    binding.candidates = (*silent, *waiting, *(host for host in heard if host in answering))
    return [FanOut(key_of(state.path, binding.spi), offered(binding, limits))]


def widen(state: PeerState, newcomer: HostAtPeer, now: float, limits: Limits) -> list[Command]:
    """Make a host a candidate for what was decided without it.

    Its security association is older than our watch, so an SPI that came before we knew of the
    host may be its own: one that is contested, and one that went to the only host known then.
    """
    commands: list[Command] = []
    for binding in state.bindings.values():
        host = newcomer.host
        if host in binding.candidates or host in binding.disowned_by:
            continue
        if isinstance(binding.verdict, Certain) and binding.verdict.basis.is_firm:
            continue
        commands += _settle(state, binding, (*binding.candidates, host), now, limits)
    return commands


def disown(state: PeerState, host: Host, spi: Spi, now: float, limits: Limits) -> list[Command]:
    """Believe a host that an SPI is not its own, as long as somebody else may own it."""
    binding = state.bindings.get(spi)
    if binding is None or host not in binding.candidates:
        return []
    others = tuple(other for other in binding.candidates if other != host) or tuple(
        other.host
        for other in state.related(now, limits.candidate_idle_s)
        if other.host != host and other.host not in binding.disowned_by
    )
    if not others:
        return []
    binding.disowned_by |= {host}
    return _settle(state, binding, others, now, limits) + reconsider(state, now, limits)


def withdraw(state: PeerState, host: Host, now: float, limits: Limits) -> list[Command]:
    """Take a host out of all beliefs, because it is forgotten."""
    commands: list[Command] = []
    for binding in list(state.bindings.values()):
        if host not in binding.candidates:
            continue
        others = tuple(other for other in binding.candidates if other != host)
        if others:
            commands += _settle(state, binding, others, now, limits)
        else:
            commands += forget_binding(state, binding.spi)
    return commands


def forget_binding(state: PeerState, spi: Spi) -> list[Command]:
    """Drop the belief and the mapping. Its owner gets the credit back: the same SPI may come again."""
    _release(state, state.bindings[spi])
    state.drop(spi)
    return [RemoveMapping(key_of(state.path, spi))]


def _make_room(state: PeerState, related: int, limits: Limits) -> list[Command]:
    """Keep what came without evidence within its own bound, least recently used first."""
    uncredited = [binding for binding in state.bindings.values() if not binding.is_credited]
    if len(uncredited) < max(limits.uncredited_spis_per_peer_max, limits.uncredited_spis_per_host * related):
        return []
    oldest = min(uncredited, key=lambda binding: binding.last_packet_at)
    return forget_binding(state, oldest.spi)


def _record(name: str, state: PeerState, binding: Binding, **fields: object) -> Record:
    peer, spi = str(state.path.peer), f"{binding.spi:#010x}"
    return Record(name, {"protocol": "esp", "peer": peer, "spi_to_inside": spi, **fields})
