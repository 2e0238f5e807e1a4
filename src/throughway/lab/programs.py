"""The programs that the lab runs, and the Debian packages that bring them."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SEARCHED: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for: those of an administrator, whatever PATH the caller has."""

UNPACKED: Final = Path("/var/cache/throughway-lab")
"""Where script/setup unpacks the packages that cannot be installed beside the others, each in a folder of its own."""

LIBRESWAN: Final = UNPACKED / "libreswan"

PACKAGES: Final = {
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "ping": "iputils-ping",
    "sysctl": "procps",
    "tcpdump": "tcpdump",
    "tshark": "tshark",
    "modprobe": "kmod",
    "ss": "iproute2",
    "linux.uml": "user-mode-linux",
    "/usr/lib/uml/modules": "user-mode-linux",
    "vpnc": "vpnc",
    "/usr/lib/ipsec/charon": "strongswan-charon",
    "swanctl": "strongswan-swanctl",
    "/usr/lib/ipsec/plugins/libstrongswan-vici.so": "strongswan-swanctl",
    "/usr/lib/ipsec/plugins/libstrongswan-xauth-generic.so": "libcharon-extauth-plugins",
    "/usr/lib/ipsec/plugins/libstrongswan-openssl.so": "libstrongswan-standard-plugins",
    "pppd": "ppp",
    "pptp": "pptp-linux",
    "pptpd": "pptpd",
    "openvpn": "openvpn",
    "openssl": "openssl",
    "wireguard-go": "wireguard-go",
    "wg": "wireguard-tools",
    "unshare": "util-linux",
    "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so": "libcharon-extra-plugins",
    "ocserv": "ocserv",
    "ocpasswd": "ocserv",
    "openconnect": "openconnect",
    "xl2tpd": "xl2tpd",
    f"{LIBRESWAN}/usr/libexec/ipsec/pluto": "libreswan",
}
"""Program or file, to Debian package."""

ALWAYS: Final = ("ip", "nft", "nsenter", "ping", "sysctl", "tcpdump")
"""What every scenario needs."""

GUEST: Final = ("linux.uml", "/usr/lib/uml/modules", "modprobe")
"""What a user-mode-linux guest needs."""


def is_present(program: str) -> bool:
    """Whether a program is installed; a name with a slash is a file or folder that must exist."""
    return Path(program).exists() if "/" in program else shutil.which(program, path=SEARCHED) is not None


def what_is_missing(programs: Iterable[str]) -> str | None:
    """Say in one sentence what keeps the lab from running these programs, and the remedy; None when nothing does."""
    if os.geteuid() != 0:
        return "the lab makes network namespaces: run it as root"
    missing = [program for program in (*ALWAYS, *programs) if not is_present(program)]
    return remedy(missing) if missing else None


def remedy(missing: Iterable[str]) -> str:
    """Name the missing programs and the command that installs them."""
    names = list(dict.fromkeys(missing))
    unpacked = {PACKAGES[name] for name in names if Path(name).is_relative_to(UNPACKED)}
    installed = sorted({PACKAGES[name] for name in names} - unpacked)
    ways = []
    if installed:
        ways.append(f"install with: apt-get install --no-install-recommends {' '.join(installed)}")
    if unpacked:
        ways.append(f"script/setup unpacks {', '.join(sorted(unpacked))}, which cannot be installed beside strongSwan")
    return "; ".join((f"missing: {', '.join(names)}", *ways))
