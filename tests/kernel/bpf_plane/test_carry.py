"""Who gets the packets of a tunnel, and how they look when they arrive."""

import fcntl
import os
import struct
import time
from collections.abc import Iterator

import pytest

from tests.kernel.bpf_plane.conftest import Ends, Gateway
from tests.kernel.bpf_plane.net import ALICE, ALICES, BOB, NEW_OUTSIDE, OUTSIDE, PEER, Esp, esp_packet, inside, run
from tests.kernel.bpf_plane.watch import SPI, TO_INSIDE, drops
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, IpProtocol, Path
from throughway.core.ports import IkeObserved, Interface, Punted
from throughway.core.reasons import Reason

_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x1001


@pytest.mark.parametrize("hosts", [(ALICE, BOB), (*ALICES, BOB)], ids=["2 hosts", "16 hosts"])
def test_a_fan_out_gives_every_host_every_packet_in_order(up: Gateway, ends: Ends, hosts: tuple[object, ...]) -> None:
    """Held packets and those that follow: each host gets each once, in order."""
    up.make_peer_known(ends)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 33))
    up.until("32 held", lambda: up.count(Reason.PUNTED) == 32 and len(up.punted()) == 1)
    up.give(TO_INSIDE, *hosts)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(33, 65))
    up.until(
        "all arrived",
        lambda: len(ends.alice.sequences(SPI)) + len(ends.bob.sequences(SPI)) >= 64 * len(hosts),
    )
    for host in hosts:
        end = ends.bob if host == BOB else ends.alice
        assert end.sequences(SPI, host) == list(range(1, 65)), host  # type: ignore[arg-type]
    assert not any(drops(up).values())
    assert up.count(Reason.FAN_OUT_COPY) == 64 * (len(hosts) - 1)
    flows = list(up.plane.flows())
    assert [(flow.hosts, flow.count.packets) for flow in flows] == [(hosts, 64)]


def test_a_fan_out_becomes_a_single_host_without_a_gap(up: Gateway, ends: Ends) -> None:
    """The contest ends: the winner misses nothing, the other gets nothing more."""
    up.make_peer_known(ends)
    up.give_all((ALICE, BOB))
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 9))
    up.until("both have 8", lambda: len(ends.alice.sequences(SPI)) == 8 and len(ends.bob.sequences(SPI)) == 8)
    up.until("open", lambda: up.plane.pending_count() == 0)
    up.plane.install(TO_INSIDE, [BOB])
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(9, 17))
    up.until("bob has 16", lambda: len(ends.bob.sequences(SPI)) == 16)
    assert ends.bob.sequences(SPI) == list(range(1, 17))
    assert ends.alice.sequences(SPI) == list(range(1, 9))


def test_the_routers_own_tunnel_goes_to_its_stack_untouched(up: Gateway, ends: Ends) -> None:
    """Its packets out are told as copies and never held; what it owns inbound stays with it."""
    ends.router.send_esp(OUTSIDE, PEER, 0x7000, range(1, 4))
    up.until("told", lambda: len(up.told) >= 1)
    first = up.told[0]
    assert isinstance(first, Punted)
    assert first.is_copy
    assert first.key == FlowKey.to_peer(IpProtocol.ESP, ROUTER, PEER, 0x7000)
    assert ends.peer.sequences(0x7000) == [1, 2, 3]
    up.plane.install(first.key, [ROUTER])
    ends.router.send_esp(OUTSIDE, PEER, 0x7000, range(4, 6))
    up.until("counted", lambda: [flow.count.packets for flow in up.plane.flows()] == [2])
    up.give_all((ROUTER,))
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 33))
    up.until("the router has 32", lambda: len(ends.router.sequences(SPI)) == 32)
    assert ends.router.sequences(SPI) == list(range(1, 33))
    assert ends.alice.collect() == []


def test_the_router_and_a_host_share_a_contested_tunnel(up: Gateway, ends: Ends) -> None:
    """A fan-out with the router in it, best candidate last."""
    up.make_peer_known(ends)
    up.give_all((ROUTER, ALICE))
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 17))
    up.until("both have 16", lambda: len(ends.router.sequences(SPI)) == 16 and len(ends.alice.sequences(SPI)) == 16)
    assert ends.router.sequences(SPI) == list(range(1, 17))
    assert ends.alice.sequences(SPI) == list(range(1, 17))


def test_only_addresses_ttl_and_header_checksum_differ(up: Gateway, ends: Ends) -> None:
    """Byte for byte, in both directions, for the held packet and for the one after it, of several sizes."""
    up.give_all()
    up.make_peer_known(ends)
    for sequence, size in ((1, 12), (2, 96), (3, 1400), (4, 1480)):
        ends.alice.send_esp(ALICE, PEER, 0x9000, range(sequence, sequence + 1), size=size)
        ends.peer.send_esp(PEER, OUTSIDE, SPI, range(sequence, sequence + 1), size=size)
    up.until("arrived", lambda: len(ends.peer.collect()) == 4 and len(ends.alice.collect()) == 4)
    for sequence, size in ((1, 12), (2, 96), (3, 1400), (4, 1480)):
        at = sequence - 1
        assert ends.peer.received[at].packet == esp_packet(OUTSIDE, PEER, 0x9000, sequence, size, ttl=63)
        assert ends.alice.received[at].packet == esp_packet(PEER, ALICE, SPI, sequence, size, ttl=63)


