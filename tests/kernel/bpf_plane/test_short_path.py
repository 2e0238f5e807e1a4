"""The short path: known flows go around netfilter, all else does not, and it ends by itself."""

import socket
import struct
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.kernel.bpf_plane.conftest import Ends, Gateway
from tests.kernel.bpf_plane.net import ALICE, BOB, NEW_OUTSIDE, OUTSIDE, PEER, cut, esp_packet, inside, run
from tests.kernel.bpf_plane.watch import SPI, TO_INSIDE
from throughway.core import ids
from throughway.core.flows import FlowKey
from throughway.core.ids import IpProtocol
from throughway.core.reasons import Reason
from throughway.dataplane.libbpf import test_run

OUT_SPI = 0x9000
TC_ACT_REDIRECT = 7
TO_PEER = FlowKey.to_peer(IpProtocol.ESP, ALICE, PEER, OUT_SPI)


@pytest.fixture
def known(up: Gateway) -> Gateway:
    """A gateway with one tunnel, the short path allowed, and a forward chain that counts and drops everything."""
    up.plane.install(TO_INSIDE, [ALICE])
    up.plane.install(TO_PEER, [ALICE])
    up.plane.allow_short_path(60)
    resolve(up)
    nft(up, "insert rule inet test forward counter drop")
    return up


def resolve(gateway: Gateway) -> None:
    """Have the router find out where its neighbours are."""
    with inside(gateway.net.router):
        for address, interface in ((ALICE, "in0"), (BOB, "in1"), (PEER, "out0")):
            run("ip", "neighbour", "replace", str(address), "dev", interface, "use")
        gateway.until("resolved", lambda: run("ip", "-4", "neighbour").count("lladdr") == 3)


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


def test_traced_flows_take_the_long_way_where_their_times_are_noted(known: Gateway, ends: Ends) -> None:
    for key in (TO_INSIDE, TO_PEER):
        known.plane.trace(key)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 2))
    ends.alice.send_esp(ALICE, PEER, OUT_SPI, range(1, 2))
    known.until("both are forwarded", lambda: forwarded(known) == 2)
    assert {trace.key: len(trace.times) for trace in known.plane.traces()} == {TO_INSIDE: 1, TO_PEER: 0}
    for key in (TO_INSIDE, TO_PEER):
        known.plane.untrace(key)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(2, 3))
    known.until("it goes around again", lambda: len(ends.alice.collect()) == 1)


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


def test_an_unknown_neighbour_is_the_stacks_to_find_and_nothing_is_lost(known: Gateway, ends: Ends) -> None:
    """The stack asks, and tells the sender when nobody answers. Once it knows, the way is short again."""
    pass_everything(known)
    with inside(known.net.router):
        run("ip", "neighbour", "flush", "all")
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 33))
    ends.alice.send_esp(ALICE, PEER, OUT_SPI, range(1, 33))
    known.until("all arrived", lambda: len(ends.alice.collect()) == 32 and len(ends.peer.collect()) == 32)
    assert ends.alice.sequences(SPI) == ends.peer.sequences(OUT_SPI) == list(range(1, 33))
    seen = forwarded(known)
    assert seen >= 2
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(33, 34))
    known.until("the next one arrived", lambda: len(ends.alice.collect()) == 33)
    assert forwarded(known) == seen


def goes_long(known: Gateway, ends: Ends) -> None:
    """Expect what a host sends to be forwarded by the stack."""
    before = forwarded(known)
    ends.alice.send_esp(ALICE, PEER, OUT_SPI, range(1, 2))
    known.until("it is forwarded", lambda: forwarded(known) == before + 1)


def test_a_source_that_belongs_elsewhere_is_left_to_the_stack(known: Gateway, ends: Ends) -> None:
    """Strict reverse path filtering drops a host's packet that comes in by another interface than the host's own."""
    with inside(known.net.router):
        Path("/proc/sys/net/ipv4/conf/in1/rp_filter").write_text("1")
    ends.bob.send_esp(ALICE, PEER, OUT_SPI, range(1, 2))
    with inside(known.net.router):
        Path("/proc/sys/net/ipv4/conf/in1/rp_filter").write_text("0")
    ends.bob.send_esp(ALICE, PEER, OUT_SPI, range(2, 3))
    known.until("the second one is forwarded", lambda: forwarded(known) == 1)
    assert known.count(Reason.TRANSLATED_TO_PEER) == 0
    assert ends.peer.collect() == []


def test_a_broken_header_checksum_is_left_to_the_stack_which_drops_it(known: Gateway, ends: Ends) -> None:
    good = esp_packet(PEER, OUTSIDE, SPI, 1)
    with inside(known.net.router):
        head = bytes.fromhex(f"{mac('out0')}02aabbccddee0800")
    with inside(known.net.peer), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))
        wire.send(head + good[:10] + bytes((good[10] ^ 1,)) + good[11:])
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(2, 3))
    known.until("the right one arrived", lambda: len(ends.alice.collect()) >= 1)
    assert ends.alice.sequences(SPI) == [2]
    assert forwarded(known) == 0


