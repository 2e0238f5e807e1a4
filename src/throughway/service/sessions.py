"""The sessions that people are told of, put together from the tracker, the data plane and conntrack."""

from collections.abc import Iterable, Mapping
from typing import Final

from throughway.control.schema import CarriedBy, Session, SessionPage, SessionsQuery, Verdict
from throughway.core import discriminators
from throughway.core.addresses import Slots
from throughway.core.events import FlowCount
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Peer, UdpPort
from throughway.core.ports import InstalledFlow
from throughway.core.reasons import Reason
from throughway.core.tracked import TrackedFlow
from throughway.core.tracker import Tracker
from throughway.core.tunnels import Refusal, Tunnels
from throughway.service.watching import Watched

_NAMES: Final[dict[tuple[int, int], str]] = {
    (IpProtocol.UDP, 500): "ike",
    (IpProtocol.UDP, 4500): "ike-natt",
    (IpProtocol.UDP, 1701): "l2tpv2",
    (IpProtocol.UDP, 1194): "openvpn",
    (IpProtocol.TCP, 1194): "openvpn",
    (IpProtocol.UDP, 51820): "wireguard",
    (IpProtocol.TCP, 1723): "pptp",
}
"""What a port is usually used for. The port is all that is looked at here."""


def sessions(
    tracker: Tracker,
    flows: Mapping[FlowKey, InstalledFlow],
    tracked: Iterable[Watched],
    slots: Slots,
    now: float,
) -> list[Session]:
    """List all sessions, those that began last first. `flows` is what the data plane has installed."""
    rows = [_portless_session(tunnels, flows, slots, now) for tunnels in tracker.tunnels()]
    rows += [_refused_session(refusal, now) for refusal in tracker.refusals()]
    rows += [_tracked_session(watched, now) for watched in tracked]
    rows.sort(key=lambda row: (row.age_s, row.id))
    return rows


def count(tracker: Tracker, tracked: Iterable[Watched]) -> int:
    """Count the rows that `sessions` would list, without the data plane's counters."""
    return sum(1 for _ in tracker.tunnels()) + sum(1 for _ in tracked)


def page(rows: list[Session], query: SessionsQuery) -> SessionPage:
    """Cut one page out of the rows, after the row whose ID is the cursor; a row that is gone ends nothing."""
    start = 0
    if query.after is not None:
        start = next((at + 1 for at, row in enumerate(rows) if row.id == query.after), len(rows))
    cut = rows[start : start + query.limit]
    more = start + query.limit < len(rows)
    return SessionPage(sessions=tuple(cut), next=cut[-1].id if more and cut else None)


def _portless_session(tunnels: Tunnels, flows: Mapping[FlowKey, InstalledFlow], slots: Slots, now: float) -> Session:
    protocol, port, host, peer = tunnels.protocol, tunnels.port, tunnels.host, tunnels.peer
    names_to_inside = tunnels.to_inside + tunnels.contested
    to_peer = [FlowKey.to_peer(protocol, host, peer, name, port) for name in tunnels.to_peer]
    to_inside = [FlowKey.to_inside(protocol, Path(peer, tunnels.slot), name, port) for name in names_to_inside]
    sent = [flows[key].count for key in to_peer if key in flows]
    received = [flows[key].count for key in to_inside if key in flows]
    created = [flows[key].created_at for key in to_peer + to_inside if key in flows]
    began_at = min([tunnels.first_at, *created])
    # The kernel's time of a packet is that of its last clock tick, which may be before the mapping was made.
    last_at = max([began_at, *(count.last_packet_at for count in sent + received)])
    return Session(
        id=f"{discriminators.name_of(protocol, port)}-{_name(host)}-{peer}"
        + (f"-{tunnels.slot}" if tunnels.slot else ""),
        device=_name(host),
        protocol=discriminators.name_of(protocol, port),
        peer=str(peer),
        discriminators_to_peer=_words(protocol, tunnels.to_peer, port),
        discriminators_to_inside=_words(protocol, names_to_inside, port),
        verdict=_verdict(tunnels, received),
        candidates=tunnels.rivals,
        packets_to_peer=_packets(sent),
        bytes_to_peer=_bytes(sent),
        packets_to_inside=_packets(received),
        bytes_to_inside=_bytes(received),
        age_s=max(0.0, now - began_at),
        idle_s=max(0.0, now - last_at),
        carried_by=CarriedBy.BPF,
        address=str((slots[tunnels.slot] if tunnels.slot < len(slots) else None) or ""),
    )


