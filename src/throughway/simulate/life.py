"""What happens to tunnels: they start, rekey, check each other, vanish and come back.

It draws from a stream of each host's own and never looks at what a policy did, so that all policies see one world.
"""

from typing import Final

from throughway.core.events import IkeExchange, IkeMessageSeen
from throughway.core.ids import SPI_RESERVED_MAX, Peer, Spi
from throughway.simulate.chances import about, between
from throughway.simulate.flows import Sa
from throughway.simulate.negotiation import Negotiator, Timeline
from throughway.simulate.settings import Settings
from throughway.simulate.tunnel import Tunnel
from throughway.simulate.wire import Wire

_TRY_AGAIN_S: Final = 30.0
"""An end that got no answer begins anew after this time."""

_TURN_S: Final = (0.005, 0.100)
"""For how long a host has nothing to say after the peer has spoken first."""

_OLD_KEPT_S: Final = (0.1, 2.0)
"""For how long the old SA is kept when both ends use the new one."""

_LIVENESS_S: Final = (20.0, 60.0)
"""Between two liveness checks (RFC 3706, RFC 7296 section 1.4)."""

_SILENCE_S: Final = (20.0, 40.0)
"""After so long without a word from the host the peer asks whether it is there, five times."""

_AWAY_S: Final = (20.0, 180.0)


