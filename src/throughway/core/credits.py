"""What one host has exchanged with one peer, and how many SPIs that may explain.

Each end of an ESP tunnel chooses the SPI of what it wants to receive and says so inside
encrypted IKE (RFC 4301 section 4.1), so nothing in a packet ties the two SPIs of a tunnel together.
But IKE headers are clear: every exchange that may have agreed on a child SA *credits* its host with
one SPI in each direction. A new SPI that a host sends uses up one such credit; where there is none
left, the security association is older than our watch, and is a credit for one inbound SPI itself.
Counted so, the credits of a host are never fewer than the inbound SPIs that it owns.
"""

from dataclasses import dataclass, field
from typing import Final, TypeVar

from throughway.core.events import IkeExchange
from throughway.core.ids import Host, Spi

_K = TypeVar("_K")
_V = TypeVar("_V")

NEVER: Final = float("-inf")

REKEYED_S: Final = 10.0
"""A credit of which nothing was seen for so long after its exchange may be that of an IKE SA's rekey."""

EXCHANGES_REMEMBERED = 128
"""Exchanges of one host and peer that are remembered against retransmissions. One that is forgotten
and comes again is credited twice, which only keeps a fan-out open for longer."""


@dataclass(slots=True)
class Exchange:
    """An IKE exchange that may agree on a child SA, from its first message on."""

    began_at: float
    last_at: float
    """When its latest message was seen."""
    is_answered: bool = False
    """Messages of it passed in both directions."""
    is_given_up: bool = False
    """Its credits were taken back, since nobody answered. They come back when it is heard again."""
    is_accounted: bool = False
    """An SPI that the host sends came of it, or it replaced an IKE SA and its credits were taken back."""
    began_inside: bool = True


@dataclass(slots=True)
class Ending:
    """What may be the delete of an IKE SA that an exchange before it replaced: the same end's next request."""

    ike_sa: int
    exchange_id: int
    exchange_at: float
    """When the exchange before it began."""
    began_inside: bool
    at: float
    is_answered: bool = False


@dataclass(slots=True)
class OutgoingSa:
    """A security association towards the peer, by its SPI."""

    first_at: float
    last_packet_at: float