def _verdict(tunnels: Tunnels, received: list[FlowCount]) -> Verdict:
    """Say how sure we are. Where the owner is known before anything comes back, the first answer ends the waiting."""
    if tunnels.contested:
        return Verdict.CONTESTED
    has_answer = tunnels.to_inside if tunnels.protocol == IpProtocol.ESP else _packets(received)
    return Verdict.CERTAIN if has_answer else Verdict.WAITING


def _words(protocol: int, names: Iterable[int], port: int) -> tuple[str, ...]:
    return tuple(words for name in names if (words := discriminators.words_of(protocol, name, port)))


def _refused_session(refusal: Refusal, now: float) -> Session:
    name, device = discriminators.name_of(refusal.protocol, refusal.port), _name(refusal.host)
    words = _words(refusal.protocol, [refusal.discriminator], refusal.port)
    # What a host assigns to itself names what would come to it; everything else names what it sends.
    is_assigned = refusal.protocol == IpProtocol.L2TPV3 or refusal.port == UdpPort.L2TP
    return Session(
        id=f"refused-{name}-{device}-{refusal.peer}-{refusal.discriminator:x}",
        device=device,
        protocol=name,
        peer=str(refusal.peer),
        discriminators_to_peer=() if is_assigned else words,
        discriminators_to_inside=words if is_assigned else (),
        verdict=Verdict.REFUSED,
        candidates=1,
        packets_to_peer=0,
        bytes_to_peer=0,
        packets_to_inside=0,
        bytes_to_inside=0,
        age_s=max(0.0, now - refusal.first_at),
        idle_s=max(0.0, now - refusal.last_at),
        carried_by=CarriedBy.BPF,
        reason=_why(refusal),
    )


def _why(refusal: Refusal) -> str:
    """Say the fact and then the remedy, in plain words."""
    if refusal.reason is Reason.AH_REFUSED:
        return "AH protects the addresses that NAT has to change, so no NAT can carry it. Set the VPN to ESP."
    owner = f"The device {_name(refusal.owner)}" if refusal.owner is not None else "Another device"
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


def _name(host: Host) -> str:
    return "router" if host == ROUTER else str(host)


def _packets(counts: list[FlowCount]) -> int:
    return sum(count.packets for count in counts)


def _bytes(counts: list[FlowCount]) -> int:
    return sum(count.bytes for count in counts)


def _tracked_session(watched: Watched, now: float) -> Session:
    flow = watched.flow
    name = _NAMES.get((flow.protocol, flow.original.destination_key))
    if name is None:
        has_ports = flow.protocol in (IpProtocol.TCP, IpProtocol.UDP)
        name = "unknown" if has_ports else discriminators.name_of(flow.protocol)
    if flow.is_expected:
        name = "pptp-gre"
    device, peer = flow.original.source, Peer(flow.original.destination)
    return Session(
        id=f"{name}-{device}-{flow.original.source_key}-{peer}-{flow.original.destination_key}",
        device=str(device),
        protocol=name,
        peer=str(peer),
        discriminators_to_peer=_discriminator(flow, Direction.TO_PEER),
        discriminators_to_inside=_discriminator(flow, Direction.TO_INSIDE),
        verdict=Verdict.TRACKED if flow.is_answered else Verdict.WAITING,
        candidates=1,
        packets_to_peer=flow.sent.packets if flow.sent else 0,
        bytes_to_peer=flow.sent.bytes if flow.sent else 0,
        packets_to_inside=flow.answered.packets if flow.answered else 0,
        bytes_to_inside=flow.answered.bytes if flow.answered else 0,
        age_s=max(0.0, now - watched.first_at),
        idle_s=max(0.0, now - watched.moved_at),
        carried_by=CarriedBy.CONNTRACK,
        address=str(flow.reply.destination),
    )


def _discriminator(flow: TrackedFlow, direction: Direction) -> tuple[str, ...]:
    """The port or call ID as the peer sees it: what tells this tunnel from another host's."""
    key = flow.original.destination_key if direction is Direction.TO_PEER else flow.reply.destination_key
    match flow.protocol:
        case IpProtocol.UDP:
            return (f"udp {key}",)
        case IpProtocol.TCP:
            return (f"tcp {key}",)
        case IpProtocol.GRE:
            return (f"call {key}",)
        case _:
            return ()
