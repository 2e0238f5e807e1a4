"""UDP ports that hosts keep: which datagrams BPF carries, where connection tracking would give another port.

For a port on `auto` the table has a set of the peers where it is kept, which the daemon fills as it learns; with
`keep` it is kept with every peer, with `translate` with none. A datagram is meant where both ends use the port: no
other could be kept. What BPF translates and what leaves tracking have to be the same, or an inside address would
leave. So a peer gets into BPF's table before it gets into the set, and leaves the set first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from throughway.core.ids import IpProtocol, Peer, UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.core.limits import Limits
from throughway.policy.own import FAMILY, IS_IPV4, TABLE, add
from throughway.policy.rules import Command, Statement, behind_ip, is_, payload

AUTO: Final = MappingProxyType(dict.fromkeys(UdpPort, PortSetting.AUTO))

_SETS: Final = {UdpPort.IKE: "keeps_ike", UdpPort.L2TP: "keeps_l2tp"}

_QUOTED_PROTOCOL: Final = (8 + 9) * 8, 8
_QUOTED_VERSION_AND_LENGTH: Final = 8 * 8, 8
_QUOTED_FRAGMENT_OFFSET: Final = (8 + 6) * 8 + 3, 13
_QUOTED_PORTS: Final = (8 + 20) * 8, 32
"""Behind the ICMP header of 8 bytes stands the quoted IP header (RFC 792, RFC 791 section 3.1), here without
options, and behind that both ports of UDP (RFC 768)."""

_WITHOUT_OPTIONS: Final = 0x45


@dataclass(frozen=True, slots=True)
class PortRules:
    """What the operator wants of the ports, and where they are kept because that was learned."""

    settings: Mapping[UdpPort, PortSetting] = field(default_factory=lambda: AUTO)
    learned: Sequence[tuple[Peer, UdpPort]] = ()

    def sets(self) -> list[Command]:
        """Write the sets of peers, with those that are known already."""
        return [self._set(port) for port in UdpPort if self.settings[port] is PortSetting.AUTO]

    def _set(self, port: UdpPort) -> Command:
        peers = sorted(peer for peer, kept in self.learned if kept is port)
        elements: dict[str, object] = {"elem": [str(peer) for peer in peers]} if peers else {}
        return add("set", name=_SETS[port], type="ipv4_addr", size=Limits().kept_ports_max, **elements)

    def datagrams(self) -> Iterator[tuple[str, tuple[Statement, ...]]]:
        """Yield for each port that may be kept its name, and what matches a datagram of a host that keeps it."""
        for port in UdpPort:
            if self.settings[port] is not PortSetting.TRANSLATE:
                ends = is_(payload("udp", "sport"), int(port)), is_(payload("udp", "dport"), int(port))
                yield port.name, (IS_IPV4, *ends, *self._peers(port))

    def errors(self) -> Iterator[tuple[str, tuple[Statement, ...]]]:
        """Yield the same for what matches an ICMP error that quotes a datagram of the peer it goes to."""
        for port in UdpPort:
            if self.settings[port] is not PortSetting.TRANSLATE:
                yield (
                    port.name,
                    (
                        is_(behind_ip(*_QUOTED_PROTOCOL), int(IpProtocol.UDP)),
                        is_(behind_ip(*_QUOTED_VERSION_AND_LENGTH), _WITHOUT_OPTIONS),
                        is_(behind_ip(*_QUOTED_FRAGMENT_OFFSET), 0),
                        is_(behind_ip(*_QUOTED_PORTS), int(port) << 16 | int(port)),
                        *self._peers(port),
                    ),
                )

    def _peers(self, port: UdpPort) -> tuple[Statement, ...]:
        if self.settings[port] is PortSetting.KEEP:
            return ()
        return (is_(payload("ip", "daddr"), f"@{_SETS[port]}"),)


def keep(peer: Peer, port: UdpPort) -> Command:
    """Write the command by which hosts keep the port with one more peer."""
    return {"add": _element(peer, port)}


def translate(peer: Peer, port: UdpPort) -> Command:
    """Write the command by which they do not any longer."""
    return {"delete": _element(peer, port)}


def _element(peer: Peer, port: UdpPort) -> dict[str, object]:
    return {"element": {"family": FAMILY, "table": TABLE, "name": _SETS[port], "elem": [str(peer)]}}
