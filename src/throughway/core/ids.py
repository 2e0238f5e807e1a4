"""The identities that everything else is built from."""

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Final, NewType

Host = NewType("Host", IPv4Address)
"""An inside device, by the address it has on the inside network."""


class _Hashed(IPv4Address):
    """An address whose hash is worked out once. It equals the plain one, and so does its hash."""

    __slots__ = ("_hashed",)

    def __init__(self, address: IPv4Address) -> None:
        super().__init__(int(address))
        self._hashed = super().__hash__()

    def __hash__(self) -> int:
        return self._hashed


def hashed(host: Host) -> Host:
    """Return the same host, quick to be looked up. IPv4Address formats its number for every hash."""
    return host if isinstance(host, _Hashed) else Host(_Hashed(host))


Peer = NewType("Peer", IPv4Address)
"""A VPN gateway outside."""

Spi = NewType("Spi", int)
"""Security Parameters Index, host order, 32 bits (RFC 4303 section 2.1)."""

ROUTER: Final = Host(IPv4Address(0))
"""The router itself as the owner of a tunnel. What is its own goes to its stack untouched."""


@dataclass(frozen=True, slots=True)
class Path:
    """A peer, and the slot of the one of our outside addresses that it speaks to.

    This is all that a peer sees of us. So what it sends to two addresses are two tunnels, whatever
    names them, and hosts whose paths differ cannot be taken for each other. `core.addresses` says what
    a slot is.
    """

    peer: Peer
    slot: int = 0


SPI_RESERVED_MAX: Final = 255
"""SPIs 0 to 255 are reserved and never name a security association (RFC 4303 section 2.1)."""


class UdpPort(IntEnum):
    """UDP ports that may be kept: both ends of a flow use them."""

    IKE = 500
    """RFC 7296 section 2, RFC 2408 section 2.5.1."""
    L2TP = 1701
    """RFC 2661 section 8.1, RFC 3931 section 4.1.2."""


class IpProtocol(IntEnum):
    """IP protocol numbers that the data plane knows (IANA)."""

    ICMP = 1
    TCP = 6
    UDP = 17
    GRE = 47
    ESP = 50
    AH = 51
    L2TPV3 = 115
