"""L2TPv3 over IP with unmanaged sessions, in namespaces.

The ends are the lab's own program: neither user-mode-linux nor every machine's kernel has L2TPv3, and no package has it
as a program.
"""

import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from throughway.lab.namespace import HostTask, Namespace
from throughway.lab.waiting import wait_until

DEVICE: Final = "l2tpeth1"
MTU: Final = 1462
"""1500 less an IPv4 header, the session ID and the header of the Ethernet frame."""

PROGRAM: Final = Path(__file__).parents[1] / "alone" / "l2tpv3.py"
READY_LIMIT_S: Final = 10.0


def target(number: int) -> str:
    """Return the server's address on the pseudowire of a client, counted from 1."""
    return f"172.24.{number}.1"


def client_address(number: int) -> str:
    """Return the address on its pseudowire of a client, counted from 1."""
    return f"172.24.{number}.2"


def session_ids(number: int) -> tuple[int, int]:
    """Return the session IDs of a client's messages: towards the server, and towards the client."""
    return 0x30000 + number, 0x40000 + number


def start_server(namespace: Namespace, own: IPv4Address, seen_as: IPv4Address, clients: int) -> HostTask:
    """Start the server's end, with a session for each client, all of which it sees at one address."""
    ends = [(f"l2tpeth{number}", *session_ids(number), target(number)) for number in range(1, clients + 1)]
    return _start(namespace, own, seen_as, ends)


def start_client(namespace: Namespace, own: IPv4Address, server: IPv4Address, number: int) -> HostTask:
    """Start a client's end."""
    to_server, to_client = session_ids(number)
    return _start(namespace, own, server, [(DEVICE, to_client, to_server, client_address(number))])


def _start(
    namespace: Namespace, own: IPv4Address, other: IPv4Address, ends: list[tuple[str, int, int, str]]
) -> HostTask:
    sessions = [str(word) for device, received, sent, _ in ends for word in (device, received, sent)]
    task = namespace.start(sys.executable, "-I", "-S", str(PROGRAM), str(own), str(other), *sessions)
    wait_until(lambda: "ready" in task.output(), READY_LIMIT_S, f"{task.label} to be ready", task.log)
    for device, _, _, address in ends:
        # The server's end would speak first, with IPv6's own messages, which no NAT lets in.
        namespace.command("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")
        namespace.command("ip", "address", "add", f"{address}/30", "dev", device)
        namespace.command("ip", "link", "set", device, "mtu", str(MTU), "up")
    return task
