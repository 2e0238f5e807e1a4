"""What the fuzzing begins with: each thing that a parser reads, as it should be."""

import json
import logging
from functools import cache
from ipaddress import IPv4Address
from typing import Final

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from tests import captures
from tests.properties import packets
from throughway.lab.packets import builder
from throughway.lab.packets.builder import Packet

HOST: Final = IPv4Address("10.77.0.11")
PEER: Final = IPv4Address("203.0.113.9")
CAPTURED_MOST: Final = 400
"""Packets taken of all captures together; what is common comes first in each."""


def built() -> list[bytes]:
    """Write whole IPv4 packets of all that is read, with and without options, in one piece and in fragments."""
    esp = Packet(HOST, PEER, 50, builder.esp(0x1000, 1, builder.filler(64, 1)))
    control = builder.l2tpv3_control(
        5, [builder.avp(0, b"\0\1"), builder.avp(61, b"\0\0\0\7"), builder.avp(63, bytes(4))]
    )
    payloads = [
        (50, esp.payload),
        (47, builder.gre(6, bytes(40))),
        (47, builder.gre(None, bytes(40))),
        (47, bytes.fromhex("b0000800123400000000000600000009") + bytes(40)),
        (47, bytes.fromhex("3001880b0020000500000001") + bytes(32)),
        (115, builder.l2tpv3(7, bytes(40))),
        (115, control),
        (94, bytes(40)),
        (51, bytes(24)),
    ]
    for exchange in (builder.IKE_SA_INIT, builder.IKE_AUTH, builder.CREATE_CHILD_SA):
        message = builder.ike((0xA1, 0xB1), exchange, 2, answers=False, body=bytes(60))
        payloads.append((17, builder.udp(HOST, PEER, (500, 500), message)))
        payloads.append((17, builder.udp(HOST, PEER, (4500, 4500), bytes(4) + message)))
    for kind, code in ((3, 2), (3, 3), (3, 4), (4, 0), (5, 1), (11, 0), (12, 0), (8, 0)):
        payloads.append((1, builder.icmp(kind, code, esp.to_bytes()[:28])))
        payloads.append((1, builder.icmp(kind, code, esp.to_bytes().ljust(128, b"\0") + bytes(12), 32 << 16)))
    whole = [Packet(HOST, PEER, protocol, payload) for protocol, payload in payloads]
    long = Packet(HOST, PEER, 50, builder.esp(0x2000, 1, builder.filler(2000, 1)))
    return [packet.to_bytes() for packet in (*whole, *long.cut(3))]


@cache
def captured() -> tuple[bytes, ...]:
    """Return packets of the recorded IPsec and L2TP sessions, where there are any: what is behind IP, over IPv4."""
    logging.getLogger("scapy").setLevel(logging.ERROR)  # of link types that it does not know, which are no matter
    found: dict[bytes, None] = {}
    described = captures.described("sessions.json")
    for file in described:
        for _, frame in captures.packets(file):
            ip = frame.getlayer(IP) or frame.getlayer(IPv6)
            if ip is None or len(found) >= CAPTURED_MOST:
                break
            if ip.version == 4:
                found.setdefault(bytes(ip.original))
            elif UDP in frame:
                found.setdefault(Packet(HOST, PEER, 17, bytes(frame[UDP].original)).to_bytes())
    return tuple(found)


def ike_messages() -> list[bytes]:
    """Write messages of IKEv1 and IKEv2."""
    both = (
        packets.V1_MAIN,
        packets.V1_QUICK,
        packets.V2_INIT,
        packets.V2_AUTH,
        packets.V2_CHILD,
        packets.V2_INFORMATIONAL,
    )
    flags = {"from_initiator": True, "is_response": False}
    return [packets.ike(HOST, PEER, 0xA1, exchange, 1, **flags)[28:] for exchange in both]


def control_messages() -> list[bytes]:
    """Write control messages of L2TPv3 behind the session ID of 0, with many attributes."""
    avps = [builder.avp(0, b"\0\1"), builder.avp(61, bytes(4)), builder.avp(63, b"\0\0\0\1"), builder.avp(64, bytes(4))]
    return [builder.l2tpv3_control(number, avps * repeats)[4:] for number in (0, 5) for repeats in (0, 1, 9)]


def requests() -> list[bytes]:
    """Write requests to the control socket, without the length before them."""
    some: list[dict[str, object]] = [
        {"v": 1, "id": 1, "method": "status", "params": {}},
        {
            "v": 1,
            "id": (1 << 53) - 1,
            "method": "sessions",
            "params": {"after": None, "limit": 100, "\u00e4": [1.5, True]},
        },
        {"v": 2, "id": -1, "method": "", "params": {"a": {"b": {"c": [[[]]]}}}},
    ]
    return [json.dumps(one).encode() for one in some]
