"""Keeps the tracker and the kernel's own translation to one choice of the outside address for a host and a peer."""

import errno
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from typing import Final

import structlog

from throughway.core.addresses import Slots
from throughway.core.errors import KernelRefused
from throughway.core.ids import Host, Path
from throughway.dataplane.nft import Nft
from throughway.policy import paths
from throughway.policy.own import FAMILY, TABLE
from throughway.policy.paths import Chosen
from throughway.policy.tables import read_tables

log = structlog.get_logger()

_TRIES: Final = 3
_ADDRESS: Final = re.compile(r" : (\d+\.\d+\.\d+\.\d+) ")


class Paths:
    """The map of paths in our table. While there is nothing to choose, it is not there and all of this does nothing."""

    def __init__(self, nft: Nft, insides: Sequence[str], outside: str) -> None:
        self._nft: Final = nft
        self._insides: Final = tuple(insides)
        self._outside: Final = outside
        self._slots: dict[int, IPv4Address] = {}
        """Those that are laid."""
        self._found: list[Chosen] = []

    def read(self) -> None:
        """Remember what an earlier run's table has, which is about to be replaced."""
        listing = self._nft.list_table(FAMILY, TABLE)
        tables = read_tables(listing) if listing else []
        self._found = paths.elements_of(entry for table in tables for entry in table.elements.get(paths.PATH, ()))

    def lay(
        self, slots: Slots, usable: Sequence[int], addresses: Sequence[IPv4Address], chosen: Iterable[tuple[Host, Path]]
    ) -> None:
        """Choose among the usable slots from now on, and go by what the tracker has chosen.

        What the kernel has chosen for hosts that the tracker does not know stays, where the address is still ours.
        Nothing is laid where masquerade gives the only usable address by itself. Raises KernelRefused.
        """
        wanted = {slot: address for slot in usable if (address := slots[slot])}
        if list(wanted.values()) == list(addresses[:1]):
            wanted = {}
        text = ""
        if self._slots:
            self.read()
            text = paths.take_away(self._slots)
        found, self._found = self._found, []
        if wanted:
            known = {(host, path.peer): wanted[path.slot] for host, path in chosen if path.slot in wanted}
            others = [one for one in found if (one.host, one.peer) not in known]
            confirmed = [Chosen(host, peer, address, True) for (host, peer), address in known.items()]
            text += paths.lay(self._insides, self._outside, wanted, [*confirmed, *others])
        if text:
            self._nft.apply(text)
        self._slots = wanted

    def settle(self, host: Host, wanted: Path) -> Path:
        """Note a path for a host, unless the rules noted another one before; return which."""
        for _ in range(_TRIES if wanted.slot in self._slots else 0):
            try:
                self._nft.apply(paths.create(host, wanted.peer, wanted.slot, self._slots[wanted.slot]))
            except KernelRefused as refused:
                if refused.errno != errno.EEXIST:
                    log.warning("path.not_kept", host=str(host), peer=str(wanted.peer), problem=str(refused))
                    break
            else:
                break
            if (path := self._noted(host, wanted)) is not None:
                return path
        return wanted

    def _noted(self, host: Host, wanted: Path) -> Path | None:
        """Read what the rules noted and make it stay. None where it has ended since."""
        try:
            found = _ADDRESS.search(self._nft.ask(paths.read(host, wanted.peer)))
            address = IPv4Address(found[1]) if found else None
            slot = next((slot for slot, known in self._slots.items() if known == address), wanted.slot)
            self._nft.apply(paths.confirm(host, wanted.peer, slot, self._slots[slot]))
        except KernelRefused:
            return None
        return Path(wanted.peer, slot)

    def forget(self, host: Host, path: Path, *, is_last: bool) -> None:
        """Forget a path. It is no error where it has ended by itself."""
        if path.slot not in self._slots:
            return
        commands = [paths.forget(host, path.peer)] + ([paths.release(path.slot, path.peer)] if is_last else [])
        for command in commands:
            try:
                self._nft.apply(command)
            except KernelRefused as refused:
                if refused.errno != errno.ENOENT:
                    log.warning("path.not_forgotten", host=str(host), peer=str(path.peer), problem=str(refused))
