"""What is believed of an inbound SPI."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from throughway.core.ids import Host


class Basis(Enum):
    """Why one host alone is believed to own an SPI."""

    CREDIT = "credit"
    """Every other host is ruled out by what was seen of its IKE exchanges."""
    ONLY_HOST = "only-host"
    """No other host is known to have exchanged anything with the peer. Another one may still turn up."""
    DISOWNED = "disowned"
    """All other candidates said that the SPI is not theirs."""
    ANSWERS = "answers"
    """The times of its packets show that it reads what comes with the SPI, or another verdict by answers leaves nobody
    else. Evidence against it opens the contest again."""
    ROUTER_SA = "router-sa"
    """The router's kernel has the security association."""
    ADOPTED = "adopted"
    """It was so in an earlier run of the daemon."""

    @property
    def is_firm(self) -> bool:
        """Whether a host that turns up later cannot shake it."""
        return self not in (Basis.ONLY_HOST, Basis.ANSWERS)


@dataclass(frozen=True, slots=True)
class Certain:
    """One possible owner."""

    host: Host
    basis: Basis = Basis.CREDIT


@dataclass(frozen=True, slots=True)
class Contested:
    """Two or more possible owners, best last. All of them get a copy, so that none stalls."""

    hosts: tuple[Host, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody inside ever exchanged anything with this peer."""


Verdict: TypeAlias = Certain | Contested | Unknown
