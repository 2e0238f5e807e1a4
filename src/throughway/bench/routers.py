r"""The networks of the bench: three routers side by side, between the same two ends.

                     +------------+
         in-forward  | forwarding |  out-forward
       +-------------+ lan0  wan0 +--------------+
    +--+-----+       +------------+       +------+--+
    | inside +-------+ masquerade +-------+ outside |
    +--+-----+       +------------+       +------+--+
       +-------------+   router   +--------------+
                     +------------+  Throughway

All routers have the same addresses, in hardware too, so all three get the same frames; the namespace that a frame is
sent out of an interface of tells which one gets it. Neighbours are permanent: nothing but the frames of the
bench passes. Generic receive offload is on, as it is on every network card: frames come in by NAPI and not by the
backlog.
"""

import fcntl
import os
import shutil
import socket
import struct
import time
from contextlib import ExitStack, suppress
from ctypes import addressof, create_string_buffer
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from types import TracebackType
from typing import Final, Self

from throughway.bench.ends import Ends, within
from throughway.bench.frames import NOTHING, Flag, Plan
from throughway.control.client import ControlClient
from throughway.core.flows import Direction
from throughway.core.ports import Interface
from throughway.lab import gateway
from throughway.lab.namespace import Namespace, command, delete, end_processes, named
from throughway.lab.testbed import ROOT, identity, unused_prefix
from throughway.lab.topology import INSIDE_INTERFACE, OUTSIDE_INTERFACE
from throughway.lab.waiting import wait_until

INSIDE: Final = IPv4Network("10.77.0.0/16")
FIRST_HOST: Final = INSIDE[256]
ROUTER_INSIDE: Final = INSIDE[1]
UPLINK: Final = IPv4Network("192.0.2.0/24")
ROUTER_OUTSIDE: Final = UPLINK[2]
FIRST_PEER: Final = IPv4Address("198.18.0.1")
"""Of the network that is kept for benchmarks (RFC 2544 appendix C.2.2)."""

HOSTS_MAX: Final = 256

_ROUTER_LAN, _ROUTER_WAN, _INSIDE_END, _OUTSIDE_END = (bytes((2, 0, 0, 0, 0, number)) for number in range(1, 5))
"""Locally administered hardware addresses."""

INSIDE_LINK: Final = _ROUTER_LAN + _INSIDE_END + b"\x08\x00"
"""The link header of what hosts send."""

_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_SGRO: Final = 0x2C


class Kind(StrEnum):
    """What a router does."""

    FORWARDING = "forwarding"
    MASQUERADE = "masquerade"
    THROUGHWAY = "throughway"

    @property
    def translates(self) -> bool:
        """Whether hosts have another address outside."""
        return self is not Kind.FORWARDING


@dataclass(frozen=True, slots=True)
class Router:
    """One router: its namespace, and the interfaces of the ends that lead to it."""

    kind: Kind
    namespace: Namespace
    inside_index: int
    outside_index: int

    def plan(self, direction: Direction, first_spi: int, spis: int, pairs: int = 1, flags: Flag = NOTHING) -> Plan:
        """Describe the frames that an end sends through the router."""
        if direction is Direction.TO_PEER:
            vary = Flag.VARY_SOURCE | Flag.VARY_DESTINATION if pairs > 1 else NOTHING
            return Plan(
                link_source=_INSIDE_END,
                link_destination=_ROUTER_LAN,
                source=FIRST_HOST,
                destination=FIRST_PEER,
                first_spi=first_spi,
                spis=spis,
                pairs=pairs,
                flags=flags | vary,
            )
        vary = Flag.VARY_SOURCE if pairs > 1 else NOTHING
        if pairs > 1 and not self.kind.translates:
            vary |= Flag.VARY_DESTINATION
        return Plan(
            link_source=_OUTSIDE_END,
            link_destination=_ROUTER_WAN,
            source=FIRST_PEER,
            destination=ROUTER_OUTSIDE if self.kind.translates else FIRST_HOST,
            first_spi=first_spi,
            spis=spis,
            pairs=pairs,
            flags=flags | vary,
        )

    def arriving(self, sent: Plan, direction: Direction) -> Plan:
        """Describe what has to arrive of these frames at the other end."""
        if direction is Direction.TO_PEER:
            source = ROUTER_OUTSIDE if self.kind.translates else sent.source
            flags = sent.flags & ~Flag.VARY_SOURCE if self.kind.translates else sent.flags
            destination, link = sent.destination, (_ROUTER_WAN, _OUTSIDE_END)
        else:
            source, destination, link = sent.source, FIRST_HOST, (_ROUTER_LAN, _INSIDE_END)
            flags = sent.flags | Flag.VARY_DESTINATION if sent.pairs > 1 else sent.flags
        return Plan(
            link_source=link[0],
            link_destination=link[1],
            source=source,
            destination=destination,
            first_spi=sent.first_spi,
            spis=sent.spis,
            pairs=sent.pairs,
            ttl=sent.ttl - 1,
            flags=flags,
        )


