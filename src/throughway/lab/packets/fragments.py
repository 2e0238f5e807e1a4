"""Packets in four fragments, in every order in which they can come."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Final

from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind
from throughway.lab.packets import builder
from throughway.lab.packets.builder import CREATE_CHILD_SA, IKE_PORT, UDP, Packet, filler, joined, repeated
from throughway.lab.packets.crossing import ESP, GRE, L2TPV3, Crossing, crossing, found
from throughway.lab.packets.stations import Station
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed

PARTS: Final = 4
ORDERS: Final = tuple(permutations(range(PARTS)))
SIZE_BYTES: Final = 4000
"""Of each packet that is cut: an IKE message with certificates, or with a key that quanta cannot break, is as large."""

OPENING: Final = 9
"""The number of the tunnel that opens with fragments."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A protocol, and how its payload for one of the hosts, by its number, is made: to the peer, and to the inside."""

    name: str
    protocol: int
    to_peer: Callable[[int, bytes], bytes]
    to_inside: Callable[[int, bytes], bytes]


KINDS: Final = (
    Kind(
        "ESP",
        ESP,
        lambda host, body: builder.esp(0x1000 + host, 1, body),
        lambda host, body: builder.esp(0x2000 + host, 1, body),
    ),
    Kind(
        "GRE with a key",
        GRE,
        builder.gre,
        builder.gre,
    ),
    Kind(
        "L2TPv3",
        L2TPV3,
        lambda host, body: builder.l2tpv3(0x3000 + host, body),
        lambda host, body: builder.l2tpv3(0x4000 + host, body),
    ),
)


def fragments(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """Two devices and a peer exchange fragments in all orders, of ESP, GRE, L2TPv3 and IKE, both ways."""
    progress.step(f"starting {kind}")
    with crossing(bed, kind, 2) as scene:
        for number, host in enumerate(scene.hosts, 1):
            yield Check(f"IKE of {host.address} passes", scene.negotiate(host, 0xA0 + number))
        progress.step("opening tunnels with fragments")
        for one in KINDS:
            yield _opened_by_fragments(scene, one)
        for one in KINDS:
            progress.step(f"sending fragments of {one.name}")
            for number, host in enumerate(scene.hosts, 1):
                yield from _of_kind(scene, host, number, one)
        progress.step("sending fragments of IKE")
        for host in scene.hosts:
            yield from _of_ike(scene, host)


def _opened_by_fragments(scene: Crossing, kind: Kind) -> Check:
    """Let the first packet of a tunnel come in fragments, last part first, to the peer and then from it."""
    host, body = scene.hosts[0], filler(SIZE_BYTES, OPENING)
    out = scene.to_peer(host, kind.protocol, kind.to_peer(OPENING, body))
    host.send(*reversed(out.cut(PARTS)))
    there = scene.has_come(scene.peer, scene.at_peer(out))
    back = scene.to_inside(kind.protocol, kind.to_inside(OPENING, body))
    scene.peer.send(*reversed(back.cut(PARTS)))
    here = scene.has_come(host, scene.at_host(back, host))
    twice = repeated([*scene.peer.received, *host.received])
    said = f"{'passed' if there else 'lost'} to the peer, {'passed' if here else 'lost'} from it"
    said += f", {twice} fragments came again" if twice else ""
    what = f"a tunnel of {kind.name} opens with a packet in fragments, last part first"
    for end in scene.stations:
        end.received.clear()
    return Check(what, there and here and not twice, said)


def _of_kind(scene: Crossing, host: Station, number: int, kind: Kind) -> Iterator[Check]:
    opened = scene.crosses_out(host, kind.protocol, kind.to_peer(number, filler(64, 0)))
    opened &= scene.crosses_in(host, kind.protocol, kind.to_inside(number, filler(64, 0)))
    yield Check(f"{kind.name} of {host.address} passes whole", opened)
    body = filler(SIZE_BYTES, number)
    out = _in_all_orders(
        scene, host, lambda: scene.to_peer(host, kind.protocol, kind.to_peer(number, body)), scene.at_peer, scene.peer
    )
    yield _told(f"{kind.name} of {host.address} in fragments to the peer", out)
    back = _in_all_orders(
        scene,
        scene.peer,
        lambda: scene.to_inside(kind.protocol, kind.to_inside(number, body)),
        lambda sent: scene.at_host(sent, host),
        host,
    )
    yield _told(f"{kind.name} of {host.address} in fragments from the peer", back)


def _of_ike(scene: Crossing, host: Station) -> Iterator[Check]:
    """Send an IKE message of SIZE_BYTES each way, of an IKE SA of its own. Its port may be translated, or its address
    alone, and with it the checksum of UDP.
    """
    spis = (0xC100 + int(host.address) % 256, 0xC2)
    message = builder.ike(spis, CREATE_CHILD_SA, 2, answers=False, body=filler(SIZE_BYTES - 28, 3))
    ports = scene.ask(host, message[:28] + filler(80, 3))
    yield Check(f"IKE of {host.address} passes whole", ports is not None)
    if ports is None:
        return
    there = builder.udp(host.address, scene.peer.address, (IKE_PORT, IKE_PORT), message)
    seen = builder.udp(scene.shared, scene.peer.address, ports, message)
    out = _in_all_orders(
        scene,
        host,
        lambda: scene.to_peer(host, UDP, there),
        lambda sent: scene.at_peer(sent).carrying(seen),
        scene.peer,
    )
    yield _told(f"IKE of {host.address} in fragments to the peer", out)
    back = builder.udp(scene.peer.address, scene.shared, (ports[1], ports[0]), message)
    wanted = builder.udp(scene.peer.address, host.address, (IKE_PORT, IKE_PORT), message)
    came = _in_all_orders(
        scene,
        scene.peer,
        lambda: scene.to_inside(UDP, back),
        lambda sent: scene.at_host(sent, host).carrying(wanted),
        host,
    )
    yield _told(f"IKE of {host.address} in fragments from the peer", came)


def _in_all_orders(
    scene: Crossing,
    sender: Station,
    build: Callable[[], Packet],
    wanted_of: Callable[[Packet], Packet],
    receiver: Station,
) -> tuple[list[tuple[int, ...]], int]:
    """Send a packet in fragments, once in each order.

    Return the orders in which it did not arrive, and how many fragments came more than once.
    """
    wanted = {}
    for order in ORDERS:
        packet = build()
        parts = packet.cut(PARTS)
        sender.send(*(parts[at] for at in order))
        wanted[order] = wanted_of(packet)
        scene.has_come(receiver, wanted[order])
    arrived, twice = joined(receiver.received), repeated(receiver.received)
    receiver.received.clear()
    return [order for order, one in wanted.items() if one not in arrived], twice


def _told(what: str, came: tuple[list[tuple[int, ...]], int]) -> Check:
    lost, twice = came
    orders = ", ".join("".join(str(at + 1) for at in order) for order in lost[:6])
    more = f"; not {orders}{' and more' if len(lost) > 6 else ''}" if lost else ""
    again = f"; {twice} fragments came again" if twice else ""
    return Check(what, not lost and not twice, found(len(ORDERS) - len(lost), len(ORDERS)) + more + again)
