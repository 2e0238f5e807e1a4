"""The programs that the lab runs, and the Debian packages that bring them."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SEARCHED: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for: those of an administrator, whatever PATH the caller has."""

PACKAGES: Final = {
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "ping": "iputils-ping",
    "sysctl": "procps",
    "tcpdump": "tcpdump",
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
    packages = sorted({PACKAGES[name] for name in names})
    return f"missing: {', '.join(names)}; install with: apt-get install --no-install-recommends {' '.join(packages)}"
