"""Fragments in any order, through the real stack: all of a packet arrives, and its bytes are those that were sent."""

import contextlib
import itertools
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from tests.kernel.bpf_plane.conftest import Ends, Gateway
from tests.kernel.bpf_plane.net import ALICE, OUTSIDE, PEER, Ear, cut, ip_packet, run
from tests.kernel.bpf_plane.watch import drops
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.dataplane.attach import AttachMode

_HEADERS = {
    50: struct.pack("!II", 0x12345678, 1),
    47: struct.pack("!HHI", 0x2000, 0x0800, 6),
    115: struct.pack("!I", 77),
}
_ORDERS = list(itertools.permutations(range(4)))

_TRACKED_UNTIL_WHOLE = """
flush chain inet test raw
table inet test {
	chain whole { type filter hook prerouting priority -300; ip protocol gre notrack; }
	chain tracking { type filter hook forward priority 10; ct state untracked accept; }
}
"""
"""Connection tracking with its defragmentation, which GRE passes first: so the product has it, for PPTP's sake."""


def _body(protocol: int, number: int) -> bytes:
    """Make a payload of 3,900 bytes that is like no other."""
    head = _HEADERS[protocol]
    return head + bytes((at * 7 + number) & 0xFF for at in range(3900 - len(head)))


@contextlib.contextmanager
def _ears(up: Gateway, protocol: int) -> Iterator[tuple[Ear, Ear]]:
    at_alice, at_peer = Ear(up.net.alice, protocol), Ear(up.net.peer, protocol)
    with contextlib.closing(at_alice), contextlib.closing(at_peer):
        yield at_alice, at_peer


def _payloads(ear: Ear, source: IPv4Address, destination: IPv4Address) -> set[bytes]:
    """The payloads that arrived between these two."""
    return {packet[20:] for packet in ear.collect() if packet[12:20] == source.packed + destination.packed}


@pytest.mark.parametrize("protocol", _HEADERS, ids={50: "ESP", 47: "GRE with a key", 115: "L2TPv3"}.get)
def test_four_fragments_in_every_order_both_ways(up: Gateway, ends: Ends, protocol: int) -> None:
    """24 packets each way, the first of them while nothing is decided."""
    up.make_peer_known(ends)
    up.give_all()
    with _ears(up, protocol) as (at_alice, at_peer):
        for number, order in enumerate(_ORDERS):
            out = cut(ip_packet(ALICE, PEER, protocol, _body(protocol, number), 1000 + number), 4)
            back = cut(ip_packet(PEER, OUTSIDE, protocol, _body(protocol, number), 2000 + number), 4)
            assert len(out) == len(back) == 4
            for at in order:
                ends.alice.send(out[at])
                ends.peer.send(back[at])
            up.step()
        up.until("all arrived", lambda: len(at_peer.collect()) >= 24 and len(at_alice.collect()) >= 24)
        expected = {_body(protocol, number) for number in range(24)}
        assert _payloads(at_peer, OUTSIDE, PEER) == expected
        assert _payloads(at_alice, PEER, ALICE) == expected
    assert up.count(Reason.FRAGMENT_HELD) > 0
    assert not any(drops(up).values())


def test_a_fragment_whose_first_one_never_comes_is_dropped_in_time(gateway: Gateway, ends: Ends) -> None:
    """What is over is counted, and the next packet with the same ID is whole."""
    gateway.up(limits=Limits(early_fragment_s=0.1))
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.make_peer_known(ends)
    gateway.give_all()
    pieces = cut(ip_packet(PEER, OUTSIDE, 50, _body(50, 1), 7), 4)
    with _ears(gateway, 50) as (at_alice, _):
        for piece in pieces[1:]:
            ends.peer.send(piece)
        gateway.until("3 dropped", lambda: gateway.count(Reason.FRAGMENT_BEFORE_FIRST) == 3)
        assert at_alice.collect() == []
        for piece in reversed(pieces):
            ends.peer.send(piece)
        gateway.until("arrived", lambda: _payloads(at_alice, PEER, ALICE) == {_body(50, 1)})


def test_a_flood_of_later_fragments_fills_its_own_share(gateway: Gateway, ends: Ends) -> None:
    """What is over the bound is dropped; another sender's fragments arrive meanwhile."""
    gateway.up(limits=Limits(early_fragments_per_address_max=8))
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.make_peer_known(ends)
    gateway.give_all()
    with _ears(gateway, 50) as (_, at_peer):
        for number in range(40):
            ends.peer.send(cut(ip_packet(PEER, OUTSIDE, 50, _body(50, number), number + 1), 4)[2])
        gateway.until("32 dropped", lambda: gateway.count(Reason.FRAGMENT_BEFORE_FIRST) == 32)
        for piece in reversed(cut(ip_packet(ALICE, PEER, 50, _body(50, 1), 7), 4)):
            ends.alice.send(piece)
        gateway.until("arrived", lambda: _payloads(at_peer, OUTSIDE, PEER) == {_body(50, 1)})


def test_a_large_packet_backwards(up: Gateway, ends: Ends) -> None:
    """44 fragments of one packet of 64,000 bytes, the last one first."""
    up.make_peer_known(ends)
    up.give_all()
    body = _HEADERS[47] + bytes(at * 11 & 0xFF for at in range(64000))
    with _ears(up, 47) as (at_alice, at_peer):
        for piece in reversed(cut(ip_packet(ALICE, PEER, 47, body, 3), 44)):
            ends.alice.send(piece)
        for piece in reversed(cut(ip_packet(PEER, OUTSIDE, 47, body, 3), 44)):
            ends.peer.send(piece)
        up.until("arrived", lambda: len(at_peer.collect()) == 1 and len(at_alice.collect()) == 1)
        assert _payloads(at_peer, OUTSIDE, PEER) == _payloads(at_alice, PEER, ALICE) == {body}
    assert not any(drops(up).values())


def test_a_packet_that_the_kernel_cuts_again_opens_a_tunnel(gateway: Gateway, ends: Ends, mode: AttachMode) -> None:
    """A piece that is held must look sent to the kernel, which else frees the pieces behind it."""
    run("ip", "netns", "exec", gateway.net.router, "nft", "-f", "-", text=_TRACKED_UNTIL_WHOLE)
    gateway.up(attach=mode)
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.make_peer_known(ends)
    gateway.give_all()
    with _ears(gateway, 47) as (_, at_peer):
        for piece in reversed(cut(ip_packet(ALICE, PEER, 47, _body(47, 1), 7), 4)):
            ends.alice.send(piece)
        gateway.until("arrived", lambda: _payloads(at_peer, OUTSIDE, PEER) == {_body(47, 1)})
    assert gateway.count(Reason.PUNTED) == 4
    assert not any(drops(gateway).values())
