"""What became of the packets, against the truth."""

from dataclasses import dataclass, field
from math import ceil

from throughway.simulate.flows import Sa
from throughway.simulate.settings import FIRST_S, Policy, Settings


@dataclass(slots=True)
class Inward:
    """Packets towards the inside, as they came to the router."""

    packets: int = 0
    to_owner: int = 0
    only_elsewhere: int = 0
    copies: int = 0

    def add(self, count: int, hosts: tuple[int, ...], owner: int) -> None:
        """Count packets that these hosts got."""
        if owner in hosts:
            self.to_owner += count
        elif hosts:
            self.only_elsewhere += count
        self.copies += count * len(hosts)


@dataclass(slots=True)
class Score:
    """Counts for one policy. `refused` are packets of either direction that the router dropped."""

    all: Inward = field(default_factory=Inward)
    first: Inward = field(default_factory=Inward)
    outward: int = 0
    refused: int = 0
    sa_pairs: int = 0
    decided: int = 0
    decided_right: int = 0
    contested_s: list[float] = field(default_factory=list)
    never_certain: int = 0

    def arrived(self, count: int, at: float) -> None:
        """Count packets that came from a peer."""
        self.all.packets += count
        if at < FIRST_S:
            self.first.packets += count

    def delivered(self, count: int, at: float, hosts: tuple[int, ...], owner: int) -> None:
        """Count packets that came from a peer and were passed to hosts."""
        self.all.add(count, hosts, owner)
        if at < FIRST_S:
            self.first.add(count, hosts, owner)

    def certain(self, sa: Sa, host: int, now: float) -> None:
        """Note that one host alone gets an SA."""
        if sa.contested_since is not None:
            sa.contested_s += now - sa.contested_since
            sa.contested_since = None
        if sa.first_host is None:
            sa.first_host = host
            self.decided += 1
            self.decided_right += host == sa.tunnel.number

    def contested(self, sa: Sa, now: float) -> None:
        """Note that several hosts get an SA."""
        if sa.contested_since is None:
            sa.contested_since = now

    def ended(self, sa: Sa, now: float) -> None:
        """Close the account of an SA."""
        if sa.contested_since is not None:
            sa.contested_s += now - sa.contested_since
            sa.contested_since = None
        if sa.is_asked:
            self.contested_s.append(sa.contested_s)
            self.never_certain += sa.first_host is None


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares of the packets towards the inside, and copies for each of them."""

    delivered_to_owner: float
    delivered_only_elsewhere: float
    copies_per_packet: float

    @classmethod
    def of(cls, inward: Inward) -> "Figures":
        """Divide."""
        return cls(
            _share(inward.to_owner, inward.packets),
            _share(inward.only_elsewhere, inward.packets),
            _share(inward.copies, inward.packets),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """How one policy did in one world. `first_verdict_right` is None where there never was one."""

    policy: Policy
    settings: Settings
    sa_pairs: int
    packets: int
    packets_to_inside: int
    all: Figures
    first: Figures
    first_verdict_right: float | None
    never_certain: int
    contested_seconds_p50: float
    contested_seconds_p99: float
    refused: int

    @classmethod
    def of(cls, policy: Policy, settings: Settings, score: Score) -> "Result":
        """Sum up."""
        contested = sorted(score.contested_s)
        return cls(
            policy=policy,
            settings=settings,
            sa_pairs=score.sa_pairs,
            packets=score.all.packets + score.outward,
            packets_to_inside=score.all.packets,
            all=Figures.of(score.all),
            first=Figures.of(score.first),
            first_verdict_right=_share(score.decided_right, score.decided) if score.decided else None,
            never_certain=score.never_certain,
            contested_seconds_p50=_percentile(contested, 0.50),
            contested_seconds_p99=_percentile(contested, 0.99),
            refused=score.refused,
        )

    def to_json(self) -> dict[str, object]:
        """Give it as a JSON object."""
        return {
            "policy": self.policy.value,
            "seed": self.settings.seed,
            "minutes": self.settings.minutes,
            "loss_percent": self.settings.loss * 100,
            "hosts": self.settings.hosts,
            "peers": self.settings.peers,
            "sa_pairs": self.sa_pairs,
            "packets": self.packets,
            "packets_to_inside": self.packets_to_inside,
            "delivered_to_owner": self.all.delivered_to_owner,
            "delivered_only_elsewhere": self.all.delivered_only_elsewhere,
            "copies_per_packet": self.all.copies_per_packet,
            "first_10_s": {
                "delivered_to_owner": self.first.delivered_to_owner,
                "delivered_only_elsewhere": self.first.delivered_only_elsewhere,
                "copies_per_packet": self.first.copies_per_packet,
            },
            "first_verdict_right": self.first_verdict_right,
            "never_certain": self.never_certain,
            "contested_seconds_p50": self.contested_seconds_p50,
            "contested_seconds_p99": self.contested_seconds_p99,
            "refused": self.refused,
        }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 7) if whole else 0.0


def _percentile(ordered: list[float], share: float) -> float:
    return round(ordered[max(0, ceil(len(ordered) * share) - 1)], 3) if ordered else 0.0
