"""strongSwan in namespaces, with ESP of its own (kernel-libipsec): IKEv2, and ESP in UDP on port 4500.

kernel-libipsec always announces that it is behind a NAT, since it can send ESP in UDP alone.
"""

import shutil
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from throughway.lab.namespace import HostTask, Namespace
from throughway.lab.peers.openvpn import Identity
from throughway.lab.place import must

TUNNEL_ADDRESS: Final = "172.20.0.1"
PROGRAMS: Final = (
    "unshare",
    "/usr/lib/ipsec/charon",
    "swanctl",
    "/usr/lib/ipsec/plugins/libstrongswan-openssl.so",
    "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so",
)

PORTS: Final = (500, 4500)
"""Of IKE, and of IKE and ESP in UDP behind a NAT (RFC 7296 section 2.23)."""

_SECRET: Final = "a secret of the lab"  # noqa: S105 - it guards nothing outside the lab's namespaces
_PLUGINS: Final = (
    "pem pkcs1 pkcs8 x509 pubkey random nonce aes sha1 sha2 hmac kdf gmp curve25519 openssl "
    "kernel-libipsec kernel-netlink socket-default vici"
)
_IKE: Final = "aes128-sha256-x25519"
_ESP: Final = "aes128-sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How both ends do it where they do not do it as usual.

    With a port all of it goes to that one of the server, as behind a NAT, and from any free one, so that neither end
    has a port of IKE's. Unanswered requests are repeated each `repeat_s` without end; 0: as strongSwan does it, later
    each time, and five times. With identities, one of the server and one of all clients, they prove themselves by
    certificates, which they send in messages that are not cut by IKE itself (RFC 7383) but by IP.
    """

    port: int | None = None
    repeat_s: float = 0.0
    server: Identity | None = None
    client: Identity | None = None

    @property
    def server_ports(self) -> tuple[int, int]:
        """The ports of the server, of which 0 is any free one."""
        return PORTS if self.port is None else (0, self.port)

    @property
    def client_ports(self) -> tuple[int, int]:
        """The ports of a client."""
        return PORTS if self.port is None else (0, 0)


USUAL: Final = Manner()


def client_address(number: int) -> str:
    """Return the address within the tunnel of a client, counted from 1."""
    return str(IPv4Address("172.20.1.0") + number)


def daemon(folder: Path, ports: tuple[int, int] = PORTS, repeat_s: float = 0.0) -> str:
    """Write charon's settings; `folder` takes its socket and its log. Port 0 is any free one."""
    repeat = f"retransmit_timeout = {repeat_s:g}\n  retransmit_base = 1\n  retransmit_tries = 100" if repeat_s else ""
    return f"""\
charon {{
  port = {ports[0]}
  port_nat_t = {ports[1]}
  {repeat}
  load = {_PLUGINS}
  plugins {{
    vici {{
      socket = unix://{folder}/vici
    }}
  }}
  filelog {{
    log {{
      path = {folder}/charon.log
      default = 1
      flush_line = yes
    }}
  }}
}}
swanctl {{
  load = pem pkcs1 pkcs8 x509 openssl
}}
"""


def server_connections(address: IPv4Address, manner: Manner = USUAL) -> str:
    """Write the server's connection, for any number of clients."""
    ends = (("server", manner.server), ("%any", manner.client))
    return _connection(f"local_addrs = {address}", *ends, f"{TUNNEL_ADDRESS}/32", "172.20.1.0/24")


def client_connections(server: IPv4Address, number: int, manner: Manner = USUAL) -> str:
    """Write a client's connection."""
    ends = ((f"client{number}", manner.client), ("server", manner.server))
    where = f"remote_addrs = {server}\n    remote_port = {manner.port or PORTS[0]}"
    return _connection(where, *ends, f"{client_address(number)}/32", f"{TUNNEL_ADDRESS}/32")


def start_server(namespace: Namespace, folder: Path, address: IPv4Address, manner: Manner = USUAL) -> HostTask:
    """Start a server and return when its connection is loaded."""
    (folder / "strongswan.conf").write_text(daemon(folder, manner.server_ports, manner.repeat_s))
    return _start(namespace, folder, server_connections(address, manner), TUNNEL_ADDRESS, manner.server)


def start_client(
    namespace: Namespace, folder: Path, server: IPv4Address, number: int, manner: Manner = USUAL
) -> HostTask:
    """Start a client, which connects by itself, and return when its connection is loaded."""
    (folder / "strongswan.conf").write_text(daemon(folder, manner.client_ports, manner.repeat_s))
    connections = client_connections(server, number, manner)
    return _start(namespace, folder, connections, client_address(number), manner.client)


def _start(namespace: Namespace, folder: Path, connections: str, address: str, own: Identity | None) -> HostTask:
    (folder / "swanctl.conf").write_text(connections)
    if own is not None:
        (folder / "private").mkdir(exist_ok=True)
        shutil.copy(own.key, folder / "private")
    namespace.command("ip", "address", "replace", f"{address}/32", "dev", "lo")
    settings = {"STRONGSWAN_CONF": str(folder / "strongswan.conf"), "SWANCTL_DIR": str(folder)}
    (folder / "vici").unlink(missing_ok=True)
    # charon has its process number in /run, one for the whole machine; each gets a /run of its own.
    alone = "mount -t tmpfs tmpfs /run && exec /usr/lib/ipsec/charon"
    task = namespace.start("unshare", "--mount", "sh", "-c", alone, environment=settings)
    loaded = f"until [ -S {folder}/vici ]; do sleep 0.05; done; exec swanctl --load-all --file {folder}/swanctl.conf"
    must(namespace, "sh", "-c", f"{loaded} --uri unix://{folder}/vici", environment=settings)
    return task


def _connection(
    ends: str, own: tuple[str, Identity | None], other: tuple[str, Identity | None], local: str, remote: str
) -> str:
    begin = "none" if other[0] == "%any" else "start"
    fragmentation = "yes" if own[1] is None else "no"
    return f"""\
connections {{
  vpn {{
    version = 2
    fragmentation = {fragmentation}
    {ends}
    proposals = {_IKE}
    local {{
      {_proof(*own)}
    }}
    remote {{
      {_proof(*other)}
    }}
    children {{
      net {{
        local_ts = {local}
        remote_ts = {remote}
        esp_proposals = {_ESP}
        start_action = {begin}
      }}
    }}
  }}
}}
secrets {{
  ike-lab {{
    secret = "{_SECRET}"
  }}
}}
"""


def _proof(name: str, identity: Identity | None) -> str:
    return (
        f"auth = psk\n      id = {name}" if identity is None else f"auth = pubkey\n      certs = {identity.certificate}"
    )
