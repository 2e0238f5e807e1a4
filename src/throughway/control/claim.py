"""Who owns the name of a gateway: the listening socket, and the lock that keeps a second daemon away.

The lock is a file beside the socket, held for the life of the daemon; the kernel lets go of it when
the daemon dies, however it dies. So a socket whose lock is free is left over and may be replaced.
"""

import errno
import fcntl
import grp
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from throughway.core.errors import SettingsRejected

GROUP: Final = "throughway"
"""Members may speak to the daemon without being root, where the group exists."""

SOCKET_MODE: Final = 0o660
BACKLOG: Final = 64


@contextmanager
def claimed_socket(path: Path) -> Iterator[socket.socket]:
    """Listen on the path for the time of the block, and remove the socket at its end.

    What a killed daemon left there is replaced. The folder is made where it is missing. Raises
    SettingsRejected when a daemon lives there already, or something that is no socket lies in the way.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock_path = path.with_name(f"{path.name}.lock")
    lock = _take_lock(lock_path, path)
    try:
        _clear_the_way(path)
        listener = _listen(path)
        try:
            yield listener
        finally:
            listener.close()
            path.unlink(missing_ok=True)
    finally:
        # Removed while it is held: whoever opened it before sees that it is gone and opens it anew.
        lock_path.unlink(missing_ok=True)
        os.close(lock)


def group_of_socket() -> int:
    """Return the group that may use the socket: that of the product where it exists, else that of this process."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return os.getegid()


def _take_lock(lock_path: Path, path: Path) -> int:
    while True:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise _taken(path) from None
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _clear_the_way(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SettingsRejected("--gateway", f"{path} is in the way and is no socket; remove it or choose another name")
    if _is_answered(path):
        raise _taken(path)
    path.unlink()


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        # EAGAIN says that the backlog is full, so somebody listens (unix(7)).
        return probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT)


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(str(path))
        # Nobody can connect before listen(), so the owner and mode are in force for the first client.
        os.chown(path, -1, group_of_socket())
        path.chmod(SOCKET_MODE)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _taken(path: Path) -> SettingsRejected:
    gateway = path.name.removesuffix(".sock")
    return SettingsRejected(
        "--gateway",
        f"a daemon already runs for gateway {gateway}: stop it with `throughway down --gateway {gateway}`, "
        "or give this one another name",
    )
