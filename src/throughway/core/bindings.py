"""What the tracker believes of the hosts of one peer, and of the SPIs that come from it.

Credits. Each end of an ESP tunnel chooses the SPI of what it wants to receive and says so inside
encrypted IKE (RFC 4301 section 4.1), so nothing in a packet ties the two SPIs of a tunnel together.
But IKE headers are clear: every exchange that may have agreed on a child SA *credits* its host with
one SPI in each direction. A new SPI that a host sends uses up one such credit; where there is none
left, the security association is older than our watch, and is a credit for one inbound SPI itself.
Counted so, the credits of a host are never fewer than the inbound SPIs that it owns.
"""

from dataclasses import dataclass, field
from typing import TypeVar

from throughway.core.ids import Host, Path, Spi
from throughway.core.verdicts import Verdict

_K = TypeVar("_K")
_V = TypeVar("_V")

EXCHANGES_REMEMBERED = 512
"""Exchanges of one host and peer that are remembered against retransmissions. One that is forgotten
and comes again is credited twice, which only keeps a fan-out open for longer."""


@dataclass(slots=True)
class Exchange:
    """An IKE exchange that may agree on a child SA, from its first message on."""

    began_at: float
    is_answered: bool = False
    """Messages of it passed in both directions."""
    began_inside: bool = True


@dataclass(slots=True)
class OutgoingSa:
    """A security association towards the peer, by its SPI."""

    first_at: float
    last_packet_at: float


@dataclass(slots=True)
class Binding:
    """The belief about one inbound SPI, with its evidence.

    `candidates` are all hosts that may own it, best last; the verdict follows from them.
    `is_credited` says that the candidates were chosen by their credits: only then may credits rule
    them out again, and only then is one used up. `disowned_by` said that it is not theirs. `is_router_sa`:
    the router's kernel says that it is the router's, which nothing shakes and no silence ends.
    """

    spi: Spi
    first_at: float
    last_packet_at: float
    candidates: tuple[Host, ...]
    verdict: Verdict
    is_credited: bool
    disowned_by: frozenset[Host] = frozenset()
    is_router_sa: bool = False


@dataclass(slots=True)
class HostAtPeer:
    """What one host has exchanged with one peer.

    `unseen_until`: before this time the host may have agreed on security associations that we did
    not see (we met it in the middle of its conversation, or were away), so that its credits are no
    upper bound and cannot rule it out.
    """

    host: Host
    last_seen_at: float
    unseen_until: float
    credits_in: int = 0
    credits_out: int = 0
    credited_at: float = 0.0
    owned: int = 0
    is_adopted: bool = False
    """An earlier run gave it a copy of what the peer sends."""
    outgoing: dict[Spi, OutgoingSa] = field(default_factory=dict)
    exchanges: dict[tuple[int, object, int], Exchange] = field(default_factory=dict)
    native_ike_sas: dict[int, None] = field(default_factory=dict)
    floated_ike_sas: dict[int, None] = field(default_factory=dict)

    @property
    def may_receive_esp(self) -> bool:
        """Whether native ESP can be meant for it: not if all its IKE floated to UDP 4500 (RFC 3947 section 4)."""
        return bool(self.outgoing or self.native_ike_sas or self.credits_in or self.is_adopted)

    def credits_left(self, now: float) -> int:
        """How many more inbound SPIs it can own at the most. No bound while exchanges may have been missed."""
        if now < self.unseen_until:
            return 1 << 30
        return max(0, self.credits_in - self.owned)

    def credit_exchange(self, key: tuple[int, object, int], now: float, *, from_host: bool) -> None:
        """Credit one child SA for the exchange named by IKE SA, kind and exchange ID; once, however often it is seen.

        The credit is given at the first message already: the answer may be lost behind us, and the
        peer that sent it uses the SA at once (RFC 7296 section 2.1).
        """
        known = self.exchanges.get(key)
        if known is not None:
            known.is_answered = known.is_answered or known.began_inside != from_host
            return
        _remember(self.exchanges, key, Exchange(began_at=now, began_inside=from_host))
        self.credits_in += 1
        self.credits_out += 1
        self.credited_at = now

    def give_up_unanswered(self, before: float) -> None:
        """Take back the credits of exchanges that began before this time and were never answered.

        Not those that an SPI of the host has used since: then only the answer was not seen.
        """
        for exchange in self.exchanges.values():
            if exchange.is_answered or exchange.began_at >= before:
                continue
            exchange.is_answered = True
            if self.credits_in > self.owned and self.credits_out > 0:
                self.credits_in -= 1
                self.credits_out -= 1

    def see_ike_sa(self, ike_sa: int, *, floated: bool) -> None:
        """Note an IKE SA, and that it floated to UDP 4500: from then on its ESP is inside UDP."""
        if floated:
            self.native_ike_sas.pop(ike_sa, None)
            _remember(self.floated_ike_sas, ike_sa, None)
        elif ike_sa not in self.floated_ike_sas:
            _remember(self.native_ike_sas, ike_sa, None)

    def see_outgoing(self, spi: Spi, now: float, *, is_new: bool) -> bool:
        """Note an SPI towards the peer. Return whether no exchange explains it: it is older than our watch."""
        self.outgoing[spi] = OutgoingSa(first_at=now, last_packet_at=now)
        self.credited_at = now
        if is_new and self.credits_out > 0:
            self.credits_out -= 1
            return False
        self.credits_in += 1
        return True

    def own(self) -> None:
        """Count one more inbound SPI as certainly its own; beyond its credits, it proves one that was not seen."""
        self.owned += 1
        if self.owned > self.credits_in:
            self.credits_in = self.owned
            self.credits_out += 1

    def disown(self) -> None:
        """Take back one count of `own`."""
        self.owned = max(0, self.owned - 1)

    def use_up_credit(self) -> None:
        """Take back one credit for an inbound SPI, because that one will not come again."""
        self.credits_in = max(self.owned, self.credits_in - 1)


def _remember(table: dict[_K, _V], key: _K, value: _V) -> None:
    table[key] = value
    if len(table) > EXCHANGES_REMEMBERED:
        del table[next(iter(table))]


@dataclass(slots=True)
class PeerState:
    """One peer at one of our addresses: the hosts that spoke with it from there, and the SPIs that it sends there."""

    path: Path
    hosts: dict[Host, HostAtPeer] = field(default_factory=dict)
    bindings: dict[Spi, Binding] = field(default_factory=dict)
    contested: dict[Spi, Binding] = field(default_factory=dict)
    """Those with more than one candidate that credits may decide."""

    def related(self, now: float, idle_s: float) -> list[HostAtPeer]:
        """All hosts to which ESP of this peer may belong, the best by evidence last."""
        found = [state for state in self.hosts.values() if state.may_receive_esp and now - state.last_seen_at <= idle_s]
        found.sort(key=lambda state: (state.credited_at, state.host))
        return found

    def keep(self, binding: Binding) -> None:
        """Note a binding, or what its candidates have become."""
        self.bindings[binding.spi] = binding
        if binding.is_credited and len(binding.candidates) > 1:
            self.contested[binding.spi] = binding
        else:
            self.contested.pop(binding.spi, None)

    def drop(self, spi: Spi) -> None:
        """Forget a binding."""
        del self.bindings[spi]
        self.contested.pop(spi, None)
