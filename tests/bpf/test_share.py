"""Shares: who floods fills a quarter of what is free, and leaves room for everybody else."""

import struct
from ipaddress import IPv4Address

import pytest

from throughway.core.flows import FlowKey
from throughway.core.reasons import Reason
from throughway.dataplane import abi

from .gateway import ALICE, BOB, HOLD_MAX, NEVER_NS, OUTSIDE, PEER, STRANGER, Gateway, esp, to_inside, to_peer

TABLE = 500
ALONE = 100
"""What one sender may have of it: x = (500 - x) / 4."""


def _flows(gateway: Gateway, sender: str) -> int:
    value = gateway.loaded.maps["shares"].lookup(IPv4Address(sender).packed)
    return 0 if value is None else int(struct.unpack_from("=I", value)[0])


def _undecided(gateway: Gateway) -> int:
    value = gateway.loaded.maps["undecided"].lookup(bytes(4))
    assert value is not None
    assert struct.unpack("=I", value)[0] == len(list(gateway.loaded.maps["pending"].keys()))
    return int(struct.unpack("=I", value)[0])


def _forget(gateway: Gateway, key: FlowKey) -> int:
    return gateway.control(abi.ControlRequest(op=abi.ControlOp.FORGET, key=key))


@pytest.fixture
def small(gateway: Gateway) -> Gateway:
    """A gateway whose table counts as smaller than it is."""
    gateway.configure(pending_max=TABLE)
    return gateway


def test_a_peer_that_floods_leaves_room_for_others(small: Gateway) -> None:
    for spi in range(0x1000, 0x1000 + 2 * ALONE):
        small.from_outside(esp(PEER, OUTSIDE, spi))
        small.punted()
    assert small.counted() == {Reason.PUNTED: ALONE, Reason.SHARE_FULL: ALONE}
    assert (_flows(small, PEER), _undecided(small)) == (ALONE, ALONE)
    small.from_inside(esp(ALICE, STRANGER))
    small.from_outside(esp(PEER, OUTSIDE, 0x1000))
    assert small.counted() == {Reason.PUNTED: 2}, "a host, and a flow that waits already"


def test_a_host_that_floods_leaves_room_for_others(small: Gateway) -> None:
    for spi in range(0x1000, 0x1000 + 2 * ALONE):
        small.from_inside(esp(ALICE, PEER, spi))
        small.punted()
    assert small.counted() == {Reason.PUNTED: ALONE, Reason.SHARE_FULL: ALONE}
    small.from_inside(esp(BOB, PEER))
    small.from_outside(esp(PEER, OUTSIDE))
    assert small.counted() == {Reason.PUNTED: 2}


def test_however_many_flood_there_is_room_for_one_more(small: Gateway) -> None:
    """Together they have n / (n + 4) of the table."""
    for spi in range(0x1000, 0x1000 + ALONE):
        for number in range(1, 25):
            small.from_inside(esp(f"10.77.1.{number}", PEER, spi))
        small.punted()
    assert _undecided(small) == pytest.approx(TABLE * 24 / 28, rel=0.05)
    for spi in range(0x1000, 0x1008):
        small.counted()
        small.from_inside(esp(ALICE, PEER, spi))
        assert small.counted() == {Reason.PUNTED: 1}


def test_a_flow_that_is_decided_and_forgotten_makes_room(small: Gateway) -> None:
    for spi in range(0x1000, 0x1000 + ALONE):
        small.from_outside(esp(PEER, OUTSIDE, spi))
        small.punted()
    small.decide(to_inside(0x1000), ALICE)
    small.from_outside(esp(PEER, OUTSIDE, 0x9000))
    assert small.counted()[Reason.SHARE_FULL] == 1, "its entry is still there"
    assert _forget(small, to_inside(0x1000)) == 0
    small.from_outside(esp(PEER, OUTSIDE, 0x9000))
    assert small.counted() == {Reason.PUNTED: 1}
    assert (_flows(small, PEER), _undecided(small)) == (ALONE, ALONE)


def test_what_is_forgotten_twice_or_was_never_known_is_no_room(gateway: Gateway) -> None:
    gateway.from_outside(esp(PEER, OUTSIDE))
    for key in (to_inside(), to_inside(), to_inside(0x2000), to_peer()):
        assert _forget(gateway, key) == 0
        assert (_flows(gateway, PEER), _flows(gateway, ALICE), _undecided(gateway)) == (0, 0, 0)
    assert gateway.pending(to_inside()) is None


def test_a_refusal_before_any_packet_is_counted_too(gateway: Gateway) -> None:
    assert gateway.refuse(to_peer(), NEVER_NS) == 0
    assert (_flows(gateway, ALICE), _undecided(gateway)) == (1, 1)
    _forget(gateway, to_peer())
    assert (_flows(gateway, ALICE), _undecided(gateway)) == (0, 0)


def test_who_fills_the_ring_leaves_room_for_others(gateway: Gateway) -> None:
    """With packets of flows that wait already, which cost nothing else."""
    record = abi.LAYOUTS["punt"].size + abi.FRAME_SMALL + 8
    alone = gateway.loaded.maps["punts"].max_entries // 5 // record
    for spi in range(0x1000, 0x1000 + 2 * alone // HOLD_MAX):
        for _ in range(HOLD_MAX):
            gateway.from_outside(esp(PEER, OUTSIDE, spi))
    assert gateway.counted()[Reason.PUNTED] == pytest.approx(alone, abs=2)
    gateway.from_outside(esp(PEER, OUTSIDE, 0x1000 + 2 * alone))
    assert gateway.counted() == {Reason.SHARE_FULL: 1}
    for _ in range(HOLD_MAX):
        gateway.from_inside(esp(ALICE, PEER))
    assert gateway.counted() == {Reason.PUNTED: HOLD_MAX}
    assert len(gateway.punted()) == pytest.approx(alone + HOLD_MAX, abs=2)


def test_what_was_read_is_forgotten_however_often_the_ring_turns(gateway: Gateway) -> None:
    """While somebody reads, nobody's share of the ring is full: what is counted is what waits."""
    size = gateway.loaded.maps["punts"].max_entries
    for number in range(3 * size // abi.FRAME_SMALL // 100):
        for spi in range(100):
            gateway.from_inside(esp(f"10.77.2.{spi}", PEER, 0x1000 + number))
            gateway.from_inside(esp(ALICE, PEER, 0x1000 + (number & 7)))
        gateway.punted()
        for key in list(gateway.loaded.maps["pending"].keys()):
            _forget(gateway, abi.unpack_key(key))
    assert set(gateway.counted()) == {Reason.PUNTED, Reason.HOLD_FULL}
