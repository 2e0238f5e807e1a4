"""User-mode-linux guests: real kernels for the peers that need what this machine's kernel lacks.

A guest boots from the machine's own root file system, read only, in about two seconds; there is no image to build. It
is an ordinary process in a namespace of the lab, and its interfaces are taps there. It ends when the lab does: its
console is a pipe from the lab, and the end of that is the end of the guest.
"""

import itertools
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from throughway.lab.errors import LabFailed
from throughway.lab.namespace import HostTask
from throughway.lab.topology import Tap
from throughway.lab.waiting import holds_within

MODULES: Final = Path("/usr/lib/uml/modules")

BOOT_LIMIT_S: Final = 60.0
"""A boot takes 2 to 3 s on an idle machine; on a busy one, with several at once, it was seen to take 10."""

BOOTS_MAX: Final = 4
"""Boots of one guest before the lab gives up on it."""

STOP_LIMIT_S: Final = 3.0


class GuestTask:
    """A program in a guest. The guest writes its output and its exit status to the folder that both see."""

    def __init__(self, guest: "Guest", number: int, label: str) -> None:
        self.label = label
        self._guest = guest
        self._number = number
        self._stem = guest.folder / "tasks" / str(number)

    def status(self) -> int | None:
        """Return the exit status, or None while the program runs; -1 when the guest has ended under it."""
        done = self._stem.with_suffix(".exit")
        # The guest makes the file and then writes to it, so it may be seen empty.
        if done.exists() and (text := done.read_text()).strip():
            return int(text)
        return None if self._guest.is_running else -1

    def output(self) -> str:
        """Return what the program has written so far."""
        written = self._stem.with_suffix(".out")
        return written.read_text(errors="replace") if written.exists() else ""

    def interrupt(self) -> None:
        """Send SIGINT to the program, when it has begun."""
        holds_within(lambda: self._stem.with_suffix(".pid").exists() or self.status() is not None, 2.0)
        if self.status() is None:
            self._guest.start("sh", "-c", f"kill -INT $(cat /run/guest/tasks/{self._number}.pid)")


@dataclass(frozen=True, slots=True)
class GuestNamespace:
    """A network namespace within a guest, which holds one of its interfaces: a device of its own to the network."""

    guest: "Guest"
    inner: str

    @property
    def name(self) -> str:
        """What people call the place."""
        return f"{self.guest.name}/{self.inner}"

    def start(self, *argv: str, environment: Mapping[str, str] | None = None) -> GuestTask:
        """Start a program in the namespace and return at once."""
        return self.guest.start("ip", "netns", "exec", self.inner, *argv, environment=environment)


class Guest:
    """One guest. `modules` are loaded, and `check` is run, at boot: when either fails the boot is of no use.

    Some boots have no usable sha1 for as long as they last; the next boot has. That is what `check` is for.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        taps: Sequence[Tap],
        *,
        modules: Sequence[str] = (),
        check: str = "",
        memory_mib: int = 96,
        apart: bool = False,
    ) -> None:
        self.name = name
        self.folder = folder
        self.taps = tuple(taps)
        self.apart = apart
        self.reboots: list[str] = []
        self._modules = tuple(modules)
        self._check = check
        self._memory_mib = memory_mib
        self._process: HostTask | None = None
        self._numbers = itertools.count(1)
        (folder / "tasks").mkdir(parents=True)

    @property
    def is_running(self) -> bool:
        """Whether the guest's process runs."""
        return self._process is not None and self._process.status() is None

    @property
    def is_booted(self) -> bool:
        """Whether the guest takes tasks."""
        return (self.folder / "booted").exists()

    def places(self) -> list[GuestNamespace]:
        """Return the namespaces that hold the interfaces of a guest whose interfaces are kept apart."""
        return [GuestNamespace(self, f"d{number}") for number, _ in enumerate(self.taps, 1)]

    def boot(self) -> None:
        """Start the guest, and return at once."""
        self._write()
        for flag in ("booted", "broken"):
            (self.folder / flag).unlink(missing_ok=True)
        self._process = self.taps[0].namespace.start(*self._command_line(), with_input=True)

    def failure(self) -> str | None:
        """Return why this boot is of no use, or None when it is, or may yet be."""
        broken = self.folder / "broken"
        if broken.exists():
            return broken.read_text().strip() or "it says no more"
        return None if self.is_running else "it ended by itself"

    def start(self, *argv: str, environment: Mapping[str, str] | None = None) -> GuestTask:
        """Start a program in the guest and return at once.

        Raises LabFailed when the guest does not run.
        """
        if self._process is None or self._process.stdin is None or not self.is_running:
            raise LabFailed(f"guest {self.name} does not run", self.log)
        number = next(self._numbers)
        words = [f"{name}={shlex.quote(value)}" for name, value in (environment or {}).items()]
        (self.folder / "tasks" / str(number)).write_text(f"exec env {' '.join(words)} {shlex.join(argv)}\n")
        self._process.stdin.write(f"{number}\n".encode())
        self._process.stdin.flush()
        return GuestTask(self, number, f"{argv[0]} in guest {self.name}")

    def stop(self) -> None:
        """Power the guest off, and kill what is left of it after STOP_LIMIT_S."""
        if self._process is None:
            return
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        if not holds_within(lambda: not self.is_running, STOP_LIMIT_S):
            self._process.kill()

    @property
    def log(self) -> Path | None:
        """The file that has the guest's console."""
        return self._process.log if self._process else None

    def _write(self) -> None:
        modules = self.folder / "modules" / "lib" / "modules"
        if not modules.is_symlink():
            modules.parent.mkdir(parents=True)
            modules.symlink_to(MODULES)
        with as_file(files("throughway.lab") / "guest") as scripts:
            for script in scripts.glob("*.sh"):
                shutil.copy(script, self.folder)
        (self.folder / "init.sh").chmod(0o700)
        settings = {
            "NAME": self.name,
            "MODULES": " ".join(self._modules),
            "MODULE_ROOT": str(self.folder / "modules"),
            "CHECK": self._check,
        }
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in settings.items()]
        (self.folder / "config").write_text("".join(lines))
        (self.folder / "network.sh").write_text(network_script(self.taps, apart=self.apart))

    def _command_line(self) -> list[str]:
        interfaces = [
            f"vec{number}:transport=tap,ifname={tap.name},mac={mac(tap)},gro=0" for number, tap in enumerate(self.taps)
        ]
        return [
            *("linux.uml", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"),
            *(f"mem={self._memory_mib}M", "cryptomgr.notests=1", f"init={self.folder / 'init.sh'}"),
            *(f"uml_dir={self.folder / 'uml'}", f"umid={self.name}", "con=null", "con0=fd:0,fd:1", "ssl=null"),
            *interfaces,
            f"guest={self.folder}",
        ]


def mac(tap: Tap) -> str:
    """Return a locally administered hardware address, made from the address that the guest has there."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x00, *tap.address.ip.packed))


def network_script(taps: Sequence[Tap], *, apart: bool) -> str:
    """Write the shell lines that bring a guest's interfaces up, each in a namespace of its own when kept apart."""
    lines = []
    for number, tap in enumerate(taps):
        inside, interface = "", f"vec{number}"
        if apart:
            name = f"d{number + 1}"
            lines += [f"ip netns add {name}", f"ip link set {interface} netns {name}", f"ip -n {name} link set lo up"]
            inside = f"-n {name} "
        lines += [
            f"ip {inside}address add {tap.address} dev {interface}",
            f"ip {inside}link set {interface} up",
            f"ip {inside}route add default via {tap.gateway}",
        ]
    return "\n".join(lines) + "\n"
