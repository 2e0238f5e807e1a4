"""The router itself: an outside interface without a link header, and its own IPsec beside that of its devices."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from throughway.lab import addresses
from throughway.lab.addresses import GATEWAY, ROUTER_OUTSIDE, at
from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind
from throughway.lab.packets import builder, carrier
from throughway.lab.packets.builder import IKE_AUTH, IKE_PORT, IKE_SA_INIT, UDP, Packet, filler
from throughway.lab.packets.crossing import ESP, Crossing, crossing, found
from throughway.lab.packets.stations import EVERYTHING, Inbox, Station, inside
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed
from throughway.lab.topology import CUSTOMER_INTERFACE, OUTSIDE_INTERFACE
from throughway.lab.waiting import wait_until
from throughway.wire import ipv4

PACKETS: Final = 10


def tun_outside(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """The router's way out is a TUN interface, which stands for PPPoE and modems: packets without a link header."""
    progress.step("putting a TUN interface in the place of the outside interface")
    replace_uplink(bed)
    progress.step(f"starting {kind}")
    with crossing(bed, kind, 2) as scene, wire(bed) as outside:
        yield Check("the outside interface has no link header", "link/none" in outside_link(bed))
        for number, host in enumerate(scene.hosts, 1):
            yield from both_ways(scene, host, number)
        yield no_inside_address(outside)


def no_inside_address(outside: Inbox) -> Check:
    """Check what has passed at the provider's end of a wire of which there is no capture."""
    outside.collect()
    leaked = [packet for packet in outside.received if is_inside(packet)]
    return Check("no inside address is seen outside", not leaked and bool(outside.received), f"{len(leaked)} packets")


def is_inside(packet: bytes) -> bool:
    """Whether an IPv4 packet has an inside address as its source or its destination."""
    read = ipv4.parse(packet)
    return read is not None and (read.source in addresses.INSIDE or read.destination in addresses.INSIDE)


