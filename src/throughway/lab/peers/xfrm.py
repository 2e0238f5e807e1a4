"""ESP or AH with keys set by hand in the kernels of guests: no IKE at all, and SPIs that both ends were told."""

from ipaddress import IPv4Address
from typing import Final, Literal

from throughway.lab.peers import strongswan
from throughway.lab.place import Place, must

TUNNEL_ADDRESS: Final = "172.22.0.1"
MODULES: Final = strongswan.MODULES
AH_MODULES: Final = (*MODULES, "ah4")
CHECK: Final = strongswan.CHECK

Protocol = Literal["esp", "ah"]

_AUTHENTICATION: Final = "auth 'hmac(sha1)' 0x000102030405060708090a0b0c0d0e0f10111213"
_KEYS: Final[dict[Protocol, str]] = {
    "esp": f"enc 'cbc(aes)' 0x00112233445566778899aabbccddeeff {_AUTHENTICATION}",
    "ah": _AUTHENTICATION,
}


def client_address(number: int) -> str:
    """Return the address within the tunnel of a client, counted from 1."""
    return str(IPv4Address("172.22.1.0") + number)


def spis(number: int, generation: int = 0) -> tuple[int, int]:
    """Return the SPIs of a client's pair of SAs, towards the server and towards the client, after so many rekeys."""
    return 0x10000 + (generation << 8) + number, 0x20000 + (generation << 8) + number


def set_up_server(
    place: Place, own: IPv4Address, seen_as: IPv4Address, clients: int, protocol: Protocol = "esp"
) -> None:
    """Give the server an SA in each direction, and its policies, for each client, which it sees at one address.

    Raises LabFailed with the words of `ip` when the kernel refuses.
    """
    lines = [f"ip address add {TUNNEL_ADDRESS}/32 dev lo"]
    for number in range(1, clients + 1):
        to_server, to_client = spis(number)
        inner = client_address(number)
        lines += pair((own, TUNNEL_ADDRESS, to_client), (seen_as, inner, to_server), number, protocol)
    must(place, "sh", "-ec", "\n".join(lines))


def set_up_client(place: Place, own: IPv4Address, server: IPv4Address, number: int, protocol: Protocol = "esp") -> None:
    """Give a client its pair of SAs and its policies.

    Raises LabFailed with the words of `ip` when the kernel refuses.
    """
    to_server, to_client = spis(number)
    inner = client_address(number)
    lines = [
        f"ip address add {inner}/32 dev lo",
        *pair((own, inner, to_server), (server, TUNNEL_ADDRESS, to_client), number, protocol),
    ]
    must(place, "sh", "-ec", "\n".join(lines))


def pair(
    near: tuple[IPv4Address, str, int],
    far: tuple[IPv4Address, str, int],
    request: int,
    protocol: Protocol = "esp",
) -> list[str]:
    """Write the commands for one end of a tunnel; each side is its address, its address within, and the SPI it uses."""
    lines = []
    for direction, (outer, inner, spi), (other, other_inner, _) in (("out", near, far), ("in", far, near)):
        lines += [
            f"ip {add(outer, other, spi, request, protocol=protocol)}",
            f"ip xfrm policy add src {inner}/32 dst {other_inner}/32 dir {direction}"
            f" tmpl src {outer} dst {other} proto {protocol} reqid {request} mode tunnel",
        ]
    return lines


def add(
    source: IPv4Address,
    destination: IPv4Address,
    spi: int,
    request: int,
    *,
    sent: int = 0,
    protocol: Protocol = "esp",
) -> str:
    """Write the command, behind `ip`, for an SA of one direction, which has sent so many packets already."""
    begun = f" replay-window 32 replay-oseq {sent}" if sent else ""
    return (
        f"xfrm state add src {source} dst {destination} proto {protocol} spi {spi:#x} reqid {request} mode tunnel"
        f"{begun} {_KEYS[protocol]}"
    )


def delete(source: IPv4Address, destination: IPv4Address, spi: int) -> str:
    """Write the command, behind `ip`, that ends an SA."""
    return f"xfrm state delete src {source} dst {destination} proto esp spi {spi:#x}"
