"""IPv6: nothing is translated, what the inside did not ask for stays out, and IPsec may come in (RFC 6092)."""

from collections.abc import Iterator
from ipaddress import IPv6Address
from struct import pack
from typing import Final

from throughway.lab import addresses
from throughway.lab.addresses import FIRST_DEVICE, at_6
from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind
from throughway.lab.packets import builder
from throughway.lab.packets.builder import IKE_PORT, IKE_SA_INIT, UDP, filler
from throughway.lab.packets.crossing import ESP, HOPS, PEER, Crossing, crossing
from throughway.lab.packets.stations import Station, arrives
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed
from throughway.wire import ipv4

AH: Final = 51
AH_PORT: Final = 7007
"""Within AH, at both ends: Linux takes AH for an extension header, and what is in it for the connection."""

TCP: Final = 6
SYN: Final = 0x02
ABSENT_LIMIT_S: Final = 0.5
HOST: Final = at_6(addresses.INSIDE_6, FIRST_DEVICE).ip
QUIET: Final = at_6(addresses.INSIDE_6, FIRST_DEVICE + 1).ip
"""A device that sends nothing, so that whatever comes to it was not asked for."""

FAR: Final = at_6(addresses.PEERS_6[0], int(PEER) & 0xFF).ip


def ipv6(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """A device and a peer speak IPv6: IPsec begins on either side, all else on the inside alone."""
    progress.step(f"starting {kind}")
    with crossing(bed, kind, 2) as scene:
        (host, quiet), peer = scene.hosts, scene.peer
        progress.step("sending from the inside")
        question = packet(HOST, FAR, UDP, udp(HOST, FAR, (40000, 9), b"question"))
        yield Check("UDP of the device passes with its own address", _crosses(scene, host, peer, question))
        answer = packet(FAR, HOST, UDP, udp(FAR, HOST, (9, 40000), b"answer"))
        yield Check("the answer passes", _crosses(scene, peer, host, answer))
        for name, number, payload in _ipsec(HOST, FAR, 1):
            yield Check(f"{name} of the device passes", _crosses(scene, host, peer, packet(HOST, FAR, number, payload)))
        progress.step("sending from the outside")
        for name, number, payload in _ipsec(FAR, QUIET, 2):
            one = packet(FAR, QUIET, number, payload)
            yield Check(f"{name} that nobody asked for passes", _crosses(scene, peer, quiet, one))
        for name, number, payload in (
            ("UDP", UDP, udp(FAR, QUIET, (9, 5353), b"unasked")),
            ("TCP", TCP, tcp(FAR, QUIET, (50000, 22), SYN)),
        ):
            passed = _crosses(scene, peer, quiet, packet(FAR, QUIET, number, payload), ABSENT_LIMIT_S)
            yield Check(f"{name} that nobody asked for does not pass", not passed)


def ipv6_closed(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """The operator has switched off that IPsec may begin outside."""
    progress.step(f"starting {kind}")
    options = ("--no-ipv6-ipsec",) if kind is GatewayKind.THROUGHWAY else ()
    with crossing(bed, kind, 1, *options) as scene:
        host, peer = scene.hosts[0], scene.peer
        for name, number, payload in _ipsec(FAR, HOST, 3):
            one = packet(FAR, HOST, number, payload)
            passed = _crosses(scene, peer, host, one, ABSENT_LIMIT_S)
            yield Check(f"{name} that nobody asked for does not pass", not passed)
        # With nothing else between them the two directions of ESP are one flow to the filter.
        for name, number, payload in _ipsec(HOST, FAR, 4):
            yield Check(f"{name} of the device passes", _crosses(scene, host, peer, packet(HOST, FAR, number, payload)))
        for name, number, payload in _ipsec(FAR, HOST, 5):
            yield Check(
                f"{name} that answers it passes", _crosses(scene, peer, host, packet(FAR, HOST, number, payload))
            )


def packet(source: IPv6Address, destination: IPv6Address, protocol: int, payload: bytes, hops: int = 64) -> bytes:
    """Write an IPv6 packet (RFC 8200 section 3)."""
    return pack("!IHBB", 6 << 28, len(payload), protocol, hops) + source.packed + destination.packed + payload


def udp(source: IPv6Address, destination: IPv6Address, ports: tuple[int, int], body: bytes) -> bytes:
    """Write a datagram with its checksum, which IPv6 wants (RFC 8200 section 8.1)."""
    size = 8 + len(body)
    bare = pack("!HHHH", *ports, size, 0) + body
    total = ipv4.checksum(_pseudo(source, destination, UDP, size) + bare) or 0xFFFF
    return bare[:6] + pack("!H", total) + bare[8:]


def tcp(source: IPv6Address, destination: IPv6Address, ports: tuple[int, int], flags: int) -> bytes:
    """Write a TCP header alone, with its checksum (RFC 9293 section 3.1)."""
    bare = pack("!HHIIBBHHH", *ports, 1, 0, 5 << 4, flags, 65535, 0, 0)
    total = ipv4.checksum(_pseudo(source, destination, TCP, len(bare)) + bare)
    return bare[:16] + pack("!H", total) + bare[18:]


def ah(spi: int, sequence: int, body: bytes) -> bytes:
    """Make the payload of protocol 51 with a check value of 96 bits around a datagram (RFC 4302 section 2)."""
    return pack("!BBHII", UDP, 4, 0, spi, sequence) + bytes(12) + body


def _pseudo(source: IPv6Address, destination: IPv6Address, protocol: int, size: int) -> bytes:
    return source.packed + destination.packed + pack("!II", size, protocol)


def _ipsec(source: IPv6Address, destination: IPv6Address, seed: int) -> list[tuple[str, int, bytes]]:
    """Return name, protocol and payload of what IPsec sends."""
    message = builder.ike((seed, 0), IKE_SA_INIT, 0, answers=False, body=bytes(100))
    return [
        ("ESP", ESP, builder.esp(0x1000 + seed, 1, filler(100, seed))),
        ("AH", AH, ah(0x1000 + seed, 1, udp(source, destination, (AH_PORT, AH_PORT), filler(100, seed)))),
        ("IKE", UDP, udp(source, destination, (IKE_PORT, IKE_PORT), message)),
    ]


def _crosses(scene: Crossing, sender: Station, receiver: Station, one: bytes, limit_s: float = 2.0) -> bool:
    """Send a packet, and return whether it arrives with no other change than its hop limit."""
    sender.send_6(one)
    wanted = one[:7] + bytes((one[7] - HOPS,)) + one[8:]
    return arrives(scene.stations, lambda: wanted in receiver.received_6, limit_s)
