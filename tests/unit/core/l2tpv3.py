"""Names of L2TPv3 flows over IP with one peer, and the events that begin them."""

from ipaddress import IPv4Address

from throughway.core.events import PortlessFromInside, PortlessUnclaimed
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer

PEER = Peer(IPv4Address("203.0.113.9"))


def out(host: Host, name: int) -> FlowKey:
    """Name what a host sends."""
    return FlowKey.to_peer(IpProtocol.L2TPV3, host, PEER, name)


def back(name: int) -> FlowKey:
    """Name what the peer sends."""
    return FlowKey.to_inside(IpProtocol.L2TPV3, Path(PEER), name)


def sends(host: Host, name: int) -> PortlessFromInside:
    """Let a host send with an ID."""
    return PortlessFromInside(host, PEER, IpProtocol.L2TPV3, name)


def comes(name: int) -> PortlessUnclaimed:
    """Let the peer send with an ID that nobody is known to have."""
    return PortlessUnclaimed(Path(PEER), IpProtocol.L2TPV3, name)