def test_it_leaves_by_our_interfaces_alone(known: Gateway, ends: Ends) -> None:
    """The host is behind another interface now, where no program of ours is."""
    with inside(known.net.router):
        run("ip", "link", "add", "other0", "type", "veth", "peer", "name", "other1")
        run("ip", "link", "set", "other0", "up")
        run("ip", "link", "set", "other1", "up")
        run("ip", "neighbour", "add", str(ALICE), "lladdr", "02:00:00:00:00:09", "dev", "other0")
        run("ip", "route", "add", f"{ALICE}/32", "dev", "other0")
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 2))
    known.until("it is forwarded", lambda: forwarded(known) == 1)


def test_a_next_hop_of_ipv6_is_left_to_the_stack(known: Gateway, ends: Ends) -> None:
    with inside(known.net.router):
        run("ip", "-6", "address", "add", "fd00::1/64", "dev", "out0", "nodad")
        run("ip", "-6", "neighbour", "add", "fd00::9", "lladdr", "02:00:00:00:00:09", "dev", "out0")
        run("ip", "route", "add", f"{PEER}/32", "via", "inet6", "fd00::9", "dev", "out0")
    goes_long(known, ends)


def test_routes_and_rules_by_type_of_service_are_followed(known: Gateway, ends: Ends) -> None:
    """Low delay has a way of its own, which is not ours."""
    with inside(known.net.router):
        run("ip", "rule", "add", "tos", "0x10", "lookup", "77")
        run("ip", "route", "add", f"{PEER}/32", "via", "10.10.2.2", "dev", "in1", "table", "77")
    plain = esp_packet(ALICE, PEER, OUT_SPI, 1)
    ends.alice.send(with_tos(plain, 0x10))
    known.until("it is forwarded", lambda: forwarded(known) == 1)
    ends.alice.send(plain)
    known.until("the other one arrived", lambda: len(ends.peer.collect()) == 1)
    assert forwarded(known) == 1


@pytest.mark.parametrize(("tos", "priority"), [(0, 0), (0x08, 2), (0x10, 6), (0x18, 4), (0xB8, 4), (0x03, 0)])
def test_the_queue_is_the_one_that_forwarding_chooses(known: Gateway, ends: Ends, tos: int, priority: int) -> None:
    """The priority that queues go by is the same on both ways."""
    packet = with_tos(esp_packet(ALICE, PEER, OUT_SPI, 1), tos)
    with inside(known.net.router):
        frame = bytes.fromhex(f"{mac('in0')}02aabbccddee0800") + packet
        context = struct.pack("=40xI148x", socket.if_nametoindex("in0"))
        done = test_run(known.plane._object.programs["inside_ingress"], frame, context)
    assert done.verdict == TC_ACT_REDIRECT
    assert struct.unpack_from("=I", done.context, 32) == (priority,)
    known.plane.allow_short_path(0)
    nft(known, f"insert rule inet test forward meta priority 0:{priority} counter")
    nft(known, "insert rule inet test forward ip protocol != esp accept")
    ends.alice.send(packet)
    known.until("it was forwarded", lambda: "packets 1" in nft(known, "list chain inet test forward"))
    assert nft(known, "list chain inet test forward").count("packets 1") == 2


def mac(interface: str) -> str:
    """Return the hardware address of an interface here, in hexadecimal digits alone."""
    return run("ip", "-br", "link", "show", interface).split()[2].replace(":", "")


def with_tos(packet: bytes, tos: int) -> bytes:
    """Give a packet another type of service, and the header checksum that belongs to it."""
    head = packet[:1] + bytes((tos,)) + packet[2:10] + bytes(2) + packet[12:20]
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + packet[20:]


def pass_everything(gateway: Gateway) -> None:
    """Let the forward chain count and drop nothing."""
    nft(gateway, "flush chain inet test forward")
    nft(gateway, "add rule inet test forward counter accept")


def test_each_flow_leaves_with_the_address_in_its_slot(known: Gateway, ends: Ends) -> None:
    """Of two addresses each flow has its own, both ways; while a slot is empty nothing leaves by it."""
    with inside(known.net.router):
        run("ip", "address", "add", f"{NEW_OUTSIDE}/24", "dev", "out0")
    second = FlowKey.to_inside(IpProtocol.ESP, ids.Path(PEER, 1), SPI)
    known.plane.set_outside_addresses([OUTSIDE, NEW_OUTSIDE])
    known.plane.install(second, [BOB])
    known.plane.install(TO_PEER, [ALICE], slot=1)
    ends.alice.send_esp(ALICE, PEER, OUT_SPI, range(1, 2))
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 2))
    ends.peer.send_esp(PEER, NEW_OUTSIDE, SPI, range(2, 3))
    known.until("arrived", lambda: all(len(end.collect()) == 1 for end in (ends.peer, ends.alice, ends.bob)))
    assert ends.peer.received[0].packet == esp_packet(NEW_OUTSIDE, PEER, OUT_SPI, 1, ttl=63)
    assert ends.bob.sequences(SPI) == [2]
    assert forwarded(known) == 0
    known.plane.set_outside_addresses([OUTSIDE, None])
    goes_long(known, ends)


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
