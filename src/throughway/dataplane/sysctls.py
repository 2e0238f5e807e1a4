"""Kernel settings of the current network namespace, under /proc/sys/net, and how to put them back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from typing import Final

from throughway.core.errors import KernelRefused
from throughway.core.limits import Limits

ROOT: Final = Path("/proc/sys")
"""The kernel shows here the network settings of the namespace of whoever reads."""

IP_FORWARD: Final = "net.ipv4.ip_forward"
CONNTRACK_ACCOUNTING: Final = "net.netfilter.nf_conntrack_acct"
"""Packet and byte counts for connections made from then on."""
CONNTRACK_TIMESTAMP: Final = "net.netfilter.nf_conntrack_timestamp"
"""The time at which a connection began, for connections made from then on."""

PPTP_CALL_IDLE: Final = "net.netfilter.nf_conntrack_gre_timeout_stream"
"""Seconds after which an answered GRE flow made from then on is forgotten.

The PPTP helper gives its calls five hours, but since Linux 5.0 the GRE tracker overwrites that by this
setting with the call's first packet, before any rule sees it; a `ct timeout` object comes too late.
"""

NEEDED: Final[Mapping[str, int]] = {
    IP_FORWARD: 1,
    CONNTRACK_ACCOUNTING: 1,
    CONNTRACK_TIMESTAMP: 1,
    PPTP_CALL_IDLE: Limits().pptp_call_idle_s,
}
"""What a gateway needs each setting to be at least."""


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


def is_enough(value: str | None, least: int) -> bool:
    """Tell whether a setting that was read is at least what is needed."""
    return value is not None and value.isdecimal() and int(value) >= least


def enable(needed: Mapping[str, int] = NEEDED) -> tuple[Changed, ...]:
    """Raise each of the settings to what is needed, and return those that were less.

    Raises KernelRefused with the setting's name; what was changed until then has been put back.
    """
    changed: list[Changed] = []
    for name, least in needed.items():
        before = read(name)
        if is_enough(before, least):
            continue
        try:
            _write(name, str(least))
        except KernelRefused:
            restore(changed)
            raise
        changed.append(Changed(name, before or "0", str(least)))
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
