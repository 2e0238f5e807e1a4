"""Transfers through the tunnels of all clients at once: so many bytes each way, compared by digest."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from throughway.core.errors import SettingsRejected
from throughway.lab.peers.client import Client
from throughway.lab.place import Task
from throughway.lab.progress import Progress
from throughway.lab.waiting import holds_within, wait_until

DEFAULT_BYTES: Final = 10_000_000
"""What `lab run --all` sends each way through each tunnel."""

PROGRAM: Final = Path(__file__).parent / "alone" / "transfer.py"
PORT: Final = 5001
READY_LIMIT_S: Final = 15.0
FIXED_LIMIT_S: Final = 60.0
SLOWEST_BYTES_PER_S: Final = 200_000
"""A guest's PPP in user space, on two busy cores, does several times as much."""

_SIZE: Final = re.compile(r"(\d+) ?([kMG]?i?)B?")
_MOVED: Final = re.compile(r"^(?:moved|ended) (\d+) (\d+)(?: (intact|damaged))?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Transfer:
    """What went through one tunnel; `intact` when all did, and what came is what was sent."""

    bytes_to_peer: int
    bytes_to_inside: int
    intact: bool


def size_of(text: str) -> int:
    """Read a size as people write it: 500k, 10MB, 4 MiB; return bytes.

    Raises SettingsRejected for anything else, and for nothing at all.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise SettingsRejected("--transfer", f"{text!r} is no size; write for example 10MB, or 500k")
    unit = 1024 if found[2].endswith("i") else 1000
    return int(found[1]) * int(unit ** " kMG".index(found[2][:1] or " "))


def transfer_through(clients: Sequence[Client], size_bytes: int, progress: Progress) -> dict[str, Transfer]:
    """Send so many bytes each way through the tunnels of all clients at once; return what came of it, by name."""
    _serve(clients)
    tasks = {client.name: _connect(client, size_bytes) for client in clients}
    told = 0

    def have_ended() -> bool:
        nonlocal told
        moved = sum(sum(_moved(task)) for task in tasks.values())
        percent = 100 * moved // (2 * size_bytes * len(tasks))
        if percent >= told + 10:
            told = percent
            progress.step(f"sending {size_bytes / 1e6:g} MB each way through {len(tasks)} tunnels: {percent} %")
        return all(task.status() is not None for task in tasks.values())

    limit_s = FIXED_LIMIT_S + 2 * size_bytes * len(tasks) / SLOWEST_BYTES_PER_S
    if tasks and not holds_within(have_ended, limit_s):
        for task in tasks.values():
            task.interrupt()
    return {name: found(task.output()) for name, task in tasks.items()}


def found(output: str) -> Transfer:
    """Read what the client's end wrote; one that was ended before its end is not intact."""
    lines = _MOVED.findall(output)
    if not lines:
        return Transfer(0, 0, intact=False)
    to_peer, to_inside, how = lines[-1]
    return Transfer(int(to_peer), int(to_inside), intact=how == "intact")


def _moved(task: Task) -> tuple[int, int]:
    now = found(task.output())
    return now.bytes_to_peer, now.bytes_to_inside


def _serve(clients: Sequence[Client]) -> None:
    ends = {client.peer.name: client.peer for client in clients}
    for peer in ends.values():
        task = peer.start(*_python(), "serve", str(PORT))
        wait_until(lambda task=task: "ready" in task.output(), READY_LIMIT_S, f"{task.label} to be ready")  # type: ignore[misc]


def _connect(client: Client, size_bytes: int) -> Task:
    return client.place.start(*_python(), "connect", client.target, str(PORT), str(size_bytes), client.device)


def _python() -> tuple[str, ...]:
    # -I and -S: a guest reads the host's file system slowly, and nothing is needed beyond the standard library.
    return (sys.executable, "-I", "-S", str(PROGRAM))
