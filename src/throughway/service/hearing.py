"""From what the data plane reports to events of the core: bytes are read here, and nowhere behind."""

from typing import Final

from throughway.core import discriminators
from throughway.core.events import (
    AhFromInside,
    EspFromInside,
    EspUnclaimed,
    Event,
    HostDisowned,
    IkeExchange,
    IkeMessageSeen,
    L2tpControlSeen,
    PortlessFromInside,
    PortlessUnclaimed,
    RefusalKind,
)
from throughway.core.flows import Direction
from throughway.core.ids import IpProtocol, Spi, UdpPort
from throughway.core.ports import AhObserved, ControlObserved, Disowned, IkeObserved, Punted, Report
from throughway.wire import esp, ike, ipv4, l2tp, l2tpv3

_REFUSALS: Final = {2: RefusalKind.PROTOCOL_UNREACHABLE, 3: RefusalKind.PORT_UNREACHABLE}
"""Codes of ICMP destination unreachable by which a host says that a packet is not its own (RFC 792)."""


def event_of(report: Report) -> Event | None:
    """Read a report. None for bytes that are not what their protocol says, which the counters have already told."""
    match report:
        case Punted():
            return _question(report)
        case IkeObserved():
            return _ike_message(report)
        case ControlObserved():
            return _control_message(report)
        case AhObserved(host, peer):
            return AhFromInside(host, peer)
        case Disowned():
            return _disowned(report)


def _question(report: Punted) -> Event | None:
    key = report.key
    if key.protocol != IpProtocol.ESP:
        if not discriminators.is_ours(key.protocol, key.port):
            return None
        if key.direction is Direction.TO_INSIDE:
            return PortlessUnclaimed(key.path, key.protocol, key.discriminator, key.port)
        return PortlessFromInside(key.host, key.peer, key.protocol, key.discriminator, report.slot, key.port)
    packet = ipv4.parse(report.packet)
    header = esp.parse(packet.payload) if packet else None
    if header is None:
        return None
    spi = Spi(key.discriminator)
    if key.direction is Direction.TO_INSIDE:
        return EspUnclaimed(key.path, spi, header.sequence)
    return EspFromInside(key.host, key.peer, spi, header.sequence, report.slot)


def _ike_message(report: IkeObserved) -> Event | None:
    header = ike.parse(report.message)
    if header is None:
        return None
    return IkeMessageSeen(
        host=report.host,
        peer=report.peer,
        initiator_spi=header.initiator_spi,
        exchange=header.exchange,
        exchange_id=header.exchange_id,
        from_host=report.direction is Direction.TO_PEER,
        floated=report.floated,
        slot=report.slot,
        host_port=report.host_port,
        is_first=header.exchange is IkeExchange.INITIAL and header.responder_spi == 0,
    )


def _control_message(report: ControlObserved) -> Event | None:
    from_host = report.direction is Direction.TO_PEER
    if report.protocol == IpProtocol.UDP:
        message = l2tp.parse_control(report.message)
        port = int(UdpPort.L2TP)
    else:
        message = l2tpv3.parse_control(report.message) if report.protocol == IpProtocol.L2TPV3 else None
        port = 0
    if message is None:
        return None
    return L2tpControlSeen(report.host, report.peer, from_host, message, report.slot, port, report.host_port)


def _disowned(report: Disowned) -> Event | None:
    """Read what a host says of an SPI. Of other protocols it says nothing: what they send tells whose a flow is."""
    how = _REFUSALS.get(report.code)
    if report.protocol != IpProtocol.ESP or how is None:
        return None
    return HostDisowned(report.host, report.peer, Spi(report.discriminator), how, report.slot)
