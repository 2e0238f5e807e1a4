"""One lab from its making to its end: networks, guests, captures, the gateway, and the folder that has it all.

While a testbed lives, its folder holds the file `owner`: the process that made it. A folder with an owner that is
gone is what a crashed run left (see leftovers). A folder without that file was kept for reading.
"""

import os
import secrets
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from throughway.lab import gateway
from throughway.lab.boot import boot
from throughway.lab.captured import PCAP_HEADER_BYTES
from throughway.lab.errors import LabFailed
from throughway.lab.namespace import Namespace, named
from throughway.lab.peers import wireguard
from throughway.lab.topology import CUSTOMER_INTERFACE, INSIDE_INTERFACE, Tap, Topology
from throughway.lab.uml import Guest
from throughway.lab.waiting import wait_until

ROOT: Final = Path("/var/tmp/throughway-lab")  # noqa: S108 - each lab has a folder of its own there, of mode 0700

CAPTURE_BUFFER_KIB: Final = 64 << 10
"""Room for what comes while tcpdump writes: with less, a flood pushes out of the capture what other devices say."""


class Testbed:
    """The namespaces, guests and processes of one lab. Leaving it ends them all.

    Its folder is removed then, unless `keep` was called or an error comes out of the block.
    """

    __test__ = False  # pytest takes every class called Test... for a test

    def __init__(self, root: Path = ROOT) -> None:
        self.prefix = unused_prefix(root)
        self.folder = root / self.prefix
        self.logs = self.folder / "logs"
        self.topology = Topology(self.prefix, self.logs)
        self.guests: list[Guest] = []
        self.gateway: gateway.Gateway | None = None
        self._is_kept = False

    def __enter__(self) -> Self:
        """Make the folder and the networks."""
        self.logs.mkdir(parents=True, mode=0o700)
        self.folder.chmod(0o700)
        (self.folder / "owner").write_text(identity(os.getpid()))
        try:
            self.topology.up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything. An error (Ctrl-C is none) keeps the folder, and says so in a note of its own."""
        if isinstance(error, Exception):
            self.keep()
            error.add_note(f"captures and logs are in {self.folder}")
        self.close()

    @property
    def router(self) -> Namespace:
        """The namespace where the gateway is."""
        return self.topology.router

    @property
    def is_kept(self) -> bool:
        """Whether the folder stays when the lab ends."""
        return self._is_kept

    def keep(self) -> None:
        """Leave the folder, with its captures and logs, when the lab ends."""
        self._is_kept = True

    def guest(
        self,
        name: str,
        taps: Sequence[Tap],
        *,
        modules: Sequence[str] = (),
        check: str = "",
        memory_mib: int = 96,
        apart: bool = False,
    ) -> Guest:
        """Add a guest; it boots with the others when `boot` is called."""
        folder = self.folder / "guests" / name
        guest = Guest(name, folder, taps, modules=modules, check=check, memory_mib=memory_mib, apart=apart)
        self.guests.append(guest)
        return guest

    def boot(self) -> None:
        """Boot all guests that do not run yet."""
        boot([guest for guest in self.guests if not guest.is_running])

    def files(self, name: str) -> Path:
        """Return a folder of this lab for the files of one of its parts."""
        folder = self.folder / "peers" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def reboots(self) -> list[str]:
        """Name the guests that had to be booted again, each time with the cause."""
        return [f"{guest.name}: {cause}" for guest in self.guests for cause in guest.reboots]

    @property
    def captures(self) -> tuple[Path, Path]:
        """The files of the captures: what passes on the inside, and on the outside."""
        return self.folder / "inside.pcap", self.folder / "outside.pcap"

    def capture(self, snap_bytes: int = 0) -> tuple[Path, Path]:
        """Capture on both sides of the router from now on, and return the files; 0 keeps packets whole.

        The outside is captured at the provider's end of the wire: at the router's own interface the copies of a
        fan-out are seen as they come in again, with an inside address.
        """
        files = self.captures
        ends = ((self.router, INSIDE_INTERFACE), (self.topology.provider, CUSTOMER_INTERFACE))
        for file, (namespace, interface) in zip(files, ends, strict=True):
            # Without -Z root Debian's tcpdump gives up the right to write here.
            namespace.start(
                *("tcpdump", "-Z", "root", "-n", "-U", "-s", str(snap_bytes), "--immediate-mode"),
                *("-B", str(CAPTURE_BUFFER_KIB)),
                "-i",
                interface,
                "-w",
                str(file),
            )
        for file in files:
            wait_until(
                lambda file=file: file.exists() and file.stat().st_size >= PCAP_HEADER_BYTES,  # type: ignore[misc]
                10.0,
                f"tcpdump to write {file.name}",
            )
        return files

    def start_gateway(self, kind: gateway.GatewayKind, *options: str) -> gateway.Gateway:
        """Start a gateway in the router, and return it when it carries packets.

        Its switches are files of the lab's own: what is set on this machine is not tried here, nor changed.
        """
        if kind is gateway.GatewayKind.THROUGHWAY:
            options = ("--configuration", str(self.folder / "etc"), *options)
        self.gateway = gateway.make(kind, self.router, self.prefix, *options)
        self.gateway.start()
        return self.gateway

    def close(self) -> None:
        """End every process, guest and namespace, and remove the folder unless it is to be kept.

        Signals wait until it is done: half a teardown is what `lab down` is for.
        """
        with _signals_held():
            inode = self.router.inode if self.router.path.exists() else None
            tasks = [task for place in self._namespaces() for task in place.tasks]
            for task in tasks:
                task.signal(signal.SIGTERM)  # all at once; what does not end is killed below
            for guest in self.guests:
                guest.stop()
            if self.gateway is not None:
                self.gateway.stop()
            for task in tasks:
                task.stop()
            # While the namespace is there: its number is given to the next one that anybody makes.
            gateway.forget(self.prefix, inode)
            self.topology.down()
            wireguard.forget_sockets(self.prefix)
            (self.folder / "owner").unlink(missing_ok=True)
            if not self._is_kept:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _namespaces(self) -> list[Namespace]:
        return [self.topology.lan, self.topology.router, self.topology.provider, *self.topology.stations]


def identity(pid: int) -> str:
    """Name a process so that a later one with the same number is not taken for it: number and start time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return f"{pid} {fields[19]}"


def is_alive(owner: str) -> bool:
    """Whether the process of this identity still runs."""
    pid = owner.partition(" ")[0]
    try:
        return pid.isdecimal() and identity(int(pid)) == owner
    except OSError:
        return False


def unused_prefix(root: Path = ROOT) -> str:
    """Return a prefix for namespaces that no lab has here, nor a folder that one left."""
    for _ in range(100):
        prefix = f"tw{secrets.token_hex(2)}"
        if not (root / prefix).exists() and not named(f"{prefix}-"):
            return prefix
    raise LabFailed(f"{root} is full of labs that were kept: `throughway lab down --kept` removes them")


@contextmanager
def _signals_held() -> Iterator[None]:
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
