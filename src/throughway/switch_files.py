"""The switches and the operator's protocols on disk: protocols.toml, and protocols.d with one file for each protocol.

Whoever writes holds the lock of the folder meanwhile, and puts each file in the place of the old one as a whole. So a
crash leaves one or the other, two writers lose nothing of each other's, and readers need no lock.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue.lines import line_of, lines_of
from throughway.catalogue.protocol import Protocol
from throughway.catalogue.reading import ProtocolRejected
from throughway.catalogue.reading import read as read_protocol
from throughway.catalogue_files import read_file, shipped
from throughway.core.errors import SettingsRejected
from throughway.detect.registry import STRUCTURES
from throughway.switches import writing
from throughway.switches.board import Board, objection
from throughway.switches.names import unknown
from throughway.switches.position import Place, Position, Setting, Switches
from throughway.switches.reading import read as read_switches

CONFIGURATION_DIRECTORY: Final = Path("/etc/throughway")
CONFIGURATION_DIRECTORY_VARIABLE: Final = "THROUGHWAY_CONFIGURATION_DIRECTORY"

_SIZE_MAX_BYTES: Final = 256 * 1024
_LOCK_S: Final = 10.0
_LOCK_AGAIN_S: Final = 0.02
_MODE: Final = 0o644

Signature = tuple[tuple[str, int, int, int], ...]
"""Names, inodes, sizes and times of change: equal as long as nobody has written."""


def configuration_directory() -> Path:
    """Return the folder of the operator's files, whether it exists or not."""
    return Path(os.environ.get(CONFIGURATION_DIRECTORY_VARIABLE) or CONFIGURATION_DIRECTORY)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files say. `own` has the operator's protocols by ID, with their files."""

    board: Board
    own: dict[str, Path]


