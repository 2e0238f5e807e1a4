"""The catalogue from disk: the files that come with Throughway, and those of the operator."""

from importlib.resources import files
from pathlib import Path
from typing import Final

from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue.protocol import Protocol
from throughway.catalogue.reading import read
from throughway.core.errors import SettingsRejected
from throughway.detect.registry import STRUCTURES

OPERATOR_FOLDER: Final = Path("/etc/throughway/protocols.d")
"""Where an operator's protocols are, one file each, ending in .toml. It need not exist."""

_FILE_SIZE_MAX_BYTES: Final = 64 * 1024


def shipped() -> list[Protocol]:
    """Read the protocols that come with Throughway, in the order of their file names."""
    folder = files("throughway.catalogue") / "protocols"
    entries = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda e: e.name)
    return [read(entry.read_text("utf-8"), entry.name, STRUCTURES) for entry in entries]


def read_file(path: Path) -> Protocol:
    """Read the protocol of one file. Raises SettingsRejected where it cannot be read or taken."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsRejected(str(path), f"cannot be read: {error.strerror}") from error
    if len(data) > _FILE_SIZE_MAX_BYTES:
        raise SettingsRejected(str(path), f"is longer than {_FILE_SIZE_MAX_BYTES} bytes; a protocol takes a page")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsRejected(str(path), f"is not UTF-8 text, at byte {error.start}; save it as UTF-8") from error
    return read(text, str(path), STRUCTURES)


def read_catalogue(folder: Path | None = OPERATOR_FOLDER) -> Catalogue:
    """Read the whole catalogue, with the operator's protocols where there are any.

    Raises SettingsRejected, which names file, line and remedy, where a file of the operator's cannot be taken.
    """
    own = sorted(folder.glob("*.toml")) if folder is not None and folder.is_dir() else []
    return Catalogue.of([*shipped(), *(read_file(path) for path in own)])
