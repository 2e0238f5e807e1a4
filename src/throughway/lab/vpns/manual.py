"""Tunnels that are set up by hand on both ends: no program negotiates anything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address
from typing import Final, Protocol

from throughway.lab.peers import gre, ip_in_ip, l2tpv3, xfrm
from throughway.lab.peers.client import Client
from throughway.lab.place import Place
from throughway.lab.testbed import Testbed
from throughway.lab.uml import Guest


class _SetUpServer(Protocol):
    def __call__(self, place: Place, own: IPv4Address, seen_as: IPv4Address, clients: int) -> None: ...


class _SetUpClient(Protocol):
    def __call__(self, place: Place, own: IPv4Address, server: IPv4Address, number: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """A tunnel of the kernel: its modules, how its ends are set up, and which addresses they have within."""

    name: str
    modules: tuple[str, ...]
    check: str
    set_up_server: _SetUpServer
    set_up_client: _SetUpClient
    device: Callable[[int], str]
    target: Callable[[int], str]


ESP: Final = Kind(
    "esp-manual",
    xfrm.MODULES,
    xfrm.CHECK,
    xfrm.set_up_server,
    xfrm.set_up_client,
    xfrm.client_address,
    lambda number: xfrm.TUNNEL_ADDRESS,
)
AH: Final = replace(
    ESP,
    name="ah-manual",
    modules=xfrm.AH_MODULES,
    set_up_server=partial(xfrm.set_up_server, protocol="ah"),
    set_up_client=partial(xfrm.set_up_client, protocol="ah"),
)
GRE: Final = Kind(
    "gre-key", gre.MODULES, "", gre.set_up_server, gre.set_up_client, lambda number: gre.DEVICE, gre.target
)
GRE_OF_ONE_KEY: Final = replace(
    GRE,
    name="gre-one-key",
    set_up_client=lambda place, own, server, number: gre.set_up_client(place, own, server, 1),
    target=lambda number: gre.target(1),
)
"""All clients believe that they have the first one's tunnel."""


def _ip_in_ip(name: str, carried: ip_in_ip.Carried) -> Kind:
    set_up = carried.set_up_server, carried.set_up_client
    return Kind(name, carried.modules, "", *set_up, lambda number: ip_in_ip.DEVICE, carried.target)


IPIP: Final = _ip_in_ip("ipip", ip_in_ip.IPV4)
SIX_IN_FOUR: Final = _ip_in_ip("6in4", ip_in_ip.IPV6)


class InGuests:
    """Tunnels of the kernel: the server in a guest, the clients in another, each in a namespace of its own."""

    SERVER: Final = IPv4Address("203.0.113.40")

    def __init__(self, bed: Testbed, clients: int, kind: Kind) -> None:
        self._kind = kind
        self._clients = clients
        self._seen_as = bed.topology.router_outside
        server_tap = bed.topology.peer_tap(self.SERVER)
        self._taps = [bed.topology.device_tap() for _ in range(clients)]
        self._guests = [
            bed.guest(f"{kind.name}-server", [server_tap], modules=kind.modules, check=kind.check),
            bed.guest(f"{kind.name}-clients", self._taps, modules=kind.modules, check=kind.check, apart=True),
        ]

    @property
    def guests(self) -> Sequence[Guest]:
        """The server's guest and the clients'."""
        return self._guests

    def server(self) -> None:
        """Set up the server's ends."""
        self._kind.set_up_server(self._guests[0], self.SERVER, self._seen_as, self._clients)

    def client(self, number: int) -> Client:
        """Set up a client's end; nothing runs, so its task is one that shows the interfaces."""
        place = self._guests[1].places()[number - 1]
        address = self._taps[number - 1].address.ip
        self._kind.set_up_client(place, address, self.SERVER, number)
        return Client(
            f"{self._kind.name}{number}",
            address,
            place,
            self._kind.device(number),
            self._kind.target(number),
            self.SERVER,
            self._guests[0],
            place.start("ip", "address", "show"),
        )


class L2tpv3:
    """Pseudowires in namespaces."""

    SERVER: Final = IPv4Address("198.51.100.14")

    def __init__(self, bed: Testbed, clients: int) -> None:
        self._clients = clients
        self._seen_as = bed.topology.router_outside
        self._devices = [bed.topology.device(f"l2tpv3c{number}") for number in range(1, clients + 1)]
        self._server = bed.topology.peer("l2tpv3s", self.SERVER)

    @property
    def guests(self) -> Sequence[Guest]:
        """None: it needs nothing of the kernel but TAP."""
        return []

    def server(self) -> None:
        """Start the server's end."""
        l2tpv3.start_server(self._server, self.SERVER, self._seen_as, self._clients)

    def client(self, number: int) -> Client:
        """Start an end on a device of its own."""
        device, address = self._devices[number - 1]
        task = l2tpv3.start_client(device, address, self.SERVER, number)
        name = f"l2tpv3-{number}"
        return Client(name, address, device, l2tpv3.DEVICE, l2tpv3.target(number), self.SERVER, self._server, task)
