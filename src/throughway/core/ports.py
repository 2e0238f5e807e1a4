"""What the core needs of the data plane, whichever one it is: `bpf`, `nft`, or the fake of the tests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol, TypeAlias

from throughway.core.events import FlowCount, FlowTrace
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, Peer
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
    packets, which are never held.
    """

    key: FlowKey
    packet: bytes
    is_copy: bool


@dataclass(frozen=True, slots=True)
class IkeObserved:
    """The first bytes of an IKE message that passed; `message` begins at the IKE header, without a marker."""

    host: Host
    peer: Peer
    direction: Direction
    floated: bool
    message: bytes


@dataclass(frozen=True, slots=True)
class ControlObserved:
    """The first bytes of a control message that passed, of a protocol that assigns its discriminators in clear.

    So far this is L2TPv3 over IP (RFC 3931 section 3.2.1): `protocol` is 115, and `message` begins at
    the control message header, behind the session ID of 0, and has at most 512 bytes.
    """

    host: Host
    peer: Peer
    direction: Direction
    protocol: int
    message: bytes


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


Report: TypeAlias = Punted | IkeObserved | ControlObserved | AhObserved | Disowned
"""What a data plane tells of its own accord, in the order in which it happened."""


@dataclass(frozen=True, slots=True)
class InstalledFlow:
    """One mapping as the data plane has it. `hosts` has one entry, or those of a fan-out."""

    hosts: tuple[Host, ...]
    count: FlowCount
    created_at: float


class DataPlane(Protocol):
    """Carries out verdicts. All calls return at once; times are monotonic seconds."""

    def set_outside_address(self, address: IPv4Address | None) -> None:
        """Translate to and from this address from now on; with None, translate nothing."""

    def install(self, key: FlowKey, hosts: Sequence[Host]) -> None:
        """Give the flow to one host, or a copy to each of several, best candidate last."""

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