class Life:
    """Appoints what happens to every tunnel."""

    def __init__(self, settings: Settings, wire: Wire) -> None:
        self._settings: Final = settings
        self._wire: Final = wire
        self._agenda: Final = wire.agenda
        self._latest: Final[dict[Peer, Sa]] = {}
        """The SA whose SPI another host may choose as well."""

    def appoint(self, tunnel: Tunnel) -> None:
        """Let a tunnel start soon, and perhaps vanish some time."""
        settings, chance = self._settings, tunnel.chance
        self._agenda.at(between(chance, 0.0, settings.start_within_s), self._start, tunnel)
        vanishes, when = chance.random() < settings.vanishing, chance.random()
        if vanishes:
            earliest = settings.start_within_s + settings.quiet_s
            self._agenda.at(earliest + when * max(0.0, settings.end_s - earliest), self._vanish, tunnel)

    # Start

    def _start(self, tunnel: Tunnel) -> None:
        tunnel.talk.settle()
        tunnel.life += 1
        tunnel.is_gone, tunnel.host_sends = False, None
        tunnel.talk.look()
        ends = self._negotiate_ike(tunnel, self._agenda.now)
        first_child = None if ends is None else self._negotiate_first_child(tunnel, ends)
        if first_child is None or first_child.initiator_at is None:
            self._agenda.at(self._agenda.now + _TRY_AGAIN_S, self._start_again, tunnel, tunnel.life)
            return
        self._agree(tunnel, first_child.initiator_at, first_child.responder_at)
        now, chance = self._agenda.now, tunnel.chance
        self._agenda.at(
            now + about(chance, self._settings.ike_rekey_s, self._settings.rekey_jitter),
            self._rekey_ike,
            tunnel,
            tunnel.life,
        )
        if tunnel.has_liveness_checks:
            self._agenda.at(now + between(chance, *_LIVENESS_S), self._check, tunnel, tunnel.life)

    def _start_again(self, tunnel: Tunnel, life: int) -> None:
        if tunnel.life == life and not tunnel.is_gone:
            self._start(tunnel)

    def _negotiate_ike(self, tunnel: Tunnel, at: float) -> float | None:
        """Bring an IKE SA that the host begins: Main Mode or IKE_SA_INIT. Return when it is there."""
        tunnel.ike_sa = tunnel.chance.getrandbits(64) or 1
        tunnel.asked_by_host = tunnel.asked_by_peer = 0
        negotiator = Negotiator(tunnel.way, tunnel.chance)
        for _ in range(3 if tunnel.is_ikev1 else 1):
            timeline = negotiator.ask(at, from_host=True)
            self._show(tunnel, IkeExchange.INITIAL, 0, timeline)
            if timeline.initiator_at is None:
                return None
            at = timeline.initiator_at
        return at

    def _negotiate_first_child(self, tunnel: Tunnel, at: float) -> Timeline | None:
        """Bring the first child SA: Quick Mode, or IKE_AUTH with as many rounds as EAP takes."""
        if tunnel.is_ikev1:
            return self._negotiate_child(tunnel, at, by_host=True)
        negotiator = Negotiator(tunnel.way, tunnel.chance)
        timeline: Timeline | None = None
        for _ in range(tunnel.auth_rounds):
            timeline = negotiator.ask(at, from_host=True)
            self._show(tunnel, IkeExchange.FIRST_CHILD, tunnel.next_exchange_id(True), timeline)
            if timeline.initiator_at is None:
                return None
            at = timeline.initiator_at
        return timeline

    def _negotiate_child(self, tunnel: Tunnel, at: float, *, by_host: bool) -> Timeline:
        """Play a Quick Mode or a CREATE_CHILD_SA."""
        negotiator = Negotiator(tunnel.way, tunnel.chance)
        timeline = negotiator.ask(at, by_host)
        if tunnel.is_ikev1 and timeline.initiator_at is not None:
            negotiator.confirm(timeline, timeline.initiator_at, by_host)
        self._show(tunnel, IkeExchange.CHILD, tunnel.next_exchange_id(by_host), timeline)
        return timeline

    def _show(self, tunnel: Tunnel, exchange: IkeExchange, exchange_id: int, timeline: Timeline) -> None:
        """Let the router see the messages of an exchange."""
        for at, from_host in timeline.seen:
            message = IkeMessageSeen(
                host=tunnel.host,
                peer=tunnel.peer,
                initiator_spi=tunnel.ike_sa,
                exchange=exchange,
                exchange_id=exchange_id,
                from_host=from_host,
                floated=False,
            )
            self._agenda.at(at, self._wire.policy.saw_ike, message)

    # SAs

    def _agree(self, tunnel: Tunnel, host_at: float, peer_at: float) -> float:
        """Make an SA pair that the ends have from these times on. Return when both send with it.

        Without a former SA there is no packet before; with one, each end goes on with that until it changes over.
        """
        chance, way = tunnel.chance, tunnel.way
        kind = chance.random()
        policy = self._wire.policy
        sa = Sa(
            tunnel,
            policy.flow_to_inside(tunnel.peer, self._choose_spi(tunnel)),
            policy.flow_to_peer(tunnel.host, tunnel.peer, Spi(_random_spi(tunnel))),
            life=tunnel.life,
        )
        tunnel.sas.append(sa)
        self._wire.use(sa)
        if len(sa.inward.users) == 1:
            self._latest[tunnel.peer] = sa
        self._wire.score.sa_pairs += 1
        if kind < self._settings.peer_first:
            peer_begins = peer_at + way.path_s / 2
            host_begins = max(host_at, peer_begins + way.lan_s) + way.lan_s / 2 + between(chance, *_TURN_S)
            if kind < self._settings.quiet:
                host_begins += self._settings.quiet_s
        else:
            host_begins = host_at + way.lan_s / 2
            peer_begins = max(peer_at + way.path_s / 2, host_begins + way.path_s)
        self._agenda.at(host_begins, self._host_begins, sa)
        self._agenda.at(peer_begins, self._peer_begins, sa)
        lifetime_s = about(chance, self._settings.rekey_s, self._settings.rekey_jitter)
        self._agenda.at(self._agenda.now + lifetime_s, self._rekey, sa)
        return max(host_begins, peer_begins)

    def _choose_spi(self, tunnel: Tunnel) -> Spi:
        """Draw an SPI; for some, take that of another host's SA with the same peer."""
        spi, is_equal = _random_spi(tunnel), tunnel.chance.random() < self._settings.equal_spi
        latest = self._latest.get(tunnel.peer)
        if is_equal and latest is not None and latest.tunnel is not tunnel and not latest.is_over:
            del self._latest[tunnel.peer]
            return Spi(latest.inward.key.discriminator)
        return spi

    def _host_begins(self, sa: Sa) -> None:
        tunnel = sa.tunnel
        if tunnel.life != sa.life or tunnel.is_gone or sa.is_over:
            return
        tunnel.talk.settle()
        tunnel.host_sends = sa
        tunnel.talk.look()
        self._wire.host_sends(tunnel, True)

    def _peer_begins(self, sa: Sa) -> None:
        tunnel = sa.tunnel
        if tunnel.life != sa.life or sa.is_over:
            return
        tunnel.talk.settle()
        tunnel.peer_sends = sa
        for lost in [other for other in tunnel.sas if other.life != sa.life]:
            self._end(lost)
        tunnel.talk.look()
        self._wire.peer_sends(tunnel, False)

    def _end(self, sa: Sa) -> None:
        if sa.is_over:
            return
        tunnel = sa.tunnel
        tunnel.talk.settle()
        sa.is_over = True
        tunnel.sas.remove(sa)
        if tunnel.peer_sends is sa:
            tunnel.peer_sends = None
        if tunnel.host_sends is sa:
            tunnel.host_sends = None
        self._wire.end(sa)
        tunnel.talk.look()

    # Rekey

    def _rekey(self, old: Sa) -> None:
        """Replace an SA before it ends, begun by either end; the one that began deletes the old one in the end."""
        tunnel = old.tunnel
        if tunnel.life != old.life or tunnel.is_gone or old.is_over:
            return
        by_host = tunnel.chance.random() < 0.5
        timeline = self._negotiate_child(tunnel, self._agenda.now, by_host=by_host)
        if timeline.initiator_at is None:
            self._agenda.at(self._agenda.now + _TRY_AGAIN_S, self._rekey, old)
            return
        host_at, peer_at = timeline.initiator_at, timeline.responder_at
        if not by_host:
            host_at, peer_at = peer_at, host_at
        both_at = self._agree(tunnel, host_at, peer_at)
        kept_s = between(tunnel.chance, *_OLD_KEPT_S)
        self._agenda.at(both_at + tunnel.way.path_s + kept_s, self._delete, old, by_host)

    def _delete(self, old: Sa, by_host: bool) -> None:
        tunnel = old.tunnel
        if tunnel.life == old.life and not tunnel.is_gone:
            timeline = self._inform(tunnel, by_host, self._agenda.now)
            self._agenda.at(timeline.responder_at, self._end, old)

    def _rekey_ike(self, tunnel: Tunnel, life: int) -> None:
        """Replace the IKE SA. In IKEv2 that looks as if a child SA were agreed on (RFC 7296 section 1.3.2)."""
        if tunnel.life != life or tunnel.is_gone:
            return
        chance = tunnel.chance
        if tunnel.is_ikev1:
            self._negotiate_ike(tunnel, self._agenda.now)
        else:
            by_host = chance.random() < 0.5
            timeline = self._negotiate_child(tunnel, self._agenda.now, by_host=by_host)
            if timeline.initiator_at is None:
                self._agenda.at(self._agenda.now + _TRY_AGAIN_S, self._rekey_ike, tunnel, life)
                return
            self._inform(tunnel, by_host, timeline.initiator_at)
            tunnel.ike_sa = chance.getrandbits(64) or 1
            tunnel.asked_by_host = tunnel.asked_by_peer = -1
        after_s = about(chance, self._settings.ike_rekey_s, self._settings.rekey_jitter)
        self._agenda.at(self._agenda.now + after_s, self._rekey_ike, tunnel, life)

    def _inform(self, tunnel: Tunnel, by_host: bool, at: float) -> Timeline:
        timeline = Negotiator(tunnel.way, tunnel.chance).ask(at, by_host)
        self._show(tunnel, IkeExchange.INFORMATIONAL, tunnel.next_exchange_id(by_host), timeline)
        return timeline

    def _check(self, tunnel: Tunnel, life: int) -> None:
        """Ask whether the other end is there."""
        if tunnel.life != life or tunnel.is_gone:
            return
        self._inform(tunnel, tunnel.chance.random() < 0.5, self._agenda.now)
        self._agenda.at(self._agenda.now + between(tunnel.chance, *_LIVENESS_S), self._check, tunnel, life)

    # Vanishing

    def _vanish(self, tunnel: Tunnel) -> None:
        """Let a host fall silent; the peer sends on until it has asked in vain."""
        if tunnel.is_gone:
            return
        tunnel.talk.settle()
        tunnel.is_gone = True
        tunnel.talk.look()
        chance, now = tunnel.chance, self._agenda.now
        asked = Negotiator(tunnel.way, chance).tell(now + between(chance, *_SILENCE_S), from_host=False, times=5)
        self._show(tunnel, IkeExchange.INFORMATIONAL, tunnel.next_exchange_id(False), asked)
        self._agenda.at(asked.responder_at, self._give_up, tunnel, tunnel.life)
        comes_back, away_s = chance.random() < 0.5, between(chance, *_AWAY_S)
        if comes_back:
            self._agenda.at(now + away_s, self._start, tunnel)

    def _give_up(self, tunnel: Tunnel, life: int) -> None:
        if tunnel.life == life:
            for sa in list(tunnel.sas):
                self._end(sa)


def _random_spi(tunnel: Tunnel) -> Spi:
    return Spi(tunnel.chance.randint(SPI_RESERVED_MAX + 1, 0xFFFFFFFF))
