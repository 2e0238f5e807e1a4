"""What names the flow of a packet, as bpf/naming.h has it: for the data plane without a kernel. Of UDP it knows IKE."""

from throughway.core import discriminators
from throughway.core.ids import IpProtocol, UdpPort
from throughway.wire import esp, gre, ike, ipv4, l2tpv3, udp


def port_of(packet: ipv4.Ipv4Packet) -> int:
    """Read a port that both ends of a datagram use and that may be kept; 0 for all other packets."""
    datagram = udp.parse(packet.payload) if packet.protocol == IpProtocol.UDP and packet.has_first_bytes else None
    if datagram is None or datagram.source_port != datagram.destination_port:
        return 0
    return datagram.source_port if datagram.source_port in (UdpPort.IKE, UdpPort.L2TP) else 0


def discriminator_of(packet: ipv4.Ipv4Packet) -> int | None:
    """Read what names the tunnel of a packet that has its first bytes; None where it is malformed."""
    match packet.protocol:
        case IpProtocol.UDP:
            datagram = udp.parse(packet.payload)
            message = ike.parse(datagram.payload) if datagram else None
            return message.initiator_spi if message else None
        case IpProtocol.ESP:
            header = esp.parse(packet.payload)
            return header.spi if header else None
        case IpProtocol.GRE:
            front = gre.parse(packet.payload)
            return discriminators.of_gre(front.key) if front else None
        case IpProtocol.L2TPV3:
            session = l2tpv3.session_id(packet.payload)
            if session:
                return discriminators.of_l2tpv3_session(session)
            control = l2tpv3.parse_control(packet.payload[l2tpv3.SESSION_ID_SIZE :])
            return discriminators.of_l2tpv3_control(control.control_connection_id) if control else None
        case _:
            return discriminators.NONE
