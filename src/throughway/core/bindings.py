"""What the tracker believes of the hosts of one peer, and of the SPIs that come from it.

Credits. Each end of an ESP tunnel chooses the SPI of what it wants to receive and says so inside
encrypted IKE (RFC 4301 section 4.1), so nothing in a packet ties the two SPIs of a tunnel together.
But IKE headers are clear: every exchange that may have agreed on a child SA *credits* its host with
one SPI in each direction. A new SPI that a host sends uses up one such credit; where there is none
left, the security association is older than our watch, and is a credit for one inbound SPI itself.
Counted so, the credits of a host are never fewer than the inbound SPIs that it owns.
"""

from dataclasses import dataclass, field
from typing import Final, TypeVar

from throughway.core.events import IkeExchange
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Path, Spi
from throughway.core.verdicts import Basis, Certain, Contested, Unknown, Verdict

_K = TypeVar("_K")
_V = TypeVar("_V")

NEVER: Final = float("-inf")

REKEYED_S: Final = 10.0
"""A credit of which nothing was seen for so long after its exchange may be that of an IKE SA's rekey."""

ESTABLISHED: Final = 2
"""Readings of the counters in which an SPI has to have moved to be in use for certain: its question moves it once."""

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
class Binding:
    """The belief about one inbound SPI, with its evidence.

    `candidates` are all hosts that may own it, each with how well its beginning fits theirs (`timing`). `offered`
    are those that get what comes, best last. `is_credited` says that the candidates were chosen by their credits: only
    then may credits rule them out again. `is_paid` says that one of its owner's was used up. `disowned_by` said that
    it is not theirs.
    """

    spi: Spi
    first_at: float
    last_packet_at: float
    is_credited: bool
    candidates: dict[Host, float]
    offered: tuple[Host, ...] = ()
    basis: Basis | None = None
    """Why the one candidate is the owner; None while there are more."""
    is_paid: bool = False
    claimants: frozenset[Host] = frozenset()
    """Candidates since an earlier run, each with a credit for it (`deciding.carry_over`)."""
    disowned_by: frozenset[Host] = frozenset()
    is_late: bool = False
    """Its first packet was lost or overtaken, so when it came says little of who owns it."""
    readings: int = 0
    """How many readings of the counters found packets of it that had come since the one before."""
    judged_count: int = 0
    """That of the peer when this began: what was not counted by then shows in the readings after it."""
    weights: dict[Host, float] = field(default_factory=dict)
    """What speaks for each candidate, all in all: ln of how likely it is, but for a constant."""
    shares: dict[Host, float] = field(default_factory=dict)
    """How likely each of the best candidates is to own it, where they are too many to get copies."""
    answers: dict[Host, float] = field(default_factory=dict)
    """How surely each candidate answers its packets: -ln of how likely it would look so by chance."""
    suspected: dict[Host, float] = field(default_factory=dict)
    """The same, where something else may explain it: it keeps others from being believed."""
    echoes: dict[Host, float] = field(default_factory=dict)
    """How surely its packets answer those of a candidate, in the same measure."""
    passed_over: dict[Host, float] = field(default_factory=dict)
    """What speaks against candidates that had copies for a while and gave no sign, in the same measure."""
    rivals: dict[Host, float] = field(default_factory=dict)
    """Candidates that answers ruled out: they come back if the verdict is shaken."""
    compared_until: float = NEVER
    """Up to when its packets were compared with those of its candidates."""
    auditor: Host | None = None
    """A host without an SPI of its own that was made a candidate to see whether this one is."""
    audited_packets: int = 0
    """How many packets were compared since then."""
    audits: int = 0
    """How often it was offered to such a host."""
    is_shaken: bool = False
    """The verdict was doubted once already."""
    is_shared: bool = False
    """An auditor answered too: two hosts have the SPI, and answers shall not decide between them."""

    def __post_init__(self) -> None:
        """Begin with how well the candidates' beginnings fit."""
        self.weights = dict(self.candidates)

    @property
    def is_router_sa(self) -> bool:
        """Whether the router's kernel says that it is the router's, which nothing shakes and no silence ends."""
        return self.basis is Basis.ROUTER_SA

    @property
    def is_established(self) -> bool:
        """Whether it goes on carrying packets, and not just those that asked for it."""
        return self.readings >= ESTABLISHED

    @property
    def is_negotiated_answer(self) -> bool:
        """Whether answers decided about what an exchange before our eyes announced: no newcomer can own that."""
        return self.basis is Basis.ANSWERS and self.is_credited

    @property
    def verdict(self) -> Verdict:
        """What follows from the candidates."""
        if len(self.candidates) > 1:
            offered = set(self.offered)
            return Contested((*(host for host in self.candidates if host not in offered), *self.offered))
        for host in self.candidates:
            return Certain(host, self.basis or Basis.ONLY_HOST)
        return Unknown()


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
    received_at: float = NEVER
    """When something came from the peer of which it had a copy."""
    rekeyed_at: float = NEVER
    """When an IKE SA was met that began without IKE_SA_INIT, and whose credit is still to be taken back."""
    ending: Ending | None = None
    is_replaced: bool = False
    """An IKE SA was replaced and its credit taken back, and the new one is still to be met."""
    audits: int = 0
    audited_at: float = NEVER
    """How often, and when last, it was given copies to see whether a tunnel of others is its own."""
    questions: dict[tuple[int, object, int], float | None] = field(default_factory=dict)
    """The latest exchanges, and when the host asked: NEVER once that times no answer; None where the peer asked."""
    dormant: dict[Spi, None] = field(default_factory=dict)
    """Its SPIs to the inside that fell idle, the oldest first. Their credits stay used up."""
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
        peer that sent it uses the SA at once (RFC 7296 section 2.1).
        """
        if from_host:
            self.said_at = now
        else:
            self.agreed_at = now
        known = self.exchanges.get(key)
        if known is not None:
            known.is_answered = known.is_answered or known.began_inside != from_host
            return
        remember(self.exchanges, key, Exchange(now, began_inside=from_host), EXCHANGES_REMEMBERED)
        self.credits_in += 1
        self.credits_out += 1

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

    def has_ike_sa(self, ike_sa: int) -> bool:
        """Whether an IKE SA is known."""
        return ike_sa in self.native_ike_sas or ike_sa in self.floated_ike_sas

    def see_ike_sa(self, ike_sa: int, now: float, *, is_start: bool, floated: bool) -> None:
        """Note an IKE SA, and that it floated to UDP 4500: from then on its ESP is inside UDP."""
        if not is_start and not self.has_ike_sa(ike_sa):
            self.rekeyed_at = NEVER if self.is_replaced or now < self.unseen_until else now
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
        direction was its own.
        """
        if self.rekeyed_at == NEVER or now - max(self.agreed_at, self.said_at) < REKEYED_S or now < self.unseen_until:
            return
        is_seen = any(
            kind is IkeExchange.CHILD and exchange.is_answered and exchange.began_at <= self.rekeyed_at
            for (_, kind, _), exchange in self.exchanges.items()
        )
        self.rekeyed_at = NEVER
        if is_seen and self.credits_in > self.owned and self.credits_out > 0:
            self.credits_in -= 1
            self.credits_out -= 1

    def see_outgoing(self, spi: Spi, now: float, *, is_new: bool) -> bool:
        """Note an SPI towards the peer. Return whether no exchange explains it: it is older than our watch."""
        self.outgoing[spi] = OutgoingSa(first_at=now, last_packet_at=now)
        if is_new:
            self.began_at = now
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


