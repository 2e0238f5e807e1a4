"""A router between two hosts and a peer, in namespaces, with nothing but its interfaces: the daemon does the rest.

alice 10.20.1.2 --- in0 10.20.1.1 +--------+
                                  | router | out0 203.0.113.1 --- peer 203.0.113.9, .10, ...
bob   10.20.2.2 --- in1 10.20.2.1 +--------+
"""

import contextlib
import itertools
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

from tests.kernel.bpf_plane.net import End, Network, inside, run
from tests.kernel.bpf_plane.watch import tcx_programs
from throughway.core.ids import Host, Peer
from throughway.dataplane.sysctls import NEEDED

LIMIT_S = 10.0
OUTSIDE = IPv4Address("203.0.113.1")
NEW_OUTSIDE = IPv4Address("203.0.113.2")
PEER = Peer(IPv4Address("203.0.113.9"))
STRANGER = IPv4Address("203.0.113.10")
"""An address of the peer's namespace that nobody inside speaks to."""
ALICE = Host(IPv4Address("10.20.1.2"))
BOB = Host(IPv4Address("10.20.2.2"))
INTERFACES = ("in0", "in1", "out0")
IKE_PORT = 500
SA_INIT, AUTH, CREATE_CHILD = 34, 35, 36
"""IKEv2 exchanges (RFC 7296 section 3.1)."""
_BPFFS = Path("/sys/fs/bpf/throughway")

_numbers = itertools.count()


