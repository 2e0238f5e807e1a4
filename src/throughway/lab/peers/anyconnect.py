"""openconnect and ocserv in namespaces: AnyConnect's protocol, TLS and DTLS on the same port, 443 as a rule."""

import base64
import hashlib
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, NamedTuple

from throughway.lab.namespace import HostTask, Namespace, command
from throughway.lab.peers.openvpn import Identity
from throughway.lab.waiting import wait_until

DEVICE: Final = "tun0"
PORT: Final = 443
TUNNEL_ADDRESS: Final = "172.21.0.1"
PROGRAMS: Final = ("ocserv", "ocpasswd", "openconnect", "openssl")

_READY_LIMIT_S: Final = 10.0

_SCRIPT: Final = """\
#!/bin/sh
# openconnect calls this when it has an address from the server. Only the tunnel's interface is set up.
[ "$reason" = connect ] || exit 0
ip address add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
ip link set "$TUNDEV" mtu "$INTERNAL_IP4_MTU" up
ip route add 172.21.0.0/16 dev "$TUNDEV"
"""


class At(NamedTuple):
    """Where the server listens, on TCP and on UDP."""

    address: IPv4Address
    port: int = PORT


def user(number: int) -> tuple[str, str]:
    """Return the name and the password of a user of the server, counted from 1."""
    return f"user{number}", f"password{number}"


def server_configuration(folder: Path, own: Identity, at: At) -> str:
    """Write ocserv's configuration; `folder` has its files."""
    return f"""\
auth = "plain[passwd={folder}/passwords]"
tcp-port = {at.port}
udp-port = {at.port}
listen-host = {at.address}
run-as-user = root
run-as-group = root
socket-file = {folder}/ocserv.sock
pid-file = {folder}/ocserv.pid
server-cert = {own.certificate}
server-key = {own.key}
isolate-workers = false
max-clients = 64
keepalive = 30
dpd = 10
device = vpns
ipv4-network = 172.21.0.0/24
route = 172.21.0.0/24
ping-leases = false
cisco-client-compat = true
"""


def start_server(namespace: Namespace, folder: Path, own: Identity, at: At, users: int) -> HostTask:
    """Start ocserv with so many users and return when it listens.

    Raises GaveUp when it does not.
    """
    for number in range(1, users + 1):
        name, password = user(number)
        command("ocpasswd", "-c", str(folder / "passwords"), name, script=f"{password}\n{password}\n")
    (folder / "ocserv.conf").write_text(server_configuration(folder, own, at))
    task = namespace.start("ocserv", "--foreground", "--debug", "1", "--config", str(folder / "ocserv.conf"))

    def listens() -> bool:
        return f":{at.port}" in namespace.command("ss", "-Hltn", f"sport = :{at.port}")

    wait_until(listens, _READY_LIMIT_S, f"{task.label} to listen", task.log)
    return task


def start_client(namespace: Namespace, folder: Path, server: At, pin: str, number: int) -> HostTask:
    """Start openconnect as user `number`, with the pin of the server's certificate, and return at once."""
    script = folder / "script"
    if not script.exists():
        script.write_text(_SCRIPT)
        script.chmod(0o700)
    name, password = user(number)
    task = namespace.start(
        *("openconnect", "--user", name, "--passwd-on-stdin", "--non-inter", "--servercert", f"pin-sha256:{pin}"),
        *("--interface", DEVICE, "--script", str(script), f"https://{server.address}:{server.port}/"),
        with_input=True,
    )
    if task.stdin is not None:
        task.stdin.write(f"{password}\n".encode())
        task.stdin.flush()
    return task


def pin_of(identity: Identity) -> str:
    """Return the base64 of the SHA-256 of a certificate's public key (RFC 7469 section 2.4)."""
    pem = command("openssl", "x509", "-in", str(identity.certificate), "-noout", "-pubkey")
    key = base64.b64decode("".join(pem.splitlines()[1:-1]))
    return base64.b64encode(hashlib.sha256(key).digest()).decode()
