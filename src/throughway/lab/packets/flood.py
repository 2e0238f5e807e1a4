"""Somebody sends packets with random SPIs, as fast as they go, and nobody else loses a packet.

device .11, .12  tunnels ───────┐                     ┌── peer      floods, or has its address forged
device .13       floods ────────┼── router ── provider┼── another peer
                                                      └── stranger  floods in its own name, or in the peer's
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from throughway.core.reasons import Reason
from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind, Throughway
from throughway.lab.namespace import Namespace
from throughway.lab.packets import builder
from throughway.lab.packets.builder import Packet, filler
from throughway.lab.packets.crossing import ESP, Crossing, crossing, found
from throughway.lab.packets.stations import Station, arrives
from throughway.lab.place import Task
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed

PROGRAM: Final = Path(__file__).parents[1] / "alone" / "flood.py"
PACKETS: Final = 100_000
FLOOD_LIMIT_S: Final = 40.0

OTHER_PEER: Final = IPv4Address("198.51.100.11")
STRANGER: Final = IPv4Address("203.0.113.66")

EVERY_S: Final = 0.01
"""How often each end of each tunnel sends a packet."""

ROUNDS: Final = 30

FEW_ROUNDS: Final = 10
"""After which no counter was read of a tunnel, so that nothing shows yet that it goes on."""

OLD: Final = 200_000
"""A sequence number that no exchange before our eyes announced: the tunnel began before, so nothing is known of it."""

NOT_CARRIED: Final = {reason.name.lower().replace("_", "-") for reason in Reason if reason.is_drop} | {"punted"}

MAPPINGS_MOST: Final = 2048
GROWTH_MOST_BYTES: Final = 16 << 20
"""Of the daemon's memory, since before the first flood."""

MET_LEAST: Final = PACKETS * 99 // 100
"""Of a flood, what the gateway must have met, so that it was one."""


@dataclass
class Tunnel:
    """ESP between a host and a peer, and what its two ends have sent since they were last asked."""

    scene: Crossing
    host: Station
    peer: Station
    spis: tuple[int, int]
    sequence: int = 0
    to_peer: list[Packet] = field(default_factory=list)
    to_inside: list[Packet] = field(default_factory=list)

    def send(self) -> None:
        """Send one packet each way."""
        self.sequence += 1
        out, back = (builder.esp(spi, self.sequence, filler(100, self.sequence)) for spi in self.spis)
        numbered = self.sequence & 0xFFFF
        self.to_peer.append(Packet(self.host.address, self.peer.address, ESP, out, identification=numbered))
        self.to_inside.append(Packet(self.peer.address, self.scene.shared, ESP, back, identification=numbered))
        self.host.send(self.to_peer[-1])
        self.peer.send(self.to_inside[-1])

    def lost(self) -> list[Packet]:
        """Return what has not come to the other end as it should."""
        at_peer, at_host = set(self.peer.received), set(self.host.received)
        missing = [packet for packet in self.to_peer if self.scene.at_peer(packet) not in at_peer]
        return missing + [sent for sent in self.to_inside if self.scene.at_host(sent, self.host) not in at_host]

    def losses(self) -> str:
        """Say which packets were lost: the SPI, and the rounds since they were last asked."""
        lost = set(self.lost())
        ways = zip(self.spis, (self.to_peer, self.to_inside), strict=True)
        rounds = {spi: [number for number, packet in enumerate(way) if packet in lost] for spi, way in ways}
        return ", ".join(f"SPI {spi:#x} lost {numbers}" for spi, numbers in rounds.items() if numbers)


@dataclass(frozen=True)
class Attack:
    """Who floods: the namespace it comes from, and the addresses in its packets."""

    who: str
    place: Namespace
    source: IPv4Address
    destination: IPv4Address

    def start(self, seed: int) -> Task:
        """Begin to send."""
        addresses = (str(self.source), str(self.destination))
        return self.place.start(sys.executable, str(PROGRAM), *addresses, str(PACKETS), str(seed))