class Bed:
    """The namespaces of one bench with generator, sinks and the gateways. Leaving it ends them all.

    What a killed bench has left `throughway lab down` cleans up, as it does for labs.
    """

    def __init__(self) -> None:
        self.prefix = unused_prefix()
        self.folder = ROOT / self.prefix
        logs = self.folder / "logs"
        self.inside = Namespace(f"{self.prefix}-inside", logs)
        self.outside = Namespace(f"{self.prefix}-outside", logs)
        # The one with a daemon has the name that `lab down` looks for pins by.
        names = {Kind.FORWARDING: "forwarding", Kind.MASQUERADE: "masquerade", Kind.THROUGHWAY: "router"}
        self._spaces = {kind: Namespace(f"{self.prefix}-{name}", logs) for kind, name in names.items()}
        self.routers: dict[Kind, Router] = {}
        # With switches of its own: what is set on this machine is not measured.
        options = ("--keep", "--configuration", str(self.folder / "etc"))
        self.daemon = gateway.Throughway(self._spaces[Kind.THROUGHWAY], self.prefix, *options)
        self._undo = ExitStack()
        self._frames_on = min(os.sched_getaffinity(0))

    @property
    def ends(self) -> Ends:
        """Generator and sinks."""
        return self._ends

    def __enter__(self) -> Self:
        """Make the networks, and start the gateways."""
        self.folder.joinpath("logs").mkdir(parents=True, mode=0o700)
        self.folder.chmod(0o700)
        (self.folder / "owner").write_text(identity(os.getpid()))
        try:
            self._undo.callback(self._clean_up)
            self._ends = Ends.open(self._frames_on)
            self._undo.callback(self._ends.close)
            self._make()
            self._undo.callback(self.daemon.stop)
            gateway.Masquerade(self._spaces[Kind.MASQUERADE]).start()
            self.start_daemon()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self._undo.close()

    def interfaces(self) -> tuple[Interface, Interface]:
        """Return Throughway's inside and outside interface as they are now."""
        with within(self._spaces[Kind.THROUGHWAY].path):
            inside, outside = (
                Interface(name, socket.if_nametoindex(name), 14) for name in (INSIDE_INTERFACE, OUTSIDE_INTERFACE)
            )
        return inside, outside

    def mapping_count(self) -> int:
        """Ask the daemon how many mappings it has."""
        return self.daemon.status().mappings

    def start_daemon(self, limit_s: float = gateway.START_LIMIT_S) -> float:
        """Start Throughway's daemon, on the processors that the frames do not use, and return how long it took."""
        began = time.perf_counter()
        self.daemon.start(limit_s)
        others = os.sched_getaffinity(0) - {self._frames_on}
        if others:
            os.sched_setaffinity(self.daemon.pid, others)
        return time.perf_counter() - began

    def start_afresh(self) -> None:
        """Stop Throughway's daemon without leaving anything at work, and start it again."""
        pid = self.daemon.pid
        with ControlClient.of_gateway(self.prefix) as client:
            client.down(keep=False)
        wait_until(lambda: self.daemon.has_ended, gateway.START_LIMIT_S, f"the daemon {pid} to end")
        self.start_daemon()

    def _make(self) -> None:
        for end in (self.inside, self.outside):
            command("ip", "netns", "add", end.name)
            end.command("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        for kind, router in self._spaces.items():
            self._make_router(kind, router)

    def _make_router(self, kind: Kind, router: Namespace) -> None:
        near, far = f"in-{kind}"[:15], f"out-{kind}"[:15]
        command("ip", "netns", "add", router.name)
        router.command("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv4.ip_forward=1")
        _link(router, INSIDE_INTERFACE, _ROUTER_LAN, self.inside, near, _INSIDE_END)
        _link(router, OUTSIDE_INTERFACE, _ROUTER_WAN, self.outside, far, _OUTSIDE_END)
        _ip(
            router,
            "link set lo up",
            f"address add {ROUTER_INSIDE}/{INSIDE.prefixlen} dev {INSIDE_INTERFACE}",
            f"address add {ROUTER_OUTSIDE}/{UPLINK.prefixlen} dev {OUTSIDE_INTERFACE}",
            f"neighbour add {UPLINK[1]} lladdr {_OUTSIDE_END.hex(':')} dev {OUTSIDE_INTERFACE}",
            f"route add default via {UPLINK[1]}",
            *(
                f"neighbour add {FIRST_HOST + number} lladdr {_INSIDE_END.hex(':')} dev {INSIDE_INTERFACE}"
                for number in range(HOSTS_MAX)
            ),
        )
        with within(router.path):
            for name in (INSIDE_INTERFACE, OUTSIDE_INTERFACE):
                _receive_by_napi(name)
        indexes = []
        for end, name in ((self.inside, near), (self.outside, far)):
            with within(end.path):
                index = socket.if_nametoindex(name)
                self._ends.put_sink(index)
            indexes.append(index)
        self.routers[kind] = Router(kind, router, *indexes)

    def _clean_up(self) -> None:
        names = named(f"{self.prefix}-")
        router = self._spaces[Kind.THROUGHWAY].path
        inode = router.stat().st_ino if router.exists() else None
        end_processes(names)
        delete(names)
        gateway.forget(self.prefix, inode)
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            ROOT.rmdir()


def _ip(namespace: Namespace, *lines: str) -> None:
    command("ip", "-n", namespace.name, "-batch", "-", script="\n".join(lines) + "\n")


def _link(here: Namespace, near: str, near_mac: bytes, there: Namespace, far: str, far_mac: bytes) -> None:
    command(
        *("ip", "link", "add", near, "netns", here.name, "address", near_mac.hex(":"), "type", "veth"),
        *("peer", "name", far, "netns", there.name, "address", far_mac.hex(":")),
    )
    _ip(here, f"link set {near} up")
    _ip(there, f"link set {far} up")


def _receive_by_napi(interface: str) -> None:
    """Switch generic receive offload on; for virtual Ethernet it means NAPI, which live frames need."""
    value = create_string_buffer(struct.pack("=II", _ETHTOOL_SGRO, 1))
    request = struct.pack("16sP", interface.encode(), addressof(value)).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
