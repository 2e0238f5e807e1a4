"""Facts about flows that need no detection: the data plane's own, by what names them, and IKE by its header.

What has ports and none of ours is told by detection. Pure but for the catalogue that it is given.
"""

from collections.abc import Iterable
from typing import Final

from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue.protocol import Transport
from throughway.core import discriminators
from throughway.core.commands import Command, InstallMapping, Refuse
from throughway.core.events import FlowCount
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol, UdpPort
from throughway.core.ports import IkeObserved, Report
from throughway.core.reasons import Reason
from throughway.core.tunnels import Refusal
from throughway.detect import ipsec
from throughway.detect.answers import CERTAIN, STRONG
from throughway.sessions.facts import Admitted, Detected, Fact, FlowName, Negotiated, Refused, device_name
from throughway.sessions.register import IDLE_S, Register
from throughway.wire import ike
from throughway.wire.udp import IKE_PORT, NAT_T_PORT

_TUNNEL_OF_L2TPV2: Final = 3
"""The bits above a tunnel ID of L2TPv2 (`core.discriminators`)."""

_TITLES: Final = {"esp": "ESP", "gre": "GRE", "ike": "IKE", "ipip": "IP in IP", "l2tpv2": "L2TP", "l2tpv3": "L2TPv3"}

_FULL: Final = {
    "hosts.limit": "The gateway follows as many devices with this peer as it may.",
    "peers.limit": "The gateway follows as many peers of this device as it may.",
    "mappings.limit": "The gateway's table of tunnels is full.",
    "kernel.refused": "The kernel had no room for this tunnel; the gateway's log has its words.",
}
"""Why a flow was refused that no other device has, by the cause that the tracker gives."""

_FULL_REMEDY: Final = "End tunnels that nobody needs, or raise the limit (docs/limits.md)."


def flow_of(host: Host, key: FlowKey) -> FlowName:
    """Name the flow that a mapping is one direction of. Where a port is kept, both ends have it."""
    return FlowName(host, key.peer, key.protocol, key.port, key.port)


