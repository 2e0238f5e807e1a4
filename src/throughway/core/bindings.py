"""What the tracker believes of the SPIs that come from one peer."""

from dataclasses import dataclass, field
from typing import Final

from throughway.core.credits import NEVER, HostAtPeer
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Path, Spi
from throughway.core.verdicts import Basis, Certain, Contested, Unknown, Verdict

ESTABLISHED: Final = 2
"""Readings of the counters in which an SPI has to have moved to be in use for certain: its question moves it once."""


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
    """Candidates since an earlier run, each with a credit for it (`adopting`)."""
    disowned_by: frozenset[Host] = frozenset()
    doubted: Host | None = None
    """Who had it alone until an ICMP error of its own let others in. No further one of it counts."""
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
