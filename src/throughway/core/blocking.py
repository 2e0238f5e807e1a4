"""What the operator's switches say of one IP protocol: for whom it is blocked. For the tracker and for rules alike.

The most specific place decides: device and peer, then the device, then the peer, then everywhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Final, TypeAlias

from throughway.core.ids import IpProtocol, UdpPort

Address: TypeAlias = IPv4Address | IPv6Address

At: TypeAlias = tuple[Address | None, Address | None]
"""A device and a peer; None for any."""

PPTP_GRE_VERSION: Final = 1
"""The version of GRE that PPTP has for itself (RFC 2637 section 4.1)."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """For whom an IP protocol is blocked. `is_pptp` tells PPTP's calls from all other GRE."""

    protocol: int
    is_everywhere: bool = False
    at: Mapping[At, bool] = field(default_factory=lambda: MappingProxyType({}))
    """Exceptions from `is_everywhere`, each for a device, a peer, or both."""
    is_pptp: bool = False

    def __post_init__(self) -> None:
        """Refuse what no rule can say."""
        if (None, None) in self.at:
            raise ValueError("what holds everywhere is no exception")
        if self.is_pptp and self.protocol != IpProtocol.GRE:
            raise ValueError("PPTP's calls are GRE")

    def blocks(self, device: Address, peer: Address) -> bool:
        """Whether packets between the two are blocked."""
        for place in ((device, peer), (device, None), (None, peer)):
            if place in self.at:
                return self.at[place]
        return self.is_everywhere

    @property
    def is_needed(self) -> bool:
        """Whether it blocks anything at all."""
        return self.is_everywhere or any(self.at.values())


@dataclass(frozen=True, slots=True)
class Withheld:
    """What the switches keep from the tracker, by IP protocol number. Those of PPTP's calls it never had.

    `unassisted` are left to the kernel whole, so that the tracker and the data plane have none of them.
    """

    blocked: Mapping[int, Blocking] = field(default_factory=lambda: MappingProxyType({}))
    unassisted: frozenset[int] = frozenset()
    ports: frozenset[UdpPort] = frozenset()
    """UDP ports that are unassisted, so that they are not kept."""

    @classmethod
    def of(
        cls, blocked: Iterable[Blocking], unassisted: Iterable[int] = (), ports: Iterable[UdpPort] = ()
    ) -> "Withheld":
        """Take those that concern the tracker; of two about one protocol the first counts."""
        ours = [one for one in blocked if not one.is_pptp and one.is_needed]
        return cls(
            MappingProxyType({one.protocol: one for one in reversed(ours)}), frozenset(unassisted), frozenset(ports)
        )

    def is_withheld(self, protocol: int, host: IPv4Address, peer: IPv4Address) -> bool:
        """Whether the tracker has to leave this protocol between the two alone."""
        if protocol in self.unassisted:
            return True
        blocking = self.blocked.get(protocol)
        return blocking is not None and blocking.blocks(host, peer)

    def __bool__(self) -> bool:
        return bool(self.blocked or self.unassisted or self.ports)


NOTHING_WITHHELD: Final = Withheld()
