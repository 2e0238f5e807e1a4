"""A gateway's network in namespaces, with raw sockets at its ends.

    alice 10.10.1.2, .3, ... --- in0 10.10.1.1 +--------+
                                               | router | out0 203.0.113.1 --- peer 203.0.113.9
    bob   10.10.2.2 ------------ in1 10.10.2.1 +--------+

The forward filter of the router drops by default and accepts what carries our mark, as somebody else's would
with the one rule that they need. The thread that asks for it works in the router's namespace; sockets belong
to the namespace that they were made in.
"""

import contextlib
import ctypes
import itertools
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from throughway.core.ids import Host, Peer
from throughway.core.ports import Interface

LIMIT_S = 5.0
OUTSIDE = IPv4Address("203.0.113.1")
NEW_OUTSIDE = IPv4Address("203.0.113.2")
PEER = Peer(IPv4Address("203.0.113.9"))
ALICE = Host(IPv4Address("10.10.1.2"))
ALICES = tuple(Host(IPv4Address("10.10.1.2") + n) for n in range(15))
BOB = Host(IPv4Address("10.10.2.2"))
IKE_HEADER = bytes(range(1, 9)) + bytes(8) + bytes((33, 0x20, 34, 0x08)) + bytes(4) + struct.pack("!I", 28)

RULES = """
table inet test {
	chain raw { type filter hook prerouting priority -450; ip protocol { esp, gre, 94, 115 } notrack; }
	chain raw_out { type filter hook output priority -450; ip protocol { esp, gre, 94, 115 } notrack; }
	chain errors {
		type filter hook prerouting priority -300;
		iifname { "in0", "in1" } icmp type { destination-unreachable, time-exceeded } notrack
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
		meta mark & 0x10000000 != 0 accept
		iifname { "in0", "in1" } accept
	}
}
"""

SO_RCVBUFFORCE = 33
RECEIVED_MAX = 64 << 20
"""Bytes that wait in a socket, with what the kernel adds to each packet: what a sender sends for seconds, unread."""
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str, text: str = "") -> str:
    """Run a command to its end; what it said is in the error when it fails."""
    done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Let this thread work in another network namespace."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    wanted = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        _setns(wanted)
        try:
            yield
        finally:
            _setns(before)
    finally:
        os.close(wanted)
        os.close(before)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@dataclass(frozen=True)
class Network:
    """The names of the four namespaces. Interfaces keep their names in all of them."""

    router: str
    alice: str
    bob: str
    peer: str

    def interface(self, name: str, link_header_size: int = 14) -> Interface:
        """Describe an interface of the router as it is now."""
        with inside(self.router):
            return Interface(name, socket.if_nametoindex(name), link_header_size)

    @property
    def insides(self) -> tuple[Interface, Interface]:
        return self.interface("in0"), self.interface("in1")

    @property
    def outside(self) -> Interface:
        return self.interface("out0")


def _batch(namespace: str, *lines: str) -> None:
    run("ip", "-n", namespace, "-batch", "-", text="\n".join(lines) + "\n")


def _sysctl(namespace: str, **values: str) -> None:
    """Write settings of the namespace's own /proc/sys/net; `__` stands for a slash."""
    with inside(namespace):
        for name, value in values.items():
            Path("/proc/sys/net", *name.split("__")).write_text(value)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Build the network, and take it away at the end."""
    prefix = f"twbp{os.getpid()}-{next(_numbers)}"
    net = Network(*(f"{prefix}-{name}" for name in ("router", "alice", "bob", "peer")))
    names = (net.router, net.alice, net.bob, net.peer)
    try:
        for name in names:
            run("ip", "netns", "add", name)
            _batch(name, "link set lo up")
        _batch(
            net.router,
            f"link add in0 type veth peer name eth0 netns {net.alice}",
            f"link add in1 type veth peer name eth0 netns {net.bob}",
            f"link add out0 type veth peer name eth0 netns {net.peer}",
            "address add 10.10.1.1/24 dev in0",
            "address add 10.10.2.1/24 dev in1",
            f"address add {OUTSIDE}/24 dev out0",
            "link set in0 up",
            "link set in1 up",
            "link set out0 up",
        )
        _batch(
            net.alice,
            *(f"address add {each}/24 dev eth0" for each in ALICES),
            "link set eth0 up",
            "route add default via 10.10.1.1",
        )
        _batch(net.bob, f"address add {BOB}/24 dev eth0", "link set eth0 up", "route add default via 10.10.2.1")
        _batch(net.peer, f"address add {PEER}/24 dev eth0", "link set eth0 up")
        _sysctl(net.router, ipv4__ip_forward="1")
        run("ip", "netns", "exec", net.router, "nft", "-f", "-", text=RULES)
        yield net
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False, timeout=30)


@dataclass(frozen=True)
class Esp:
    """An ESP packet as somebody at an end sees it; `packet` is all of it from the IP header on."""

    source: IPv4Address
    destination: IPv4Address
    ttl: int
    spi: int
    sequence: int
    packet: bytes

    @classmethod
    def read(cls, packet: bytes) -> "Esp":
        header_size = (packet[0] & 15) * 4
        spi, sequence = struct.unpack_from("!II", packet, header_size)
        return cls(IPv4Address(packet[12:16]), IPv4Address(packet[16:20]), packet[8], spi, sequence, packet)


def checksum(header: bytes) -> int:
    """Compute the Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return int(~(total + (total >> 16)) & 0xFFFF)


