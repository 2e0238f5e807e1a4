"""The scenarios: which VPN programs, where, and what the run shows.

Another scenario is a class like those below, which starts its peers, and an entry in SCENARIOS.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from throughway.core.errors import SettingsRejected
from throughway.lab import programs
from throughway.lab.namespace import HostTask
from throughway.lab.peers import openvpn, pptp, strongswan, vpnc, wireguard
from throughway.lab.peers.client import Client, Peers
from throughway.lab.testbed import Testbed
from throughway.lab.uml import Guest
from throughway.lab.waiting import wait_until

SERVER_LIMIT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A VPN with several clients on the inside to one server outside. `peers` adds them to a testbed."""

    name: str
    shows: str
    clients: int
    clients_max: int
    programs: tuple[str, ...]
    peers: Callable[[Testbed, int], Peers]

    def what_is_missing(self) -> str | None:
        """Say what keeps this scenario from running here, with the remedy; None when nothing does."""
        return programs.what_is_missing(self.programs)


class EspNative:
    """vpnc in namespaces, strongSwan in a guest: IKEv1, and native ESP, which has no ports."""

    SERVER: Final = IPv4Address("203.0.113.20")

    def __init__(self, bed: Testbed, clients: int) -> None:
        self._clients = clients
        self._files = bed.files("esp")
        self._devices = [bed.topology.device(f"esp{number}") for number in range(1, clients + 1)]
        tap = bed.topology.peer_tap(self.SERVER)
        self._guest = bed.guest("esp-server", [tap], modules=strongswan.MODULES, check=strongswan.CHECK)

    @property
    def guests(self) -> Sequence[Guest]:
        """The server's guest."""
        return [self._guest]

    def server(self) -> None:
        """Start strongSwan."""
        strongswan.start(self._guest, self.SERVER, self._clients)

    def client(self, number: int) -> Client:
        """Start vpnc on a device of its own."""
        device, address = self._devices[number - 1]
        task = vpnc.start(device, self.SERVER, number, self._files)
        name = f"vpnc{number}"
        return Client(name, address, device, vpnc.DEVICE, strongswan.TUNNEL_ADDRESS, self.SERVER, task)


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
            task,
            may_ping=lambda: pptp.has_address(place.guest, number),
        )


class OpenVpn:
    """OpenVPN in namespaces."""

    SERVER: Final = IPv4Address("198.51.100.10")

    def __init__(self, bed: Testbed, clients: int, transport: openvpn.Transport = "udp") -> None:
        self._transport: openvpn.Transport = transport
        self._files = bed.files(f"openvpn-{transport}")
        self._devices = [bed.topology.device(f"ovpn{number}") for number in range(1, clients + 1)]
        self._server = bed.topology.peer("openvpn", self.SERVER)
        self._identity = openvpn.make_identity(self._files, "server")
        self._identities = [openvpn.make_identity(self._files, f"user{number}") for number in range(1, clients + 1)]

    @property
    def guests(self) -> Sequence[Guest]:
        """None: it needs nothing of the kernel but TUN."""
        return []

    def server(self) -> None:
        """Start the server."""
        configuration = openvpn.server_configuration(self._identity, self._identities, self._transport)
        task = openvpn.start(self._server, self._files, configuration)
        wait_until(lambda: openvpn.READY in task.output(), SERVER_LIMIT_S, "the OpenVPN server to be ready", task.log)

    def client(self, number: int) -> Client:
        """Start a client on a device of its own."""
        device, address = self._devices[number - 1]
        own = self._identities[number - 1]
        configuration = openvpn.client_configuration(own, self._identity, self.SERVER, self._transport)
        task = openvpn.start(device, self._files, configuration)
        name = f"openvpn{number}"
        return Client(name, address, device, openvpn.DEVICE, openvpn.TUNNEL_ADDRESS, self.SERVER, task)


class WireGuard:
    """wireguard-go in namespaces."""

    SERVER: Final = IPv4Address("198.51.100.11")

    def __init__(self, bed: Testbed, clients: int) -> None:
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
        wireguard.set_up(self._server, self._server_keys, tunnel, *peers, port=wireguard.PORT)

    def client(self, number: int) -> Client:
        """Start a client on a device of its own."""
        device, address = self._devices[number - 1]
        task: HostTask = wireguard.start(device)
        peer = f"peer {self._server_keys.public} allowed-ips 172.19.0.0/16 endpoint {self.SERVER}:{wireguard.PORT}"
        own = f"{wireguard.client_address(number)}/16"
        wireguard.set_up(device, self._keys[number - 1], own, f"{peer} persistent-keepalive 5")
        name, interface = f"wireguard{number}", wireguard.interface_name(device)
        return Client(name, address, device, interface, wireguard.TUNNEL_ADDRESS, self.SERVER, task)


_ALL: Final = (
    Scenario(
        "esp-native",
        "clients with native ESP (IP protocol 50) to one server; plain masquerade carries one of them",
        3,
        8,
        (*programs.GUEST, *strongswan.PROGRAMS, *vpnc.PROGRAMS),
        EspNative,
    ),
    Scenario(
        "pptp",
        "clients with PPTP and MPPE-128 to one server; plain masquerade carries none of them",
        2,
        8,
        (*programs.GUEST, *pptp.PROGRAMS),
        Pptp,
    ),
    Scenario("openvpn-udp", "clients with OpenVPN over UDP to one server", 2, 8, openvpn.PROGRAMS, OpenVpn),
    Scenario("wireguard", "clients with WireGuard to one server", 2, 8, wireguard.PROGRAMS, WireGuard),
)

SCENARIOS: Final = {scenario.name: scenario for scenario in _ALL}
"""Every scenario by its name, in the order in which they are listed."""

LIVE: Final = ("esp-native", "openvpn-udp", "wireguard", "pptp")
"""What `lab up` keeps running, each with its default number of clients."""


def named(name: str, clients: int | None = None) -> tuple[Scenario, int]:
    """Return a scenario and how many clients it is to have.

    Raises SettingsRejected for a name that is none, and for a number that the scenario cannot have.
    """
    scenario = SCENARIOS.get(name)
    if scenario is None:
        raise SettingsRejected("SCENARIO", f"{name} is none; there are: {', '.join(SCENARIOS)}")
    number = scenario.clients if clients is None else clients
    if not 1 <= number <= scenario.clients_max:
        raise SettingsRejected("--clients", f"{name} can have 1 to {scenario.clients_max} clients, not {number}")
    return scenario, number
