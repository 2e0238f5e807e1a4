"""Two outside addresses: each device has one of them towards a peer, and nothing is contested."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from throughway.control.session_schema import SessionFlow, Verdict
from throughway.lab import addresses, programs
from throughway.lab.addresses import ROUTER_OUTSIDE, at
from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind, Throughway
from throughway.lab.packets import builder
from throughway.lab.packets.address import Tunnel, told, wait_for
from throughway.lab.packets.builder import filler
from throughway.lab.packets.crossing import ESP, GRE, HOPS, L2TPV3, Crossing, crossing, found, refused
from throughway.lab.packets.names import REFUSED_LIMIT_S
from throughway.lab.packets.stations import Station, arrives
from throughway.lab.peers import strongswan, vpnc
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed
from throughway.lab.topology import OUTSIDE_INTERFACE
from throughway.lab.vpns.ipsec import EspNative

PROGRAMS: Final = (*programs.GUEST, *strongswan.PROGRAMS, *vpnc.PROGRAMS)

SECOND: Final = at(addresses.UPLINK, ROUTER_OUTSIDE + 2)
"""The router's other address on the uplink."""

PACKETS: Final = 10
START_CONTROL_CONNECTION, MESSAGE_TYPE, ASSIGNED_CONNECTION_ID = 1, 0, 61
"""Of L2TPv3 (RFC 3931 sections 3.1, 5.4.1, 5.4.3)."""


def two_addresses(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """The router has two outside addresses: packets of three devices, and two vpnc clients, each to one server."""
    bed.router.command("ip", "address", "add", str(SECOND), "dev", OUTSIDE_INTERFACE)
    peers = EspNative(bed, 2)
    progress.step("booting the guest")
    bed.boot()
    progress.step(f"starting {kind}")
    with crossing(bed, kind, 3) as scene:
        yield from _packets(scene, progress)
    progress.step("starting the server and its clients")
    peers.server()
    yield from _vpns(bed, peers)


def _packets(scene: Crossing, progress: Progress) -> Iterator[Check]:
    """Check what nothing but the address tells apart: equal SPIs, GRE keys and L2TPv3 IDs of two devices."""
    first, second, third = scene.hosts
    views = ((first, scene), (second, replace(scene, shared=SECOND.ip)))
    progress.step("sending ESP with equal SPIs")
    for number, (host, view) in enumerate(views, 1):
        yield Check(f"IKE of {host.address} passes by {view.shared}", view.negotiate(host, 0xA0 + number))
        out = view.crosses_out(host, ESP, builder.esp(0x5005, 1, filler(100, number)))
        yield Check(f"ESP of {host.address} passes by the same address", out)
    for host, view in views:
        back = [
            view.crosses_in(host, ESP, builder.esp(0x6006, each, filler(100, each))) for each in range(1, PACKETS + 1)
        ]
        yield Check(f"ESP to {host.address} passes", all(back), found(sum(back), PACKETS))
        got = len(host.of_protocol(ESP))
        yield Check(f"{host.address} gets its own and nothing else", got == PACKETS, found(got, PACKETS))
    kinds = (
        (GRE, builder.gre(7, filler(60, 7)), builder.gre(7, filler(60, 7)), "GRE with one key"),
        (L2TPV3, _connects(0x77), _answers(0x77), "L2TPv3 with one connection ID"),
    )
    for protocol, asks, answers, what in kinds:
        progress.step(f"sending {what}")
        for host, view in views:
            yield Check(f"{what}: {host.address} passes by its address", view.crosses_out(host, protocol, asks))
            yield Check(f"{what}: it gets the answer", view.crosses_in(host, protocol, answers))
        yield from _third(scene, third, protocol, asks, what)
        strays = len(third.of_protocol(protocol)) + sum(len(host.of_protocol(protocol)) - 1 for host, _ in views)
        yield Check(f"{what}: nobody gets another one's", strays == 0, f"{strays} packets")


def _third(scene: Crossing, host: Station, protocol: int, payload: bytes, what: str) -> Iterator[Check]:
    """Check that a third device, for which there is no address left, is refused and told why."""
    sent = scene.to_peer(host, protocol, payload)
    host.send(sent)
    if protocol == GRE:  # A control message passes; what it asks for is not given.
        seen = [sent.after(HOPS, source=shared) for shared in (scene.shared, SECOND.ip)]
        leaked = arrives(scene.stations, lambda: any(one in scene.peer.received for one in seen), REFUSED_LIMIT_S)
        yield Check(f"{what}: a third device does not pass", not leaked)
    if isinstance(scene.bed.gateway, Throughway):
        reasons: list[str] = []

        def is_told() -> bool:
            reasons[:] = refused(scene.sessions(host), protocol)
            return bool(reasons)

        yield Check(f"{what}: `sessions` says that it is refused, and why", scene.waits(is_told), "; ".join(reasons))


def _vpns(bed: Testbed, peers: EspNative) -> Iterator[Check]:
    """Check that real clients have tunnels of their own address each, of which none is ever contested."""
    tunnels = [Tunnel.start(peers, number) for number in (1, 2)]
    wait_for(tunnels, bed.gateway.give_up_s if bed.gateway else 0.0)
    yield from told(tunnels, "carries pings")
    if not isinstance(bed.gateway, Throughway):
        return
    seen = []
    for client in [tunnel.client for tunnel in tunnels]:
        flows = [flow for one in bed.gateway.sessions_of(client.address) for flow in one.flows]
        own = sorted({flow.address for flow in flows if flow.protocol in ("ike", "esp")})
        yield Check(f"{client.name} has one address for IKE and ESP", len(own) == 1, ", ".join(own))
        seen += own
        sure = [flow for flow in flows if flow.protocol == "esp"]
        yield Check(f"{client.name}: nothing is contested", all(map(_is_certain, sure)) and bool(sure), _words(sure))
    both = [str(bed.topology.router_outside), str(SECOND.ip)]
    yield Check("the two clients have different addresses", sorted(seen) == sorted(both), ", ".join(seen))
    contests = bed.gateway.log().count("mapping.contested")
    yield Check("nothing was contested at any time", contests == 0, f"{contests} contests")


def _is_certain(flow: SessionFlow) -> bool:
    return flow.verdict is Verdict.CERTAIN


def _words(flows: list[SessionFlow]) -> str:
    return ", ".join(str(flow.verdict) for flow in flows)


def _connects(connection: int) -> bytes:
    """Build the message that begins a control connection and assigns an ID to whoever sends it."""
    kind = builder.avp(MESSAGE_TYPE, START_CONTROL_CONNECTION.to_bytes(2, "big"))
    return builder.l2tpv3_control(0, [kind, builder.avp(ASSIGNED_CONNECTION_ID, connection.to_bytes(4, "big"))])


def _answers(connection: int) -> bytes:
    """Build a message to this control connection."""
    return builder.l2tpv3_control(connection, [builder.avp(MESSAGE_TYPE, (6).to_bytes(2, "big"))])
