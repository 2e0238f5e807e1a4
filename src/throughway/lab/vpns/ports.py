"""VPNs on TCP or UDP, which run as programs in namespaces."""

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Final

from throughway.lab.namespace import HostTask
from throughway.lab.peers import anyconnect, openvpn, wireguard
from throughway.lab.peers.client import Client
from throughway.lab.testbed import Testbed
from throughway.lab.uml import Guest
from throughway.lab.waiting import wait_until

SERVER_LIMIT_S: Final = 15.0


class OpenVpn:
    """OpenVPN in namespaces."""

    SERVER: Final = IPv4Address("198.51.100.10")

    def __init__(self, bed: Testbed, clients: int, wire: openvpn.Wire = openvpn.PLAIN) -> None:
        self._wire = wire
        self._files = bed.files("openvpn")
        self._devices = [bed.topology.device(f"ovpn{number}") for number in range(1, clients + 1)]
        self._server = bed.topology.peer("openvpn", self.SERVER)
        self._identity = openvpn.make_identity(self._files, "server")
        self._identities = [openvpn.make_identity(self._files, f"user{number}") for number in range(1, clients + 1)]
        self._wrappings = openvpn.make_wrapping(self._files, wire.protection)

    @property
    def guests(self) -> Sequence[Guest]:
        """None: it needs nothing of the kernel but TUN."""
        return []

    def server(self) -> None:
        """Start the server."""
        identities, wrapping = self._identities, self._wrappings[0]
        configuration = openvpn.server_configuration(self._identity, identities, self._wire, wrapping)
        task = openvpn.start(self._server, self._files, configuration)
        wait_until(lambda: openvpn.READY in task.output(), SERVER_LIMIT_S, "the OpenVPN server to be ready", task.log)

    def client(self, number: int) -> Client:
        """Start a client on a device of its own."""
        device, address = self._devices[number - 1]
        own = self._identities[number - 1]
        wrapping = self._wrappings[1]
        configuration = openvpn.client_configuration(own, self._identity, self.SERVER, self._wire, wrapping)
        task = openvpn.start(device, self._files, configuration)
        name = f"openvpn{number}"
        return Client(name, address, device, openvpn.DEVICE, openvpn.TUNNEL_ADDRESS, self.SERVER, self._server, task)


class WireGuard:
    """wireguard-go in namespaces."""

    SERVER: Final = IPv4Address("198.51.100.11")

    def __init__(self, bed: Testbed, clients: int, port: int = wireguard.PORT) -> None:
        self._port = port
        files = bed.files("wireguard")
        self._devices = [bed.topology.device(f"wg{number}") for number in range(1, clients + 1)]
        self._server = bed.topology.peer("wgserver", self.SERVER)
        self._server_keys = wireguard.make_keys(files, "server")
        self._keys = [wireguard.make_keys(files, f"client{number}") for number in range(1, clients + 1)]

    @property
    def guests(self) -> Sequence[Guest]:
        """None: it needs nothing of the kernel but TUN."""
        return []

    def server(self) -> None:
        """Start the server."""
        wireguard.start(self._server)
        peers = [
            f"peer {keys.public} allowed-ips {wireguard.client_address(number)}/32"
            for number, keys in enumerate(self._keys, 1)
        ]
        tunnel = f"{wireguard.TUNNEL_ADDRESS}/16"
        wireguard.set_up(self._server, self._server_keys, tunnel, *peers, port=self._port)

    def client(self, number: int) -> Client:
        """Start a client on a device of its own."""
        device, address = self._devices[number - 1]
        task: HostTask = wireguard.start(device)
        peer = f"peer {self._server_keys.public} allowed-ips 172.19.0.0/16 endpoint {self.SERVER}:{self._port}"
        own = f"{wireguard.client_address(number)}/16"
        wireguard.set_up(device, self._keys[number - 1], own, f"{peer} persistent-keepalive 5")
        name, interface = f"wireguard{number}", wireguard.interface_name(device)
        return Client(name, address, device, interface, wireguard.TUNNEL_ADDRESS, self.SERVER, self._server, task)


class AnyConnect:
    """openconnect and ocserv in namespaces."""

    SERVER: Final = IPv4Address("198.51.100.12")

    def __init__(self, bed: Testbed, clients: int, port: int = anyconnect.PORT) -> None:
        self._port = port
        self._clients = clients
        self._files = bed.files("anyconnect")
        self._devices = [bed.topology.device(f"oc{number}") for number in range(1, clients + 1)]
        self._server = bed.topology.peer("ocserv", self.SERVER)
        self._identity = openvpn.make_identity(self._files, "server")

    @property
    def guests(self) -> Sequence[Guest]:
        """None: it needs nothing of the kernel but TUN."""
        return []

    def server(self) -> None:
        """Start ocserv."""
        at = anyconnect.At(self.SERVER, self._port)
        anyconnect.start_server(self._server, self._files, self._identity, at, self._clients)

    def client(self, number: int) -> Client:
        """Start openconnect on a device of its own."""
        device, address = self._devices[number - 1]
        pin = anyconnect.pin_of(self._identity)
        task = anyconnect.start_client(device, self._files, anyconnect.At(self.SERVER, self._port), pin, number)
        name, target = f"openconnect{number}", anyconnect.TUNNEL_ADDRESS
        return Client(name, address, device, anyconnect.DEVICE, target, self.SERVER, self._server, task)
