"""strongSwan in a guest, with the ESP of the guest's kernel: the server for clients with native ESP."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from throughway.lab.place import must
from throughway.lab.uml import Guest

GROUP: Final = "group"
GROUP_SECRET: Final = "a secret of the lab"  # noqa: S105 - it guards nothing outside the lab's namespaces
TUNNEL_ADDRESS: Final = "172.16.0.1"

MODULES: Final = (
    *("esp4", "xfrm_user", "tunnel4", "xfrm4_tunnel"),
    *("authenc", "cbc", "hmac", "sha1_generic", "echainiv"),
    *("drbg", "jitterentropy_rng", "sha512_generic"),  # echainiv's random numbers
)

_SHA1_CHECK: Final = (
    "ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x100 mode tunnel"
    " enc 'cbc(aes)' 0x00112233445566778899aabbccddeeff"
    " auth 'hmac(sha1)' 0x000102030405060708090a0b0c0d0e0f10111213"
)
CHECK: Final = f"{_SHA1_CHECK} && ip xfrm state flush"
"""Makes the kind of security association that the clients will want, and takes it away again."""

PROGRAMS: Final = (
    "/usr/lib/ipsec/charon",
    "swanctl",
    "/usr/lib/ipsec/plugins/libstrongswan-openssl.so",
    "/usr/lib/ipsec/plugins/libstrongswan-xauth-generic.so",
)

_DAEMON: Final = """\
charon {
  i_dont_care_about_security_and_use_aggressive_mode_psk = yes
  cisco_unity = yes
  load = random nonce aes sha1 sha2 md5 hmac kdf gmp openssl kernel-netlink socket-default vici xauth-generic attr unity
  filelog {
    log {
      path = /run/guest/charon.log
      default = 1
      ike = 2
      flush_line = yes
    }
  }
}
swanctl {
  load = pem pkcs1 x509
}
"""


def user(number: int) -> tuple[str, str]:
    """Return the name and the password of a user of the server, counted from 1."""
    return f"user{number}", f"password{number}"


def connections(address: IPv4Address, users: int) -> str:
    """Write the server's connections: IKEv1 aggressive mode with a group secret and XAUTH, and a pool of addresses."""
    secrets = [f'ike-group {{\n secret = "{GROUP_SECRET}"\n }}']
    for number in range(1, users + 1):
        name, password = user(number)
        secrets.append(f"xauth-{number} {{\n id = {name}\n secret = {password}\n }}")
    return f"""\
connections {{
  remote-access {{
    version = 1
    aggressive = yes
    proposals = aes128-sha1-modp1024
    local_addrs = {address}
    pools = clients
    local {{
      auth = psk
    }}
    remote {{
      auth = psk
    }}
    remote-xauth {{
      auth = xauth
    }}
    children {{
      net {{
        local_ts = 0.0.0.0/0
        esp_proposals = aes128-sha1
      }}
    }}
  }}
}}
pools {{
  clients {{
    addrs = 172.16.1.1-172.16.1.250
  }}
}}
secrets {{
{chr(10).join(secrets)}
}}
"""


def start(guest: Guest, address: IPv4Address, users: int) -> None:
    """Start strongSwan in a booted guest and return when its connections are loaded.

    Raises LabFailed with what swanctl says when they are not taken.
    """
    write(guest.folder, address, users)
    must(guest, "ip", "address", "add", f"{TUNNEL_ADDRESS}/32", "dev", "lo")
    guest.start("/usr/lib/ipsec/charon", environment={"STRONGSWAN_CONF": "/run/guest/strongswan.conf"})
    must(guest, "sh", "/run/guest/strongswan-load.sh", limit_s=30.0)


def write(folder: Path, address: IPv4Address, users: int) -> None:
    """Write the server's two configuration files."""
    (folder / "strongswan.conf").write_text(_DAEMON)
    (folder / "swanctl.conf").write_text(connections(address, users))