def flood(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """A host, the peer, a stranger, and a stranger with the peer's address flood, one after another."""
    progress.step(f"starting {kind}")
    with crossing(bed, kind, 3) as scene, ExitStack() as stack:
        other = stack.enter_context(Station(bed.topology.peer("other", OTHER_PEER), OTHER_PEER))
        stranger = bed.topology.peer("stranger", STRANGER)
        alice, bob, mallory = scene.hosts
        yield Check("IKE of a device passes", scene.negotiate(alice, 0xA1))
        progress.step("sending through a tunnel with IKE, and through one without")
        tunnels = [Tunnel(scene, alice, scene.peer, (0x1001, 0x2001)), Tunnel(scene, bob, scene.peer, (0x1002, 0x2002))]
        carried, sent = _carry(tunnels, _for(ROUNDS))
        yield Check("both tunnels carry", carried == sent, found(carried, sent))
        began_bytes = bed.gateway.status().memory_bytes if isinstance(bed.gateway, Throughway) else 0
        for number, attack in enumerate(
            (
                Attack("a device", mallory.namespace, mallory.address, scene.peer.address),
                Attack("the peer", scene.peer.namespace, scene.peer.address, scene.shared),
                Attack("a stranger", stranger, STRANGER, scene.shared),
                Attack("a stranger with the peer's address", stranger, scene.peer.address, scene.shared),
            ),
            1,
        ):
            progress.step(f"{attack.who} sends {PACKETS:,} packets with random SPIs")
            young = Tunnel(scene, bob, scene.peer, (0x5000 + number, 0x6000 + number), OLD)
            _carry([young], _for(FEW_ROUNDS))
            newcomer = Tunnel(scene, bob, other, (0x3000 + number, 0x4000 + number), OLD)
            yield from _under(bed, attack, number, [*tunnels, young], newcomer)
            if isinstance(bed.gateway, Throughway):
                yield _is_small(bed.gateway, began_bytes)


def _under(bed: Testbed, attack: Attack, seed: int, tunnels: Sequence[Tunnel], newcomer: Tunnel) -> Iterator[Check]:
    """Let the tunnels carry while a flood lasts; one to another peer begins in its middle."""
    before = _not_carried(bed)
    task = attack.start(seed)
    carrying = [*tunnels]

    def goes_on() -> bool:
        if newcomer not in carrying and "began" in task.output():
            carrying.append(newcomer)
        return task.status() is None

    try:
        carried, sent = _carry(carrying, goes_on, also=[newcomer.peer])
    finally:
        task.interrupt()
    flooded = int(task.output().split()[-1]) if task.status() == 0 else 0
    yield Check(f"{attack.who} floods", flooded == PACKETS, f"{flooded} packets sent")
    met = _not_carried(bed) - before
    counted = ", ".join(f"{count} {reason}" for reason, count in met.most_common())
    losses = [tunnel.losses() for tunnel in carrying if tunnel.lost()]
    told = "; ".join([found(carried, sent), *losses, *([counted] if losses else [])])
    yield Check(f"no tunnel loses a packet while {attack.who} floods", carried == sent, told)
    if isinstance(bed.gateway, Throughway):
        yield Check("the gateway has counted it, with its reasons", met.total() >= MET_LEAST, counted)


def _is_small(gateway: Throughway, began_bytes: int) -> Check:
    """Look how much the daemon has grown since before the floods."""
    status = gateway.status()
    grown = status.memory_bytes - began_bytes
    is_small = status.mappings <= MAPPINGS_MOST and grown <= GROWTH_MOST_BYTES
    return Check("its state stays small", is_small, f"{status.mappings} mappings, {grown / (1 << 20):+.0f} MiB")


def _carry(tunnels: Sequence[Tunnel], goes_on: Callable[[], bool], also: Sequence[Station] = ()) -> tuple[int, int]:
    """Send through tunnels at a steady rate while it goes on; return how many packets arrived, and were sent."""
    ends = list({station.fileno(): station for tunnel in tunnels for station in (tunnel.host, tunnel.peer)}.values())
    ends += also
    for tunnel in tunnels:
        tunnel.to_peer.clear()
        tunnel.to_inside.clear()
    for station in ends:
        station.received.clear()
    until = time.monotonic() + FLOOD_LIMIT_S
    while goes_on() and time.monotonic() < until:
        for tunnel in tunnels:
            tunnel.send()
        arrives(ends, lambda: False, EVERY_S)
    arrives(ends, lambda: not any(tunnel.lost() for tunnel in tunnels))
    sent = sum(len(tunnel.to_peer) + len(tunnel.to_inside) for tunnel in tunnels)
    return sent - sum(len(tunnel.lost()) for tunnel in tunnels), sent


def _for(rounds: int) -> Callable[[], bool]:
    """Return what says False once it was asked so many times."""
    left = iter(range(rounds))
    return lambda: next(left, None) is not None


def _not_carried(bed: Testbed) -> Counter[str]:
    """Ask the gateway for the packets that it dropped or had to ask about, by reason; a plain router counts none."""
    told = bed.gateway.status().reasons if isinstance(bed.gateway, Throughway) else {}
    return Counter({name: count for name, count in told.items() if name in NOT_CARRIED})
