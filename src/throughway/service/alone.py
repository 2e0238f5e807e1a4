"""One gateway in a network namespace: its nftables table has one name there, and a second one would replace it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from throughway.core.errors import SettingsRejected
from throughway.dataplane.pins import namespace_inode


@contextmanager
def alone_in_namespace(folder: Path, gateway: str) -> Iterator[None]:
    """Hold the network namespace for the time of the block, by a locked file of this gateway in the folder.

    The name of the gateway has to be claimed before. The kernel lets go of the lock when the daemon
    dies, however it dies. Raises SettingsRejected with the name of the gateway that has the namespace;
    of two that come in the same moment both may be refused.
    """
    suffix = f".{namespace_inode()}.namespace"
    own = folder / f"{gateway}{suffix}"
    descriptor = os.open(own, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # Waits for no longer than another daemon looks at it.
        for other in sorted(folder.glob(f"*{suffix}")):
            if other != own and _is_locked(other):
                name = other.name.removesuffix(suffix)
                raise SettingsRejected(
                    "--gateway",
                    f"gateway {name} already works in this network namespace, and two would replace each other's "
                    f"rules; stop it first: throughway down --gateway {name}",
                )
        yield
    finally:
        own.unlink(missing_ok=True)
        os.close(descriptor)


def _is_locked(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
