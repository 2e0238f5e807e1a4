"""WireGuard as a program, wireguard-go, in namespaces: this machine's kernel need not have it."""

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from throughway.lab.namespace import HostTask, Namespace, command
from throughway.lab.waiting import wait_until

PORT: Final = 51820
TUNNEL_ADDRESS: Final = "172.19.0.1"
PROGRAMS: Final = ("wireguard-go", "wg")
SOCKETS: Final = Path("/var/run/wireguard")
"""Where wireguard-go has its control sockets, by interface name: one folder for the whole machine."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A private key, in a file, and the public key to it."""

    private: Path
    public: str


def make_keys(folder: Path, name: str) -> Keys:
    """Make a pair of keys."""
    private = folder / f"{name}.key"
    private.touch(mode=0o600)
    secret = command("wg", "genkey")
    private.write_text(secret)
    return Keys(private, command("wg", "pubkey", script=secret).strip())


def interface_name(namespace: Namespace) -> str:
    """Return a name that no other WireGuard interface of this machine has, short enough for the kernel.

    Namespaces have the prefix of their lab, so their names differ; "wg" comes in its place of "tw".
    """
    return f"wg{namespace.name.removeprefix('tw')}"[:15]


def start(namespace: Namespace) -> HostTask:
    """Start wireguard-go in a namespace and return when its interface can be set up.

    Raises GaveUp when it cannot within 5 s.
    """
    name = interface_name(namespace)
    task = namespace.start("wireguard-go", "--foreground", name, environment={"LOG_LEVEL": "error"})
    wait_until(lambda: _listens(SOCKETS / f"{name}.sock"), 5.0, f"wireguard-go in {namespace.name}", task.log)
    return task


def _listens(path: Path) -> bool:
    """Whether somebody answers: the socket is there a moment before wireguard-go listens on it."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def set_up(namespace: Namespace, keys: Keys, address: str, *peers: str, port: int | None = None) -> None:
    """Give a WireGuard interface its key, its peers, and its address; each of `peers` is a list of words for wg."""
    name = interface_name(namespace)
    listen = ("listen-port", str(port)) if port else ()
    words = [word for peer in peers for word in peer.split()]
    namespace.command("wg", "set", name, *listen, "private-key", str(keys.private), *words)
    namespace.command("ip", "address", "add", address, "dev", name)
    namespace.command("ip", "link", "set", name, "up")


def client_address(number: int) -> IPv4Address:
    """Return the address within the tunnel of a client, counted from 1."""
    return IPv4Address("172.19.1.0") + number


def forget_sockets(prefix: str) -> None:
    """Remove the control sockets that killed programs of a lab have left."""
    for path in SOCKETS.glob(f"wg{prefix.removeprefix('tw')}-*.sock"):
        path.unlink(missing_ok=True)
