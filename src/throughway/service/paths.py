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
from throughway.core.limits import Limits
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

    def __init__(self, nft: Nft, insides: Sequence[str], outside: str, limits: Limits) -> None:
        self._nft: Final = nft
        self._insides: Final = tuple(insides)
        self._outside: Final = outside
        self._limits: Final = limits
        self._slots: dict[int, IPv4Address] = {}
        """Those that are laid."""
        self._primary: int | None = None
        """The slot of the address that masquerade gives, if it may be chosen."""
        self._found: list[Chosen] = []

    def read(self) -> None:
        """Remember what an earlier run's table has, which is about to be replaced."""
        listing = self._nft.list_map(FAMILY, TABLE, paths.PATH)
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
            text += paths.lay(self._insides, self._outside, wanted, [*confirmed, *others], self._limits)
        if text:
            self._nft.apply(text)
        self._slots = wanted
        self._primary = next((slot for slot, address in wanted.items() if address in addresses[:1]), None)

    def settle(self, host: Host, wanted: Path) -> Path:
        """Note a path for a host, unless the rules noted another one before; return which.

        Where nothing can be noted, the kernel masquerades, and so the path is that of the primary address.
        """
        peer = wanted.peer
        if wanted.slot not in self._slots:
            return wanted
        problem: KernelRefused | None = None
        for _ in range(_TRIES):
            try:
                self._nft.apply(paths.create(host, peer, wanted.slot, self._slots[wanted.slot]))
            except KernelRefused as refused:
                problem = refused
            else:
                return wanted
            if problem.errno != errno.EEXIST:
                break
            slot = self._noted(host, wanted)
            if slot is not None:
                return Path(peer, slot)
        log.warning("path.not_kept", host=str(host), peer=str(peer), problem=str(problem))
        return wanted if self._primary is None else Path(peer, self._primary)

    def _noted(self, host: Host, wanted: Path) -> int | None:
        """Read what the rules noted, and have it stay. None where it has ended since."""
        try:
            found = _ADDRESS.search(self._nft.ask(paths.read(host, wanted.peer)))
        except KernelRefused:
            return None
        slot = next((slot for slot, known in self._slots.items() if found and str(known) == found[1]), wanted.slot)
        try:
            self._nft.apply(paths.confirm(host, wanted.peer, slot, self._slots[slot]))
        except KernelRefused as refused:  # No room for one moment of both: it stays for as long as the rule said.
            log.warning("path.not_kept", host=str(host), peer=str(wanted.peer), problem=str(refused))
        return slot

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
