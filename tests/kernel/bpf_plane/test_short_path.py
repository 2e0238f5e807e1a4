"""The short path: known flows go around netfilter, all else does not, and it ends by itself."""

import socket
from ipaddress import IPv4Address

import pytest

from tests.kernel.bpf_plane.conftest import Ends, Gateway
from tests.kernel.bpf_plane.net import ALICE, BOB, OUTSIDE, PEER, cut, esp_packet, inside, run
from tests.kernel.bpf_plane.watch import SPI, TO_INSIDE
from throughway.core.flows import FlowKey
from throughway.core.ids import IpProtocol
from throughway.core.reasons import Reason

OUT_SPI = 0x9000
TO_PEER = FlowKey.to_peer(IpProtocol.ESP, ALICE, PEER, OUT_SPI)


@pytest.fixture
def known(up: Gateway) -> Gateway:
    """A gateway with one tunnel, the short path allowed, and a forward chain that counts and drops everything."""
    up.plane.install(TO_INSIDE, [ALICE])
    up.plane.install(TO_PEER, [ALICE])
    up.plane.allow_short_path(60)
    nft(up, "insert rule inet test forward counter drop")
    return up


def nft(gateway: Gateway, command: str) -> str:
    return run("ip", "netns", "exec", gateway.net.router, "nft", *command.split())


def forwarded(gateway: Gateway) -> int:
    """Count what the forward chain has seen."""
    return int(nft(gateway, "list chain inet test forward").partition("packets ")[2].split()[0])


def test_known_flows_go_around_netfilter_unchanged_but_for_addresses_and_ttl(known: Gateway, ends: Ends) -> None:
    for sequence, size in ((1, 12), (2, 96), (3, 1480)):
        ends.alice.send_esp(ALICE, PEER, OUT_SPI, range(sequence, sequence + 1), size=size)
        ends.peer.send_esp(PEER, OUTSIDE, SPI, range(sequence, sequence + 1), size=size)
    known.until("arrived", lambda: len(ends.peer.collect()) == 3 and len(ends.alice.collect()) == 3)
    assert [each.packet for each in ends.peer.received] == [
        esp_packet(OUTSIDE, PEER, OUT_SPI, sequence, size, ttl=63) for sequence, size in ((1, 12), (2, 96), (3, 1480))
    ]
    assert [each.packet for each in ends.alice.received] == [
        esp_packet(PEER, ALICE, SPI, sequence, size, ttl=63) for sequence, size in ((1, 12), (2, 96), (3, 1480))
    ]
    assert forwarded(known) == 0
    assert known.count(Reason.TRANSLATED_TO_PEER) == known.count(Reason.TRANSLATED_TO_INSIDE) == 3
    assert known.count(Reason.ROUTER_OWN) == known.count(Reason.PUNTED) == 0
    assert sorted(flow.count.packets for flow in known.plane.flows()) == [3, 3]


def test_checksums_are_right_whatever_the_addresses_sum_up_to(known: Gateway, ends: Ends) -> None:
    """The carry of the incremental sum: identifications over the whole range, so all sums occur."""
    sequences = range(0, 65535, 257)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, sequences, size=12)
    known.until("arrived", lambda: len(ends.alice.collect()) == len(sequences))
    assert [each.packet for each in ends.alice.received] == [
        esp_packet(PEER, ALICE, SPI, sequence, 12, ttl=63) for sequence in sequences
    ]


def test_it_ends_when_it_is_taken_back_and_by_itself(known: Gateway, ends: Ends) -> None:
    known.plane.allow_short_path(0)
    ends.alice.send_esp(ALICE, PEER, OUT_SPI, range(1, 2))
    known.until("it takes the long way", lambda: forwarded(known) == 1)
    known.plane.allow_short_path(0.001)

    def is_long_again() -> bool:
        ends.alice.send_esp(ALICE, PEER, OUT_SPI, range(2, 3))
        return forwarded(known) > 1

    known.until("the time is over", is_long_again)


