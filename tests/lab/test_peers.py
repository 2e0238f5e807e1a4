"""Every other kind of real peer: its clients carry pings and a transfer, and on the wire it is what it says it is."""

from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import PcapReader

from throughway.lab import detected
from throughway.lab.gateway import GatewayKind
from throughway.lab.progress import Progress
from throughway.lab.run import run_in
from throughway.lab.scenarios import VPNS
from throughway.lab.testbed import Testbed

SIZE_BYTES = 1_000_000
ICMP = 1
MANY = 100
"""Packets of a protocol on the outside, of which a transfer needs many times as many."""


def case(name: str, carries: str, never: str = "", *, full: bool = True) -> object:
    marks = [pytest.mark.scenario(name), *([pytest.mark.full] if full else [])]
    return pytest.param(name, carries, never, marks=marks, id=name)


@pytest.mark.parametrize(
    ("name", "carries", "never"),
    [
        case("openvpn-tcp", "tcp 1194", "udp 1194", full=False),
        case("anyconnect", "udp 443", full=False),
        case("ikev2-natt", "udp 4500", "50", full=False),
        case("l2tpv3", "115", full=False),
        case("gre-key", "47"),
        case("router-vpnc", "50", "udp 4500"),
        case("ikev2-native", "50", "udp 4500"),
        case("esp-manual", "50", "udp 500"),
        case("same-account", "50", "udp 4500"),
        case("keeps-500", "50", "udp 4500"),
        case("l2tp", "udp 1701"),
        case("l2tp-ipsec", "udp 4500", "udp 1701"),
        case("ipip", "4"),
        case("6in4", "41"),
        case("openvpn-tls-auth", "udp 443", "udp 1194"),
        case("openvpn-tls-crypt", "udp 53", "udp 1194"),
        case("openvpn-tls-crypt-v2", "udp 4500", "udp 1194"),
        case("openvpn-tcp-443", "tcp 443", "tcp 1194"),
        case("openvpn-tcp-tls-auth", "tcp 8443", "tcp 1194"),
        case("wireguard-53", "udp 53", "udp 51820", full=False),
        case("anyconnect-8443", "udp 8443", "udp 443"),
        case("ikev2-6500", "udp 6500", "udp 4500", full=False),
        case("l2tp-6701", "udp 6701", "udp 1701"),
    ],
)
def test_every_client_carries_a_transfer_and_the_wire_shows_how(
    name: str, carries: str, never: str, bed: Testbed, quiet: Progress
) -> None:
    scenario = VPNS[name]
    report = run_in(bed, scenario, scenario.clients, GatewayKind.THROUGHWAY, quiet, SIZE_BYTES)
    assert report.passed, report
    moved = [client.transfer for client in report.clients if client.transfer]
    assert [(one.bytes_to_peer, one.bytes_to_inside, one.intact) for one in moved] == [
        (SIZE_BYTES, SIZE_BYTES, True)
    ] * scenario.clients
    seen = list(on_the_outside(bed))
    assert seen.count(carries) > MANY
    assert never not in seen
    assert detected.named(bed.captures[1]) == set(scenario.detected)


def on_the_outside(bed: Testbed) -> Iterator[str]:
    """Name the protocol of each packet on the outside, with the server's port where it has one."""
    shared = str(bed.topology.router_outside)
    with PcapReader(str(bed.captures[1])) as reader:
        for frame in reader:
            if isinstance(frame, Ether) and isinstance(frame.payload, IP) and frame.payload.proto != ICMP:
                yield named(frame.payload, is_to_peer=frame.payload.src == shared)


def named(packet: Packet, *, is_to_peer: bool) -> str:
    # What is within a tunnel in clear text is dissected too, so only the first layer counts.
    for layer, name in ((TCP, "tcp"), (UDP, "udp")):
        if isinstance(packet.payload, layer):
            return f"{name} {packet.payload.dport if is_to_peer else packet.payload.sport}"
    return str(packet.proto)
