"""Facts about the past that the tracker is told. None of them is a request."""

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from throughway.core.blocking import Withheld
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Path, Peer, Spi, UdpPort


@dataclass(frozen=True, slots=True)
class EspFromInside:
    """A host sent the first ESP packet with an SPI that the data plane does not know.

    `host` is ROUTER for the router's own IPsec; here and below `slot` is that of the address which the
    router sent from, and says nothing of a host. `sequence` is the ESP sequence number
    (RFC 4303 section 2.2): 1 in the first packet of a security association.
    """

    host: Host
    peer: Peer
    spi_to_peer: Spi
    sequence: int
    slot: int = 0


@dataclass(frozen=True, slots=True)
class EspUnclaimed:
    """An ESP packet came from a peer with an SPI that the data plane does not know."""

    path: Path
    spi_to_inside: Spi
    sequence: int


class IkeExchange(Enum):
    """What an IKE message belongs to, as far as its header tells (RFC 2408 section 3.1, RFC 7296 section 3.1)."""

    INITIAL = "initial"
    """IKEv1 Main and Aggressive Mode, IKEv2 IKE_SA_INIT: no ESP yet."""
    FIRST_CHILD = "first-child"
    """IKEv2 IKE_AUTH: brings exactly one child SA, however many rounds it takes (RFC 7296 section 1.2)."""
    CHILD = "child"
    """IKEv1 Quick Mode, IKEv2 CREATE_CHILD_SA: may bring one child SA for each exchange."""
    INFORMATIONAL = "informational"
    """Delete, dead peer detection, errors."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class IkeMessageSeen:
    """An IKE message passed between a host and a peer.

    `exchange_id` tells apart the exchanges of one IKE SA: the message ID of the header, with the
    originator's flag in IKEv2 since both ends count for themselves. `floated` is true on UDP 4500
    behind the non-ESP marker (RFC 3948 section 2.2): such an SA sends no native ESP. `host_port` is the
    UDP port at the host's end. `is_first` is true where the responder's SPI is still 0, so that the
    sender knows of no answer (RFC 7296 section 3.1).
    """

    host: Host
    peer: Peer
    initiator_spi: int
    exchange: IkeExchange
    exchange_id: int
    from_host: bool
    floated: bool
    slot: int = 0
    host_port: int = UdpPort.IKE
    is_first: bool = False

    @property
    def is_numbered_0(self) -> bool:
        """Whether it is of the first exchange that an end began in an IKEv2 SA (RFC 7296 section 2.2)."""
        return self.exchange_id & 0xFFFF_FFFF == 0


class RefusalKind(Enum):
    """How a host said that it does not know an SPI."""

    PROTOCOL_UNREACHABLE = "protocol-unreachable"
    PORT_UNREACHABLE = "port-unreachable"
    INVALID_SPI = "invalid-spi"


@dataclass(frozen=True, slots=True)
class HostDisowned:
    """A host answered a copy by saying that the SPI is not its own."""

    host: Host
    peer: Peer
    spi_to_inside: Spi
    how: RefusalKind
    slot: int = 0


@dataclass(frozen=True, slots=True)
class PortlessFromInside:
    """A host sent the first packet of a flow that the data plane does not know, of any protocol but ESP.

    `host` is ROUTER for the router's own. `core.discriminators` says what `discriminator` is; `port` is there for
    UDP alone, where it is kept.
    """

    host: Host
    peer: Peer
    protocol: int
    discriminator: int
    slot: int = 0
    port: int = 0


@dataclass(frozen=True, slots=True)
class PortlessUnclaimed:
    """A packet came from a peer, of a flow that the data plane does not know and of any protocol but ESP."""

    path: Path
    protocol: int
    discriminator: int
    port: int = 0


@dataclass(frozen=True, slots=True)
class L2tpControl:
    """What an L2TP control message says of IDs (RFC 3931 sections 3.2.1, 5.4); None where it says nothing.

    `control_connection_id` is that of the header, which its receiver has assigned, and 0 before it has.
    Assigned and local IDs are those that the sender wants to be sent to; `remote_session_id` is one
    that the receiver assigned. `message_type` is None in a message without one, or with a hidden one.
    Of L2TPv2 the connection IDs are tunnel IDs (RFC 2661 sections 3.1, 4.4.3), `version` is 2, and its sessions
    have no discriminator.
    """

    control_connection_id: int
    message_type: int | None = None
    assigned_connection_id: int | None = None
    local_session_id: int | None = None
    remote_session_id: int | None = None
    version: int = 3


@dataclass(frozen=True, slots=True)
class L2tpControlSeen:
    """A control message of L2TP passed between a host and a peer.

    `port` is 0 over IP. Over UDP it is that of the peer, 1701, and `host_port` that at the host's end.
    """

    host: Host
    peer: Peer
    from_host: bool
    message: L2tpControl
    slot: int = 0
    port: int = 0
    host_port: int = 0


@dataclass(frozen=True, slots=True)
class AhFromInside:
    """A host sent AH, and the packet filter refused it."""

    host: Host
    peer: Peer


@dataclass(frozen=True, slots=True)
class RouterSaAdded:
    """The router's kernel has a security association for native ESP that comes from the peer with this SPI."""

    path: Path
    spi_to_inside: Spi