class SwitchFiles:
    """The files of one folder, which need not exist until something is written.

    Every method raises SettingsRejected, which names file, line and remedy, where the operator's files or wishes cannot
    be taken, and nothing is changed then.
    """

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self.switches: Final = folder / "protocols.toml"
        self.protocols: Final = folder / "protocols.d"

    def read(self) -> Loaded:
        """Read all of it."""
        return self._loaded(self._text(), self._own())

    def signature(self) -> Signature:
        """Say what would be read, without reading it. Never raises: what cannot be looked at is told by `read`."""
        try:
            files = self._files()
        except SettingsRejected:
            files = []
        return tuple(found for path in (self.switches, *files) if (found := _stat(path)))

    def set(self, name: str, position: Position | None, place: Place) -> Loaded:
        """Set a switch at a place, or take back what was set there where the position is None."""
        with self._locked():
            now = self.read()
            setting = Setting(name, position or Position.ON, place)
            if problem := objection(now.board.catalogue, setting):
                raise SettingsRejected(name, problem)
            changed = Board(now.board.catalogue, now.board.switches.with_(name, position, place))
            text = writing.with_setting(self._text(), name, position, place)
            self._check(text, changed)
            _write(self.switches, text)
            return Loaded(changed, now.own)

    def add(self, text: str, file: str) -> tuple[Protocol, Loaded]:
        """Take the text of a protocol's file among the operator's. `file` is its name, for errors."""
        protocol = read_protocol(text, file, STRUCTURES)
        with self._locked():
            now = self.read()
            if protocol.id in now.board.catalogue.ids:
                is_own = protocol.id in now.own
                remedy = f"`throughway protocols remove {protocol.id}` takes the old one away first" if is_own else ""
                raise ProtocolRejected(
                    file,
                    line_of(lines_of(text), ("id",)),
                    ("id",),
                    f"there is a protocol `{protocol.id}` already; "
                    + (remedy or "it comes with Throughway, so choose another ID"),
                )
            path = self.protocols / f"{protocol.id}.toml"
            if path.exists():
                raise SettingsRejected(str(path), "this file is another protocol's; give it the name of its ID")
            catalogue = Catalogue.of([*now.board.catalogue, protocol])
            self.protocols.mkdir(mode=0o755, parents=True, exist_ok=True)
            _write(path, text)
            return protocol, Loaded(Board(catalogue, now.board.switches), {**now.own, protocol.id: path})

    def remove(self, identity: str) -> Loaded:
        """Take one of the operator's protocols away, and what is set of it."""
        with self._locked():
            now = self.read()
            if identity not in now.own:
                if identity not in now.board.catalogue.ids:
                    raise SettingsRejected(identity, unknown(now.board.catalogue, identity))
                raise SettingsRejected(
                    identity,
                    "it comes with Throughway and cannot be removed; "
                    f"`throughway protocols disable {identity}` switches it off",
                )
            own = {known: path for known, path in now.own.items() if known != identity}
            catalogue = Catalogue.of([protocol for protocol in now.board.catalogue if protocol.id != identity])
            text, switches = self._text(), now.board.switches
            gone = {identity, *now.board.catalogue.families} - {*catalogue.ids, *catalogue.families}
            for name in gone:
                text, switches = writing.without(text, name), switches.without(name)
            # The switches go first: a file that names a protocol which is not there any more cannot be read.
            board = Board(catalogue, switches)
            if switches != now.board.switches:
                self._check(text, board)
                _write(self.switches, text)
            now.own[identity].unlink()
            _sync(self.protocols)
            return Loaded(board, own)

    def _check(self, text: str, wanted: Board) -> None:
        """Refuse a text that would not be read as what is wanted: the next start would end over it."""
        try:
            found = read_switches(text, str(self.switches), wanted.catalogue)
        except SettingsRejected:
            found = None
        if found is None or set(found) != set(wanted.switches):
            raise SettingsRejected(
                str(self.switches),
                "cannot be changed as it is written; write each override as a table, begun by `[[override]]`, and the "
                "others in one `[switch]`",
            )

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self.protocols.iterdir() if path.name.endswith(".toml"))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise SettingsRejected(str(self.protocols), f"cannot be read: {error.strerror}") from error

    def _own(self) -> dict[Path, Protocol]:
        return {path: read_file(path) for path in self._files()}

    def _loaded(self, text: str, own: dict[Path, Protocol]) -> Loaded:
        catalogue = Catalogue.of([*shipped(), *own.values()])
        switches = read_switches(text, str(self.switches), catalogue) if text else Switches()
        return Loaded(Board(catalogue, switches), {protocol.id: path for path, protocol in own.items()})

    def _text(self) -> str:
        try:
            data = self.switches.read_bytes()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise SettingsRejected(str(self.switches), f"cannot be read: {error.strerror}") from error
        if len(data) > _SIZE_MAX_BYTES:
            raise SettingsRejected(str(self.switches), f"is longer than {_SIZE_MAX_BYTES} bytes; remove overrides")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise SettingsRejected(
                str(self.switches), f"is not UTF-8 text, at byte {error.start}; save it as UTF-8"
            ) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other writers out for the time of the block."""
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingsRejected(str(self.folder), f"cannot be written: {error.strerror}; use sudo") from error
        try:
            self._wait_for(lock)
            yield
        except OSError as error:
            raise SettingsRejected(str(self.folder), f"cannot be written: {error.strerror}") from error
        finally:
            os.close(lock)

    def _wait_for(self, lock: int) -> None:
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise SettingsRejected(
                        str(self.folder), f"somebody else has been writing for {_LOCK_S:g} s; try again"
                    ) from None
            time.sleep(_LOCK_AGAIN_S)


def _stat(path: Path) -> tuple[str, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return path.name, found.st_ino, found.st_size, found.st_mtime_ns


def _write(path: Path, text: str) -> None:
    """Put a file in the place of the old one, and both on the disk, in this order."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as coming:
            coming.write(text)
            coming.flush()
            os.fchmod(number, path.stat().st_mode & 0o777 if path.exists() else _MODE)
            os.fsync(number)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
