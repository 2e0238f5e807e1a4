"""The folder in the BPF file system that keeps what must outlive the daemon.

    /sys/fs/bpf/throughway/                 one for the host's mount namespace
        4026531840-ppp0/                    one for each gateway: inode of its network namespace, outside interface
            namespace-3                     an empty folder: the cookie of that namespace
            map-mappings, map-pending ...   pinned maps
            link-outside_ingress-7 ...      pinned tcx links: program, index of the interface
            qdisc-7                         an empty folder: the clsact qdisc there is ours

The BPF file system holds nothing but pins and folders, and no dots in their names, so notes are empty folders and
dots are escaped. An inode number is used again when its namespace is gone; a cookie never is (SO_NETNS_COOKIE), so
the tables of a vanished namespace are told apart from our own.
"""

import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
from pathlib import Path
from typing import Final, Self

from throughway.core.errors import KernelRefused, SettingsRejected
from throughway.dataplane import libbpf
from throughway.dataplane.hooks import link_target

BPFFS: Final = Path("/sys/fs/bpf")
_FOLDER: Final = "throughway"
_NAMESPACE: Final = "namespace-"
_SO_NETNS_COOKIE: Final = 71
_BPF_FS_MAGIC: Final = 0xCAFE4A11
"""<linux/magic.h>: what statfs says of a BPF file system."""


def mount_bpffs(root: Path) -> None:
    """Mount a BPF file system at `root` unless one is there. It is never unmounted: others may use it by then."""
    root.mkdir(parents=True, exist_ok=True)
    if _file_system_type(root) == _BPF_FS_MAGIC:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpffs", os.fsencode(root), b"bpf", ctypes.c_ulong(0), b"mode=0700"):
        number = ctypes.get_errno()
        raise KernelRefused(
            f"BPF file system at {root}",
            number,
            os.strerror(number),
            f"Mount it: mount -t bpf bpffs {root}",
        )


def _file_system_type(path: Path) -> int:
    """Read the magic number, the first word of `struct statfs`."""
    libc = ctypes.CDLL(None, use_errno=True)
    answer = ctypes.create_string_buffer(256)
    if libc.statfs(os.fsencode(path), answer):
        number = ctypes.get_errno()
        raise KernelRefused(str(path), number, os.strerror(number))
    return int(struct.unpack_from("=q", answer)[0]) & 0xFFFFFFFF


def namespace_inode() -> int:
    """Tell the inode number of the network namespace that this thread is in."""
    return Path("/proc/thread-self/ns/net").stat().st_ino


def _namespace_cookie() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return int(struct.unpack("=Q", probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0])


def _escaped(interface: str) -> str:
    """Write an interface name without dots (`eth0.7` is a common one), so that it can be read back."""
    return interface.replace("%", "%25").replace(".", "%2E")


class GatewayFolder:
    """One gateway's pins, locked for as long as this object is open.

    The lock is the kernel's (flock on the folder): it ends with the process, however that ends.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over a locked descriptor of the folder; `open` makes one."""
        self.path: Final = path
        self._descriptor: int | None = descriptor

    @property
    def is_open(self) -> bool:
        """Whether the lock is ours."""
        return self._descriptor is not None

    @classmethod
    def open(cls, root: Path, interface: str) -> Self:
        """Make or find the folder of this namespace and outside interface, and lock it.

        Raises SettingsRejected when another daemon has it. What a vanished namespace with the same inode number
        left there is removed.
        """
        path = root / _FOLDER / f"{namespace_inode()}-{_escaped(interface)}"
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise SettingsRejected(
                "outside", f"another daemon already carries {interface} here; stop it first (throughway down)"
            ) from None
        folder = cls(path, descriptor)
        note = f"{_NAMESPACE}{_namespace_cookie()}"
        notes = [name for name in folder.names() if name.startswith(_NAMESPACE)]
        if notes != [note]:
            folder.clear()
            folder.note(note)
        return folder

    def names(self) -> list[str]:
        """List what is in the folder, sorted."""
        return sorted(entry.name for entry in self.path.iterdir())

    def pin(self, descriptor: int, name: str) -> None:
        """Let this map or link live on under a name, in place of what had the name before."""
        self.unpin(name)
        libbpf.obj_pin(descriptor, self.path / name)

    def get(self, name: str) -> int | None:
        """Open what is pinned under the name: a new descriptor, or None."""
        return libbpf.obj_get(self.path / name) if (self.path / name).exists() else None

    def unpin(self, name: str) -> None:
        """Remove a pin. Absent ones are no error."""
        (self.path / name).unlink(missing_ok=True)

    def note(self, name: str) -> None:
        """Remember a fact by an empty folder."""
        (self.path / name).mkdir(exist_ok=True)

    def forget(self, name: str) -> None:
        """Remove a note. Absent ones are no error."""
        if (self.path / name).is_dir():
            (self.path / name).rmdir()

    def clear(self) -> None:
        """Remove everything in the folder but the folder. Links without another holder are detached by that."""
        _clear(self.path)

    def close(self) -> None:
        """Unlock the folder and leave everything in it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def abandon(self) -> None:
        """Unlock the folder, and remove it where nothing is pinned in it."""
        if all(name.startswith(_NAMESPACE) for name in self.names()):
            self.remove()
        self.close()

    def remove(self) -> None:
        """Remove the folder with everything in it, and the folder above if it was the last one."""
        self.clear()
        self.path.rmdir()
        try:
            self.path.parent.rmdir()
        except OSError as refused:
            if refused.errno not in (errno.ENOTEMPTY, errno.EBUSY, errno.EEXIST):
                raise
        self.close()


def _clear(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir():
            entry.rmdir()
        else:
            entry.unlink()


def remove_stale(root: Path) -> list[str]:
    """Remove the folders of network namespaces that are gone, and return their names.

    A folder goes only when nobody has it locked, no process and no mount that can be seen holds a namespace of that
    inode number, and none of its links is on an interface. Where /proc hides some processes (it does without
    CAP_SYS_PTRACE), it must also have links: all of them off their interfaces say that the namespace is gone.
    """
    parent = root / _FOLDER
    if not parent.is_dir():
        return []
    alive, is_complete = _visible_namespaces()
    removed: list[str] = []
    for path in sorted(parent.iterdir()):
        inode = path.name.partition("-")[0]
        if inode.isdigit() and int(inode) not in alive and _remove_if_unused(path, is_complete):
            removed.append(path.name)
    return removed


def _remove_if_unused(path: Path, is_known_to_be_gone: bool) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        links = [is_attached(entry) for entry in path.iterdir() if entry.name.startswith("link-")]
        if any(links) or not (links or is_known_to_be_gone):
            return False
        _clear(path)
        path.rmdir()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def is_attached(pin: Path) -> bool:
    """Tell whether a pinned tcx link is on an interface. The kernel clears the index when the interface goes."""
    descriptor = libbpf.obj_get(pin)
    try:
        return link_target(descriptor) != 0
    finally:
        os.close(descriptor)


def _visible_namespaces() -> tuple[set[int], bool]:
    """Collect the inode numbers of network namespaces held by a process or a mount, and tell if none was hidden."""
    found: set[int] = set()
    is_complete = True
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            found.add((process / "ns/net").stat().st_ino)
        except PermissionError:
            is_complete = False
        except OSError:
            continue  # The process ended meanwhile.
    mounts = Path("/proc/self/mountinfo").read_text()
    found.update(int(inode) for inode in re.findall(r"net:\[(\d+)\]", mounts))
    return found, is_complete
