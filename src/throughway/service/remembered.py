"""The file in which a gateway remembers with which peers a UDP port has to be kept.

It holds no more than `Limits.kept_ports_max` entries, the oldest first. It is written as a whole and put in the
place of the old one, so a crash leaves one or the other.
"""

import json
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import structlog

from throughway.core.ids import Peer, UdpPort

log = structlog.get_logger()

VERSION: Final = 1

Entry = tuple[Peer, UdpPort]


class RememberedPorts:
    """Reads the file once, and writes it with each change. A disk that refuses costs the memory, and nothing else."""

    def __init__(self, file: Path, entries_max: int) -> None:
        self._file: Final = file
        self._entries_max: Final = entries_max
        self._entries: Final[dict[Entry, None]] = dict.fromkeys(self._read())

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is remembered, the oldest first."""
        return tuple(self._entries)

    def add(self, peer: Peer, port: UdpPort) -> None:
        """Remember one more, as the newest; the oldest makes room."""
        self._entries.pop((peer, port), None)
        self._entries[peer, port] = None
        while len(self._entries) > self._entries_max:
            del self._entries[next(iter(self._entries))]
        self._write()

    def discard(self, peer: Peer, port: UdpPort) -> None:
        """Remember it no longer. Unknown ones are no error."""
        if (peer, port) in self._entries:
            del self._entries[peer, port]
            self._write()

    def _read(self) -> Iterable[Entry]:
        try:
            document = json.loads(self._file.read_text())
            if document["version"] != VERSION:
                raise ValueError(f"version {document['version']}, and not {VERSION}")
            entries = [(Peer(IPv4Address(str(row["peer"]))), UdpPort(row["port"])) for row in document["ports"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as problem:
            log.warning("ports.unreadable", file=str(self._file), problem=str(problem))
            return []
        return entries[-self._entries_max :]

    def _write(self) -> None:
        rows = [{"peer": str(peer), "port": int(port)} for peer, port in self._entries]
        coming = self._file.with_name(f"{self._file.name}.new")
        try:
            self._file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            coming.write_text(json.dumps({"version": VERSION, "ports": rows}))
            coming.replace(self._file)
        except OSError as problem:
            log.warning("ports.not_written", file=str(self._file), problem=str(problem))