def with_ttl_1() -> bytes:
    return esp_packet(PEER, OUTSIDE, SPI, 1, ttl=1)


def with_option() -> bytes:
    plain = esp_packet(PEER, OUTSIDE, SPI, 1)
    head = bytes((0x46, *plain[1:2], *(len(plain) + 4).to_bytes(2, "big"), *plain[4:10], 0, 0, *plain[12:20]))
    return head + bytes((1, 1, 1, 0)) + plain[20:]


@pytest.mark.parametrize("make", [with_ttl_1, with_option], ids=["TTL 1", "IP option"])
def test_what_only_the_stack_can_do_is_left_to_it(known: Gateway, ends: Ends, make: object) -> None:
    """The TTL ends before forwarding; options are processed by it. Neither goes around."""
    ends.peer.send(make())  # type: ignore[operator]
    known.until("it was translated", lambda: known.count(Reason.TRANSLATED_TO_INSIDE) == 1)
    assert ends.alice.collect() == []


def test_fragments_fan_outs_and_large_packets_take_the_long_way(known: Gateway, ends: Ends) -> None:
    for number, piece in enumerate(cut(esp_packet(PEER, OUTSIDE, SPI, 1, 800), 2), start=1):
        ends.peer.send(piece)
        known.until("a fragment is forwarded", lambda number=number: forwarded(known) == number)  # type: ignore[misc]
    with inside(known.net.router):
        run("ip", "link", "set", "in0", "mtu", "600")
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(2, 3), size=900)
    known.until("a large packet is forwarded", lambda: forwarded(known) == 3)
    known.plane.install(TO_INSIDE, [ALICE, BOB])
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(3, 4))
    known.until("copies are forwarded", lambda: forwarded(known) == 5)
    assert ends.alice.collect() == ends.bob.collect() == []


def test_a_frame_for_somebody_else_is_not_forwarded(known: Gateway, ends: Ends) -> None:
    """The interface listens to everything, as with tcpdump, and sees a frame that has another destination."""
    with inside(known.net.router):
        run("ip", "link", "set", "out0", "promisc", "on")
    with inside(known.net.peer), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))
        wire.send(bytes.fromhex("02aabbccddee 02aabbccddef 0800") + esp_packet(PEER, OUTSIDE, SPI, 1))
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(2, 3))
    known.until("the next one arrived", lambda: len(ends.alice.collect()) >= 1)
    assert ends.alice.sequences(SPI) == [2]


def test_an_unknown_neighbour_is_asked_for_and_nothing_is_lost(known: Gateway, ends: Ends) -> None:
    with inside(known.net.router):
        run("ip", "neighbour", "flush", "all")
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 33))
    ends.alice.send_esp(ALICE, PEER, OUT_SPI, range(1, 33))
    known.until("all arrived", lambda: len(ends.alice.collect()) == 32 and len(ends.peer.collect()) == 32)
    assert ends.alice.sequences(SPI) == ends.peer.sequences(OUT_SPI) == list(range(1, 33))


def test_a_peer_that_another_interface_leads_to_is_left_to_the_stack(known: Gateway, ends: Ends) -> None:
    """The route to the peer has changed: the flow does not leave by the outside any more."""
    with inside(known.net.router):
        run("ip", "route", "add", f"{PEER}/32", "via", "10.10.2.2", "dev", "in1")
    ends.alice.send_esp(ALICE, PEER, OUT_SPI, range(1, 2))
    known.until("it is forwarded", lambda: forwarded(known) == 1)


def test_an_unknown_host_cannot_use_it(known: Gateway, ends: Ends) -> None:
    other = IPv4Address("10.10.1.3")
    nft(known, "flush chain inet test forward")
    nft(known, "add rule inet test forward accept")
    ends.alice.send_esp(other, PEER, OUT_SPI, range(1, 2))
    known.until("it is asked about", lambda: known.count(Reason.PUNTED) == 1)
    assert ends.peer.collect() == []
