"""Clean up what a lab that crashed has left, and nothing of one that still runs."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from throughway.lab import gateway, namespace
from throughway.lab.peers import wireguard
from throughway.lab.testbed import ROOT, is_alive

PREFIX: Final = re.compile(r"(tw[0-9a-f]{4})(?:-|$)")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was found: labs ended, labs that still run and were left alone, and folders kept for reading."""

    ended: tuple[str, ...]
    running: tuple[str, ...]
    kept: tuple[Path, ...]


def down(*, with_kept: bool = False, root: Path = ROOT) -> Cleaned:
    """End the labs whose owner is gone: their processes, namespaces, pins, sockets and folders.

    Folders that failed runs have kept for reading are removed only `with_kept`.
    """
    ended, running = [], []
    for prefix in labs_here(root):
        if _is_running(root / prefix):
            running.append(prefix)
        else:
            end(prefix, root)
            ended.append(prefix)
    kept = [folder for folder in _folders(root) if folder.name not in running]
    if with_kept:
        for folder in kept:
            shutil.rmtree(folder)
        kept = []
    return Cleaned(tuple(ended), tuple(running), tuple(kept))


def labs_here(root: Path = ROOT) -> list[str]:
    """Return the prefixes of all labs that have namespaces or an owner, running or not."""
    return sorted(_prefixes_of_namespaces() | _owned(root))


def end(prefix: str, root: Path = ROOT) -> None:
    """End one lab by its prefix, whatever is left of it."""
    names = namespace.named(f"{prefix}-")
    router = namespace.NAMED / f"{prefix}-router"
    inode = router.stat().st_ino if router.exists() else None
    namespace.end_processes(names)
    namespace.delete(names)
    gateway.forget(prefix, inode)
    wireguard.forget_sockets(prefix)
    shutil.rmtree(root / prefix, ignore_errors=True)


def _is_running(folder: Path) -> bool:
    owner = folder / "owner"
    return owner.exists() and is_alive(owner.read_text())


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.glob("tw*") if PREFIX.fullmatch(folder.name))


def _owned(root: Path) -> set[str]:
    return {folder.name for folder in _folders(root) if (folder / "owner").exists()}


def _prefixes_of_namespaces() -> set[str]:
    return {found[1] for name in namespace.named("tw") if (found := PREFIX.match(name))}
