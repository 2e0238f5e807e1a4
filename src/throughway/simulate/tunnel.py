"""One host with its peer: what it is like, and which SAs it uses now."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from random import Random
from typing import TYPE_CHECKING, Final

from throughway.core.ids import Host, Peer
from throughway.simulate.chances import between
from throughway.simulate.flows import Sa
from throughway.simulate.negotiation import Way
from throughway.simulate.settings import Settings

if TYPE_CHECKING:
    from throughway.simulate.talk import Talk

_HOSTS_FROM: Final = int(IPv4Address("10.0.0.0"))
_PEERS_FROM: Final = int(IPv4Address("198.18.0.1"))
"""Peers are in the network for tests of routers (RFC 2544 appendix C.2.2)."""

BURST_MEAN: Final = 8.0
"""Packets of one burst of a stream: an even number from 2 to 14. The other end acknowledges every second one."""

_LAN_S: Final = (0.0002, 0.005)
"""From the router to a host and back, with the work of its stack."""


@dataclass(frozen=True, slots=True)
class Mix:
    """A tunnel's traffic in packets a second, by what makes them go; `stream` and `one_way` are of each direction."""

    ask: float
    """Requests of the host, which the far end answers."""
    asked: float
    """Requests of the far end, which the host answers."""
    stream: float
    """Data in bursts, which the other end acknowledges."""
    one_way: float
    is_periodic: bool = False

    @classmethod
    def draw(cls, chance: Random, rate: float, *, is_periodic: bool, is_relayed: bool) -> "Mix":
        """Divide the rate by chance; what is relayed between hosts is requests alone, and half of it answers."""
        if is_relayed:
            return cls(ask=rate / 2, asked=0.0, stream=0.0, one_way=0.0, is_periodic=is_periodic)
        if is_periodic:
            return cls(ask=rate / 2, asked=0.0, stream=0.0, one_way=rate / 2, is_periodic=True)
        ask, asked, stream, one_way = (chance.random() for _ in range(4))
        unit = rate / (ask + asked + 1.5 * stream + one_way)
        return cls(ask=ask * unit, asked=asked * unit, stream=stream * unit, one_way=one_way * unit)


@dataclass(eq=False, slots=True)
class Tunnel:
    """A host's use of one peer. `chance` is for what happens to it, `dice` for its packets."""

    number: int
    host: Host
    peer: Peer
    way: Way
    far_s: float
    """From the router to what answers behind the peer, and back."""
    mix: Mix
    chance: Random
    dice: Random
    is_ikev1: bool
    auth_rounds: int
    has_liveness_checks: bool
    talk: "Talk" = field(init=False)
    partner: "Tunnel | None" = None
    """The other host, where what one sends comes out at the other."""
    sas: list[Sa] = field(default_factory=list)
    """Those that are in use."""
    host_sends: Sa | None = None
    """The SA that the host sends with."""
    peer_sends: Sa | None = None
    is_gone: bool = False
    """The host is off: nothing comes from it."""
    life: int = 0
    """Counts its starts, so that what was appointed in an earlier life is known as such."""
    ike_sa: int = 0
    asked_by_host: int = 0
    asked_by_peer: int = 0
    """IKEv2's message IDs of either end."""

    def next_exchange_id(self, from_host: bool) -> int:
        """Number the next exchange of its IKE SA, as `wire.ike` tells them apart."""
        if self.is_ikev1:
            return self.chance.getrandbits(32)
        if from_host:
            self.asked_by_host += 1
            return self.asked_by_host
        self.asked_by_peer += 1
        return self.asked_by_peer | 1 << 32


def lan_and_far(chance: Random, settings: Settings, path_s: float) -> tuple[float, float]:
    """Draw the round trips of a host in seconds: to the host, and to what answers behind the peer.

    The way between router and peer is common to all hosts of that peer; the rest of the round trip is
    behind the peer.
    """
    lan_s = between(chance, *_LAN_S)
    return lan_s, max(path_s, between(chance, *settings.round_trip_s) - lan_s)


def host_of(number: int) -> Host:
    """Return the address of a host, from 10.0.0.0 up."""
    return Host(IPv4Address(_HOSTS_FROM + number))


def number_of(host: Host) -> int:
    """Return the number of a host by its address."""
    return int(host) - _HOSTS_FROM


def peer_of(number: int) -> Peer:
    """Return the address of a peer."""
    return Peer(IPv4Address(_PEERS_FROM + number))
