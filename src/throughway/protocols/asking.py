"""Whom the commands speak to: the daemon of a gateway, or the files that it would read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from throughway.control.client import ControlClient, choose_gateway
from throughway.control.errors import ControlError, DaemonAbsent
from throughway.control.paths import gateways_here
from throughway.control.protocols_schema import AddQuery, Changed, Position, Protocols, RemoveQuery, SwitchQuery
from throughway.control.reading import DocumentMismatch
from throughway.core.errors import SettingsRejected
from throughway.switch_files import SwitchFiles, configuration_directory
from throughway.switch_rows import rows
from throughway.switches import position
from throughway.switches.position import Place


class Wish(ControlError):
    """The operator asked for what cannot be."""


class Asked(Protocol):
    """Answers the commands. All methods raise ControlError."""

    note: str
    """What people are to know about who answered; empty for a daemon."""

    def protocols(self) -> Protocols:
        """Return all protocols and overrides."""

    def switch(self, name: str, to: Position | None, device: str | None, peer: str | None) -> Changed:
        """Set a switch, or take back what was set."""

    def add(self, file: Path) -> Changed:
        """Add a protocol by its file."""

    def remove(self, identity: str) -> Changed:
        """Take one of the operator's protocols away."""


@contextmanager
def asking(gateway: str | None) -> Iterator[Asked]:
    """Speak to the daemon where one runs, and to the files where none does. Raises ControlError for other causes."""
    name = choose_gateway(gateway)
    try:
        client = ControlClient.of_gateway(name)
    except DaemonAbsent:
        yield _Files(SwitchFiles(configuration_directory()), name)
        return
    with client:
        yield _Daemon(client)


class _Daemon:
    """A daemon that runs. It writes the files itself, wherever they are, and follows at once."""

    note = ""

    def __init__(self, client: ControlClient) -> None:
        self._client: Final = client

    def protocols(self) -> Protocols:
        """Ask for all of them."""
        try:
            return Protocols.from_json(self._client.request("protocols"))
        except DocumentMismatch as mismatch:
            raise Wish("the daemon is of another release", f"restart it after an upgrade ({mismatch})") from mismatch

    def switch(self, name: str, to: Position | None, device: str | None, peer: str | None) -> Changed:
        """Have it set a switch."""
        query = SwitchQuery(name=name, position=to, device=device, peer=peer)
        return Changed.from_json(self._client.request("switch", query.to_json()))

    def add(self, file: Path) -> Changed:
        """Give it the text of the file."""
        return Changed.from_json(
            self._client.request("protocol-add", AddQuery(text=_text(file), file=str(file)).to_json())
        )

    def remove(self, identity: str) -> Changed:
        """Have it remove the file."""
        return Changed.from_json(self._client.request("protocol-remove", RemoveQuery(id=identity).to_json()))


class _Files:
    """No daemon runs: what is written holds from its next start on."""

    def __init__(self, files: SwitchFiles, gateway: str) -> None:
        self._files: Final = files
        here = ", ".join(gateways_here())
        follow = f" Gateways that run here ({here}) follow it at once if it is their folder." if here else ""
        self.note = (
            f"No daemon runs for gateway {gateway}. This is what {files.folder} says, and what holds from its next "
            f"start on.{follow}"
        )

    def protocols(self) -> Protocols:
        """Read all of them."""
        try:
            return rows(self._files.read(), self._files.folder)
        except SettingsRejected as problem:
            raise Wish(problem.key, problem.remedy) from None

    def switch(self, name: str, to: Position | None, device: str | None, peer: str | None) -> Changed:
        """Write a switch."""
        try:
            self._files.set(name, position.Position(to.value) if to else None, Place.of(device, peer))
        except SettingsRejected as problem:
            raise Wish(problem.key, problem.remedy) from None
        return Changed(name=name)

    def add(self, file: Path) -> Changed:
        """Copy the file among the operator's."""
        try:
            protocol, _ = self._files.add(_text(file), str(file))
        except SettingsRejected as problem:
            raise Wish(problem.key, problem.remedy) from None
        return Changed(name=protocol.id)

    def remove(self, identity: str) -> Changed:
        """Remove the file."""
        try:
            self._files.remove(identity)
        except SettingsRejected as problem:
            raise Wish(problem.key, problem.remedy) from None
        return Changed(name=identity)


_SIZE_MAX_BYTES: Final = 48 * 1024
"""So that the text finds room in a request; a protocol takes a page."""


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Wish(f"{file} cannot be read", f"{error.strerror}") from error
    if len(data) > _SIZE_MAX_BYTES:
        raise Wish(f"{file} is longer than {_SIZE_MAX_BYTES} bytes", "a protocol takes a page")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Wish(f"{file} is not UTF-8 text, at byte {error.start}", "save it as UTF-8") from error
