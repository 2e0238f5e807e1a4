"""pptpd and pptp-linux in guests, since this machine's kernel may lack PPP: MS-CHAPv2 and MPPE with 128 bits."""

from ipaddress import IPv4Address
from typing import Final

from throughway.lab.place import must
from throughway.lab.uml import Guest, GuestNamespace, GuestTask

DEVICE: Final = "ppp0"
TUNNEL_ADDRESS: Final = "172.17.0.1"
PROGRAMS: Final = ("pppd", "pptp", "pptpd", "ss")
SERVER_NAME: Final = "pptpd"

MODULES: Final = ("ppp_generic", "ppp_async", "sha1_generic", "arc4", "ppp_mppe")
"""ppp_generic makes /dev/ppp; ppp_mppe refuses to load in a boot without usable sha1, which shows such a boot."""

_PPP: Final = """\
refuse-eap
refuse-pap
refuse-chap
refuse-mschap
require-mppe-128
nobsdcomp
nodeflate
novj
novjccomp
mtu 1400
mru 1400
noipv6
lcp-restart 1
debug
"""


def user(number: int) -> tuple[str, str]:
    """Return the name and the password of a user of the server, counted from 1."""
    return f"user{number}", f"password{number}"


def start_server(guest: Guest, users: int) -> None:
    """Start pptpd in a booted guest and return when it listens.

    Raises LabFailed when it does not.
    """
    secrets = "".join("{} * {} *\n".format(*user(number)) for number in range(1, users + 1))
    (guest.folder / "chap-secrets").write_text(secrets)
    (guest.folder / "pptpd-ppp").write_text(
        f"name {SERVER_NAME}\nrequire-mschap-v2\nproxyarp\nlock\nnologfd\nlogfile /run/guest/pppd.log\n{_PPP}"
    )
    (guest.folder / "pptpd.conf").write_text(
        f"option /run/guest/pptpd-ppp\ndebug\nlocalip {TUNNEL_ADDRESS}\nremoteip 172.17.1.1-250\nconnections 250\n"
    )
    # pppd's hooks are Debian's and do nothing here but take time; what is removed is the guest's own copy.
    must(guest, "sh", "-c", "rm -rf /etc/ppp/ip-*; cp /run/guest/chap-secrets /etc/ppp/chap-secrets")
    guest.start("pptpd", "--fg", "--conf", "/run/guest/pptpd.conf")
    must(guest, "sh", "/run/guest/listens.sh", "1723", limit_s=30.0)


def start_client(place: GuestNamespace, server: IPv4Address, number: int) -> GuestTask:
    """Start pptp and pppd as user `number` of the server, and return at once."""
    name, password = user(number)
    (place.guest.folder / f"ppp-{number}").write_text(
        f"user {name}\npassword {password}\nremotename {SERVER_NAME}\nnoauth\nnodetach\nnodefaultroute\n"
        f"logfile /run/guest/pppd-{number}.log\n{_PPP}"
    )
    return place.start("sh", "/run/guest/pptp-client.sh", str(server), f"/run/guest/ppp-{number}")


def has_address(guest: Guest, number: int) -> bool:
    """Whether the client's pppd has said that it has an address; looked up without starting a program."""
    log = guest.folder / f"pppd-{number}.log"
    return log.exists() and "remote IP address" in log.read_text(errors="replace")
