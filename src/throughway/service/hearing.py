"""From what the data plane reports to events of the core: bytes are read here, and nowhere behind."""

from throughway.core.events import EspFromInside, EspUnclaimed, Event, IkeMessageSeen
from throughway.core.flows import Direction
from throughway.core.ids import IpProtocol, Spi
from throughway.core.ports import IkeObserved, Punted
from throughway.wire import esp, ike, ipv4


def event_of(report: Punted | IkeObserved) -> Event | None:
    """Read a report. None for bytes that are not what their protocol says, which the counters have already told."""
    if isinstance(report, IkeObserved):
        return _ike_message(report)
    packet = ipv4.parse(report.packet)
    if packet is None or report.key.protocol is not IpProtocol.ESP:
        return None
    header = esp.parse(packet.payload)
    if header is None:
        return None
    spi = Spi(report.key.discriminator)
    if report.key.direction is Direction.TO_INSIDE:
        return EspUnclaimed(report.key.peer, spi, header.sequence)
    return EspFromInside(report.key.host, report.key.peer, spi, header.sequence)


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
    )
