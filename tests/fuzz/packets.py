"""Packets for the BPF programs, most of them of flows that are known, and most of those wrong somewhere."""

import struct
from random import Random
from typing import Final

from tests.fuzz.mutation import mutated, random_bytes
from tests.fuzz.oracle import ALICE, BOB, CAROL, OUTSIDE, PEER, ROUTER, STRANGER
from throughway.wire import ipv4

PROGRAMS: Final = (
    "outside_ingress",
    "outside_ingress",
    "outside_egress",
    "outside_egress",
    "inside_ingress",
    "inside_egress",
)

_GROUP: Final = bytes((224, 0, 0, 5))
_EVERYWHERE: Final = (OUTSIDE, PEER, STRANGER, ALICE, BOB, CAROL, ROUTER, _GROUP, b"\xff\xff\xff\xff")
_HOSTS: Final = (ALICE, BOB, CAROL, OUTSIDE)
_SPIS: Final = (0x1000, 0x2000, 0x3000, 0x1001, 0x2001, 0x4000, 0, 255, 256)
_PROTOCOLS: Final = (50, 50, 50, 47, 47, 115, 115, 94, 1, 1, 17)
_FRAGMENTS: Final = (0, 0, 0, 0, 0x4000, 0x2000, 0x2001, 0x0001, 0x0008, 0x2008)
_GRE: Final = (0, 0x2000, 0x3000, 0xA000, 0xB000, 0x4000, 0x2001, 0x3001, 0x0002)
_OPTIONS: Final = (b"", b"", b"", bytes(4), b"\x07\x07\x04\x00\x00\x00\x00\x00", bytes(40))
_ICMP: Final = ((3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (4, 0), (5, 1), (11, 0), (12, 0), (0, 0), (8, 0))
_PORTS: Final = ((500, 500), (4500, 4500), (4500, 500), (40000, 500), (53, 53))


def packet(dice: Random, program: str) -> bytes:
    """Make an IP packet for a program; the same dice, the same packet."""
    if dice.random() < 0.02:
        return random_bytes(dice) or b"\0"
    comes_in = program in ("outside_ingress", "inside_egress")
    right = _whole(dice, comes_in=comes_in)
    return (mutated(right, dice) if dice.random() < 0.5 else right) or b"\0"


def _whole(dice: Random, *, comes_in: bool) -> bytes:
    far = dice.choice((PEER, PEER, PEER, STRANGER)) if dice.random() < 0.9 else dice.choice(_EVERYWHERE)
    near = (OUTSIDE if comes_in else dice.choice(_HOSTS)) if dice.random() < 0.9 else dice.choice(_EVERYWHERE)
    protocol = dice.choice(_PROTOCOLS) if dice.random() < 0.95 else dice.randrange(256)
    source, destination = (far, near) if comes_in else (near, far)
    payload = _icmp(dice, comes_in=comes_in) if protocol == 1 else _payload(dice, protocol)
    return _ip(dice, protocol, source, destination, payload)


def _ip(dice: Random, protocol: int, source: bytes, destination: bytes, payload: bytes) -> bytes:
    options = dice.choice(_OPTIONS)
    first = 0x45 + len(options) // 4
    size = 20 + len(options) + len(payload)
    identification, fragment = dice.randrange(4), dice.choice(_FRAGMENTS)
    head = struct.pack("!BBHHHBBH", first, dice.getrandbits(8), size, identification, fragment, 64, protocol, 0)
    head += source + destination + options
    return head[:10] + struct.pack("!H", ipv4.checksum(head)) + head[12:] + payload


def _payload(dice: Random, protocol: int) -> bytes:
    rest = dice.randbytes(dice.choice((0, 1, 4, 16, 64, 512)))
    if protocol == 50:
        spi = dice.choice(_SPIS) if dice.random() < 0.9 else dice.getrandbits(32)
        return struct.pack("!II", spi, dice.choice((1, 2, 0xFFFFFFFF))) + rest
    if protocol == 47:
        flags = dice.choice(_GRE)
        fields = bytes(4) if flags & 0x8000 else b""
        fields += struct.pack("!I", dice.choice((6, 6, 7))) if flags & 0x2000 else b""
        return struct.pack("!HH", flags, 0x0800) + fields + rest
    if protocol == 115:
        if dice.random() < 0.6:
            return struct.pack("!I", dice.choice((7, 7, 8))) + rest
        return struct.pack("!IHHIHH", 0, 0xC803, 12 + len(rest), dice.choice((5, 5, 0)), 0, 0) + rest
    if protocol == 17:
        marker = dice.choice((b"", bytes(4)))
        size = 8 + len(marker) + len(rest)
        return struct.pack("!HHHH", *dice.choice(_PORTS), size, 0) + marker + rest
    return rest


def _icmp(dice: Random, *, comes_in: bool) -> bytes:
    """Make an ICMP message that quotes what went the other way: from outside what we sent, from inside what came."""
    protocol = dice.choice((50, 50, 47, 115, 94, 17))
    ours, theirs = (OUTSIDE, PEER) if comes_in else (PEER, dice.choice(_HOSTS))
    quoted = _ip(dice, protocol, ours, theirs, _payload(dice, protocol))
    if dice.random() < 0.5:
        quoted = quoted[:28]
    kind, code = dice.choice(_ICMP)
    bare = struct.pack("!BBHI", kind, code, 0, dice.choice((0, 1400))) + quoted
    return bare[:2] + struct.pack("!H", ipv4.checksum(bare)) + bare[4:]
