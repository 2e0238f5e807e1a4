"""Whose packet it is: what names a tunnel comes first from outside, is equal for two devices, or is missing."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind, Throughway
from throughway.lab.packets import builder
from throughway.lab.packets.builder import filler
from throughway.lab.packets.crossing import ESP, GRE, L2TPV3, Crossing, crossing, found, refused
from throughway.lab.packets.portless import AT_ONCE, PORTLESS, WITHOUT_NAMES, cross, opening
from throughway.lab.packets.stations import Station, arrives
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed
from throughway.lab.waiting import holds_within

REFUSED_LIMIT_S: Final = 0.5
"""How long what must not arrive is waited for, behind what did arrive."""

REFUSALS_AT_ONCE: Final = 16


def inbound_first(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """The peer speaks first on a new security association, after an IKE exchange, as when a server has data to push."""
    progress.step(f"starting {kind}")
    with crossing(bed, kind, 3) as scene:
        owner, other, bystander = scene.hosts
        progress.step("exchanging IKE messages")
        yield Check("IKE of a device passes", scene.negotiate(owner, 0xA1))
        yield Check(
            "IKE of another device passes, which agrees on no tunnel", scene.negotiate(other, 0xB1, with_child=False)
        )
        progress.step("sending ESP from the peer")
        first = scene.crosses_in(owner, ESP, builder.esp(0x1001, 1, filler(100, 1)))
        yield Check("the first ESP packet from the peer arrives", first)
        later = [
            scene.crosses_in(owner, ESP, builder.esp(0x1001, number, filler(100, number))) for number in range(2, 12)
        ]
        yield Check("those that follow arrive", all(later), found(sum(later), len(later)))
        yield Check(
            "the device's answer arrives", scene.crosses_out(owner, ESP, builder.esp(0x2001, 1, filler(100, 1)))
        )
        strays = len(other.of_protocol(ESP)) + len(bystander.of_protocol(ESP))
        yield Check("no other device got any of it", strays == 0, f"{strays} packets")


def equal_ids(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """Two devices have tunnels to one peer with the same SPIs, and two have the same GRE key."""
    progress.step(f"starting {kind}")
    with crossing(bed, kind, 2) as scene:
        alice, bob = scene.hosts
        progress.step("sending ESP with equal SPIs")
        for host, spi in ((alice, 0xA1), (bob, 0xB1)):
            yield Check(f"IKE of {host.address} passes", scene.negotiate(host, spi))
        for host in scene.hosts:
            yield Check(
                f"ESP of {host.address} arrives at the peer",
                scene.crosses_out(host, ESP, builder.esp(0x5005, 1, filler(100, int(host.address)))),
            )
        for number in range(1, 11):
            sent = scene.to_inside(ESP, builder.esp(0x6006, number, filler(100, number)))
            scene.peer.send(sent)
            for host in scene.hosts:
                scene.has_come(host, scene.at_host(sent, host))
        for host in scene.hosts:
            count = len(host.of_protocol(ESP))
            yield Check(f"{host.address} gets all ESP with the SPI that both chose", count == 10, found(count, 10))
        progress.step("sending GRE with equal keys")
        yield from _one_host_alone(scene, GRE, builder.gre(7, filler(60, 7)), "GRE with a key that another device has")


def every_protocol(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """One device at a time passes with each protocol that has no ports; a second one is refused and told why."""
    progress.step(f"starting {kind}")
    with crossing(bed, kind, 2) as scene:
        first, second = scene.hosts
        progress.step(f"sending {len(PORTLESS)} protocols")
        payloads = {number: (opening(number, 1), opening(number, 2)) for number in PORTLESS}
        passed = cross(scene, first, payloads)
        yield Check("each portless protocol passes both ways", len(passed) == len(PORTLESS), _lost(passed, PORTLESS))
        progress.step("sending them from a second device")
        before = len(scene.peer.received)
        told = _refusals(scene, second)
        named = {
            ESP: builder.esp(0x7007, 1, filler(60, 2)),
            L2TPV3: builder.l2tpv3(0x7007, filler(60, 2)),
        }
        for number, payload in named.items():
            yield Check(
                f"a second device passes with protocol {number}, whose tunnels have names",
                scene.crosses_out(second, number, payload),
            )
        came = [packet.protocol for packet in scene.peer.received[before:] if packet.protocol in WITHOUT_NAMES]
        yield Check("a second device to the same peer does not pass with the others", not came, _listed(came))
        if isinstance(bed.gateway, Throughway):
            yield Check(
                "and `sessions` says for each that it is refused, and why",
                len(told) == len(WITHOUT_NAMES),
                _lost(told, WITHOUT_NAMES),
            )
        again = cross(scene, first, {number: payloads[number] for number in WITHOUT_NAMES[:AT_ONCE]})
        yield Check("the first device's tunnels go on", len(again) == AT_ONCE, found(len(again), AT_ONCE))


def _one_host_alone(scene: Crossing, protocol: int, payload: bytes, what: str) -> Iterator[Check]:
    """Check that the first host's tunnel works and the second's, which nothing tells from it, is refused visibly."""
    first, second = scene.hosts
    yield Check(f"{what}: the first device passes", scene.crosses_out(first, protocol, payload))
    sent = scene.to_peer(second, protocol, payload)
    second.send(sent)
    leaked = arrives(scene.stations, lambda: scene.at_peer(sent) in scene.peer.received, REFUSED_LIMIT_S)
    yield Check(f"{what}: the second does not", not leaked)
    yield Check(f"{what}: answers come to the first", scene.crosses_in(first, protocol, payload))
    strays = len(second.of_protocol(protocol))
    yield Check(f"{what}: and not to the second", strays == 0, f"{strays} packets")
    if isinstance(scene.bed.gateway, Throughway):
        reasons = refused(scene.sessions(second), protocol)
        yield Check(f"{what}: `sessions` says that it is refused, and why", any(reasons), "; ".join(reasons))


def _refusals(scene: Crossing, host: Station) -> set[int]:
    """Send what must be refused, and return the protocols for which the gateway tells a reason.

    It remembers a few refusals of each host, so it is asked after every few.
    """
    told: set[int] = set()
    for at in range(0, len(WITHOUT_NAMES), REFUSALS_AT_ONCE):
        part = WITHOUT_NAMES[at : at + REFUSALS_AT_ONCE]
        host.send(*(scene.to_peer(host, number, opening(number, 3)) for number in part))
        holds_within(partial(_are_refused, scene, host, part), REFUSED_LIMIT_S)
        sessions = scene.sessions(host)
        told |= {number for number in part if any(refused(sessions, number))}
    arrives(scene.stations, lambda: False, REFUSED_LIMIT_S)
    return told


def _are_refused(scene: Crossing, host: Station, protocols: Sequence[int]) -> bool:
    sessions = scene.sessions(host)
    return not isinstance(scene.bed.gateway, Throughway) or all(refused(sessions, number) for number in protocols)


def _lost(arrived: set[int], wanted: tuple[int, ...]) -> str:
    lost = [number for number in wanted if number not in arrived]
    return found(len(wanted) - len(lost), len(wanted)) + (f"; not {_listed(lost)}" if lost else "")


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:10])
    return f"{shown} and {len(numbers) - 10} more" if len(numbers) > 10 else shown
