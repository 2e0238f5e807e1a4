"""What the core needs of the data plane, whichever one it is: `bpf`, `nft`, or the fake of the tests."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol, TypeAlias

from throughway.core.events import FlowCount, FlowTrace
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, Peer, UdpPort
from throughway.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface of the gateway's network namespace, as it is now.

    The index changes when an interface is made anew under the same name (ppp0 at every redial).
    `link_header_size` is in bytes: 14 for Ethernet, veth and VLAN, 0 for PPP, wwan and TUN.
    """

    name: str
    index: int
    link_header_size: int


@dataclass(frozen=True, slots=True)
class Punted:
    """The data plane holds the first packet of an unknown flow and waits for a decision.

    `packet` is the IPv4 packet from its IP header on. `is_copy` is true for the router's own
    packets, which are never held; `slot` is that of our address which it sent it from.
    """

    key: FlowKey
    packet: bytes
    is_copy: bool
    slot: int = 0


@dataclass(frozen=True, slots=True)
class IkeObserved:
    """The first bytes of an IKE message that passed; `message` begins at the IKE header, without a marker.

    `slot` is that of our address which the router sent it from, here and below; 0 of a host. `host_port` is the
    UDP port at the host's end.
    """

    host: Host
    peer: Peer
    direction: Direction
    floated: bool
    message: bytes
    slot: int = 0
    host_port: int = UdpPort.IKE


@dataclass(frozen=True, slots=True)
class ControlObserved:
    """The first bytes of a control message that passed, of a protocol that assigns its discriminators in clear.

    This is L2TPv3 over IP (RFC 3931 section 3.2.1), where `protocol` is 115, and L2TP of both versions over UDP
    from or to port 1701 of the peer. `message` begins at the control message header, over IP behind the session ID
    of 0, and has at most 512 bytes. `host_port` is the UDP port at the host's end, and 0 over IP.
    """

    host: Host
    peer: Peer
    direction: Direction
    protocol: int
    message: bytes
    slot: int = 0
    host_port: int = 0


@dataclass(frozen=True, slots=True)
class AhObserved:
    """A host sent AH (RFC 4302), which no NAT can carry and which was refused."""

    host: Host
    peer: Peer


@dataclass(frozen=True, slots=True)
class Disowned:
    """A host answered what came to it from the peer with ICMP destination unreachable (type 3 of RFC 792).

    Of a contested flow any code but 4 (too large) is told, and the error is not passed on: another host has
    the tunnel. Of a flow with one owner codes 2 and 3 (protocol, port) are told, and the error is translated
    and passed on as well. `discriminator` is of the packet that the error quotes.
    """

    host: Host
    peer: Peer
    protocol: int
    discriminator: int
    code: int
    slot: int = 0


Report: TypeAlias = Punted | IkeObserved | ControlObserved | AhObserved | Disowned
"""What a data plane tells of its own accord, in the order in which it happened."""


@dataclass(frozen=True, slots=True)
class InstalledFlow:
    """One mapping as the data plane has it. `hosts` has one entry, or those of a fan-out.

    `slot` is that of our address which a flow to the peer is sent from.
    """

    hosts: tuple[Host, ...]
    count: FlowCount
    created_at: float
    slot: int = 0


class DataPlane(Protocol):
    """Carries out verdicts. All calls return at once; times are monotonic seconds."""

    def set_outside_addresses(self, slots: Sequence[IPv4Address | None]) -> None:
        """Translate to and from these addresses from now on, each in its slot; with none, translate nothing."""

    def keep_ports(self, kept: Mapping[Peer, Collection[UdpPort]]) -> None:
        """Carry UDP of these ports with these peers, besides those that are kept with every peer, and no other."""

    def install(self, key: FlowKey, hosts: Sequence[Host], slot: int = 0) -> None:
        """Give the flow to one host, or a copy to each of several, best candidate last.

        What a host sends to its peer leaves with the address in `slot`, and not at all while there is none.
        """

    def reinject(self, key: FlowKey) -> None:
        """Put the held packets of the flow back in order, before what follows."""

    def refuse(self, key: FlowKey, reason: Reason) -> None:
        """Drop what is held of the flow and what comes, for `Limits.refused_s`."""

    def remove(self, key: FlowKey) -> None:
        """Forget the flow. Unknown keys are no error."""

    def trace(self, key: FlowKey) -> None:
        """Note when packets of an installed flow come, until `untrace` or `remove`."""

    def untrace(self, key: FlowKey) -> None:
        """Note the times of the flow's packets no more. Unknown keys are no error."""

    def traces(self) -> Iterator[FlowTrace]:
        """Read the times of all traced flows, in no order."""

    def flows(self) -> Iterator[InstalledFlow]:
        """Read all installed flows with their counters, in batches, in no order."""

    def reasons(self) -> dict[Reason, int]:
        """Read the packet counts by reason, since the start of the data plane."""
