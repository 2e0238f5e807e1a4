"""The IP protocols without ports, all that there can be, and how packets of many of them are sent side by side."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from throughway.lab.packets import builder
from throughway.lab.packets.builder import Packet, filler
from throughway.lab.packets.crossing import ESP, GRE, L2TPV3, Crossing
from throughway.lab.packets.stations import Station, arrives

WITH_PORTS: Final = frozenset({6, 17, 33, 132, 136})
"""TCP, UDP, DCCP, SCTP and UDP-Lite: masquerade tells their flows apart."""

NOT_CARRIED: Final = frozenset({1, 2, 51})
"""ICMP and IGMP, which are about the network itself, and AH, which no NAT can carry (RFC 3715 section 2.1)."""

PORTLESS: Final = tuple(number for number in range(256) if number not in WITH_PORTS | NOT_CARRIED)
"""Every protocol number that is the gateway's to carry."""

WITHOUT_NAMES: Final = tuple(number for number in PORTLESS if number not in (ESP, L2TPV3))
"""Those where nothing names the tunnel; GRE is one as long as it has no key."""

AT_ONCE: Final = 32
BATCH_S: Final = 0.25
"""Protocols that are tried side by side, and for how long: a device may open 200 tunnels a second."""


def opening(protocol: int, seed: int) -> bytes:
    """Make the payload of a packet that may open a tunnel of a protocol; the seed makes its name, where it has one."""
    body = filler(64, protocol * 256 + seed)
    if protocol == ESP:
        return builder.esp(0x1000 + seed, 1, body)
    if protocol == L2TPV3:
        return builder.l2tpv3(0x1000 + seed, body)
    return builder.gre(None, body) if protocol == GRE else body


def cross(scene: Crossing, host: Station, payloads: Mapping[int, tuple[bytes, bytes]]) -> set[int]:
    """Send a packet of each protocol from a host to the peer, and one back; return those that passed both ways.

    The payloads are those to the peer and to the host. Some protocols are tried at a time, each direction by itself.
    """
    passed: set[int] = set()
    numbers = list(payloads)
    for at in range(0, len(numbers), AT_ONCE):
        next_at = time.monotonic() + BATCH_S
        part = numbers[at : at + AT_ONCE]
        out = [scene.to_peer(host, number, payloads[number][0]) for number in part]
        back = [scene.to_inside(number, payloads[number][1]) for number in part]
        host.send(*out)
        there = _come(scene, scene.peer, [scene.at_peer(sent) for sent in out])
        scene.peer.send(*back)
        passed |= there & _come(scene, host, [scene.at_host(sent, host) for sent in back])
        arrives(scene.stations, lambda: False, next_at - time.monotonic())
    return passed


def _come(scene: Crossing, end: Station, wanted: Sequence[Packet]) -> set[int]:
    """Wait until all packets have come to an end, and return the protocols of those that have."""

    def have_come() -> bool:
        return set(wanted) <= set(end.received)

    scene.waits(have_come)
    return {packet.protocol for packet in set(wanted) & set(end.received)}
