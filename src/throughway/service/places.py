"""Where a gateway works: its interfaces as they are now, and the programs on them."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final

import structlog

from throughway.core.addresses import Slots, fill
from throughway.core.errors import KernelRefused
from throughway.core.ports import Interface
from throughway.dataplane.bpf import BpfDataPlane
from throughway.dataplane.links import ETHERNET_HEADER_SIZE, Link

log = structlog.get_logger()


class Places:
    """Keeps the programs on the interfaces that there are, and the translation to the addresses that the outside has.

    An interface that is made anew has none of our programs, and most often another index (ppp0 at every redial).
    `on_attached` is told which outside interface has them from now on, and None when there is none.
    """

    def __init__(
        self,
        plane: BpfDataPlane,
        outside: Link,
        insides: Sequence[Link],
        *,
        chosen: Sequence[IPv4Address],
        addresses_max: int,
        on_attached: Callable[[int | None], None],
    ) -> None:
        """Begin with the slots of an earlier run. Of all addresses hosts are given the `chosen` ones, where any are."""
        self._plane: Final = plane
        self._on_attached: Final = on_attached
        self._outside_name: Final = outside.interface.name
        self._outside: Link | None = outside
        self._insides = {link.interface.name: link for link in insides}
        self._attached: tuple[Interface, ...] = ()
        """The outside interface first."""
        self._problem = ""
        self._chosen: Final = tuple(chosen)
        self._addresses_max: Final = addresses_max
        self.slots: Slots = plane.outside_addresses
        """The addresses by slot, or those that there were when there was one."""
        self._give_slots()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the interfaces that are there, the outside first."""
        return tuple(interface.name for interface in self._wanted())

    @property
    def insides(self) -> frozenset[int]:
        """The indexes of the inside interfaces that are there."""
        return frozenset(link.interface.index for link in self._insides.values())

    @property
    def has_ethernet_outside(self) -> bool:
        """Whether the outside interface is there and its frames have Ethernet headers."""
        return self._outside is not None and self._outside.interface.link_header_size == ETHERNET_HEADER_SIZE

    @property
    def outside_addresses(self) -> tuple[IPv4Address, ...]:
        """The addresses that the outside has, the primary one first."""
        return self._outside.addresses if self._outside else ()

    @property
    def translated(self) -> Slots:
        """The addresses that are translated to, by slot; empty while there is none."""
        return self.slots if self.outside_addresses else ()

    @property
    def usable(self) -> tuple[int, ...]:
        """The slots of the addresses that hosts may be given, the primary one first; none while there is no address.

        While none of the chosen addresses is there, it is the primary one, as masquerade has it.
        """
        here = self.outside_addresses
        wanted = [address for address in here if not self._chosen or address in self._chosen] or here[:1]
        return tuple(self.slots.index(address) for address in wanted if address in self.slots)

    def _give_slots(self) -> None:
        """Keep slots as they are while there is no address: the same ones may come back."""
        if self.outside_addresses:
            self.slots = fill(self.slots, self.outside_addresses, self._addresses_max)

    def _set_addresses(self) -> None:
        self._give_slots()
        self._plane.set_outside_addresses(self.translated)

    def attach(self) -> None:
        """Set the addresses and have the programs on exactly these interfaces. Raises KernelRefused."""
        self._set_addresses()
        outside, *insides = wanted = self._wanted()
        self._plane.attach(outside, insides)
        self._on_attached(outside.index)
        self._attached = wanted

    @property
    def are_attached(self) -> bool:
        """Whether an earlier run has left programs on all of these interfaces."""
        outside, *insides = self._wanted()
        return not self._plane.missing_on(outside, insides)

    def bring_to(self, now: Mapping[str, Link | None]) -> bool:
        """Follow the interfaces to what they are, None for one that is not there. Return whether that is done.

        Without its outside interface a gateway waits: there is nothing to attach to.
        """
        before = self.names
        had_outside = self._outside is not None
        self._outside = now[self._outside_name]
        self._insides = {name: link for name, link in now.items() if link and name != self._outside_name}
        for name in before:
            if name not in self.names:
                if name == self._outside_name:
                    log.warning("outside.gone", interface=name)
                else:
                    log.warning("inside.gone", interface=name)
        try:
            return self._follow(had_outside=had_outside)
        except KernelRefused as problem:
            # One of the interfaces may have vanished again; the next look tells then.
            if str(problem) != self._problem:
                log.warning("interfaces.not_attached", problem=str(problem))
            self._problem = str(problem)
            return False

    def _follow(self, *, had_outside: bool) -> bool:
        """Attach where programs are missing, and else only follow the addresses. Raises KernelRefused."""
        wanted = self._wanted()
        if self._outside is None:
            self._set_addresses()
            if had_outside:
                self._on_attached(None)
            return True
        missing = self._plane.missing_on(wanted[0], wanted[1:])
        if self._attached == wanted and not missing:
            self._set_addresses()
            return True
        self.attach()
        self._problem = ""
        for interface in wanted:
            if interface.index not in missing:
                continue
            if interface.name == self._outside_name:
                log.info("outside.returned", interface=interface.name, index=interface.index)
            else:
                log.info("inside.returned", interface=interface.name, index=interface.index)
        return True

    def _wanted(self) -> tuple[Interface, ...]:
        return tuple(link.interface for link in (self._outside, *self._insides.values()) if link)
