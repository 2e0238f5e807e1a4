"""The sessions that people are told of, put together from the tracker, the data plane and conntrack."""

from collections.abc import Iterable, Mapping
from typing import Final

from throughway.control.schema import CarriedBy, Session, SessionPage, SessionsQuery, Verdict
from throughway.core.events import FlowCount
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Peer
from throughway.core.ports import InstalledFlow
from throughway.core.tracked import TrackedFlow
from throughway.core.tracker import EspTunnels, Tracker
from throughway.service.watching import Watched

_NAMES: Final = {
    (IpProtocol.UDP, 500): "ike",
    (IpProtocol.UDP, 4500): "ike-natt",
    (IpProtocol.UDP, 1701): "l2tpv2",
    (IpProtocol.UDP, 1194): "openvpn",
    (IpProtocol.TCP, 1194): "openvpn",
    (IpProtocol.UDP, 51820): "wireguard",
    (IpProtocol.TCP, 1723): "pptp",
}
"""What a port is usually used for. The port is all that is looked at here."""

_NAMES_WITHOUT_PORTS: Final = {
    IpProtocol.GRE: "gre",
    IpProtocol.ESP: "esp",
    IpProtocol.AH: "ah",
    IpProtocol.L2TPV3: "l2tpv3",
}


def sessions(
    tracker: Tracker, flows: Mapping[FlowKey, InstalledFlow], tracked: Iterable[Watched], now: float
) -> list[Session]:
    """List all sessions, those that began last first. `flows` is what the data plane has installed."""
    rows = [_esp_session(tunnels, flows, now) for tunnels in tracker.tunnels()]
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


def _esp_session(tunnels: EspTunnels, flows: Mapping[FlowKey, InstalledFlow], now: float) -> Session:
    to_peer = [FlowKey.to_peer(IpProtocol.ESP, tunnels.host, tunnels.peer, spi) for spi in tunnels.spis_to_peer]
    spis_to_inside = tunnels.spis_to_inside + tunnels.contested
    to_inside = [FlowKey.to_inside(IpProtocol.ESP, tunnels.peer, spi) for spi in spis_to_inside]
    sent = [flows[key].count for key in to_peer if key in flows]
    received = [flows[key].count for key in to_inside if key in flows]
    created = [flows[key].created_at for key in to_peer + to_inside if key in flows]
    began_at = min([tunnels.first_at, *created])
    # The kernel's time of a packet is that of its last clock tick, which may be before the mapping was made.
    last_at = max([began_at, *(count.last_packet_at for count in sent + received)])
    return Session(
        id=f"esp-{_name(tunnels.host)}-{tunnels.peer}",
        device=_name(tunnels.host),
        protocol="esp",
        peer=str(tunnels.peer),
        discriminators_to_peer=tuple(f"{spi:#010x}" for spi in tunnels.spis_to_peer),
        discriminators_to_inside=tuple(f"{spi:#010x}" for spi in spis_to_inside),
        verdict=_esp_verdict(tunnels),
        candidates=tunnels.rivals,
        packets_to_peer=_packets(sent),
        bytes_to_peer=_bytes(sent),
        packets_to_inside=_packets(received),
        bytes_to_inside=_bytes(received),
        age_s=max(0.0, now - began_at),
        idle_s=max(0.0, now - last_at),
        carried_by=CarriedBy.BPF,
    )


def _esp_verdict(tunnels: EspTunnels) -> Verdict:
    if tunnels.contested:
        return Verdict.CONTESTED
    return Verdict.CERTAIN if tunnels.spis_to_inside else Verdict.WAITING


def _name(host: Host) -> str:
    return "router" if host == ROUTER else str(host)


def _packets(counts: list[FlowCount]) -> int:
    return sum(count.packets for count in counts)


def _bytes(counts: list[FlowCount]) -> int:
    return sum(count.bytes for count in counts)


def _tracked_session(watched: Watched, now: float) -> Session:
    flow = watched.flow
    name = _NAMES.get((IpProtocol(flow.protocol), flow.original.destination_key))
    if name is None:
        name = "pptp-gre" if flow.is_expected else _NAMES_WITHOUT_PORTS.get(IpProtocol(flow.protocol), "unknown")
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