@dataclass(frozen=True, slots=True)
class RouterSaDeleted:
    """The router's kernel has it no more."""

    path: Path
    spi_to_inside: Spi


@dataclass(frozen=True, slots=True)
class FlowCount:
    """The counters of one installed mapping, since it was installed, and the time of its last packet."""

    key: FlowKey
    packets: int
    bytes: int
    last_packet_at: float


@dataclass(frozen=True, slots=True)
class CountersRead:
    """Counters were read from the data plane: all that were used since the last reading, or a piece of them.

    What shows in a whole reading alone, such as silence, is judged with its last piece.
    """

    counts: tuple[FlowCount, ...]
    is_last: bool = True


@dataclass(frozen=True, slots=True)
class FlowTrace:
    """When packets of a traced flow came: monotonic seconds, ascending, the latest `Limits.trace_times_max`.

    Only the first packet of a burst counts, that is one which comes `Limits.trace_gap_s` or more after the packet
    before it. So a fast flow does not fill the trace with its last few milliseconds.
    """

    key: FlowKey
    times: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TracesRead:
    """The traces were read: each as a whole, not what is new in it."""

    traces: tuple[FlowTrace, ...]


@dataclass(frozen=True, slots=True)
class AdoptedFlow:
    """A mapping that was found in the pinned tables of an earlier run. `hosts` has one entry, or those of a fan-out.

    `slot` is that of the address which a flow to the peer is sent from.
    """

    key: FlowKey
    hosts: tuple[Host, ...]
    count: FlowCount
    slot: int = 0


@dataclass(frozen=True, slots=True)
class MappingsAdopted:
    """The daemon started and found these mappings still at work."""

    flows: tuple[AdoptedFlow, ...]


@dataclass(frozen=True, slots=True)
class PortsRemembered:
    """An earlier run learned that hosts have to keep these ports with these peers."""

    ports: tuple[tuple[Peer, UdpPort], ...]


@dataclass(frozen=True, slots=True)
class OutsideAddressesChanged:
    """The outside interface has other addresses than before.

    `usable` are the slots that hosts may be given, best first: none while there is no address.
    """

    old: tuple[IPv4Address, ...]
    new: tuple[IPv4Address, ...]
    usable: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PathChosen:
    """The path of a host was chosen, by the tracker's own proposal or by the kernel, which came first."""

    host: Host
    path: Path


@dataclass(frozen=True, slots=True)
class SwitchesSet:
    """The operator's switches are so from now on."""

    withheld: Withheld


@dataclass(frozen=True, slots=True)
class TimerExpired:
    """A moment asked for with WakeAt has come."""


Event = (
    EspFromInside
    | EspUnclaimed
    | IkeMessageSeen
    | HostDisowned
    | PortlessFromInside
    | PortlessUnclaimed
    | L2tpControlSeen
    | AhFromInside
    | RouterSaAdded
    | RouterSaDeleted
    | CountersRead
    | TracesRead
    | MappingsAdopted
    | PortsRemembered
    | OutsideAddressesChanged
    | PathChosen
    | SwitchesSet
    | TimerExpired
)
