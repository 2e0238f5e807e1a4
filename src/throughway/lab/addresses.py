"""The addresses of the lab: private ones inside, those kept for documentation outside (RFC 5737, RFC 3849)."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Final

INSIDE: Final = IPv4Network("10.77.0.0/24")
INSIDE_6: Final = IPv6Network("2001:db8:77::/64")
UPLINK: Final = IPv4Network("192.0.2.0/24")
UPLINK_6: Final = IPv6Network("2001:db8::/64")
PEERS: Final = (IPv4Network("198.51.100.0/24"), IPv4Network("203.0.113.0/24"))
PEERS_6: Final = (IPv6Network("2001:db8:51::/64"), IPv6Network("2001:db8:113::/64"))

PRIVATE: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
"""Sources that no provider accepts from a customer (RFC 1918, RFC 6598)."""

GATEWAY: Final = 1
"""The host number of the router on the inside, and of the provider on its networks."""

ROUTER_OUTSIDE: Final = 2
"""The host number of the router on the uplink."""

FIRST_DEVICE: Final = 11
"""The host number of the first inside device."""


def at(network: IPv4Network, number: int) -> IPv4Interface:
    """Return the address of a host number, with the length of its network."""
    return IPv4Interface((network.network_address + number, network.prefixlen))


def at_6(network: IPv6Network, number: int) -> IPv6Interface:
    """Return the IPv6 address of a host number, with the length of its network."""
    return IPv6Interface((network.network_address + number, network.prefixlen))


def peer_network(address: IPv4Address) -> int:
    """Return the index of the peers' network that holds an address.

    Raises ValueError when none does: a peer may only live in PEERS.
    """
    for index, network in enumerate(PEERS):
        if address in network:
            return index
    raise ValueError(f"{address} is in none of the peers' networks {', '.join(map(str, PEERS))}")
