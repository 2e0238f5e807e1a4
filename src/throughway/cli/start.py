"""What `throughway up` looks at before it becomes the daemon."""

import os
import shlex
import socket
import sys
from collections.abc import Sequence
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from throughway.control.errors import ControlError
from throughway.control.paths import socket_path

CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_BPF": 39}
"""What the daemon does needs these; the numbers are those of the kernel's linux/capability.h."""


class Attach(StrEnum):
    """How programs are attached to interfaces: `auto` takes tcx where the kernel has it (6.6)."""

    AUTO = "auto"
    TCX = "tcx"
    CLSACT = "clsact"


class PortChoice(StrEnum):
    """Whether devices keep the port of IKE or of L2TP, or have it translated."""

    AUTO = "auto"
    KEEP = "keep"
    TRANSLATE = "translate"


class CannotStart(ControlError):
    """The operator asked for what cannot be, or may not do it."""


def become_daemon(
    inside: Sequence[str],
    outside: str | None,
    gateway: str,
    attach: Attach,
    keep: bool,
    ipv6_ipsec: bool,
    ike_port: PortChoice,
    l2tp_port: PortChoice,
    outside_addresses: Sequence[str] = (),
    short_path: bool = True,
    configuration: Path | None = None,
) -> None:
    """Replace this process by the daemon, which so stays in the foreground and gets the signals.

    Returns never. Raises CannotStart, or GatewayNameRejected.
    """
    socket_path(gateway)
    check_interfaces(inside, outside, [name for _, name in socket.if_nameindex()])
    check_addresses(outside_addresses)
    arguments = daemon_arguments(
        inside,
        str(outside),
        gateway,
        attach,
        keep,
        ipv6_ipsec,
        ike_port,
        l2tp_port,
        outside_addresses,
        short_path,
        configuration,
    )
    check_privileges(os.geteuid(), _effective_capabilities(), arguments)
    sys.stdout.flush()
    os.execv(sys.executable, daemon_command(arguments))  # noqa: S606 - no shell is wanted


def daemon_arguments(
    inside: Sequence[str],
    outside: str,
    gateway: str,
    attach: Attach,
    keep: bool,
    ipv6_ipsec: bool,
    ike_port: PortChoice = PortChoice.AUTO,
    l2tp_port: PortChoice = PortChoice.AUTO,
    outside_addresses: Sequence[str] = (),
    short_path: bool = True,
    configuration: Path | None = None,
) -> list[str]:
    """Return the options of the daemon, which are those of `up`."""
    arguments = [word for interface in inside for word in ("--inside", interface)]
    arguments += ["--outside", outside, "--gateway", gateway, "--attach", attach.value]
    arguments += [word for address in outside_addresses for word in ("--outside-address", address)]
    arguments += [] if ipv6_ipsec else ["--no-ipv6-ipsec"]
    for option, chosen in (("--ike-port", ike_port), ("--l2tp-port", l2tp_port)):
        arguments += [] if chosen is PortChoice.AUTO else [option, chosen.value]
    arguments += [] if short_path else ["--no-short-path"]
    arguments += ["--configuration", str(configuration)] if configuration else []
    return [*arguments, "--keep"] if keep else arguments


def daemon_command(arguments: Sequence[str]) -> list[str]:
    """Return the command line of the daemon.

    -P keeps Python from importing out of the working directory, which may be anybody's and we are root.
    """
    return [sys.executable, "-P", "-m", "throughway.service", *arguments]


def check_interfaces(inside: Sequence[str], outside: str | None, here: Sequence[str]) -> None:
    """Refuse missing, unknown and doubled interfaces, naming those that are here."""
    choices = f"interfaces here: {', '.join(sorted(here))}"
    if not inside:
        raise CannotStart("no inside interface is named", f"add --inside IF, towards the devices; {choices}")
    if not outside:
        raise CannotStart("no outside interface is named", f"add --outside IF, towards the internet; {choices}")
    for interface in (*inside, outside):
        if interface not in here:
            raise CannotStart(f"there is no interface {interface!r}", choices)
    if outside in inside:
        raise CannotStart(f"{outside} is named as inside and outside", "one interface cannot be both")


def check_addresses(addresses: Sequence[str]) -> None:
    """Refuse what is no IPv4 address, and what is named twice."""
    for address in addresses:
        try:
            IPv4Address(address)
        except ValueError:
            raise CannotStart(f"{address!r} is no IPv4 address", "name one of the outside interface") from None
    if len(set(addresses)) != len(addresses):
        raise CannotStart("an outside address is named twice", "name each once")


def check_privileges(user: int, capabilities: int, arguments: Sequence[str]) -> None:
    """Refuse who may not change the router's packet path, saying what is missing."""
    if user != 0:
        raise CannotStart(
            "only root may change the router's packet path", f"run `sudo throughway up {shlex.join(arguments)}`"
        )
    missing = [name for name, bit in CAPABILITIES.items() if not capabilities >> bit & 1]
    if missing:
        raise CannotStart(
            f"this root lacks {', '.join(missing)}", "start it on the host itself, or give the container these"
        )


def _effective_capabilities() -> int:
    """Read the effective capabilities of this process as bits (proc(5), status)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
