"""The name of a one-way flow of a protocol without ports, as the data plane matches it."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from throughway.core.ids import ROUTER, Host, IpProtocol, Peer


class Direction(IntEnum):
    """Which way a packet travels. The numbers are shared with bpf/keys.h."""

    TO_INSIDE = 0
    TO_PEER = 1


@dataclass(frozen=True, slots=True)
class FlowKey:
    """One direction of one tunnel.

    Towards the inside the host is what has to be found, so it is not part of the key: `host` is
    ROUTER there. Towards the peer it is part of the key, so that no host can touch the flow of
    another one. `discriminator` is up to 64 bits in host order: the SPI for ESP.
    """

    direction: Direction
    protocol: IpProtocol
    peer: Peer
    discriminator: int
    host: Host = ROUTER

    def __post_init__(self) -> None:
        """Refuse what no packet can carry."""
        if not 0 <= self.discriminator < 1 << 64:
            raise ValueError(f"discriminator {self.discriminator:#x} is not a 64-bit number")
        if self.direction is Direction.TO_INSIDE and self.host != ROUTER:
            raise ValueError("a flow to the inside is not named by its host")

    @classmethod
    def to_inside(cls, protocol: IpProtocol, peer: Peer, discriminator: int) -> Self:
        """Name what comes from the peer."""
        return cls(Direction.TO_INSIDE, protocol, peer, discriminator)

    @classmethod
    def to_peer(cls, protocol: IpProtocol, host: Host, peer: Peer, discriminator: int) -> Self:
        """Name what the host sends to the peer."""
        return cls(Direction.TO_PEER, protocol, peer, discriminator, host)
