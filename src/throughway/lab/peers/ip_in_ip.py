"""IP in IP between kernel devices, in guests: IPv4 (RFC 2003) or IPv6 (RFC 4213) in IPv4. Nothing is negotiated."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from throughway.lab.place import Place, must

DEVICE: Final = "tunnel1"
MTU: Final = 1480
"""1500 less an IPv4 header."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What is carried: the kernel's name of such a device, its modules, and the addresses within, with their length."""

    device_type: str
    modules: tuple[str, ...]
    server: str
    client: str
    length: int

    def target(self, number: int) -> str:
        """Return the server's address within the tunnel; there is one client, since nothing tells two apart."""
        return self.server

    def set_up_server(self, place: Place, own: IPv4Address, seen_as: IPv4Address, clients: int) -> None:
        """Make the server's device. Raises LabFailed with the words of `ip` when the kernel refuses."""
        self._make(place, own, seen_as, self.server)

    def set_up_client(self, place: Place, own: IPv4Address, server: IPv4Address, number: int) -> None:
        """Make the client's device. Raises LabFailed with the words of `ip` when the kernel refuses."""
        self._make(place, own, server, self.client)

    def _make(self, place: Place, own: IPv4Address, other: IPv4Address, address: str) -> None:
        no_detection = " nodad" if ":" in address else ""
        lines = (
            f"ip link add {DEVICE} type {self.device_type} local {own} remote {other} ttl 64",
            f"ip address add {address}/{self.length} dev {DEVICE}{no_detection}",
            f"ip link set {DEVICE} mtu {MTU} up",
        )
        must(place, "sh", "-ec", "\n".join(lines))


IPV4: Final = Carried("ipip", ("ipip",), "172.27.1.1", "172.27.1.2", 30)
IPV6: Final = Carried("sit", ("sit",), "2001:db8:27::1", "2001:db8:27::2", 64)
