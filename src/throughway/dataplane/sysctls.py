"""Kernel settings of the current network namespace, under /proc/sys/net, and how to put them back."""

from collections.abc import Iterable
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from typing import Final

from throughway.core.errors import KernelRefused

ROOT: Final = Path("/proc/sys")
"""The kernel shows here the network settings of the namespace of whoever reads."""

IP_FORWARD: Final = "net.ipv4.ip_forward"
CONNTRACK_ACCOUNTING: Final = "net.netfilter.nf_conntrack_acct"
"""Packet and byte counts for connections made from then on."""
CONNTRACK_TIMESTAMP: Final = "net.netfilter.nf_conntrack_timestamp"
"""The time at which a connection began, for connections made from then on."""

NEEDED: Final = (IP_FORWARD, CONNTRACK_ACCOUNTING, CONNTRACK_TIMESTAMP)
"""What a gateway needs to be 1."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A setting that was changed, with what it was before and what it is now."""

    name: str
    before: str
    now: str


def read(name: str) -> str | None:
    """Read a setting, or None where this kernel does not have it."""
    try:
        return _path(name).read_text().strip()
    except OSError:
        return None


def enable(names: Iterable[str] = NEEDED) -> tuple[Changed, ...]:
    """Set each of the settings to 1, and return those that were something else.

    Raises KernelRefused with the setting's name; what was changed until then has been put back.
    """
    changed: list[Changed] = []
    for name in names:
        before = read(name)
        if before == "1":
            continue
        try:
            _write(name, "1")
        except KernelRefused:
            restore(changed)
            raise
        changed.append(Changed(name, before or "0", "1"))
    return tuple(changed)


def restore(changed: Iterable[Changed]) -> None:
    """Put back what `enable` changed, last first, except where somebody has changed it again since."""
    for change in reversed(tuple(changed)):
        if read(change.name) == change.now:
            _write(change.name, change.before)


def _write(name: str, value: str) -> None:
    try:
        _path(name).write_text(value)
    except OSError as error:
        raise KernelRefused(
            f"sysctl {name}={value}",
            error.errno or EINVAL,
            error.strerror or str(error),
            f"Try: sysctl -w {name}={value}",
        ) from error


def _path(name: str) -> Path:
    """Find the file of a setting. An interface name may have a dot in it: such names come with slashes."""
    return ROOT / (name if "/" in name else name.replace(".", "/"))
