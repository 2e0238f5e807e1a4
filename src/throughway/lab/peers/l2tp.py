"""xl2tpd in guests, with PPP and L2TP of the guest's kernel; by itself, or within IPsec as telephones do it."""

from ipaddress import IPv4Address
from typing import Final

from throughway.lab.peers import strongswan
from throughway.lab.peers.pptp import user
from throughway.lab.place import Place, must
from throughway.lab.uml import Guest, GuestTask

DEVICE: Final = "ppp0"
PORT: Final = 1701
TUNNEL_ADDRESS: Final = "172.26.0.1"
PROGRAMS: Final = ("pppd", "xl2tpd", "ss")
MODULES: Final = ("ppp_generic", "ppp_async", "l2tp_ppp")
IPSEC_MODULES: Final = (*strongswan.MODULES, "xfrm4_tunnel")
CONNECTION: Final = "l2tp"

_SERVER_NAME: Final = "l2tpd"
_SECRET: Final = "a secret of the lab"  # noqa: S105 - it guards nothing outside the lab's namespaces

_PPP: Final = """\
novj
nobsdcomp
nodeflate
noipv6
lcp-restart 1
mtu 1300
mru 1300
debug
"""

_DAEMON: Final = """\
charon {
  load = random nonce aes sha1 sha2 hmac kdf gmp openssl kernel-netlink socket-default vici
  filelog {
    log {
      path = /run/guest/charon.log
      default = 1
      flush_line = yes
    }
  }
}
swanctl {
  load = pem pkcs1 x509
}
"""


def connections(own: IPv4Address, server: IPv4Address | None) -> str:
    """Write one end's IPsec: IKEv1 with a secret, transport mode, for L2TP alone (RFC 3193).

    The server's own end has no `server`.
    """
    remote = f"    remote_addrs = {server}\n" if server else ""
    return f"""\
connections {{
  {CONNECTION} {{
    version = 1
    proposals = aes128-sha1-modp2048
    local_addrs = {own}
{remote}    local {{
      auth = psk
    }}
    remote {{
      auth = psk
    }}
    children {{
      {CONNECTION} {{
        mode = transport
        esp_proposals = aes128-sha1
        local_ts = dynamic[udp/1701]
        remote_ts = dynamic[{"udp/1701" if server else "udp"}]
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


def start_server(guest: Guest, users: int, port: int = PORT) -> None:
    """Start xl2tpd in a booted guest and return when it listens.

    Raises LabFailed when it does not.
    """
    secrets = "".join("{} * {} *\n".format(*user(number)) for number in range(1, users + 1))
    (guest.folder / "chap-secrets").write_text(secrets)
    (guest.folder / "l2tp-ppp").write_text(
        f"name {_SERVER_NAME}\nrequire-mschap-v2\nnologfd\nlogfile /run/guest/pppd.log\n{_PPP}"
    )
    (guest.folder / "xl2tpd.conf").write_text(
        f"[global]\nport = {port}\n[lns default]\nip range = 172.26.1.1-172.26.1.250\nlocal ip = {TUNNEL_ADDRESS}\n"
        f"require chap = yes\nrefuse pap = yes\nname = {_SERVER_NAME}\npppoptfile = /run/guest/l2tp-ppp\n"
        "length bit = yes\n"
    )
    # pppd's hooks are Debian's and do nothing here but take time; what is removed is the guest's own copy.
    prepared = "rm -rf /etc/ppp/ip-*; cp /run/guest/chap-secrets /etc/ppp/chap-secrets; mkdir -p /run/xl2tpd"
    must(guest, "sh", "-c", prepared)
    guest.start("xl2tpd", "-D", "-c", "/run/guest/xl2tpd.conf", "-p", "/run/xl2tpd.pid", "-C", "/run/xl2tpd/control")
    must(guest, "sh", "/run/guest/listens.sh", str(port), "udp", limit_s=30.0)


def protect_server(guest: Guest, address: IPv4Address) -> None:
    """Start strongSwan in the server's guest, and let it take L2TP within IPsec alone.

    Raises LabFailed with what swanctl says when its connection is not taken.
    """
    (guest.folder / "strongswan.conf").write_text(_DAEMON)
    (guest.folder / "swanctl.conf").write_text(connections(address, None))
    # Whatever comes without IPsec is dropped: policies of SAs have better priorities.
    block = f"src 0.0.0.0/0 dst {address}/32 proto udp dport 1701 dir in priority 4000000 action block"
    must(guest, "ip", "xfrm", "policy", "add", *block.split())
    guest.start("/usr/lib/ipsec/charon", environment={"STRONGSWAN_CONF": "/run/guest/strongswan.conf"})
    must(guest, "sh", "/run/guest/strongswan-load.sh", limit_s=30.0)


def start_client(
    place: Place, guest: Guest, server: tuple[IPv4Address, int], number: int, own: IPv4Address | None = None
) -> GuestTask:
    """Start xl2tpd as user `number` of a server, which has a port, and return at once.

    With an address of its own, within IPsec.
    """
    address, port = server
    folder = guest.folder / f"l2tp-{number}"
    folder.mkdir(exist_ok=True)
    seen = f"/run/guest/{folder.name}"
    name, password = user(number)
    (folder / "ppp").write_text(
        f"user {name}\npassword {password}\nremotename {_SERVER_NAME}\nnoauth\nnodefaultroute\n"
        f"nologfd\nlogfile {seen}/pppd.log\n{_PPP}"
    )
    (folder / "xl2tpd.conf").write_text(
        f"[global]\nport = {port}\n[lac vpn]\nlns = {address}:{port}\nautodial = yes\nredial = yes\n"
        f"redial timeout = 2\nmax redials = 5\npppoptfile = {seen}/ppp\nlength bit = yes\n"
    )
    connection = []
    if own is not None:
        (folder / "strongswan.conf").write_text(_DAEMON)
        (folder / "swanctl.conf").write_text(connections(own, address))
        connection = [CONNECTION]
    task = place.start("unshare", "--mount", "sh", "/run/guest/l2tp-client.sh", seen, *connection)
    assert isinstance(task, GuestTask)  # noqa: S101 - the place is a guest, or a namespace in one
    return task


def has_address(guest: Guest, number: int) -> bool:
    """Whether the client's pppd has said that it has an address; looked up without starting a program."""
    log = guest.folder / f"l2tp-{number}" / "pppd.log"
    return log.exists() and "remote IP address" in log.read_text(errors="replace")
