"""Links on the way that take smaller packets than the ends send, and who is told of it."""

from collections.abc import Iterator
from typing import Final

from throughway.lab import addresses
from throughway.lab.addresses import GATEWAY, at
from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind
from throughway.lab.packets import builder
from throughway.lab.packets.builder import Packet, filler
from throughway.lab.packets.crossing import ESP, GRE, HOPS, ICMP, L2TPV3, Crossing, crossing
from throughway.lab.packets.stations import Station, arrives
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed
from throughway.lab.topology import INSIDE_INTERFACE
from throughway.wire import ipv4

NARROW_BYTES: Final = 1300
LARGE_BYTES: Final = 1350
SMALL_BYTES: Final = 1200
FRAGMENTATION_NEEDED: Final = bytes((3, 4))
"""Type and code (RFC 792)."""


def path_mtu(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """A link of the provider, and then one inside, is narrow; whoever sent too large a packet learns the right size."""
    progress.step(f"starting {kind}")
    with crossing(bed, kind, 2) as scene:
        progress.step("opening tunnels")
        for number, host in enumerate(scene.hosts, 1):
            yield Check(f"IKE of {host.address} passes", scene.negotiate(host, 0xA0 + number))
            for name, protocol, out, back in _tunnels(number, SMALL_BYTES):
                passed = scene.crosses_out(host, protocol, out) and scene.crosses_in(host, protocol, back)
                yield Check(f"{name} of {host.address} passes both ways", passed)
        progress.step("making a link of the provider narrow")
        bed.topology.provider.command("ip", "link", "set", "br0", "mtu", str(NARROW_BYTES))
        for number, host in enumerate(scene.hosts, 1):
            for name, protocol, out, _ in _tunnels(number, LARGE_BYTES):
                yield _host_is_told(scene, host, protocol, out, name)
                small = out[:SMALL_BYTES]
                yield Check(
                    f"{name} of {host.address} passes in packets of the right size",
                    scene.crosses_out(host, protocol, small),
                )
        progress.step("making the inside narrow")
        bed.topology.provider.command("ip", "link", "set", "br0", "mtu", "1500")
        bed.router.command("ip", "link", "set", INSIDE_INTERFACE, "mtu", str(NARROW_BYTES))
        for number, host in enumerate(scene.hosts, 1):
            for name, protocol, _, back in _tunnels(number, LARGE_BYTES):
                yield _peer_is_told(scene, host, protocol, back, name)
                small = back[:SMALL_BYTES]
                yield Check(
                    f"{name} to {host.address} passes in packets of the right size",
                    scene.crosses_in(host, protocol, small),
                )


def _tunnels(number: int, size: int) -> list[tuple[str, int, bytes, bytes]]:
    """Return name and protocol of each tunnel of a host, and payloads of a packet of this size each way."""
    body = filler(size, number)
    return [
        ("ESP", ESP, builder.esp(0x1000 + number, 1, body), builder.esp(0x2000 + number, 1, body)),
        ("GRE with a key", GRE, builder.gre(number, body), builder.gre(number, body)),
        ("L2TPv3", L2TPV3, builder.l2tpv3(0x3000 + number, body), builder.l2tpv3(0x4000 + number, body)),
    ]


def _host_is_told(scene: Crossing, host: Station, protocol: int, payload: bytes, name: str) -> Check:
    """Send too large a packet from a host; the provider's error has to reach it and quote the packet as it sent it."""
    sent = scene.to_peer(host, protocol, payload).unfragmentable()
    host.send(sent)
    provider = at(addresses.UPLINK, GATEWAY).ip
    told = _error(scene, host)
    problem = _what_is_wrong(told, sent.after(1))
    if told is not None and told.source != provider:
        problem = f"it came from {told.source}"
    return Check(f"{name} of {host.address}: it is told that packets are too large", not problem, problem)


def _peer_is_told(scene: Crossing, host: Station, protocol: int, payload: bytes, name: str) -> Check:
    """Send too large a packet from the peer; the router's own error has to name the shared address and no other."""
    sent = scene.to_inside(protocol, payload).unfragmentable()
    scene.peer.send(sent)
    told = _error(scene, scene.peer)
    problem = _what_is_wrong(told, sent.after(HOPS - 1))
    if told is not None and told.source != scene.shared:
        problem = f"it came from {told.source}"
    if told is not None and host.address.packed in told.to_bytes():
        problem = "it has an inside address"
    return Check(f"{name} to {host.address}: the peer is told that packets are too large", not problem, problem)


def _error(scene: Crossing, station: Station) -> Packet | None:
    """Return the next error that comes to a station, or None when none does."""
    before = len(station.of_protocol(ICMP))
    arrives(scene.stations, lambda: len(station.of_protocol(ICMP)) > before)
    came = station.of_protocol(ICMP)[before:]
    return came[0] if came else None


def _what_is_wrong(told: Packet | None, quoted: Packet) -> str:
    """Say what is wrong with an error about a packet as it was where it was too large; nothing when all is right.

    Routers decrement the TTL before they look at the size, or after, and quote the packet accordingly.
    """
    if told is None:
        return "nothing came"
    if not told.payload.startswith(FRAGMENTATION_NEEDED):
        return f"it is of type {told.payload[0]} code {told.payload[1]}"
    if ipv4.checksum(told.payload):
        return "its checksum is wrong"
    size = int.from_bytes(told.payload[6:8], "big")
    if size != NARROW_BYTES:
        return f"it names {size} bytes"
    inner = told.payload[8:]
    if not any(quoted.after(hops).to_bytes().startswith(inner) for hops in (0, 1)):
        return f"it quotes another packet: {inner[:28].hex(' ', 4)}"
    return ""
