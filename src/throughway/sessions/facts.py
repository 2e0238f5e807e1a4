"""What the register of sessions is told. All of it is past, and none of it is a request.

A flow here is one that a person could name: what a device and a peer exchange by one IP protocol and, where it has
them, one pair of ports. Times are monotonic seconds.
"""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Final, NamedTuple, TypeAlias

from throughway.core.events import IkeExchange
from throughway.core.ids import ROUTER, Host, Peer
from throughway.core.reasons import Reason

NAMES_MAX: Final = 1 << 12
"""Words for people that are remembered, of each kind: a thousand events a second are about few devices and peers."""


@lru_cache(maxsize=NAMES_MAX)
def device_name(device: Host) -> str:
    """Write a device for people; the router itself is one."""
    return "router" if device == ROUTER else str(device)


@lru_cache(maxsize=NAMES_MAX)
def address_name(address: IPv4Address) -> str:
    """Write an address for people."""
    return str(address)


class FlowName(NamedTuple):
    """A flow as its device sends it. The ports are 0 for protocols that have none.

    A tuple, since it is the key of every table of flows and is looked up some twenty times for each new one.
    """

    device: Host
    peer: Peer
    protocol: int
    source: int = 0
    destination: int = 0


@dataclass(frozen=True, slots=True)
class Detected:
    """A flow was recognised. `protocol` and `family` are IDs of the catalogue, `evidence` is a phrase for people."""

    flow: FlowName
    protocol: str
    family: str
    confidence: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one direction of a flow has carried since it began; `last_at` is None before the first packet."""

    packets: int = 0
    bytes: int = 0
    last_at: float | None = None


NOTHING: Final = Traffic()
"""What no packet has passed of: one for all flows, since most of a thousand new ones a second never get further."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The counters of one flow were read.

    `translated_to` is what the peer sees in place of the device, as people write it ("203.0.113.7" or
    "203.0.113.7 port 31022"), and empty while nothing translates the flow. `is_tracked` says that connection tracking
    carries it, and not the gateway's own tables.
    """

    flow: FlowName
    to_peer: Traffic
    to_inside: Traffic
    translated_to: str = ""
    is_tracked: bool = False


@dataclass(frozen=True, slots=True)
class Negotiated:
    """An IKE message passed, between a device and a peer. `size` is in bytes, of the message without UDP.

    `flow` is what it was a packet of, where that is known: on UDP 4500 it shares its flow with data.
    """

    device: Host
    peer: Peer
    initiator_spi: int
    exchange: IkeExchange
    exchange_id: int
    from_device: bool
    size: int
    flow: FlowName | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The head of a flow showed by its structure that the peer has granted what the device asked for."""

    flow: FlowName
    evidence: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The gateway does not carry the flow. `why` says the fact and then the remedy, for people."""

    flow: FlowName
    family: str
    reason: Reason
    why: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """What was refused or switched off is so no longer: the device may have it now, or has not asked for long."""

    flow: FlowName


@dataclass(frozen=True, slots=True)
class SwitchedOff:
    """A switch of the operator blocks the flow. `switch` is the ID of the protocol or family that is off."""

    flow: FlowName
    family: str
    switch: str


@dataclass(frozen=True, slots=True)
class FlowGone:
    """The kernel has forgotten the flow: it was closed or idle for too long, as `cause` says."""

    flow: FlowName
    cause: str


@dataclass(frozen=True, slots=True)
class OutsideAddresses:
    """The gateway has these addresses outside; none while its interface has none."""

    addresses: tuple[IPv4Address, ...]


Fact: TypeAlias = (
    Detected | Counted | Negotiated | Answered | Refused | Admitted | SwitchedOff | FlowGone | OutsideAddresses
)
