"""The kernel settings that a gateway switches on, and the note by which they are put back, after a crash too."""

import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import structlog

from throughway.dataplane import sysctls
from throughway.dataplane.sysctls import Changed

log = structlog.get_logger()

_SO_NETNS_COOKIE: Final = 71
"""The kernel's asm-generic/socket.h, since Linux 5.14; Python has no name for it."""


class NotedSettings:
    """Switches settings on and puts them back. The note belongs to one network namespace, and to one boot."""

    def __init__(self, file: Path) -> None:
        self._file: Final = file

    def enable(self) -> tuple[str, ...]:
        """Switch on what a gateway needs; return the names of what was off or too low. Raises KernelRefused.

        The note comes first: whenever this process dies, what was changed can be put back. What an
        earlier run noted stays, since its values are those from before us.
        """
        noted = self._read()
        known = {change.name for change in noted}
        coming = [
            Changed(name, value, str(least))
            for name, least in sysctls.NEEDED.items()
            if name not in known and (value := sysctls.read(name)) is not None and not sysctls.is_enough(value, least)
        ]
        if coming:
            self._write([*noted, *coming])
        return tuple(change.name for change in sysctls.enable())

    def restore(self) -> None:
        """Put back what was noted, except where somebody has changed it again since. Raises KernelRefused."""
        sysctls.restore(self._read())
        self._file.unlink(missing_ok=True)

    def _read(self) -> tuple[Changed, ...]:
        """Read the note; one of another namespace, or one that cannot be read, restores nothing."""
        try:
            note = json.loads(self._file.read_text())
            if note["namespace"] != _namespace_cookie():
                return ()
            return tuple(Changed(**entry) for entry in note["changed"])
        except FileNotFoundError:
            return ()
        except (ValueError, TypeError, KeyError) as problem:
            log.warning("settings.note_unreadable", file=str(self._file), problem=str(problem))
            return ()

    def _write(self, changed: Sequence[Changed]) -> None:
        note = {"namespace": _namespace_cookie(), "changed": [asdict(change) for change in changed]}
        coming = self._file.with_name(f"{self._file.name}.new")
        coming.write_text(json.dumps(note))
        coming.replace(self._file)


def _namespace_cookie() -> int:
    """Tell the number of this network namespace. Unlike its inode it is never given to another one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return int(struct.unpack("=Q", probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0])
