"""Ends that send packets as they were built, and see every packet that arrives, whatever the kernel would do with it.

A station is a device or a peer in its namespace. It sends on a raw socket, which resolves neighbours as for any
packet, and sees with a packet socket what comes to its interface: fragments as fragments, with all of their header.
The namespace's own stack is kept silent. It would answer our packets with errors, since nobody there speaks ESP.
"""

import ctypes
import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Final, Protocol, Self

from throughway.lab.errors import LabFailed
from throughway.lab.namespace import Namespace
from throughway.lab.packets.builder import Packet

ARRIVAL_LIMIT_S: Final = 2.0
"""How long a packet may take. It takes a millisecond; a gateway that has to ask first may take some more."""

EVERYTHING: Final = 0x0003
"""What a packet socket is bound to for all protocols (ETH_P_ALL of linux/if_ether.h)."""

SILENCE: Final = """
table inet station {
    chain silence {
        type filter hook prerouting priority -450; policy drop;
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    }
}
"""

_CLONE_NEWNET: Final = 0x40000000
_SO_RCVBUFFORCE: Final = 33
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23
"""An option of linux/if_packet.h: what floods from here would else push out what comes."""

_RECEIVE_BYTES: Final = 8 << 20
_IPV4: Final = 0x0800
_IPV6: Final = 0x86DD
_FRAME_MAX: Final = 65536

_libc = ctypes.CDLL(None, use_errno=True)


class Watched(Protocol):
    """Something where packets arrive."""

    def fileno(self) -> int:
        """Return what select waits for."""
        ...

    def collect(self) -> None:
        """Take in what has arrived, without waiting."""
        ...


class Inbox:
    """A socket of a namespace's own stack, and what has come to it, each piece as the socket gave it."""

    def __init__(self, one: socket.socket) -> None:
        self.socket = one
        self.received: list[bytes] = []
        one.setblocking(False)

    def __enter__(self) -> Self:
        """Return the inbox."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the socket."""
        self.socket.close()

    def fileno(self) -> int:
        """Return what select waits for."""
        return self.socket.fileno()

    def collect(self) -> None:
        """Take in what has arrived, without waiting."""
        with suppress(BlockingIOError):
            while True:
                self.received.append(self.socket.recv(_FRAME_MAX))


class Station:
    """One end. `received` are the IPv4 packets that came to it, `received_6` the bytes of the IPv6 ones."""

    def __init__(self, namespace: Namespace, address: IPv4Address, *, interface: str = "eth0") -> None:
        self.namespace = namespace
        self.address = address
        self.received: list[Packet] = []
        self.received_6: list[bytes] = []
        self.unreadable: list[bytes] = []
        namespace.command("nft", "-f", "-", script=SILENCE)
        with inside(namespace):
            self._out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self._out_6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self._in = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            self._in.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BYTES)
            self._in.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self._in.bind((interface, EVERYTHING))
        self._in.setblocking(False)

    def __enter__(self) -> Self:
        """Return the station."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the sockets."""
        for one in (self._out, self._out_6, self._in):
            one.close()

    def fileno(self) -> int:
        """Return what select waits for."""
        return self._in.fileno()

    def send(self, *packets: Packet) -> None:
        """Send packets in this order, each as it is but for the header checksum, which is right in any case."""
        for packet in packets:
            self._out.sendto(packet.to_bytes(), (str(packet.destination), 0))

    def send_6(self, packet: bytes) -> None:
        """Send an IPv6 packet as it is."""
        self._out_6.sendto(packet, (str(IPv6Address(packet[24:40])), 0))

    def collect(self) -> None:
        """Take in what has arrived, without waiting."""
        while True:
            try:
                data, (_, protocol, *_) = self._in.recvfrom(_FRAME_MAX)
            except BlockingIOError:
                return
            if protocol == _IPV6:
                self.received_6.append(data)
            elif protocol == _IPV4:
                packet = Packet.read(data)
                if packet is None:
                    self.unreadable.append(data)
                else:
                    self.received.append(packet)

    def of_protocol(self, protocol: int) -> list[Packet]:
        """Return what arrived of an IP protocol, in the order in which it came."""
        return [packet for packet in self.received if packet.protocol == protocol]


def arrives(stations: Iterable[Watched], condition: Callable[[], bool], limit_s: float = ARRIVAL_LIMIT_S) -> bool:
    """Take in what arrives until the condition holds, and return whether it did before the limit."""
    watched = list(stations)
    until = time.monotonic() + limit_s
    while True:
        for station in watched:
            station.collect()
        if condition():
            return True
        left = until - time.monotonic()
        if left <= 0:
            return False
        select.select(watched, [], [], left)


@contextmanager
def inside(namespace: Namespace) -> Iterator[None]:
    """Let this thread make sockets in another network namespace: a socket belongs to where it was made."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    wanted = os.open(namespace.path, os.O_RDONLY)
    try:
        _enter(wanted)
        try:
            yield
        finally:
            _enter(before)
    finally:
        os.close(wanted)
        os.close(before)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise LabFailed(f"a network namespace cannot be entered: {os.strerror(ctypes.get_errno())}")
