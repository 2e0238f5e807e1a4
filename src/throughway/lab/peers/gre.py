"""GRE with a key (RFC 2890) between kernel devices, in guests. Nothing is negotiated: both ends know the key."""

from ipaddress import IPv4Address
from typing import Final

from throughway.lab.place import Place, must

DEVICE: Final = "gre1"
MODULES: Final = ("ip_gre",)
MTU: Final = 1472
"""1500 less an IPv4 header, GRE's four bytes and the key."""


def target(number: int) -> str:
    """Return the server's address within the tunnel of a client, counted from 1."""
    return f"172.23.{number}.1"


def client_address(number: int) -> str:
    """Return the address within its tunnel of a client, counted from 1."""
    return f"172.23.{number}.2"


def key(number: int) -> int:
    """Return the key of a client, counted from 1."""
    return 0x5EED0000 + number


def set_up_server(place: Place, own: IPv4Address, seen_as: IPv4Address, clients: int) -> None:
    """Make a device for each client, all of which the server sees at one address.

    Raises LabFailed with the words of `ip` when the kernel refuses.
    """
    for number in range(1, clients + 1):
        _make(place, f"gre{number}", own, seen_as, number, target(number))


def set_up_client(place: Place, own: IPv4Address, server: IPv4Address, number: int) -> None:
    """Make a client's device.

    Raises LabFailed with the words of `ip` when the kernel refuses.
    """
    _make(place, DEVICE, own, server, number, client_address(number))


def _make(place: Place, device: str, own: IPv4Address, other: IPv4Address, number: int, address: str) -> None:
    ends = f"local {own} remote {other}"
    lines = (
        f"ip link add {device} type gre {ends} key {key(number)} ttl 64",
        # The server's end would speak first, with IPv6's own messages, which no NAT lets in.
        f"sysctl -qw net.ipv6.conf.{device}.disable_ipv6=1",
        f"ip address add {address}/30 dev {device}",
        f"ip link set {device} mtu {MTU} up",
    )
    must(place, "sh", "-ec", "\n".join(lines))