class Noticing:
    """Makes facts of reports, commands and refusals. Asks the register, so that nothing is told twice."""

    def __init__(self, register: Register, catalogue: Catalogue) -> None:
        self._register: Final = register
        self._refused: Final[dict[FlowName, float]] = {}
        """When each flow that is refused was last asked for, as the tracker tells."""
        self.use(catalogue)

    def use(self, catalogue: Catalogue) -> None:
        """Name protocols by this catalogue from now on."""
        self._of_number = {
            number: (protocol.id, protocol.family)
            for protocol in reversed(catalogue.protocols)
            if protocol.recognise.transport is Transport.IP and protocol.id != "pptp-gre"
            for number in protocol.recognise.ip_protocols
        }
        self._families = {protocol.id: protocol.family for protocol in catalogue}

    def named(self, protocol: int, port: int = 0, discriminator: int = 0) -> tuple[str, str]:
        """Return the ID and the family of what the data plane carries; `ip-94` for both where no file knows it."""
        if protocol == IpProtocol.UDP:
            name = "ike" if port == UdpPort.IKE else "l2tpv3-udp"
            if port == UdpPort.L2TP and discriminator >> 32 == _TUNNEL_OF_L2TPV2:
                name = "l2tpv2"
            return name, self._families.get(name, name)
        name = discriminators.name_of(protocol)
        return self._of_number.get(protocol, (name, name))

    def on_report(self, report: Report) -> list[Fact]:
        """Say what an IKE message shows: its flow, and its exchange."""
        if not isinstance(report, IkeObserved):
            return []
        header = ike.parse(report.message)
        if header is None:
            return []
        port = NAT_T_PORT if report.floated else IKE_PORT
        flow = FlowName(report.host, report.peer, IpProtocol.UDP, report.host_port, port)
        facts: list[Fact] = []
        if not self._register.follows(flow):
            name = "ike-natt" if report.floated else "ike"
            words = ipsec.describe(report.message, header.size, on_own_port=True)
            marker = "behind the non-ESP marker, " if report.floated else ""
            evidence = f"{words[1] if words else 'IKE header'}, {marker}UDP {port}"
            facts.append(Detected(flow, name, self._families.get(name, "ipsec"), STRONG, evidence))
        from_device = report.direction is Direction.TO_PEER
        negotiated = Negotiated(
            report.host,
            report.peer,
            header.initiator_spi,
            header.exchange,
            header.exchange_id,
            from_device,
            header.size,
            flow,
        )
        return [*facts, negotiated]

    def on_command(self, command: Command) -> list[Fact]:
        """Say what a decision of the tracker shows: a flow that one host has, or one for which there was no room."""
        match command:
            case InstallMapping(key, host):
                return self._installed(key, host)
            case Refuse(key, Reason.REFUSED, cause) if cause in _FULL and key.direction is Direction.TO_PEER:
                family = self.named(key.protocol, key.port, key.discriminator)[1]
                return [Refused(flow_of(key.host, key), family, Reason.REFUSED, f"{_FULL[cause]} {_FULL_REMEDY}")]
            case _:
                return []

    def _installed(self, key: FlowKey, host: Host) -> list[Fact]:
        flow = flow_of(host, key)
        facts: list[Fact] = [Admitted(flow)] if self._register.has_no_room_for(flow) else []
        return facts if self._register.follows(flow) else [*facts, self._detected(flow, key)]

    def on_going(self, count: FlowCount, hosts: tuple[Host, ...], now: float) -> list[Fact]:
        """Say that a mapping is at work that nobody told of, as after a restart. No session is pushed out for it."""
        if len(hosts) != 1 or now - count.last_packet_at >= IDLE_S or not self._register.has_room_for(hosts[0]):
            return []
        flow = flow_of(hosts[0], count.key)
        return [] if self._register.knows(flow) else [self._detected(flow, count.key)]

    def _detected(self, flow: FlowName, key: FlowKey) -> Detected:
        name, family = self.named(key.protocol, key.port, key.discriminator)
        return Detected(flow, name, family, CERTAIN, _evidence(name, key))

    def on_refusals(self, refusals: Iterable[Refusal]) -> list[Fact]:
        """Say which of the refusals that the tracker remembers are new or were asked for again, and which are over."""
        facts: list[Fact] = []
        left = set(self._refused)
        for refusal in refusals:
            flow = FlowName(refusal.host, refusal.peer, refusal.protocol, refusal.port, refusal.port)
            left.discard(flow)
            if refusal.last_at > self._refused.get(flow, -1.0):
                self._refused[flow] = refusal.last_at
                family = self.named(refusal.protocol, refusal.port, refusal.discriminator)[1]
                facts.append(Refused(flow, family, refusal.reason, why(refusal)))
        for flow in left:
            del self._refused[flow]
            facts.append(Admitted(flow))
        return facts


def _evidence(name: str, key: FlowKey) -> str:
    words = discriminators.words_of(key.protocol, key.discriminator, key.port)
    if key.protocol == IpProtocol.ESP:
        words = f"SPI {words}"
    elif key.protocol == IpProtocol.L2TPV3 and not discriminators.is_l2tpv3_control(key.discriminator):
        words = f"session {words}"
    carrier = f"UDP {key.port} at both ends" if key.port else f"IP protocol {key.protocol}"
    return ", ".join(part for part in (_TITLES.get(name, name), words, carrier) if part)


def why(refusal: Refusal) -> str:
    """Say the fact and then the remedy, in plain words."""
    if refusal.reason is Reason.AH_REFUSED:
        return "AH protects the addresses that NAT has to change, so no NAT can carry it. Set the VPN to ESP."
    owner = f"The device {device_name(refusal.owner)}" if refusal.owner is not None else "Another device"
    match refusal.protocol:
        case IpProtocol.GRE if refusal.discriminator == discriminators.NONE:
            fact, remedy = "has GRE without a key with this peer", "Give each tunnel a key of its own."
        case IpProtocol.GRE:
            fact, remedy = "has GRE with the same key with this peer", "Give one of the tunnels another key."
        case IpProtocol.UDP if refusal.port == UdpPort.IKE:
            fact, remedy = "has the same IKE SA with this peer", "Start the VPN on this device again."
        case IpProtocol.UDP:
            fact, remedy = "has the same L2TP ID with this peer", "Start the tunnel again, or give it another ID."
        case IpProtocol.L2TPV3:
            fact, remedy = "has the same L2TPv3 ID with this peer", "Start the tunnel again, or give it another ID."
        case _:
            fact = f"uses IP protocol {refusal.protocol} with this peer, and nothing in it tells two devices apart"
            remedy = "Only one device can, at a time."
    return f"{owner} {fact}. {remedy}"