@dataclass(slots=True)
class HostAtPeer:
    """What one host has exchanged with one peer.

    `unseen_until`: before this time the host may have agreed on security associations that we did not see (we met it
    in the middle of its conversation, or were away), so that its credits are no upper bound and cannot rule it out.
    """

    host: Host
    last_seen_at: float
    unseen_until: float
    credits_in: int = 0
    credits_out: int = 0
    owned: int = 0
    agreed_at: float = NEVER
    """When the peer said the last of an exchange that may have agreed on a child SA."""
    said_at: float = NEVER
    """When the host did."""
    began_at: float = NEVER
    """When the host sent its latest new SPI for the first time."""
    rekeyed_at: float = NEVER
    """When an IKE SA was met that began without IKE_SA_INIT, and whose credit is still to be taken back."""
    ending: Ending | None = None
    is_replaced: bool = False
    """An IKE SA was replaced and its credit taken back, and the new one is still to be met."""
    audits: int = 0
    audited_at: float = NEVER
    """How often, and when last, it was given copies to see whether a tunnel of others is its own."""
    audited: dict[Spi, None] = field(default_factory=dict)
    """Of which SPIs, since its latest new one began."""
    questions: dict[tuple[int, object, int], float | None] = field(default_factory=dict)
    """The latest exchanges, and when the host asked: NEVER once that times no answer; None where the peer asked."""
    dormant: dict[Spi, None] = field(default_factory=dict)
    """Its SPIs to the inside that fell idle, the oldest first. Their credits stay used up."""
    disowned: dict[Spi, float] = field(default_factory=dict)
    """SPIs to the inside of which ICMP errors said that they are not its own, and when."""
    is_adopted: bool = False
    """An earlier run gave it a copy of what the peer sends."""
    carried_over: int = 0
    """Credits for what an earlier run knew of, beyond those that its own packets tell of."""
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
        peer that sent it uses the SA at once (RFC 7296 section 2.1). An exchange that was given up and goes
        on is credited again: it may yet be answered.
        """
        if from_host:
            self.said_at = now
        else:
            self.agreed_at = now
        known = self.exchanges.get(key)
        if known is None:
            remember(self.exchanges, key, Exchange(now, now, began_inside=from_host), EXCHANGES_REMEMBERED)
        else:
            known.last_at = now
            known.is_answered = known.is_answered or known.began_inside != from_host
            if not known.is_given_up:
                return
            known.is_given_up = False
        self.credits_in += 1
        self.credits_out += 1

    def give_up_unanswered(self, before: float) -> None:
        """Take back the credits of exchanges of which nothing was seen since this time and that were never answered.

        Not those that an SPI of the host has used since: then only the answer was not seen.
        """
        for exchange in self.exchanges.values():
            if exchange.is_answered or exchange.is_given_up or exchange.last_at >= before:
                continue
            exchange.is_given_up = self.take_back_unused()
            exchange.is_answered = not exchange.is_given_up

    def has_ike_sa(self, ike_sa: int) -> bool:
        """Whether an IKE SA is known."""
        return ike_sa in self.native_ike_sas or ike_sa in self.floated_ike_sas

    def see_ike_sa(self, ike_sa: int, now: float, *, is_start: bool, is_rekey: bool, floated: bool) -> None:
        """Note an IKE SA, and that it floated to UDP 4500: from then on its ESP is inside UDP.

        `is_rekey`: if it is met now, it has just begun, and without IKE_SA_INIT. One that is not, and goes on, is
        older than our watch or was forgotten, and says nothing of the exchanges that we saw.
        """
        if not is_start and not self.has_ike_sa(ike_sa):
            if self.is_replaced or now < self.unseen_until:
                self.rekeyed_at = NEVER
            elif is_rekey:
                self.rekeyed_at = now
            self.is_replaced, self.ending = False, None
        self.take_back_rekey(now)
        if floated:
            self.native_ike_sas.pop(ike_sa, None)
            remember(self.floated_ike_sas, ike_sa, None, EXCHANGES_REMEMBERED)
        elif ike_sa not in self.floated_ike_sas:
            remember(self.native_ike_sas, ike_sa, None, EXCHANGES_REMEMBERED)

    def take_back_rekey(self, now: float) -> None:
        """Take back the credit of the exchange that brought a new IKE SA in place of a child SA, once that is clear.

        An IKE SA that begins without IKE_SA_INIT was agreed on in a CREATE_CHILD_SA (RFC 7296 section 1.3.2) before
        it is met. When that and what else was agreed on is over for a while, a credit that no SPI has used in either
        direction was its own, if there is such an exchange of which no SPI came.
        """
        if self.rekeyed_at == NEVER or now - max(self.agreed_at, self.said_at) < REKEYED_S or now < self.unseen_until:
            return
        rekeys = [
            exchange
            for (_, kind, _), exchange in self.exchanges.items()
            if kind is IkeExchange.CHILD and exchange.is_answered and exchange.began_at <= self.rekeyed_at
        ]
        self.rekeyed_at = NEVER
        rekey = next((exchange for exchange in reversed(rekeys) if not exchange.is_accounted), None)
        if rekey is not None:
            rekey.is_accounted = self.take_back_unused()

    def take_back_unused(self) -> bool:
        """Take back a credit that no SPI has used in either direction, if there is one."""
        if self.credits_in <= self.owned or self.credits_out <= 0:
            return False
        self.credits_in -= 1
        self.credits_out -= 1
        return True

    def see_outgoing(self, spi: Spi, now: float, *, is_new: bool) -> bool:
        """Note an SPI towards the peer. Return whether no exchange explains it: it is older than our watch."""
        self.outgoing[spi] = OutgoingSa(first_at=now, last_packet_at=now)
        if is_new:
            self.began_at = now
            self.audited.clear()
        if is_new and self.credits_out > 0:
            self.credits_out -= 1
            self._account()
            return False
        self.credits_in += 1
        return True

    def _account(self) -> None:
        """Note that an SPI came of an exchange: of the latest one, since an end uses what it has agreed on."""
        for exchange in reversed(self.exchanges.values()):
            if not (exchange.is_accounted or exchange.is_given_up):
                exchange.is_accounted = True
                return

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


def remember(table: dict[_K, _V], key: _K, value: _V, most: int) -> None:
    """Note something, and forget the oldest where that is more than so many."""
    table[key] = value
    if len(table) > most:
        del table[next(iter(table))]
