"""Where the sockets are, and which gateway is meant when none is named."""

import os
import re
import stat
from pathlib import Path
from typing import Final

from throughway.control.errors import ControlError

GATEWAY_DEFAULT: Final = "default"

RUNTIME_DIRECTORY: Final = Path("/run/throughway")
"""Gone after a reboot, as what it holds must be (Filesystem Hierarchy Standard 3.0, section 3.15)."""

RUNTIME_DIRECTORY_VARIABLE: Final = "THROUGHWAY_RUNTIME_DIRECTORY"
"""Names another folder for the sockets, for a system whose /run cannot be written."""

STATE_DIRECTORY: Final = Path("/var/lib/throughway")
"""What a gateway has learned and a reboot must not lose (Filesystem Hierarchy Standard 3.0, section 5.8)."""

STATE_DIRECTORY_VARIABLE: Final = "THROUGHWAY_STATE_DIRECTORY"

SOCKET_SUFFIX: Final = ".sock"

_GATEWAY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


class GatewayNameRejected(ControlError):
    """The operator named a gateway by what cannot be the name of a file."""


def runtime_directory() -> Path:
    """Return the folder of the sockets, whether it exists or not."""
    return Path(os.environ.get(RUNTIME_DIRECTORY_VARIABLE) or RUNTIME_DIRECTORY)


def state_directory() -> Path:
    """Return the folder of what gateways remember, whether it exists or not."""
    return Path(os.environ.get(STATE_DIRECTORY_VARIABLE) or STATE_DIRECTORY)


def socket_path(gateway: str) -> Path:
    """Return where the daemon of this gateway listens.

    Raises GatewayNameRejected unless the name is 1 to 63 letters, digits, dots, dashes and
    underscores and begins with a letter or digit: it becomes part of a path.
    """
    if not _GATEWAY_NAME.fullmatch(gateway):
        raise GatewayNameRejected(
            f"{gateway!r} cannot name a gateway",
            "use 1 to 63 letters, digits, dots, dashes and underscores, a letter or digit first",
        )
    return runtime_directory() / f"{gateway}{SOCKET_SUFFIX}"


def gateways_here() -> list[str]:
    """List the gateways that have a socket here, sorted; a daemon that was killed leaves its socket behind."""
    try:
        entries = sorted(runtime_directory().iterdir())
    except OSError:
        return []
    return [entry.name.removesuffix(SOCKET_SUFFIX) for entry in entries if _is_gateway_socket(entry)]


def _is_gateway_socket(path: Path) -> bool:
    name = path.name.removesuffix(SOCKET_SUFFIX)
    if name == path.name or not _GATEWAY_NAME.fullmatch(name):
        return False
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False
