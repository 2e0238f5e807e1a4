"""strongSwan in namespaces, with ESP of its own (kernel-libipsec): IKEv2, and ESP in UDP on port 4500.

kernel-libipsec always announces that it is behind a NAT, since it can send ESP in UDP alone.
"""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from throughway.lab.namespace import HostTask, Namespace
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
_IKE: Final = "aes128-sha256-x25519"
_ESP: Final = "aes128-sha256"


def client_address(number: int) -> str:
    """Return the address within the tunnel of a client, counted from 1."""
    return str(IPv4Address("172.20.1.0") + number)


def daemon(folder: Path, ports: tuple[int, int] = PORTS) -> str:
    """Write charon's settings; `folder` takes its socket and its log. Port 0 is any free one."""
    return f"""\
charon {{
  port = {ports[0]}
  port_nat_t = {ports[1]}
  load = random nonce aes sha1 sha2 hmac kdf gmp curve25519 openssl kernel-libipsec kernel-netlink socket-default vici
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
  load = pem pkcs1 x509
}}
"""


def server_connections(address: IPv4Address) -> str:
    """Write the server's connection, for any number of clients."""
    return _connection(f"local_addrs = {address}", "server", "%any", f"{TUNNEL_ADDRESS}/32", "172.20.1.0/24")


def client_connections(server: IPv4Address, number: int, port: int = PORTS[0]) -> str:
    """Write a client's connection, to a port of the server; to another one than 500 all goes as behind a NAT."""
    own = f"{client_address(number)}/32"
    return _connection(
        f"remote_addrs = {server}\n    remote_port = {port}", f"client{number}", "server", own, f"{TUNNEL_ADDRESS}/32"
    )


def start_server(namespace: Namespace, folder: Path, address: IPv4Address, ports: tuple[int, int] = PORTS) -> HostTask:
    """Start a server and return when its connection is loaded."""
    (folder / "strongswan.conf").write_text(daemon(folder, ports))
    return _start(namespace, folder, server_connections(address), TUNNEL_ADDRESS)


def start_client(
    namespace: Namespace, folder: Path, server: IPv4Address, number: int, port: int = PORTS[0]
) -> HostTask:
    """Start a client, which connects by itself, and return when its connection is loaded.

    To another port than 500 it goes from any free one, so that neither end has a port of IKE's.
    """
    (folder / "strongswan.conf").write_text(daemon(folder, PORTS if port == PORTS[0] else (0, 0)))
    return _start(namespace, folder, client_connections(server, number, port), client_address(number))


def _start(namespace: Namespace, folder: Path, connections: str, address: str) -> HostTask:
    (folder / "swanctl.conf").write_text(connections)
    namespace.command("ip", "address", "add", f"{address}/32", "dev", "lo")
    settings = {"STRONGSWAN_CONF": str(folder / "strongswan.conf")}
    # charon has its process number in /run, one for the whole machine; each gets a /run of its own.
    alone = "mount -t tmpfs tmpfs /run && exec /usr/lib/ipsec/charon"
    task = namespace.start("unshare", "--mount", "sh", "-c", alone, environment=settings)
    loaded = f"until [ -S {folder}/vici ]; do sleep 0.05; done; exec swanctl --load-all --file {folder}/swanctl.conf"
    must(namespace, "sh", "-c", f"{loaded} --uri unix://{folder}/vici", environment=settings)
    return task


def _connection(ends: str, own_id: str, other_id: str, local: str, remote: str) -> str:
    begin = "none" if other_id == "%any" else "start"
    return f"""\
connections {{
  vpn {{
    version = 2
    {ends}
    proposals = {_IKE}
    local {{
      auth = psk
      id = {own_id}
    }}
    remote {{
      auth = psk
      id = {other_id}
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
