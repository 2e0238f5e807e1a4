"""What the kernel's connection tracking knows of a VPN that it forwards itself, with ports or call IDs."""

from dataclasses import dataclass
from ipaddress import IPv4Address


@dataclass(frozen=True, slots=True)
class TrackedTuple:
    """One direction of a flow as conntrack sees it.

    The keys are ports for TCP and UDP, call IDs for GRE, and 0 for protocols that have neither.
    """

    source: IPv4Address
    destination: IPv4Address
    source_key: int
    destination_key: int


@dataclass(frozen=True, slots=True)
class TrackedCount:
    """Packets and bytes of one direction; bytes count from the IP header on."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TrackedFlow:
    """A flow that the kernel tracks, at one moment.

    `original` is the direction of its first packet, before translation; `reply` the answers to it,
    as they arrive. Counts are None where the kernel does not count (nf_conntrack_acct), `age_s`
    where it does not keep times (nf_conntrack_timestamp); `timeout_s` is what is left, in seconds.
    """

    protocol: int
    original: TrackedTuple
    reply: TrackedTuple
    sent: TrackedCount | None
    answered: TrackedCount | None
    age_s: float | None
    timeout_s: int
    is_answered: bool
    is_assured: bool
    is_expected: bool
    """Whether a helper expected it: the GRE call of a PPTP control connection."""
    helper: str
    is_closed: bool = False
    """Whether both ends of a TCP connection have said goodbye, or one of them has reset it."""
