"""Which position holds, and what follows from all of them.

Of several settings that fit, the most specific one holds. The place comes first: who makes an exception for a
device means it, whatever is set for all.

    1  this device with this peer
    2  this device
    3  this peer
    4  everybody
    5  nothing was set: the default of the protocol's file

At one place the protocol's own switch comes before its family's. A name that is both (`pptp`) is the family's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue.protocol import Carrier, Protocol, Transport
from throughway.core import discriminators
from throughway.core.blocking import Address, At, Blocking, Withheld
from throughway.core.errors import SettingsRejected
from throughway.core.ids import IpProtocol, UdpPort
from throughway.switches.names import has_switch, unknown
from throughway.switches.position import EVERYWHERE, Place, Position, Setting, Switches


@dataclass(frozen=True, slots=True)
class Ruling:
    """The position that holds, and the switch that says so: the ID of a protocol or family."""

    position: Position
    switch: str
    place: Place = EVERYWHERE


class Board:
    """All switches of a catalogue, as they were set. Look-ups cost the same however many there are."""

    def __init__(self, catalogue: Catalogue, switches: Switches) -> None:
        for setting in switches:
            if problem := objection(catalogue, setting):
                raise SettingsRejected(setting.name, problem)
        self.catalogue: Final = catalogue
        self.switches: Final = switches
        self._set: Final = {(one.name, one.place.at): one.position for one in switches}
        self._protocols: Final = {protocol.id: protocol for protocol in catalogue}
        self._with_exceptions: Final = {one.name for one in switches if not one.place.is_everywhere}
        self._everywhere: Final = {protocol.id: self._anywhere(protocol) for protocol in catalogue}

    def ruling(self, protocol: str, device: Address | None = None, peer: Address | None = None) -> Ruling:
        """Say which position of a protocol holds between a device and a peer; None is everybody. The ID must exist."""
        known = self._protocols[protocol]
        if known.id in self._with_exceptions or known.family in self._with_exceptions:
            for place in dict.fromkeys(((device, peer), (device, None), (None, peer))):
                if found := self._at(known, place):
                    return found
        return self._everywhere[protocol]

    def _anywhere(self, protocol: Protocol) -> Ruling:
        return self._at(protocol, EVERYWHERE.at) or Ruling(Position(protocol.switch.default.value), protocol.id)

    def has(self, protocol: str) -> bool:
        """Whether the catalogue has a protocol with this ID."""
        return protocol in self._protocols

    def is_off(self, protocol: str, device: Address, peer: Address) -> bool:
        """Whether a protocol is blocked between a device and a peer. Unknown protocols are not."""
        return protocol in self._protocols and self.ruling(protocol, device, peer).position is Position.OFF

    def _at(self, protocol: Protocol, place: At) -> Ruling | None:
        """Look for what was set at exactly this place."""
        for name in (protocol.id, protocol.family):
            if (position := self._set.get((name, place))) is not None:
                return Ruling(position, name, Place(*place))
        return None

    # What follows from it

    @property
    def has_off_with_ports(self) -> bool:
        """Whether any protocol that is known by detection, on UDP or TCP, is off for anybody."""
        return any(
            position is Position.OFF
            for protocol in self.catalogue
            if protocol.recognise.transport is not Transport.IP
            for position in self._positions(protocol)
        )

    def blocking(self) -> tuple[Blocking, ...]:
        """Say for whom each IP protocol without ports is blocked; those that are blocked for nobody are left out."""
        found = [one for protocol in self.catalogue for one in self._blocking(protocol)]
        return tuple(one for one in found if one.is_needed)

    def _blocking(self, protocol: Protocol) -> Iterator[Blocking]:
        is_off = self.ruling(protocol.id).position is Position.OFF
        at = self._exceptions(protocol, Position.OFF)
        for number in protocol.recognise.ip_protocols:
            is_pptp = number == IpProtocol.GRE and protocol.nat.carried_by is Carrier.HELPER
            yield Blocking(number, is_off, MappingProxyType(at), is_pptp)

    def withheld(self) -> Withheld:
        """Say what the tracker may not have: what is blocked, and what is left to the kernel."""
        unassisted = [
            number
            for protocol in self.catalogue
            if is_tracked(protocol) and self.ruling(protocol.id).position is Position.UNASSISTED
            for number in protocol.recognise.ip_protocols
        ]
        ports = [
            port
            for protocol in self.catalogue
            if protocol.recognise.transport is Transport.UDP
            and self.ruling(protocol.id).position is Position.UNASSISTED
            for port in UdpPort
            if port in protocol.recognise.ports
        ]
        return Withheld.of(self.blocking(), unassisted, ports)

    def without_helper(self) -> Blocking:
        """Say for whom the kernel's helper of PPTP is not to be used, in the shape of what blocks its calls."""
        nobody = Blocking(IpProtocol.GRE, is_pptp=True)
        return next((self._unhelped(protocol) for protocol in self.catalogue if _has_helper(protocol)), nobody)

    def _unhelped(self, protocol: Protocol) -> Blocking:
        is_everywhere = self.ruling(protocol.id).position is Position.UNASSISTED
        return Blocking(IpProtocol.GRE, is_everywhere, self._exceptions(protocol, Position.UNASSISTED), is_pptp=True)

    def _exceptions(self, protocol: Protocol, position: Position) -> Mapping[At, bool]:
        """Say for each place where something was set of the protocol whether it stands at this position there."""
        places = [
            one.place.at
            for one in self.switches
            if one.name in (protocol.id, protocol.family) and not one.place.is_everywhere
        ]
        found = {place: ruling.position is position for place in places if (ruling := self._at(protocol, place))}
        return MappingProxyType(found)

    def _positions(self, protocol: Protocol) -> Iterator[Position]:
        yield self.ruling(protocol.id).position
        for setting in self.switches:
            if setting.name in (protocol.id, protocol.family):
                yield setting.position


def is_tracked(protocol: Protocol) -> bool:
    """Whether the tracker carries it, by discriminator and not by port."""
    numbers = protocol.recognise.ip_protocols
    return protocol.nat.carried_by is not Carrier.HELPER and any(discriminators.is_ours(number) for number in numbers)


def _has_helper(protocol: Protocol) -> bool:
    return protocol.nat.carried_by is Carrier.HELPER and protocol.recognise.transport is Transport.TCP


def objection(catalogue: Catalogue, setting: Setting) -> str:
    """Say what is wrong with a setting, and the remedy; empty where it can be."""
    if not has_switch(catalogue, setting.name):
        return unknown(catalogue, setting.name)
    if setting.position is not Position.UNASSISTED or setting.place.is_everywhere:
        return ""
    of_it = catalogue.of_family(setting.name) or tuple(filter(None, [catalogue.get(setting.name)]))
    tracked = next((protocol for protocol in of_it if is_tracked(protocol)), None)
    if tracked is None:
        return ""
    return (
        f"`{tracked.id}` can be unassisted for everybody only, since a packet of it from a peer does not tell which "
        "device it is for; leave device and peer out, or use on or off"
    )
