"""OpenVPN in namespaces, over UDP or TCP. The two ends know each other by the fingerprints of their certificates."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Literal

from throughway.lab.namespace import HostTask, Namespace, command

DEVICE: Final = "tun0"
PORT: Final = 1194
TUNNEL_ADDRESS: Final = "172.18.0.1"
PROGRAMS: Final = ("openvpn", "openssl")
READY: Final = "Initialization Sequence Completed"

Transport = Literal["udp", "tcp"]


@dataclass(frozen=True, slots=True)
class Identity:
    """A self-signed certificate with its key."""

    certificate: Path
    key: Path
    fingerprint: str


def make_identity(folder: Path, name: str) -> Identity:
    """Make a certificate for a name, and return it with its SHA-256 fingerprint."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    command(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)),
    )
    told = command("openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(certificate))
    return Identity(certificate, key, told.strip().partition("=")[2])


def server_configuration(own: Identity, clients: Sequence[Identity], transport: Transport) -> str:
    """Write the server's configuration, which names each client's fingerprint."""
    return "\n".join(
        [
            f"dev {DEVICE}",
            f"proto {'udp' if transport == 'udp' else 'tcp-server'}",
            f"port {PORT}",
            "server 172.18.0.0 255.255.0.0",
            "topology subnet",
            "dh none",
            *_keys(own, clients),
            "keepalive 2 20",
        ]
    )


def client_configuration(own: Identity, server: Identity, address: IPv4Address, transport: Transport) -> str:
    """Write a client's configuration. It takes any free port, as programs behind a NAT do."""
    return "\n".join(
        [
            "client",
            f"dev {DEVICE}",
            f"proto {'udp' if transport == 'udp' else 'tcp-client'}",
            f"remote {address} {PORT}",
            "nobind",
            "connect-retry 1 2",
            *_keys(own, [server]),
        ]
    )


def start(namespace: Namespace, folder: Path, configuration: str) -> HostTask:
    """Start OpenVPN in a namespace and return at once."""
    file = folder / f"{namespace.name}.ovpn"
    file.write_text(configuration + "\n")
    return namespace.start("openvpn", "--config", str(file))


def _keys(own: Identity, others: Sequence[Identity]) -> list[str]:
    fingerprints = [other.fingerprint for other in others]
    return [
        f"cert {own.certificate}",
        f"key {own.key}",
        *("<peer-fingerprint>", *fingerprints, "</peer-fingerprint>"),
        "verb 3",
    ]
