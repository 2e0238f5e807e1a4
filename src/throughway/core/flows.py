"""The name of a one-way flow that no translated port tells from others, as the data plane matches it."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Peer

PROTOCOL_MAX: Final = 255
"""The largest number that the protocol field of IPv4 holds (RFC 791 section 3.1)."""


PORT_MAX: Final = 0xFFFF
"""The largest UDP port (RFC 768)."""


class Direction(IntEnum):
    """Which way a packet travels. The numbers are shared with bpf/keys.h."""

    TO_INSIDE = 0
    TO_PEER = 1


@dataclass(frozen=True, slots=True)
class FlowKey:
    """One direction of one tunnel.

    Towards the inside the host is what has to be found, so it is not part of the key: `host` is
    ROUTER there, and `slot` is that of our address which the peer sends to. Towards the peer the host
    is part of the key, so that no host can touch the flow of another one, and `slot` is 0.
    `protocol` is the IP protocol number (IANA). `discriminator` is up to 64 bits in host order;
    `core.discriminators` says what it is for each protocol. `port` is that of UDP which both ends use
    (`UdpPort`), and 0 for protocols without ports and for later fragments, which do not tell it.
    """

    direction: Direction
    protocol: int
    peer: Peer
    discriminator: int
    host: Host = ROUTER
    slot: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        """Refuse what no packet can carry."""
        if not 0 <= self.protocol <= PROTOCOL_MAX:
            raise ValueError(f"protocol {self.protocol} is not an 8-bit number")
        if not 0 <= self.discriminator < 1 << 64:
            raise ValueError(f"discriminator {self.discriminator:#x} is not a 64-bit number")
        if self.port and (self.protocol != IpProtocol.UDP or self.port > PORT_MAX):
            raise ValueError(f"port {self.port} with protocol {self.protocol}: UDP alone has one, of 16 bits")
        if self.direction is Direction.TO_INSIDE and self.host != ROUTER:
            raise ValueError("a flow to the inside is not named by its host")
        if self.direction is Direction.TO_PEER and self.slot:
            raise ValueError("a flow to the peer is not named by our address")

    @classmethod
    def to_inside(cls, protocol: int, path: Path, discriminator: int, port: int = 0) -> Self:
        """Name what the peer sends to one of our addresses."""
        return cls(Direction.TO_INSIDE, protocol, path.peer, discriminator, slot=path.slot, port=port)

    @classmethod
    def to_peer(cls, protocol: int, host: Host, peer: Peer, discriminator: int, port: int = 0) -> Self:
        """Name what the host sends to the peer."""
        return cls(Direction.TO_PEER, protocol, peer, discriminator, host, port=port)

    @property
    def path(self) -> Path:
        """The peer and our address, of a flow to the inside."""
        return Path(self.peer, self.slot)
