"""Fragments: later ones carry no SPI and follow their first one, both ways."""

import struct

import pytest
from scapy.layers.inet import IP

from throughway.core.flows import FlowKey
from throughway.core.reasons import Reason
from throughway.dataplane import abi

from .gateway import (
    ALICE,
    BOB,
    DROP,
    OUTSIDE,
    PASS,
    PEER,
    REINJECTED,
    Gateway,
    cut,
    esp,
    readdressed,
    to_inside,
    to_peer,
)


def _pieces(source: str, destination: str, ip_id: int = 7) -> list[IP]:
    pieces = cut(esp(source, destination, size=2900, id=ip_id))
    assert len(pieces) == 3
    return pieces


def test_later_fragments_to_the_inside_follow_the_first(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    for piece in _pieces(PEER, OUTSIDE):
        out = gateway.from_outside(piece)
        assert (out.verdict, out.packet) == (PASS, readdressed(piece, dst=ALICE))
    assert gateway.counted() == {Reason.TRANSLATED_TO_INSIDE: 3}


def test_later_fragments_to_the_peer_follow_the_first(gateway: Gateway) -> None:
    gateway.decide(to_peer(), ALICE)
    for piece in _pieces(ALICE, PEER):
        out = gateway.from_inside(piece)
        assert (out.verdict, out.packet) == (PASS, readdressed(piece, src=OUTSIDE))
    assert gateway.counted() == {Reason.TRANSLATED_TO_PEER: 3}


@pytest.mark.parametrize("is_inward", [True, False])
def test_a_fragment_before_its_first_is_dropped(gateway: Gateway, is_inward: bool) -> None:
    source, destination = (PEER, OUTSIDE) if is_inward else (ALICE, PEER)
    gateway.decide(to_inside() if is_inward else to_peer(), ALICE)
    send = gateway.from_outside if is_inward else gateway.from_inside
    first, second, _ = _pieces(source, destination)
    assert send(second).verdict == DROP
    assert send(first).verdict == PASS
    assert send(second).verdict == PASS
    assert gateway.counted()[Reason.FRAGMENT_BEFORE_FIRST] == 1


def test_fragments_of_other_packets_do_not_follow(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    first = _pieces(PEER, OUTSIDE, ip_id=7)[0]
    second = _pieces(PEER, OUTSIDE, ip_id=8)[1]
    gateway.from_outside(first)
    assert gateway.from_outside(second).verdict == DROP


def test_an_old_first_fragment_says_nothing(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    first, second, third = _pieces(PEER, OUTSIDE)
    gateway.from_outside(first)
    fragments = gateway.loaded.maps["fragments"]
    (name,) = fragments.keys()
    value = fragments.lookup(name)
    assert value is not None
    key, at_ns = abi.LAYOUTS["fragment"].format.unpack(value)
    assert abi.unpack_key(key) == to_inside()
    fragments.update(name, struct.pack("=24sQ", key, at_ns - abi.FRAGMENT_FRESH_NS - 10**9))
    assert gateway.from_outside(second).verdict == DROP
    fragments.update(name, struct.pack("=24sQ", key, at_ns - abi.FRAGMENT_FRESH_NS + 10**10))
    assert gateway.from_outside(third).verdict == PASS


def test_whole_packets_and_strangers_leave_no_trace(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    gateway.from_outside(esp(PEER, OUTSIDE))
    for piece in _pieces("198.51.100.7", OUTSIDE):
        gateway.from_outside(piece)
    assert list(gateway.loaded.maps["fragments"].keys()) == []
    assert gateway.counted()[Reason.NO_CANDIDATE] == 1


@pytest.mark.parametrize("key", [to_inside(), to_peer()])
def test_held_fragments_come_back_in_order_and_open_the_flow(gateway: Gateway, key: FlowKey) -> None:
    """A later fragment is held as its first one is, counts as a packet of its own, and opens with the others."""
    is_inward = key == to_inside()
    pieces = _pieces(PEER, OUTSIDE) if is_inward else _pieces(ALICE, PEER)
    send = gateway.from_outside if is_inward else gateway.from_inside
    for piece in pieces:
        assert send(piece).verdict == DROP
    punts = gateway.punted()
    assert [(punt.key, punt.sequence, punt.frame[14:]) for punt in punts] == [
        (key, number, bytes(piece)) for number, piece in enumerate(pieces)
    ]
    gateway.decide(key, ALICE)
    for piece in pieces:
        assert not gateway.is_open(key)
        assert gateway.pass_held(key, piece).verdict == PASS
    assert gateway.is_open(key)


def test_a_packet_that_the_stack_cuts_counts_once(gateway: Gateway) -> None:
    """It went out of our hands whole: only the first of its fragments has a name at the inside interface."""
    packet = esp(PEER, OUTSIDE, size=2900)
    gateway.from_outside(packet)
    gateway.from_outside(packet)
    gateway.decide(to_inside(), ALICE)
    delivered = gateway.from_outside(packet, mark=REINJECTED)
    for piece in cut(delivered.packet):
        gateway.run("inside_egress", piece, mark=delivered.mark)
    entry = gateway.pending(to_inside())
    assert entry is not None and (entry.punted, entry.reinjected) == (2, 1)
    assert not gateway.is_open(to_inside())


def test_fragments_of_two_hosts_with_one_ip_id_stay_apart(gateway: Gateway) -> None:
    for host, spi in ((ALICE, 0xA00), (BOB, 0xB00)):
        gateway.decide(to_peer(host, spi), host)
    mine = cut(esp(ALICE, PEER, 0xA00, size=1500, id=5))
    theirs = cut(esp(BOB, PEER, 0xB00, size=1500, id=5))
    for first in (mine[0], theirs[0], mine[1], theirs[1]):
        assert gateway.from_inside(first).verdict == PASS
    for host, spi in ((ALICE, 0xA00), (BOB, 0xB00)):
        mapping = gateway.mapping(to_peer(host, spi))
        assert mapping is not None and mapping.packets == 2
