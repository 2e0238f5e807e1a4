"""What the records of the rings say, in the words of the core."""

from dataclasses import replace

from throughway.core.ids import IpProtocol
from throughway.core.ports import AhObserved, ControlObserved, Disowned, IkeObserved, Report
from throughway.dataplane import abi
from throughway.dataplane.records import ObservedRecord, PuntRecord
from throughway.wire import udp


def report_of(seen: ObservedRecord) -> Report:
    """Say what was observed in the words of the core."""
    match seen.kind:
        case abi.ObservedKind.IKE:
            return IkeObserved(
                seen.host, seen.peer, seen.direction, seen.floated, seen.message, seen.slot, seen.host_port
            )
        case abi.ObservedKind.CONTROL:
            return ControlObserved(
                seen.host, seen.peer, seen.direction, seen.protocol, seen.message, seen.slot, seen.host_port
            )
        case abi.ObservedKind.AH:
            return AhObserved(seen.host, seen.peer)
        case abi.ObservedKind.DISOWNED:
            return Disowned(seen.host, seen.peer, seen.protocol, seen.discriminator, seen.code, seen.slot)


def with_checksum(punt: PuntRecord) -> PuntRecord:
    """Write the checksum of a datagram that a virtual machine or a namespace of this router left to the hardware.

    The kernel knows of such a packet that the checksum is still to be written; what comes back from here it takes as
    it is.
    """
    if punt.key.protocol != IpProtocol.UDP:
        return punt
    size = punt.link_header_size
    return replace(punt, frame=punt.frame[:size] + udp.with_checksum(punt.frame[size:]))