def test_of_many_flows_only_those_used_since_are_read(up: Gateway, ends: Ends) -> None:
    """The others are in no tuple, and whoever reads gets a turn between the tuples."""
    for spi in range(0x5000, 0x5000 + 1000):
        up.plane.install(FlowKey.to_inside(IpProtocol.ESP, Path(PEER), spi), [ALICE])
    up.plane.install(TO_INSIDE, [ALICE])
    started = time.monotonic()
    assert [flow for piece in up.plane.used_flows(started) for flow in piece] == []
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 3))
    up.until("arrived", lambda: ends.alice.sequences(SPI) == [1, 2])
    pieces = list(up.plane.used_flows(started))
    assert len(pieces) >= 4
    assert [(flow.count.key, flow.count.packets) for piece in pieces for flow in piece] == [(TO_INSIDE, 2)]
    assert len([flow for piece in up.plane.used_flows(0) for flow in piece]) == len(list(up.plane.flows())) == 1001


def test_the_outside_address_changes(up: Gateway, ends: Ends) -> None:
    """From the change on packets leave with the new address and come in by it; without one, none leave."""
    up.give_all()
    ends.alice.send_esp(ALICE, PEER, SPI, range(1, 3))
    up.until("2 arrived", lambda: len(ends.peer.collect()) == 2)
    up.until("open", lambda: up.plane.pending_count() == 0)
    up.plane.set_outside_addresses([])
    ends.alice.send_esp(ALICE, PEER, SPI, range(3, 4))
    up.until("dropped", lambda: up.count(Reason.NO_OUTSIDE_ADDRESS) == 1)
    with inside(up.net.router):
        run("ip", "address", "add", f"{NEW_OUTSIDE}/24", "dev", "out0")
    up.plane.set_outside_addresses([NEW_OUTSIDE])
    ends.alice.send_esp(ALICE, PEER, SPI, range(4, 6))
    ends.peer.send_esp(PEER, NEW_OUTSIDE, SPI, range(1, 3))
    up.until("arrived", lambda: len(ends.peer.collect()) == 4 and len(ends.alice.collect()) == 2)
    assert [(each.source, each.sequence) for each in ends.peer.received] == [
        (OUTSIDE, 1),
        (OUTSIDE, 2),
        (NEW_OUTSIDE, 4),
        (NEW_OUTSIDE, 5),
    ]


@pytest.fixture
def tun(gateway: Gateway) -> Iterator[int]:
    """The outside interface as PPP and wwan are: without a link header. Whoever has the descriptor is the peer."""
    router = gateway.net.router
    run("ip", "-n", router, "link", "delete", "out0")
    with inside(router):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN_NO_PI))
    run("ip", "-n", router, "address", "add", f"{OUTSIDE}/24", "dev", "tun0")
    run("ip", "-n", router, "link", "set", "tun0", "up")
    yield descriptor
    os.close(descriptor)


def test_an_outside_interface_without_a_link_header(gateway: Gateway, ends: Ends, tun: int) -> None:
    """Hold, release, fan-out and translation both ways on a TUN device."""
    outside: Interface = gateway.net.interface("tun0", link_header_size=0)
    gateway.up(outside=outside)
    gateway.plane.set_outside_addresses([OUTSIDE])
    seen: list[Esp] = []

    def take() -> int:
        """Take what left to the peer, and count the ESP packets."""
        while True:
            try:
                packet = os.read(tun, 65536)
            except BlockingIOError:
                return len(seen)
            if packet[0] >> 4 == 4 and packet[9] == 50:
                seen.append(Esp.read(packet))

    ends.alice.send_ike(ALICE, PEER)
    gateway.until("IKE observed", lambda: any(isinstance(each, IkeObserved) for each in gateway.told))
    for sequence in range(1, 65):
        os.write(tun, esp_packet(PEER, OUTSIDE, SPI, sequence))
    gateway.until("64 held", lambda: gateway.count(Reason.PUNTED) == 64 and gateway.punted() == [TO_INSIDE])
    gateway.give(TO_INSIDE, ALICE, BOB)
    for sequence in range(65, 97):
        os.write(tun, esp_packet(PEER, OUTSIDE, SPI, sequence))
    gateway.give_all()
    ends.alice.send_esp(ALICE, PEER, 0x9000, range(1, 33))
    gateway.until(
        "all arrived",
        lambda: len(ends.alice.sequences(SPI)) + len(ends.bob.sequences(SPI)) >= 192 and take() >= 32,
    )
    assert ends.alice.sequences(SPI) == list(range(1, 97))
    assert ends.bob.sequences(SPI) == list(range(1, 97))
    assert [each.packet for each in seen] == [esp_packet(OUTSIDE, PEER, 0x9000, at, ttl=63) for at in range(1, 33)]
    assert ends.alice.received[0].packet == esp_packet(PEER, ALICE, SPI, 1, ttl=63)
    assert not any(drops(gateway).values())