def remember(table: dict[_K, _V], key: _K, value: _V, most: int) -> None:
    """Note something, and forget the oldest where that is more than so many."""
    table[key] = value
    if len(table) > most:
        del table[next(iter(table))]


@dataclass(slots=True)
class PeerState:
    """One peer at one of our addresses: the hosts that spoke with it from there, and the SPIs that it sends there."""

    path: Path
    hosts: dict[Host, HostAtPeer] = field(default_factory=dict)
    bindings: dict[Spi, Binding] = field(default_factory=dict)
    open: dict[Spi, Binding] = field(default_factory=dict)
    """Those with more than one candidate."""
    uncredited: dict[Spi, Binding] = field(default_factory=dict)
    """Those that no credit announced, oldest first."""
    creditors: dict[Host, HostAtPeer] = field(default_factory=dict)
    """All hosts that have a credit left, and perhaps some that have none any more."""
    claimed: dict[Host, float] = field(default_factory=dict)
    """Of how many open SPIs a host is the owner, as far as `Binding.shares` say."""
    dormant: dict[Spi, Binding] = field(default_factory=dict)
    """Decided ones without a mapping, since nothing came for long."""
    by_answers: set[Spi] = field(default_factory=set)
    """Those that answers decided, or other verdicts by answers: what follows from these is no firmer."""
    traced: set[FlowKey] = field(default_factory=set)
    """Flows whose packets' times are noted."""
    watched: set[Host] = field(default_factory=set)
    """Hosts whose own flows are among them, as they may own an open SPI."""
    times: dict[FlowKey, list[float]] = field(default_factory=dict)
    """These times, as they were read."""
    heard: set[Host] = field(default_factory=set)
    """Hosts that sent since the candidates were last judged by that."""
    judged_at: float = NEVER
    judged_count: int = 0
    """How many readings of the counters were judged."""
    round_trip_s: float = 1.0
    """The shortest time in which the peer answered an IKE message."""
    _contested_count: int = 0

    @property
    def contested_count(self) -> int:
        """How many of the open ones credits may decide."""
        return self._contested_count

    @property
    def contested(self) -> dict[Spi, Binding]:
        """Those of the open ones that credits may decide."""
        return {spi: binding for spi, binding in self.open.items() if binding.is_credited}

    def related(self, now: float, idle_s: float) -> list[HostAtPeer]:
        """All hosts to which ESP of this peer may belong."""
        return [state for state in self.hosts.values() if state.may_receive_esp and now - state.last_seen_at <= idle_s]

    def with_credit(self, now: float, idle_s: float) -> list[HostAtPeer]:
        """Those of them that have a credit left."""
        for host in [host for host, state in self.creditors.items() if not state.credits_left(now)]:
            del self.creditors[host]
        return [
            state for state in self.creditors.values() if state.may_receive_esp and now - state.last_seen_at <= idle_s
        ]

    def keep(self, binding: Binding) -> None:
        """Note a binding, or what its candidates have become."""
        self.bindings[binding.spi] = binding
        if not binding.is_credited:
            self.uncredited[binding.spi] = binding
        self._close(binding.spi)
        if len(binding.candidates) > 1:
            self.open[binding.spi] = binding
            self._contested_count += binding.is_credited

    def drop(self, spi: Spi) -> None:
        """Forget a binding."""
        self._close(spi)
        del self.bindings[spi]
        self.uncredited.pop(spi, None)
        self.by_answers.discard(spi)

    def retire(self, spi: Spi, most: int) -> None:
        """Put an idle binding away with its one owner, whose oldest makes room where it has more than so many."""
        binding = self.bindings[spi]
        owner = self.hosts[binding.offered[0]]
        self.drop(spi)
        self.dormant[spi] = binding
        owner.dormant[spi] = None
        if len(owner.dormant) > most:
            oldest = next(iter(owner.dormant))
            del owner.dormant[oldest], self.dormant[oldest]

    def wake(self, spi: Spi) -> Binding | None:
        """Take back a binding that was put away."""
        binding = self.dormant.pop(spi, None)
        if binding is not None:
            del self.hosts[binding.offered[0]].dormant[spi]
            self.keep(binding)
            if binding.basis is Basis.ANSWERS:
                self.by_answers.add(spi)
        return binding

    def _close(self, spi: Spi) -> None:
        if binding := self.open.pop(spi, None):
            self._contested_count -= binding.is_credited