def esp_packet(
    source: IPv4Address, destination: IPv4Address, spi: int, sequence: int, size: int = 96, ttl: int = 64
) -> bytes:
    """Make a whole IPv4 packet with ESP in it. The payload tells the sequence number, and nothing repeats in it."""
    body = struct.pack("!II", spi, sequence) + bytes((sequence + 7 * at) & 0xFF for at in range(size - 8))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), sequence + 1 & 0xFFFF, 0, ttl, 50, 0)
    head += source.packed + destination.packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def ip_packet(
    source: IPv4Address,
    destination: IPv4Address,
    protocol: int,
    body: bytes,
    identification: int = 1,
    ttl: int = 64,
    fragment: int = 0,
) -> bytes:
    """Make an IPv4 packet; `fragment` is the field of flags and offset."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), identification, fragment, ttl, protocol, 0)
    head += source.packed + destination.packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def cut(packet: bytes, count: int) -> list[bytes]:
    """Cut a packet without options into so many fragments of about one size (RFC 791 section 3.2)."""
    body, head = packet[20:], packet[:20]
    size = -(-len(body) // count // 8) * 8
    source, destination = IPv4Address(head[12:16]), IPv4Address(head[16:20])
    return [
        ip_packet(
            source,
            destination,
            head[9],
            body[at : at + size],
            int.from_bytes(head[4:6], "big"),
            head[8],
            at // 8 | (0x2000 if at + size < len(body) else 0),
        )
        for at in range(0, len(body), size)
    ]


class Ear:
    """Hears one protocol in one namespace: whole packets, from the IP header on, as the stack has put them together."""

    def __init__(self, namespace: str, protocol: int) -> None:
        with inside(namespace):
            self._in = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
        self._in.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVED_MAX)
        self._in.setblocking(False)
        self.received: list[bytes] = []

    def collect(self) -> list[bytes]:
        """Take in what has arrived, and return all that ever did."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.received.append(self._in.recv(65536))
        return self.received

    def close(self) -> None:
        self._in.close()


class End:
    """Raw sockets in one namespace: sends whole packets, receives ESP."""

    def __init__(self, namespace: str) -> None:
        with inside(namespace):
            self._out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self._in = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ESP)
        self._in.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVED_MAX)
        self._in.setblocking(False)
        self._namespace = namespace
        self.received: list[Esp] = []

    def send(self, packet: bytes) -> None:
        self._out.sendto(packet, (str(IPv4Address(packet[16:20])), 0))

    def send_esp(
        self, source: IPv4Address, destination: IPv4Address, spi: int, sequences: range, size: int = 96
    ) -> None:
        for sequence in sequences:
            self.send(esp_packet(source, destination, spi, sequence, size))

    def send_ike(self, source: IPv4Address, destination: IPv4Address) -> None:
        """Send the header of an IKE message, as UDP from and to port 500."""
        with inside(self._namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ike:
            ike.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            ike.bind((str(source), 500))
            ike.sendto(IKE_HEADER, (str(destination), 500))

    def collect(self) -> list[Esp]:
        """Take in what has arrived, and return all that ever did."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.received.append(Esp.read(self._in.recv(65536)))
        return self.received

    def sequences(self, spi: int, destination: IPv4Address | None = None) -> list[int]:
        """List the sequence numbers of one SPI in the order of arrival."""
        return [each.sequence for each in self.collect() if each.spi == spi and destination in (None, each.destination)]

    def close(self) -> None:
        self._out.close()
        self._in.close()


def wait_for(what: str, condition: Callable[[], bool], step: Callable[[], None] = lambda: None) -> None:
    """Wait until the condition holds, doing the step in between; fail after a limit."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {LIMIT_S} s"
        step()
        select.select([], [], [], 0.001)
