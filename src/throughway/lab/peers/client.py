"""What the lab knows of a VPN client that it has started."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol

from throughway.lab.place import Place, Task
from throughway.lab.uml import Guest


def at_once() -> bool:
    """Return True: there is no cheap sign to wait for before the first ping."""
    return True


@dataclass(frozen=True, slots=True)
class Client:
    """A VPN client on an inside device.

    `device` is the tunnel's interface, or the client's address within a tunnel that has none, and `target` the address
    of the server within the tunnel; pings between them say whether the tunnel works, whatever the client says of
    itself. `server` is where the device connects to, and `peer` is where that server runs.
    """

    name: str
    address: IPv4Address
    place: Place
    device: str
    target: str
    server: IPv4Address
    peer: Place
    task: Task
    may_ping: Callable[[], bool] = at_once
    """Whether a ping is worth trying: a cheap sign, for places where to start a program is slow."""


class Peers(Protocol):
    """One VPN server outside, and the clients to it. Making one adds its devices and guests to a testbed."""

    @property
    def guests(self) -> Sequence[Guest]:
        """The guests to boot before the server is started."""
        ...

    def server(self) -> None:
        """Start the server, and return when it takes connections."""
        ...

    def client(self, number: int) -> Client:
        """Start a client, counted from 1, and return at once."""
        ...
