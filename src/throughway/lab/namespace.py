"""Network namespaces: make, enter, end.

A namespace is entered by nsenter, never by `ip netns exec`: that gives its child a private /sys, and what a daemon
pins there below /sys/fs/bpf is gone when it exits.
"""

import itertools
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from throughway.lab.errors import LabFailed
from throughway.lab.programs import SEARCHED
from throughway.lab.waiting import holds_within

NAMED = Path("/run/netns")
"""Where iproute2 keeps the namespaces that have a name."""

STOP_LIMIT_S = 4.0
"""How long a program may take to end when asked, before it is killed."""


class HostTask:
    """A program of this machine, in a session of its own, so that it and its children can be ended together."""

    def __init__(self, label: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.label = label
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """The process, which is also the number of its group."""
        return self._process.pid

    @property
    def stdin(self) -> IO[bytes] | None:
        """The pipe to the program, where one was asked for."""
        return self._process.stdin

    def status(self) -> int | None:
        """Return the exit status, negative for a signal, or None while the program runs."""
        return self._process.poll()

    def output(self) -> str:
        """Return what the program has written so far."""
        return self.log.read_text(errors="replace")

    def interrupt(self) -> None:
        """Send SIGINT to the program and its children."""
        self.signal(signal.SIGINT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group; nothing happens when it has ended."""
        if self.status() is None:
            os.killpg(self.pid, number)

    def stop(self) -> None:
        """End the program: SIGTERM, and SIGKILL for what is left after STOP_LIMIT_S. It is reaped."""
        self.signal(signal.SIGTERM)
        if not holds_within(lambda: self.status() is not None, STOP_LIMIT_S):
            self.kill()
        if self._process.stdin:
            self._process.stdin.close()

    def kill(self) -> None:
        """End the program with SIGKILL, and reap it."""
        self.signal(signal.SIGKILL)
        self._process.wait()


@dataclass(frozen=True)
class Namespace:
    """A network namespace by name; `logs` is the folder for what its programs write."""

    name: str
    logs: Path
    tasks: list[HostTask] = field(default_factory=list, compare=False, repr=False)
    _numbers: Iterable[int] = field(default_factory=itertools.count, compare=False, repr=False)

    @property
    def path(self) -> Path:
        """The file that stands for the namespace."""
        return NAMED / self.name

    @property
    def inode(self) -> int:
        """The number that the kernel knows the namespace by."""
        return self.path.stat().st_ino

    def start(self, *argv: str, environment: Mapping[str, str] | None = None, with_input: bool = False) -> HostTask:
        """Start a program in the namespace; its output goes to a log of its own."""
        label = f"{Path(argv[0]).name} in {self.name}"
        log = self.logs / f"{self.name}-{next(iter(self._numbers))}-{Path(argv[0]).name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["nsenter", f"--net={self.path}", *argv],
                stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PATH": f"{SEARCHED}", **(environment or {})},
            )
        task = HostTask(label, process, log)
        self.tasks.append(task)
        return task

    def command(self, *argv: str, script: str | None = None) -> str:
        """Run a short command in the namespace, with `script` as its input, and return its output.

        Raises LabFailed with the command's own words when its status is not 0.
        """
        return command("nsenter", f"--net={self.path}", *argv, script=script)


def command(*argv: str, script: str | None = None, limit_s: float = 15.0) -> str:
    """Run a short command of this machine and return its output.

    Raises LabFailed with the command's own words when its status is not 0 or it does not end.
    """
    try:
        done = subprocess.run(
            argv,
            input=script or "",
            capture_output=True,
            text=True,
            timeout=limit_s,
            start_new_session=True,
            check=True,
            env={**os.environ, "PATH": SEARCHED},
        )
    except subprocess.CalledProcessError as refused:
        raise LabFailed(f"{' '.join(argv)}: {(refused.stderr or refused.stdout).strip()}") from refused
    except subprocess.TimeoutExpired as late:
        raise LabFailed(f"{' '.join(argv)}: no end within {limit_s:g} s") from late
    return done.stdout


def named(prefix: str) -> list[str]:
    """Return the names of the namespaces that begin so."""
    return sorted(path.name for path in NAMED.glob(f"{prefix}*")) if NAMED.is_dir() else []


def processes_in(names: Iterable[str]) -> list[int]:
    """Return the processes of this machine whose network is one of these namespaces."""
    links = {f"net:[{(NAMED / name).stat().st_ino}]" for name in names}
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if str((entry / "ns" / "net").readlink()) in links:
                    found.append(int(entry.name))
            except OSError:  # it ended while we looked
                continue
    return found


def end_processes(names: Iterable[str]) -> None:
    """Kill every process in these namespaces, by its number, until none is left."""
    names = list(names)

    def are_gone() -> bool:
        left = processes_in(names)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not left

    if names and not holds_within(are_gone, STOP_LIMIT_S):
        raise LabFailed(f"processes {processes_in(names)} in {', '.join(names)} do not end")


def delete(names: Iterable[str]) -> None:
    """Delete namespaces and with them every interface in them."""
    for name in names:
        command("ip", "netns", "del", name)
