"""PPP in tunnels: PPTP and L2TP, whose programs need a kernel with PPP, so they run in guests."""

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Final

from throughway.lab.peers import l2tp, pptp, strongswan
from throughway.lab.peers.client import Client
from throughway.lab.testbed import Testbed
from throughway.lab.uml import Guest


class Pptp:
    """pptpd in a guest; the clients in another, each with an interface, an address and a namespace of its own."""

    SERVER: Final = IPv4Address("203.0.113.30")

    def __init__(self, bed: Testbed, clients: int) -> None:
        self._clients = clients
        server_tap = bed.topology.peer_tap(self.SERVER)
        self._taps = [bed.topology.device_tap() for _ in range(clients)]
        self._guests = [
            bed.guest("pptp-server", [server_tap], modules=pptp.MODULES),
            bed.guest("pptp-clients", self._taps, modules=pptp.MODULES, apart=True),
        ]

    @property
    def guests(self) -> Sequence[Guest]:
        """The server's guest and the clients'."""
        return self._guests

    def server(self) -> None:
        """Start pptpd."""
        pptp.start_server(self._guests[0], self._clients)

    def client(self, number: int) -> Client:
        """Start pptp and pppd on a device of its own."""
        place = self._guests[1].places()[number - 1]
        task = pptp.start_client(place, self.SERVER, number)
        address = self._taps[number - 1].address.ip
        return Client(
            f"pptp{number}",
            address,
            place,
            pptp.DEVICE,
            pptp.TUNNEL_ADDRESS,
            self.SERVER,
            self._guests[0],
            task,
            may_ping=lambda: pptp.has_address(place.guest, number),
        )


class L2tp:
    """xl2tpd in guests: the server in one, the clients in another, each in a namespace; within IPsec when asked."""

    SERVER: Final = IPv4Address("203.0.113.60")

    def __init__(self, bed: Testbed, clients: int, *, with_ipsec: bool = False, port: int = l2tp.PORT) -> None:
        self._port = port
        self._clients = clients
        self._with_ipsec = with_ipsec
        modules = (*l2tp.MODULES, *(l2tp.IPSEC_MODULES if with_ipsec else ()))
        check = strongswan.CHECK if with_ipsec else ""
        server_tap = bed.topology.peer_tap(self.SERVER)
        self._taps = [bed.topology.device_tap() for _ in range(clients)]
        self._guests = [
            bed.guest("l2tp-server", [server_tap], modules=modules, check=check, memory_mib=128),
            bed.guest("l2tp-clients", self._taps, modules=modules, check=check, memory_mib=128, apart=True),
        ]

    @property
    def guests(self) -> Sequence[Guest]:
        """The server's guest and the clients'."""
        return self._guests

    def server(self) -> None:
        """Start xl2tpd, and strongSwan before it."""
        if self._with_ipsec:
            l2tp.protect_server(self._guests[0], self.SERVER)
        l2tp.start_server(self._guests[0], self._clients, self._port)

    def client(self, number: int) -> Client:
        """Start xl2tpd and pppd on a device of its own."""
        guest = self._guests[1]
        place = guest.places()[number - 1]
        address = self._taps[number - 1].address.ip
        own = address if self._with_ipsec else None
        task = l2tp.start_client(place, guest, (self.SERVER, self._port), number, own)
        return Client(
            f"l2tp{number}",
            address,
            place,
            l2tp.DEVICE,
            l2tp.TUNNEL_ADDRESS,
            self.SERVER,
            self._guests[0],
            task,
            may_ping=lambda: l2tp.has_address(guest, number),
        )
