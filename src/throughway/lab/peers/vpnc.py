"""vpnc in a namespace: IKEv1 with XAUTH, and native ESP that it makes itself, without NAT traversal."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from throughway.lab.namespace import HostTask, Namespace
from throughway.lab.peers import strongswan

DEVICE: Final = "tun0"
PROGRAMS: Final = ("vpnc",)

_SCRIPT: Final = """\
#!/bin/sh
# vpnc calls this when it has an address from the server. Only the tunnel's interface is set up: what vpnc would
# do itself, to the default route and to resolv.conf, is left alone.
[ "$reason" = connect ] || exit 0
ip address add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
ip link set "$TUNDEV" mtu 1400 up
ip route add 172.16.0.0/16 dev "$TUNDEV"
"""


def configuration(server: IPv4Address, name: str, password: str, script: Path, *, dead_after_s: int = 0) -> str:
    """Write vpnc's configuration. With NAT traversal off it sends no NAT-T vendor ID, so ESP stays native.

    vpnc asks a server that was silent for `dead_after_s` whether it lives, and ends when it gets no answer; 0: never.
    """
    return f"""\
IPSec gateway {server}
IPSec ID {strongswan.GROUP}
IPSec secret {strongswan.GROUP_SECRET}
Xauth username {name}
Xauth password {password}
IKE DH Group dh2
Perfect Forward Secrecy nopfs
NAT Traversal Mode none
Local Port 500
Interface name {DEVICE}
Script {script}
DPD idle timeout (our side) {dead_after_s}
"""


def start(namespace: Namespace, server: IPv4Address, number: int, folder: Path, *, dead_after_s: int = 0) -> HostTask:
    """Start vpnc as user `number` of the server, and return at once. `folder` takes its files."""
    script = folder / "vpnc-script"
    script.write_text(_SCRIPT)
    script.chmod(0o700)
    file = folder / f"{namespace.name}.conf"
    file.write_text(configuration(server, *strongswan.user(number), script, dead_after_s=dead_after_s))
    file.chmod(0o600)
    pid_file = folder / f"{namespace.name}.pid"
    return namespace.start("vpnc", "--no-detach", "--debug", "1", "--pid-file", str(pid_file), str(file))
