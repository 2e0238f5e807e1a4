"""The outside interface vanishes and returns, as ppp0 at every redial, under tunnels that are in use.

It is a macvlan on the wire to the provider, as a VLAN or PPPoE interface is on an Ethernet one: it can be made anew
while the wire, and the capture at the provider's end of it, stays. In the end a TUN takes its place.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Final

from throughway.lab import addresses
from throughway.lab.addresses import GATEWAY, ROUTER_OUTSIDE, at
from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind
from throughway.lab.packets import builder, routers
from throughway.lab.packets.builder import filler
from throughway.lab.packets.crossing import ESP, Crossing, crossing, found
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed
from throughway.lab.topology import OUTSIDE_INTERFACE

WIRE: Final = "wire0"
HARDWARE_ADDRESS: Final = "02:00:c0:00:02:02"
"""Always the same, so that the provider's neighbour table stays right."""

RETURN_LIMIT_S: Final = 5.0
"""For how long it is tried whether a tunnel works again. It takes some milliseconds."""

TRY_S: Final = 0.1
"""For how long one packet is waited for, before another one is sent."""

TUN: Final = "as a TUN"

_sequences: Final = itertools.count(1000)


def outside_returns(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """Tunnels of two devices go on each time after the outside interface was made anew."""
    lay_wire(bed)
    make_interface(bed)
    progress.step(f"starting {kind}")
    with crossing(bed, kind, 2) as scene:
        for number, host in enumerate(scene.hosts, 1):
            yield from routers.both_ways(scene, host, number)
        index = index_of(bed)
        ways: dict[str, Callable[[], None]] = {
            "with another index": lambda: make_interface(bed),
            "with the same index": lambda: make_interface(bed, index),
        }
        for how, make in ways.items():
            progress.step(f"removing the outside interface, and making it {how}")
            bed.router.command("ip", "link", "del", OUTSIDE_INTERFACE)
            make()
            yield Check(f"it is another interface {how}", (index_of(bed) == index) == ("same" in how))
            index = index_of(bed)
            yield from go_on(scene, how)
        progress.step("removing the outside interface, and making it as a TUN")
        routers.replace_uplink(bed)
        with routers.wire(bed) as outside:
            yield from go_on(scene, TUN)
            yield routers.no_inside_address(outside)


def lay_wire(bed: Testbed) -> None:
    """Free the name of the outside interface: what had it is the wire from now on."""
    bed.router.command(
        *("ip", "-batch", "-"),
        script=f"link set {OUTSIDE_INTERFACE} down\naddress flush dev {OUTSIDE_INTERFACE}\n"
        f"link set {OUTSIDE_INTERFACE} name {WIRE}\nlink set {WIRE} up\n",
    )


def make_interface(bed: Testbed, index: int | None = None) -> None:
    """Make the outside interface, with its address and the default route."""
    wanted = f"index {index}" if index else ""
    name = OUTSIDE_INTERFACE
    bed.router.command(
        *("ip", "-batch", "-"),
        script=f"link add link {WIRE} name {name} {wanted} address {HARDWARE_ADDRESS} type macvlan mode private\n"
        f"address add {at(addresses.UPLINK, ROUTER_OUTSIDE)} dev {name}\nlink set {name} up\n"
        f"route add default via {at(addresses.UPLINK, GATEWAY).ip}\n",
    )


def index_of(bed: Testbed) -> int:
    """Return the number that the kernel knows the outside interface by."""
    return int(bed.router.command("ip", "-o", "link", "show", "dev", OUTSIDE_INTERFACE).partition(":")[0])


def go_on(scene: Crossing, how: str) -> Iterator[Check]:
    """Check that the tunnels of both devices carry packets again, both ways, and how soon the first one does."""
    began = time.monotonic()
    first = scene.hosts[0]
    works = False
    while not works and time.monotonic() - began < RETURN_LIMIT_S:
        each = next(_sequences)
        works = scene.crosses_out(first, ESP, builder.esp(0x1001, each, filler(200, each)), TRY_S)
    took = f"after {1000 * (time.monotonic() - began):.0f} ms"
    yield Check(f"ESP passes again through the interface made anew {how}", works, took if works else "never")
    passed = []
    for number, host in enumerate(scene.hosts, 1):
        for _ in range(routers.PACKETS):
            each = next(_sequences)
            passed += [
                scene.crosses_out(host, ESP, builder.esp(0x1000 + number, each, filler(200, each))),
                scene.crosses_in(host, ESP, builder.esp(0x2000 + number, each, filler(200, each))),
            ]
    yield Check(f"both tunnels go on through it {how}", all(passed), found(sum(passed), len(passed)))