def wait_for(what: str, condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait until the condition holds; fail after a limit."""
    end = time.monotonic() + limit_s
    pause = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    pause.settimeout(0.01)
    with contextlib.closing(pause):
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {limit_s} s"
            with contextlib.suppress(OSError):
                pause.recv(1)


def batch(namespace: str, *lines: str) -> None:
    """Run commands of `ip` in a namespace."""
    run("ip", "-n", namespace, "-batch", "-", text="\n".join(lines) + "\n")


def make_inside(net: Network, name: str) -> None:
    """Make an inside interface with the host behind it, or make it anew."""
    namespace, third, address = (net.alice, 1, ALICE) if name == "in0" else (net.bob, 2, BOB)
    batch(
        net.router,
        f"link add {name} type veth peer name eth0 netns {namespace}",
        f"address add 10.20.{third}.1/24 dev {name}",
        f"link set {name} up",
    )
    batch(namespace, f"address add {address}/24 dev eth0", "link set eth0 up", f"route add default via 10.20.{third}.1")


def make_outside(net: Network, address: IPv4Address | None = OUTSIDE, index: int | None = None) -> None:
    """Make the outside interface with the peer behind it, or make it anew, with an index if that matters."""
    wanted = f"index {index}" if index else ""
    batch(net.router, f"link add out0 {wanted} type veth peer name eth0 netns {net.peer}", "link set out0 up")
    if address:
        batch(net.router, f"address add {address}/24 dev out0")
    batch(net.peer, f"address add {PEER}/24 dev eth0", f"address add {STRANGER}/24 dev eth0", "link set eth0 up")


def setting(name: str) -> Path:
    """The file of a kernel setting; it is the router's while the thread is inside the router."""
    return Path("/proc/sys", *name.split("."))


def settings(net: Network) -> dict[str, str]:
    """Read what the daemon switches on."""
    with inside(net.router):
        return {name: setting(name).read_text().strip() for name in NEEDED}


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Build the network with forwarding off, and take it away at the end."""
    prefix = f"twd{os.getpid()}-{next(_numbers)}"
    names = tuple(f"{prefix}-{name}" for name in ("router", "alice", "bob", "peer"))
    net = Network(*names)
    with contextlib.ExitStack() as undo:
        for name in names:
            run("ip", "netns", "add", name)
            undo.callback(run, "ip", "netns", "delete", name)
            batch(name, "link set lo up")
        undo.callback(remove_pins, net)
        make_inside(net, "in0")
        make_inside(net, "in1")
        make_outside(net)
        # A rule on connections brings the settings of connection tracking, in case it is a module.
        nft(net, "table inet probe { chain c { type filter hook forward priority 0; ct state new accept; }; }")
        nft(net, "delete table inet probe")
        with inside(net.router):
            for name in NEEDED:
                setting(name).write_text("0")
        yield net


def nft(net: Network, text: str) -> None:
    """Load rules in the router."""
    run("nsenter", f"--net=/run/netns/{net.router}", "nft", "-f", "-", text=text)


def tables(net: Network) -> list[str]:
    """List the router's nftables tables."""
    said = run("nsenter", f"--net=/run/netns/{net.router}", "nft", "list", "tables")
    return [line.removeprefix("table ") for line in said.splitlines()]


def pins(net: Network) -> list[Path]:
    """List the folders with pins of the router's namespace."""
    inode = Path(f"/run/netns/{net.router}").stat().st_ino
    return sorted(_BPFFS.glob(f"{inode}-*"))


def remove_pins(net: Network) -> None:
    """Remove what a daemon that was killed has pinned."""
    for folder in pins(net):
        for entry in folder.iterdir():
            entry.rmdir() if entry.is_dir() else entry.unlink()
        folder.rmdir()
    with contextlib.suppress(OSError):
        _BPFFS.rmdir()


def programs(net: Network) -> int:
    """Count the tcx programs and the clsact qdiscs on the router's interfaces, as the kernel tells anybody."""
    return run("tc", "-n", net.router, "qdisc", "show").count("clsact") + tcx_programs(net)


def ike_message(initiator_spi: int, exchange: int, message_id: int, *, is_answer: bool = False) -> bytes:
    """Make an IKEv2 header (RFC 7296 section 3.1); what follows it would be encrypted."""
    flags = 0x20 if is_answer else 0x08
    responder_spi = 0 if exchange == SA_INIT and not is_answer else initiator_spi + 1
    return struct.pack("!QQBBBBII", initiator_spi, responder_spi, 33, 0x20, exchange, flags, message_id, 28)


class Ike:
    """UDP port 500 of one end."""

    def __init__(self, namespace: str, address: IPv4Address) -> None:
        with inside(namespace):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(LIMIT_S)
        self.socket.bind((str(address), IKE_PORT))

    def close(self) -> None:
        self.socket.close()


class Ends:
    """Sockets at all ends: whole packets and ESP, and IKE."""

    def __init__(self, net: Network) -> None:
        with contextlib.ExitStack() as stack:
            self.alice, self.bob, self.peer, self.router = (
                stack.enter_context(contextlib.closing(End(name)))
                for name in (net.alice, net.bob, net.peer, net.router)
            )
            self.ike = {
                host: stack.enter_context(contextlib.closing(Ike(name, host)))
                for name, host in ((net.alice, ALICE), (net.bob, BOB), (net.peer, PEER))
            }
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

    def exchange(
        self, host: Host, initiator_spi: int, exchange: int, message_id: int, outside: IPv4Address = OUTSIDE
    ) -> None:
        """Have a host and the peer exchange a request and its answer, through the router."""
        asking, answering = self.ike[host].socket, self.ike[PEER].socket
        asking.sendto(ike_message(initiator_spi, exchange, message_id), (str(PEER), IKE_PORT))
        received, source = answering.recvfrom(4096)
        assert source[0] == str(outside), "IKE leaves with the outside address"
        assert received == ike_message(initiator_spi, exchange, message_id)
        answer = ike_message(initiator_spi, exchange, message_id, is_answer=True)
        answering.sendto(answer, source)
        assert asking.recv(4096) == answer

    def begin(self, host: Host, initiator_spi: int) -> None:
        """Have a host agree with the peer on an IKE SA, which brings no ESP yet."""
        self.exchange(host, initiator_spi, SA_INIT, 0)

    def agree(self, host: Host, initiator_spi: int) -> None:
        """Have a host agree with the peer on one child SA."""
        self.exchange(host, initiator_spi, AUTH, 1)

    def of(self, host: Host) -> End:
        return self.alice if host == ALICE else self.bob

    def both_ways(
        self, host: Host, spi_to_peer: int, spi_to_inside: int, sequences: range, outside: IPv4Address = OUTSIDE
    ) -> None:
        """Send packets of one tunnel in both directions; all arrive, in order, with the right addresses."""
        end = self.of(host)
        sent, got = len(self.peer.sequences(spi_to_peer)), len(end.sequences(spi_to_inside))
        end.send_esp(host, PEER, spi_to_peer, sequences)
        wait_for(f"{sequences} to the peer", lambda: len(self.peer.sequences(spi_to_peer)) == sent + len(sequences))
        self.peer.send_esp(PEER, outside, spi_to_inside, sequences)
        wait_for(f"{sequences} to {host}", lambda: len(end.sequences(spi_to_inside)) == got + len(sequences))
        assert self.peer.sequences(spi_to_peer)[sent:] == list(sequences)
        assert end.sequences(spi_to_inside)[got:] == list(sequences)
        assert {each.source for each in self.peer.received[-len(sequences) :]} == {outside}
        assert {each.destination for each in end.received[-len(sequences) :]} == {host}