@contextmanager
def wire(bed: Testbed) -> Iterator[Inbox]:
    """See what passes at the provider's end of the wire, both ways: captures of the lab are of Ethernet."""
    with inside(bed.topology.provider):
        seen = Inbox(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
        seen.socket.bind((CUSTOMER_INTERFACE, EVERYTHING))
    with seen:
        yield seen


def both_ways(scene: Crossing, host: Station, number: int) -> Iterator[Check]:
    """Check that a host's tunnel carries packets to the peer and back; the number makes its SPIs."""
    yield Check(f"IKE of {host.address} passes", scene.negotiate(host, 0xA0 + number))
    out = [
        scene.crosses_out(host, ESP, builder.esp(0x1000 + number, each, filler(200, each)))
        for each in range(1, PACKETS + 1)
    ]
    yield Check(f"ESP of {host.address} passes to the peer", all(out), found(sum(out), PACKETS))
    back = [
        scene.crosses_in(host, ESP, builder.esp(0x2000 + number, each, filler(200, each)))
        for each in range(1, PACKETS + 1)
    ]
    yield Check(f"ESP to {host.address} passes from the peer", all(back), found(sum(back), PACKETS))


def replace_uplink(bed: Testbed) -> None:
    """Put TUN interfaces of the same names and addresses in the place of the link between router and provider."""
    router, provider = bed.router, bed.topology.provider
    ends = (
        (router, OUTSIDE_INTERFACE, at(addresses.UPLINK, ROUTER_OUTSIDE)),
        (provider, CUSTOMER_INTERFACE, at(addresses.UPLINK, GATEWAY)),
    )
    for namespace, name, address in ends:
        # The old interface stays under another name, for the capture that goes on there.
        lines = [
            f"link set {name} down",
            f"address flush dev {name}",
            f"link set {name} name old-{name}",
            f"tuntap add {name} mode tun",
            f"address add {address} dev {name}",
            f"link set {name} up",
        ]
        namespace.command("ip", "-batch", "-", script="\n".join(lines) + "\n")
    router.command("ip", "route", "add", "default", "dev", OUTSIDE_INTERFACE)
    task = router.start(
        *(sys.executable, "-m", "throughway.lab.packets.carrier"),
        *(OUTSIDE_INTERFACE, str(provider.path), CUSTOMER_INTERFACE),
    )
    wait_until(lambda: carrier.READY in task.output(), 10.0, "the TUN interfaces to be joined", task.log)


def outside_link(bed: Testbed) -> str:
    """Return what `ip` says of the outside interface."""
    return bed.router.command("ip", "link", "show", "dev", OUTSIDE_INTERFACE)


def router_own_vpn(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """The router has a tunnel of its own to the peer to which its devices have theirs."""
    progress.step(f"starting {kind}")
    with crossing(bed, kind, 2) as scene, own_end(scene) as own:
        progress.step("exchanging IKE messages and ESP")
        yield Check("IKE of the router passes", own.negotiate(0xC1))
        yield Check("ESP of the router passes to the peer", own.crosses_out(0x1100, 1))
        for number, host in enumerate(scene.hosts, 1):
            yield from both_ways(scene, host, number)
        back = [own.crosses_in(0x2200, each) for each in range(1, PACKETS + 1)]
        yield Check("ESP to the router comes to its own stack", all(back), found(sum(back), PACKETS))
        yield Check("ESP of the router still passes", own.crosses_out(0x1100, 2))
        again = [
            scene.crosses_in(host, ESP, builder.esp(0x2000 + number, PACKETS + 1, filler(200, 9)))
            for number, host in enumerate(scene.hosts, 1)
        ]
        yield Check("ESP to the devices still comes to them", all(again), found(sum(again), len(again)))


@dataclass(frozen=True, slots=True)
class Own:
    """The router as an end of its own tunnel, on sockets of its stack as its IPsec has them."""

    scene: Crossing
    esp: Inbox
    ike: Inbox

    def negotiate(self, initiator_spi: int) -> bool:
        """Exchange IKE messages with the peer, and return whether all have arrived."""
        scene, ports = self.scene, (IKE_PORT, IKE_PORT)
        spis = (initiator_spi, initiator_spi ^ 0xFFFF)
        for exchange, message, asked in ((IKE_SA_INIT, 0, (initiator_spi, 0)), (IKE_AUTH, 1, spis)):
            body = builder.ike(asked, exchange, message, answers=False, body=bytes(100))
            answer = builder.ike(spis, exchange, message, answers=True, body=bytes(100))
            self.ike.socket.sendto(body, (str(scene.peer.address), IKE_PORT))
            if not scene.waits(partial(self._is_at_peer, body)):
                return False
            scene.peer.send(scene.to_inside(UDP, builder.udp(scene.peer.address, scene.shared, ports, answer)))
            if not scene.waits(partial(self.ike.received.__contains__, answer), also=[self.ike]):
                return False
        return True

    def crosses_out(self, spi: int, sequence: int) -> bool:
        """Send ESP of the router, and return whether the peer gets it."""
        payload = builder.esp(spi, sequence, filler(200, sequence))
        self.esp.socket.sendto(payload, (str(self.scene.peer.address), 0))
        return self.scene.waits(lambda: payload in (one.payload for one in self._from_router(ESP)))

    def crosses_in(self, spi: int, sequence: int) -> bool:
        """Send ESP from the peer to the router, and return whether its stack gets it as it was sent."""
        sent = self.scene.to_inside(ESP, builder.esp(spi, sequence, filler(200, sequence)))
        self.scene.peer.send(sent)
        wanted = sent.after(1).to_bytes()
        return self.scene.waits(lambda: wanted in self.esp.received, also=[self.esp])

    def _from_router(self, protocol: int) -> list[Packet]:
        peer = self.scene.peer
        return [packet for packet in peer.of_protocol(protocol) if packet.source == self.scene.shared]

    def _is_at_peer(self, body: bytes) -> bool:
        return any(packet.payload[8:] == body for packet in self._from_router(UDP))


@contextmanager
def own_end(scene: Crossing) -> Iterator[Own]:
    """Open the router's own sockets for ESP and IKE; they are closed at the end."""
    with inside(scene.bed.router):
        esp = Inbox(socket.socket(socket.AF_INET, socket.SOCK_RAW, ESP))
        ike = Inbox(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with esp, ike:
        ike.socket.bind((str(scene.shared), IKE_PORT))
        yield Own(scene, esp, ike)
