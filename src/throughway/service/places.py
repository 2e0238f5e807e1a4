"""Where a gateway works: its interfaces as they are now, and the programs on them."""

from collections.abc import Mapping, Sequence
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

    An interface that is made anew has another index and none of our programs (ppp0 at every redial).
    """

    def __init__(
        self,
        plane: BpfDataPlane,
        outside: Link,
        insides: Sequence[Link],
        chosen: Sequence[IPv4Address],
        addresses_max: int,
    ) -> None:
        """Begin with the slots of an earlier run. Of all addresses hosts are given the `chosen` ones, where any are."""
        self._plane: Final = plane
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
    def has_ethernet_outside(self) -> bool:
        """Whether the outside interface is there and its frames have Ethernet headers."""
        return self._outside is not None and self._outside.interface.link_header_size == ETHERNET_HEADER_SIZE

    @property
    def outside_addresses(self) -> tuple[IPv4Address, ...]:
        """The addresses that are translated to, the primary one first."""
        return self._outside.addresses if self._outside else ()

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
        self._plane.set_outside_addresses(self.slots if self.outside_addresses else ())

    def attach(self) -> None:
        """Set the addresses and have the programs on exactly these interfaces. Raises KernelRefused."""
        self._set_addresses()
        outside, *insides = wanted = self._wanted()
        self._plane.attach(outside, insides)
        self._attached = wanted

    def bring_to(self, now: Mapping[str, Link | None]) -> bool:
        """Follow the interfaces to what they are, None for one that is not there. Return whether that is done.

        Without its outside interface a gateway waits: there is nothing to attach to.
        """
        before = self.names
        self._outside = now[self._outside_name]
        self._insides = {name: link for name, link in now.items() if link and name != self._outside_name}
        for name in before:
            if name not in self.names:
                if name == self._outside_name:
                    log.warning("outside.gone", interface=name)
                else:
                    log.warning("inside.gone", interface=name)
        if self._outside is None or self._attached == self._wanted():
            self._set_addresses()
            return True
        return self._try_to_attach()

    def _try_to_attach(self) -> bool:
        """Attach where one of the interfaces may have vanished again; the next look tells then."""
        before = self._attached
        try:
            self.attach()
        except KernelRefused as problem:
            if str(problem) != self._problem:
                log.warning("interfaces.not_attached", problem=str(problem))
            self._problem = str(problem)
            return False
        self._problem = ""
        for interface in self._attached:
            if interface in before:
                continue
            if interface.name == self._outside_name:
                log.info("outside.returned", interface=interface.name, index=interface.index)
            else:
                log.info("inside.returned", interface=interface.name, index=interface.index)
        return True

    def _wanted(self) -> tuple[Interface, ...]:
        return tuple(link.interface for link in (self._outside, *self._insides.values()) if link)
