"""Fill Throughway's table to a given size, and say what that costs."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from throughway.bench.ends import within
from throughway.bench.routers import FIRST_HOST, FIRST_PEER, Bed, Kind
from throughway.bench.traffic import FIRST_SPI
from throughway.core import ids
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Peer
from throughway.dataplane.adopt import Outcome
from throughway.dataplane.bpf import BpfDataPlane, BpfSettings
from throughway.dataplane.libbpf import map_get
from throughway.lab.errors import LabFailed
from throughway.lab.gateway import PINS

GROWING = "mappings", "senders"
"""The tables that grow with the tunnels."""

ADOPTED_WITHIN_S = 600.0
"""A million take some ten seconds of a processor that has nothing else to do."""


@dataclass(frozen=True, slots=True)
class Filled:
    """The table at one size. `kernel_bytes` is what the growing tables occupy, `rss_bytes` the daemon's memory."""

    mappings: int
    added: int
    install_s: float
    start_s: float
    kernel_bytes: int
    rss_bytes: int

    def to_json(self, empty: "Filled") -> dict[str, object]:
        """Return a form for programs; memory for each mapping is what is more than with the smallest table."""
        more = self.mappings - empty.mappings
        return {
            "mappings": self.mappings,
            "installed_per_second": round(self.added / self.install_s) if self.added else None,
            "daemon_start_s": self.start_s,
            "kernel_bytes": self.kernel_bytes,
            "kernel_bytes_per_mapping": (self.kernel_bytes - empty.kernel_bytes) / more if more else None,
            "daemon_rss_bytes": self.rss_bytes,
            "daemon_bytes_per_mapping": (self.rss_bytes - empty.rss_bytes) / more if more else None,
        }


@dataclass(frozen=True, slots=True)
class Idle:
    """The daemon over some seconds in which nothing passes: what its counters cost, and whether its memory grows."""

    seconds: float
    cpu_share: float
    rss_growth_bytes: int

    def to_json(self) -> dict[str, float]:
        """Return a form for programs."""
        return {
            "seconds": self.seconds,
            "daemon_cpu_share": self.cpu_share,
            "daemon_rss_growth_bytes": self.rss_growth_bytes,
        }


def fill(bed: Bed, tunnels: int) -> Filled:
    """Have so many tunnels of one host and one peer in the table, a mapping in each direction.

    They are installed by the adapter that the daemon uses, which is stopped meanwhile: it adopts them when it
    starts, as after an update. Raises LabFailed when it does not have all of them then.
    """
    host, peer = Host(FIRST_HOST), Peer(FIRST_PEER)
    path = ids.Path(peer)
    inside, outside = bed.interfaces()
    before = bed.mapping_count()
    added, install_s = 2 * tunnels - before, 0.0
    if added:
        bed.daemon.stop()
        with within(bed.routers[Kind.THROUGHWAY].namespace.path):
            plane = BpfDataPlane.open(BpfSettings(outside=outside))
            try:
                if plane.adoption.outcome is not Outcome.ADOPTED:
                    raise LabFailed("the daemon did not leave its tables")
                plane.attach(outside, (inside,))
                began = time.perf_counter()
                for spi in range(FIRST_SPI + before // 2, FIRST_SPI + tunnels):
                    plane.install(FlowKey.to_peer(IpProtocol.ESP, host, peer, spi), (host,))
                    plane.install(FlowKey.to_inside(IpProtocol.ESP, path, spi), (host,))
                install_s = time.perf_counter() - began
            finally:
                plane.close(keep=True)
    start_s = bed.start_daemon(ADOPTED_WITHIN_S) if added else 0.0
    if bed.mapping_count() != 2 * tunnels:
        raise LabFailed(f"the daemon has {bed.mapping_count()} mappings of {2 * tunnels}")
    return Filled(2 * tunnels, added, install_s, start_s, kernel_bytes(bed), rss_bytes(bed.daemon.pid))


def idle(bed: Bed, seconds: float) -> Idle:
    """Watch the daemon for so long."""
    rss, cpu_s, began = rss_bytes(bed.daemon.pid), cpu_seconds(bed.daemon.pid), time.perf_counter()
    time.sleep(seconds)
    spent = time.perf_counter() - began
    share = (cpu_seconds(bed.daemon.pid) - cpu_s) / spent
    return Idle(spent, share, rss_bytes(bed.daemon.pid) - rss)


def kernel_bytes(bed: Bed) -> int:
    """Read what the growing tables occupy, as the kernel accounts for it (by entries since 6.4, by size before)."""
    inode = bed.routers[Kind.THROUGHWAY].namespace.inode
    total = 0
    for folder in PINS.glob(f"{inode}-*"):
        for name in GROWING:
            table = map_get(folder / f"map-{name}")
            try:
                lines = Path(f"/proc/self/fdinfo/{table.fd}").read_text().splitlines()
            finally:
                table.close()
            total += next(int(line.split()[1]) for line in lines if line.startswith("memlock:"))
    return total


def rss_bytes(pid: int) -> int:
    """Read how much memory a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Read how long a process has computed, in the kernel and outside."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
