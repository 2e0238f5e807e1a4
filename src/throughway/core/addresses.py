"""Which of our outside addresses each host uses towards each peer.

Two hosts that speak to one peer from different addresses of ours can never be taken for each other: what the peer
sends to one of them names that address. So a host gets one address for all that it has with a peer, and another
one than the other hosts have there, as long as there is one.

An address has a *slot*, a number from 0 on, and everything but the packets themselves goes by slots. When an address
takes the place of another one, as after a redial, it takes its slot, and all that is known goes on at once.
"""

from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address
from typing import Final

from throughway.core.ids import ROUTER, Host, Path, Peer

Slots = tuple[IPv4Address | None, ...]
"""The addresses by slot; None where a slot is empty."""


def fill(before: Slots, now: Sequence[IPv4Address], slots_max: int) -> Slots:
    """Give each address a slot: its old one, else one that nobody has any more, else a new one while there are any."""
    slots = [address if address in now else None for address in before]
    coming = [address for address in now if address not in slots]
    for slot, address in enumerate(slots):
        if address is None and coming:
            slots[slot] = coming.pop(0)
    return tuple([*slots, *coming][:slots_max])


class Addresses:
    """Knows the slots that may be chosen, and which one each pair of a host and a peer has.

    The router chooses for itself, packet by packet, and may have several with one peer.
    """

    def __init__(self) -> None:
        self.usable: tuple[int, ...] = (0,)
        """The slots that may be chosen, best first. There is always one, even while it is empty."""
        self._slots_of: Final[dict[tuple[Host, Peer], dict[int, None]]] = {}
        self._hosts_at: Final[dict[Path, dict[Host, None]]] = {}

    @property
    def is_choice(self) -> bool:
        """Whether there is more than one slot to choose from."""
        return len(self.usable) > 1

    def paths(self, host: Host, peer: Peer) -> list[Path]:
        """Say where a host speaks to a peer: one path, several of the router, or none."""
        return [Path(peer, slot) for slot in self._slots_of.get((host, peer), ())]

    def hosts_at(self, path: Path) -> list[Host]:
        """Name the hosts that use a path."""
        return list(self._hosts_at.get(path, ()))

    def chosen(self) -> Iterator[tuple[Host, Path]]:
        """Yield all hosts with the paths that were chosen for them."""
        for (host, peer), slots in self._slots_of.items():
            if host != ROUTER:
                yield from ((host, Path(peer, slot)) for slot in slots)

    def choose(self, host: Host, peer: Peer, is_free: Callable[[Path], bool] = lambda _: True) -> Path:
        """Say which path a host gets: the one it has, else the first with no other host.

        Where there is none without, one on which what it asks for `is_free`, and of those the emptiest.
        """
        if known := self.paths(host, peer):
            return known[0]
        paths = [Path(peer, slot) for slot in self.usable]
        return min(paths, key=lambda path: (not is_free(path), len(self._hosts_at.get(path, ()))))

    def join(self, host: Host, path: Path) -> bool:
        """Note that a host uses a path. Return False where it has another one with this peer."""
        slots = self._slots_of.setdefault((host, path.peer), {})
        if slots and path.slot not in slots and host != ROUTER:
            return False
        slots[path.slot] = None
        self._hosts_at.setdefault(path, {})[host] = None
        return True

    def leave(self, host: Host, peer: Peer) -> None:
        """Forget what a host used towards a peer. Unknown ones are no error."""
        for slot in self._slots_of.pop((host, peer), ()):
            hosts = self._hosts_at[Path(peer, slot)]
            del hosts[host]
            if not hosts:
                del self._hosts_at[Path(peer, slot)]

    def lost(self) -> list[tuple[Host, Path]]:
        """Name the hosts on paths that may not be chosen any more, where others may."""
        return [(host, path) for host, path in self.chosen() if path.slot not in self.usable]
