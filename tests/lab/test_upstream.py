"""What the provider does to packets is what its name says, until it is mended, and nothing else is touched."""

import pytest

from throughway.lab.gateway import GatewayKind, Throughway
from throughway.lab.packets import builder
from throughway.lab.packets.builder import UDP, Packet, filler
from throughway.lab.packets.crossing import ESP, GRE, ICMP, PEER, Crossing, crossing
from throughway.lab.testbed import Testbed
from throughway.lab.upstream import CARRIER_GRADE, LATER_FRAGMENTS, NATT, Upstream, to
from throughway.lab.upstream import ESP as ALL_ESP
from throughway.lab.upstream import ESP_TO_CUSTOMER as ESP_IN
from throughway.lab.upstream import GRE as ALL_GRE
from throughway.lab.waiting import holds_within

LOST_S = 0.3
"""How long what was dropped is waited for."""

PORTS = (20000, 5555)


def esp_out(scene: Crossing) -> bool:
    return scene.crosses_out(scene.hosts[0], ESP, builder.esp(0x1001, 1, filler(100, 1)), LOST_S)


def esp_in(scene: Crossing) -> bool:
    return scene.crosses_in(scene.hosts[0], ESP, builder.esp(0x2001, 1, filler(100, 1)), LOST_S)


def gre_out(scene: Crossing) -> bool:
    return scene.crosses_out(scene.hosts[0], GRE, builder.gre(7, filler(100, 1)), LOST_S)


def asks(scene: Crossing, body: bytes, ports: tuple[int, int] = PORTS) -> Packet | None:
    """Send a datagram from the device, and return it as the peer gets it."""
    host = scene.hosts[0]
    host.send(scene.to_peer(host, UDP, builder.udp(host.address, scene.peer.address, ports, body)))
    came: list[Packet] = []

    def has_come() -> bool:
        came[:] = [one for one in builder.joined(scene.peer.of_protocol(UDP)) if one.payload[8:] == body]
        return bool(came)

    scene.waits(has_come, LOST_S)
    return came[0] if came else None


def is_answered(scene: Crossing, asked: Packet, body: bytes) -> bool:
    """Send a datagram from the peer to where one came from, and return whether the device gets it."""
    host, port = scene.hosts[0], int.from_bytes(asked.payload[:2], "big")
    payload = builder.udp(scene.peer.address, asked.source, (PORTS[1], port), body)
    scene.peer.send(Packet(scene.peer.address, asked.source, UDP, payload))
    return scene.waits(lambda: any(one.payload[8:] == body for one in host.of_protocol(UDP)), LOST_S)


def test_what_is_dropped_is_dropped_alone_and_passes_when_mended(bed: Testbed) -> None:
    upstream = Upstream(bed.topology)
    with crossing(bed, GatewayKind.THROUGHWAY, 1) as scene:
        assert scene.negotiate(scene.hosts[0], 0xA1)
        assert esp_out(scene) and esp_in(scene) and gre_out(scene)
        upstream.drop(ALL_ESP)
        assert not esp_out(scene)
        assert not esp_in(scene)
        assert upstream.dropped() == 2
        assert gre_out(scene)
        upstream.drop(ESP_IN)
        assert esp_out(scene)
        assert not esp_in(scene)
        upstream.drop(ALL_GRE, NATT)
        assert not gre_out(scene)
        assert asks(scene, b"over 4500", (4500, 4500)) is None
        assert esp_out(scene) and esp_in(scene)
        upstream.drop(to(PEER))
        assert not esp_out(scene)
        assert esp_in(scene)
        upstream.mend()
        assert esp_out(scene) and esp_in(scene) and gre_out(scene)


def test_a_large_datagram_is_lost_where_fragments_are(bed: Testbed) -> None:
    upstream = Upstream(bed.topology)
    with crossing(bed, GatewayKind.THROUGHWAY, 1) as scene:
        host, body = scene.hosts[0], filler(2000, 1)
        whole = scene.to_peer(host, UDP, builder.udp(host.address, scene.peer.address, PORTS, body))

        def passes() -> bool:
            scene.peer.received.clear()
            host.send(*whole.cut(2))
            return scene.waits(
                lambda: any(one.payload[8:] == body for one in builder.joined(scene.peer.of_protocol(UDP))), LOST_S
            )

        assert passes()
        upstream.drop(LATER_FRAGMENTS)
        assert not passes()
        assert asks(scene, b"small") is not None
        upstream.mend()
        assert passes()


def test_a_narrow_link_loses_large_packets_and_tells_nobody(bed: Testbed) -> None:
    upstream = Upstream(bed.topology)
    with crossing(bed, GatewayKind.THROUGHWAY, 1) as scene:
        host = scene.hosts[0]
        assert esp_out(scene)
        upstream.narrow(1300)
        host.send(scene.to_peer(host, ESP, builder.esp(0x1001, 2, filler(1350, 2))).unfragmentable())
        assert holds_within(lambda: upstream.dropped() == 1, 1.0)
        assert esp_out(scene)
        assert host.of_protocol(ICMP) == []
        assert not [packet for packet in scene.peer.of_protocol(ESP) if len(packet.payload) > 1000]


def test_a_second_nat_forgets_a_quiet_flow_and_then_gives_it_another_port(bed: Testbed) -> None:
    upstream = Upstream(bed.topology)
    upstream.translate(forgets_after_s=1)
    with crossing(bed, GatewayKind.THROUGHWAY, 1) as scene:
        first = asks(scene, b"first")
        assert first is not None
        assert first.source != scene.shared
        assert is_answered(scene, first, b"at once")
        assert upstream.remembers(PEER)
        assert holds_within(lambda: not upstream.remembers(PEER), 5.0)
        assert not is_answered(scene, first, b"too late")
        again = asks(scene, b"again")
        assert again is not None
        assert again.payload[:2] != first.payload[:2]
        assert is_answered(scene, again, b"to the new port")
        assert not is_answered(scene, first, b"to the old port")


@pytest.mark.parametrize("has_passthrough", [True, False])
def test_a_gateway_behind_another_nat_has_an_address_that_is_not_public(bed: Testbed, has_passthrough: bool) -> None:
    upstream = Upstream(bed.topology)
    upstream.hide()
    if not has_passthrough:
        upstream.drop(ALL_ESP)
    with crossing(bed, GatewayKind.THROUGHWAY, 1) as scene:
        assert isinstance(bed.gateway, Throughway)
        address = bed.gateway.status().outside_address
        assert address is not None
        assert address == str(CARRIER_GRADE.network_address + 2)
        asked = asks(scene, b"by two")
        assert asked is not None
        assert is_answered(scene, asked, b"back")
        host = scene.hosts[0]
        host.send(scene.to_peer(host, ESP, builder.esp(0x1001, 1, filler(100, 1))))
        assert scene.waits(lambda: bool(scene.peer.of_protocol(ESP)), LOST_S) is has_passthrough
    assert bed.topology.leaked() == 0
