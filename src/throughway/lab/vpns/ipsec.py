"""IPsec."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from throughway.lab.peers import libipsec, libreswan, openvpn, strongswan, vpnc
from throughway.lab.peers.client import Client
from throughway.lab.testbed import Testbed
from throughway.lab.uml import Guest

_LONG_NAME: Final = "a-name-of-a-server-among-many.example.net"
_LONG_NAMES: Final = 30
"""As many names as a large service has in its certificate: with 30 of them it has some 1,800 bytes."""

_KEEPS_500: Final = """
table ip keeps_500 {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
        ip daddr {server} udp dport 500 udp sport != 500 counter drop
    }}
}}
"""


class EspNative:
    """vpnc in namespaces, strongSwan in a guest: IKEv1, and native ESP, which has no ports.

    With fewer accounts than clients the last of them have one account. With `on_router` the last client is on the
    router itself, whose own ESP is to stay its own. With `keeps_port` the server's firewall lets IKE in only from
    port 500, as some people's do.
    """

    SERVER: Final = IPv4Address("203.0.113.20")

    def __init__(
        self,
        bed: Testbed,
        clients: int,
        *,
        accounts: int | None = None,
        on_router: bool = False,
        keeps_port: bool = False,
    ) -> None:
        self._accounts = accounts or clients
        if keeps_port:
            bed.topology.provider.command("nft", "-f", "-", script=_KEEPS_500.format(server=self.SERVER))
        self._files = bed.files("esp")
        self._devices = [bed.topology.device(f"esp{number}") for number in range(1, clients + 1 - on_router)]
        if on_router:
            self._devices.append((bed.router, bed.topology.router_outside))
        tap = bed.topology.peer_tap(self.SERVER)
        self._guest = bed.guest("esp-server", [tap], modules=strongswan.MODULES, check=strongswan.CHECK)

    @property
    def guests(self) -> Sequence[Guest]:
        """The server's guest."""
        return [self._guest]

    def server(self) -> None:
        """Start strongSwan."""
        strongswan.start(self._guest, self.SERVER, self._accounts)

    def client(self, number: int) -> Client:
        """Start vpnc on a device of its own, or on the router."""
        device, address = self._devices[number - 1]
        task = vpnc.start(device, self.SERVER, min(number, self._accounts), self._files)
        name = f"vpnc{number}"
        return Client(name, address, device, vpnc.DEVICE, strongswan.TUNNEL_ADDRESS, self.SERVER, self._guest, task)


class Ikev2Natt:
    """strongSwan in namespaces at both ends: IKEv2, and ESP in UDP; with a port, all of it on that one.

    With `large_messages` the two ends prove who they are by certificates that do not fit into one packet.
    """

    SERVER: Final = IPv4Address("198.51.100.13")

    def __init__(
        self,
        bed: Testbed,
        clients: int,
        *,
        port: int | None = None,
        repeat_s: float = 0.0,
        large_messages: bool = False,
    ) -> None:
        self._manner = libipsec.Manner(port=port, repeat_s=repeat_s)
        if large_messages:
            names = [f"{number}.{_LONG_NAME}" for number in range(_LONG_NAMES)]
            files = bed.files("ikev2-natt-identities")
            own = [openvpn.make_identity(files, name, *names) for name in ("server", "client")]
            self._manner = replace(self._manner, server=own[0], client=own[1])
        self._files = [bed.files(f"ikev2-natt-{number}") for number in range(clients + 1)]
        self._devices = [bed.topology.device(f"natt{number}") for number in range(1, clients + 1)]
        self._server = bed.topology.peer("nattserver", self.SERVER)

    @property
    def guests(self) -> Sequence[Guest]:
        """None: ESP is in the programs."""
        return []

    def server(self) -> None:
        """Start strongSwan."""
        libipsec.start_server(self._server, self._files[0], self.SERVER, self._manner)

    def client(self, number: int) -> Client:
        """Start strongSwan on a device of its own."""
        device, address = self._devices[number - 1]
        task = libipsec.start_client(device, self._files[number], self.SERVER, number, self._manner)
        name, own = f"ikev2-natt{number}", libipsec.client_address(number)
        return Client(name, address, device, own, libipsec.TUNNEL_ADDRESS, self.SERVER, self._server, task)


class Ikev2Native:
    """libreswan in guests at both ends: IKEv2, and native ESP; the clients in one guest, each in a namespace."""

    SERVER: Final = IPv4Address("203.0.113.50")

    def __init__(self, bed: Testbed, clients: int) -> None:
        self._clients = clients
        server_tap = bed.topology.peer_tap(self.SERVER)
        self._taps = [bed.topology.device_tap() for _ in range(clients)]
        modules, memory_mib = libreswan.MODULES, 96 + 48 * clients
        self._guests = [
            bed.guest("ikev2-server", [server_tap], modules=modules, memory_mib=144),
            bed.guest("ikev2-clients", self._taps, modules=modules, memory_mib=memory_mib, apart=True),
        ]

    @property
    def guests(self) -> Sequence[Guest]:
        """The server's guest and the clients'."""
        return self._guests

    def server(self) -> None:
        """Start libreswan."""
        libreswan.start_server(self._guests[0], self.SERVER, self._clients)

    def client(self, number: int) -> Client:
        """Start libreswan on a device of its own."""
        place = self._guests[1].places()[number - 1]
        address = self._taps[number - 1].address.ip
        task = libreswan.start_client(place, self._guests[1], address, self.SERVER, number)
        return Client(
            f"ikev2-native{number}",
            address,
            place,
            libreswan.client_address(number),
            libreswan.TUNNEL_ADDRESS,
            self.SERVER,
            self._guests[0],
            task,
            may_ping=lambda: libreswan.is_loaded(task),
        )
