"""Three network namespaces in a row, and sockets in them.

    host 10.1.0.2 ──── lan0 router wan0 ──── 203.0.113.9 peer
         2001:db8:1::2      (10.1.0.1, 203.0.113.1)     2001:db8:2::9

Sockets stay in the namespace in which they were made, so one test process holds all ends.
"""

import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scapy.packet import Packet, Raw

HOST, ROUTER_INSIDE, ROUTER_OUTSIDE, PEER = "10.1.0.2", "10.1.0.1", "203.0.113.1", "203.0.113.9"
HOST6, PEER6 = "2001:db8:1::2", "2001:db8:2::9"
ESP = 50
LIMIT_S = 5.0
"""How long anything that must come may take."""
ABSENCE_S = 0.25
"""How long to listen for what must not come, after the router has seen it."""

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Run the block's system calls in a network namespace."""
    with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{name}").open() as there:
        _setns(there.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"not in {LIMIT_S} s: {what}"
        os.sched_yield()


class Row:
    """The namespaces of one test, and the sockets that were made in them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._prefix = f"twfw{os.getpid()}"
        for place in ("host", "router", "peer"):
            self._ip(f"netns add {self.name(place)}")
            stack.callback(self._ip, f"netns del {self.name(place)}")
            self.run(place, "ip link set lo up && sysctl -qw net.ipv6.conf.default.accept_dad=0")
        self._wire("host", "lan0")
        self._wire("peer", "wan0")
        for place, device, addresses in (
            ("host", "eth0", (f"{HOST}/24", f"{HOST6}/64")),
            ("peer", "eth0", (f"{PEER}/24", f"{PEER6}/64")),
            ("router", "lan0", (f"{ROUTER_INSIDE}/24", "2001:db8:1::1/64")),
            ("router", "wan0", (f"{ROUTER_OUTSIDE}/24", "2001:db8:2::1/64")),
        ):
            for address in addresses:
                self.run(place, f"ip addr add {address} dev {device} {'nodad' if ':' in address else ''}")
            self.run(place, f"ip link set {device} up")
        self.run("host", f"ip route add default via {ROUTER_INSIDE}")
        self.run("host", "ip -6 route add default via 2001:db8:1::1")
        self.run("peer", "ip -6 route add default via 2001:db8:2::1")
        self.run("router", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")

    def name(self, place: str) -> str:
        return f"{self._prefix}-{place}"

    def run(self, place: str, command: str) -> str:
        """Run a shell line in a namespace as it stands; it must succeed."""
        with entered(self.name(place)):
            done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{command}: {done.stderr or done.stdout}"
        return done.stdout

    def nft(self, text: str) -> None:
        """Load rules in the router."""
        with entered(self.name("router")):
            subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True, timeout=30)

    def open(
        self, place: str, family: int, kind: int, protocol: int = 0, *, bind: tuple[str, int] | None = None
    ) -> socket.socket:
        """Make a socket with a time limit, which is closed at the end of the test."""
        with entered(self.name(place)):
            made = self._stack.enter_context(socket.socket(family, kind, protocol))
        made.settimeout(LIMIT_S)
        if bind is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(bind)
        return made

    def udp(self, place: str, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return self.open(place, family, socket.SOCK_DGRAM, bind=(address, port))

    def esp(self, place: str) -> socket.socket:
        return self.open(place, socket.AF_INET, socket.SOCK_RAW, ESP)

    def raw(self, place: str, family: int = socket.AF_INET) -> socket.socket:
        """Send whole packets, with the IP header that they have."""
        return self.open(place, family, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def sniffer(self, place: str) -> socket.socket:
        """See every frame that comes to eth0, without its link header."""
        made = self.open(place, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        with entered(self.name(place)):
            made.bind(("eth0", 3))
        return made

    def seen(self) -> int:
        """How many packets the forward hook has seen so far, whatever becomes of them."""
        listing = self.run("router", "nft list chain inet witness seen")
        return int(listing.partition("packets ")[2].split()[0])

    def _ip(self, arguments: str) -> None:
        subprocess.run(["ip", *arguments.split()], check=True, capture_output=True, timeout=30)

    def _wire(self, place: str, device: str) -> None:
        self._ip(f"link add {device} netns {self.name('router')} type veth peer name eth0 netns {self.name(place)}")


def drops(row: Row, comment: str) -> int:
    """Read the counter of the rule of ours with this comment."""
    return counted(row, "table inet throughway", comment)


def counted(row: Row, where: str, comment: str) -> int:
    """Read the counter of the rule with this comment in a table or chain."""
    listing = row.run("router", f"nft list {where}")
    (line,) = [line for line in listing.splitlines() if comment in line]
    return int(line.partition("packets ")[2].split()[0])


def next_of(sniffer: socket.socket, *, protocol: int) -> bytes:
    """Wait for the next IP packet of a protocol that comes in; the socket sees what goes out too."""
    while True:
        packet, (_, _, kind, *_) = sniffer.recvfrom(4096)
        if kind != socket.PACKET_OUTGOING and packet[9 if packet[0] >> 4 == 4 else 6] == protocol:
            return packet


def fragments_of(packet: Packet, size: int) -> list[bytes]:
    """Cut an IPv4 packet into fragments of so many bytes of payload, a multiple of 8, the last one with the rest."""
    header, payload = packet.copy(), bytes(packet.payload)
    header.remove_payload()
    pieces = []
    for at in range(0, len(payload), size):
        header.frag = at // 8
        header.flags = "MF" if at + size < len(payload) else 0
        header.len = header.chksum = None
        pieces.append(bytes(header / Raw(payload[at : at + size])))
    return pieces


def arrives(row: Row, send: Callable[[], object], receiver: socket.socket, marker: bytes) -> bool:
    """Send a packet, and tell whether one with the marker comes through the router."""
    send()
    return _receives(receiver, marker, LIMIT_S)


def is_dropped(row: Row, send: Callable[[], object], receiver: socket.socket, marker: bytes) -> bool:
    """Send a packet, and tell whether the router keeps it: it was seen there, and nothing comes for ABSENCE_S."""
    before = row.seen()
    send()
    until(lambda: row.seen() > before, "the router sees the packet")
    return not _receives(receiver, marker, ABSENCE_S)


def _receives(receiver: socket.socket, marker: bytes, limit_s: float) -> bool:
    receiver.settimeout(limit_s)
    try:
        while marker not in receiver.recv(4096):
            pass
    except TimeoutError:
        return False
    finally:
        receiver.settimeout(LIMIT_S)
    return True
