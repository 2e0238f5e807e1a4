"""libreswan in guests: IKEv2 with `encapsulation=no`, so that ESP stays native although there is a NAT.

Debian's package conflicts with strongSwan's, so it is not installed but unpacked, and laid over /usr in the guests.
"""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from throughway.lab import programs
from throughway.lab.errors import LabFailed
from throughway.lab.place import Place
from throughway.lab.uml import Guest, GuestTask
from throughway.lab.waiting import wait_until

TUNNEL_ADDRESS: Final = "172.25.0.1"
MODULES: Final = (
    *("esp4", "xfrm_user", "tunnel4", "xfrm4_tunnel"),
    *("authenc", "gcm", "ghash-generic", "ctr", "seqiv"),
    *("drbg", "jitterentropy_rng", "sha512_generic", "hmac"),  # seqiv's random numbers
)
PROGRAMS: Final = (f"{programs.LIBRESWAN}/usr/libexec/ipsec/pluto",)

_READY_LIMIT_S: Final = 40.0
_COMMON: Final = """\
config setup
  uniqueids=no
  dnssec-enable=no

conn %default
  authby=secret
  ikev2=insist
  encapsulation=no
  fragmentation=no
  ike=aes128-sha256-dh19
  esp=aes_gcm128
  leftupdown=%disabled
"""
_SECRET: Final = ': PSK "a secret of the lab"\n'  # noqa: S105 - it guards nothing outside the lab's namespaces


def client_address(number: int) -> str:
    """Return the address within the tunnel of a client, counted from 1."""
    return str(IPv4Address("172.25.1.0") + number)


def server_settings(address: IPv4Address, clients: int) -> str:
    """Write the server's ipsec.conf: a connection for each client."""
    return _COMMON + "".join(
        f"""
conn client{number}
  left={address}
  leftid=@server
  leftsubnet={TUNNEL_ADDRESS}/32
  right=%any
  rightid=@client{number}
  rightsubnet={client_address(number)}/32
"""
        for number in range(1, clients + 1)
    )


def client_settings(own: IPv4Address, server: IPv4Address, number: int) -> str:
    """Write a client's ipsec.conf."""
    return f"""{_COMMON}
conn client{number}
  left={own}
  leftid=@client{number}
  leftsubnet={client_address(number)}/32
  right={server}
  rightid=@server
  rightsubnet={TUNNEL_ADDRESS}/32
"""


def start_server(guest: Guest, address: IPv4Address, clients: int) -> None:
    """Start the server and return when its connections are loaded.

    Raises LabFailed with its words when it ends, GaveUp when they are not loaded in time.
    """
    names = [f"client{number}" for number in range(1, clients + 1)]
    task = _start(guest, guest, "server", server_settings(address, clients), TUNNEL_ADDRESS, "wait", *names)

    def is_ready() -> bool:
        if task.status() is not None:
            raise LabFailed(f"{task.label} ended: {task.output().strip()}")
        return "ready" in task.output()

    wait_until(is_ready, _READY_LIMIT_S, f"{task.label} to be ready")


def start_client(place: Place, guest: Guest, own: IPv4Address, server: IPv4Address, number: int) -> GuestTask:
    """Start a client, which connects by itself, and return at once."""
    name = f"client{number}"
    return _start(place, guest, name, client_settings(own, server, number), client_address(number), "start", name)


def is_loaded(task: GuestTask) -> bool:
    """Whether the client has got as far as to connect."""
    return "ready" in task.output()


def _start(place: Place, guest: Guest, name: str, settings: str, address: str, how: str, *names: str) -> GuestTask:
    folder: Path = guest.folder / name
    folder.mkdir(exist_ok=True)
    (folder / "ipsec.conf").write_text(settings)
    (folder / "ipsec.secrets").write_text(_SECRET)
    words = (str(programs.LIBRESWAN), f"/run/guest/{name}", how, *names)
    line = f'ip address add {address}/32 dev lo && exec unshare --mount sh /run/guest/libreswan.sh "$@"'
    task = place.start("sh", "-c", line, "sh", *words)
    assert isinstance(task, GuestTask)  # noqa: S101 - the place is a guest, or a namespace in one
    return task
