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
Protection = Literal["none", "tls-auth", "tls-crypt", "tls-crypt-v2"]
"""What wraps the control channel: nothing, an HMAC, encryption, or encryption with a key for each client."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How the two ends speak: the transport, the server's port, and what wraps the control channel."""

    transport: Transport = "udp"
    port: int = PORT
    protection: Protection = "none"


PLAIN: Final = Wire()


@dataclass(frozen=True, slots=True)
class Identity:
    """A self-signed certificate with its key."""

    certificate: Path
    key: Path
    fingerprint: str


def make_identity(folder: Path, name: str, *others: str) -> Identity:
    """Make a certificate for a name, and for others beside it, and return it with its SHA-256 fingerprint."""
    beside = ("-addext", f"subjectAltName={','.join(f'DNS:{other}' for other in others)}") if others else ()
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    command(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)),
        *beside,
    )
    told = command("openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(certificate))
    return Identity(certificate, key, told.strip().partition("=")[2])


def make_wrapping(folder: Path, protection: Protection) -> tuple[list[str], list[str]]:
    """Make the keys that wrap the control channel; return the server's lines of configuration and the clients'."""
    if protection == "none":
        return [], []
    key = folder / "wrapping.key"
    if protection != "tls-crypt-v2":
        command("openvpn", "--genkey", "secret", str(key))
        direction = protection == "tls-auth"
        return [f"{protection} {key}{' 0' * direction}"], [f"{protection} {key}{' 1' * direction}"]
    wrapped = folder / "wrapped.key"
    command("openvpn", "--genkey", "tls-crypt-v2-server", str(key))
    command("openvpn", "--tls-crypt-v2", str(key), "--genkey", "tls-crypt-v2-client", str(wrapped))
    return [f"tls-crypt-v2 {key}"], [f"tls-crypt-v2 {wrapped}"]


def server_configuration(own: Identity, clients: Sequence[Identity], wire: Wire, wrapping: Sequence[str] = ()) -> str:
    """Write the server's configuration, which names each client's fingerprint."""
    return "\n".join(
        [
            f"dev {DEVICE}",
            f"proto {'udp' if wire.transport == 'udp' else 'tcp-server'}",
            f"port {wire.port}",
            "server 172.18.0.0 255.255.0.0",
            "topology subnet",
            "dh none",
            *_keys(own, clients),
            *wrapping,
            "keepalive 2 20",
        ]
    )


def client_configuration(
    own: Identity, server: Identity, address: IPv4Address, wire: Wire, wrapping: Sequence[str] = ()
) -> str:
    """Write a client's configuration. It takes any free port, as programs behind a NAT do."""
    return "\n".join(
        [
            "client",
            f"dev {DEVICE}",
            f"proto {'udp' if wire.transport == 'udp' else 'tcp-client'}",
            f"remote {address} {wire.port}",
            "nobind",
            "connect-retry 1 2",
            *_keys(own, [server]),
            *wrapping,
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
