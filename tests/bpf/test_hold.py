"""Holding packets of undecided flows: in order, bounded, and opened when the last one has passed."""

import struct
import threading
import time
from ipaddress import IPv4Address

import pytest

from throughway.core.flows import FlowKey
from throughway.core.reasons import Reason
from throughway.dataplane import abi
from throughway.dataplane.abi import PendingState
from throughway.dataplane.config import ConfigRecord
from throughway.dataplane.libbpf import BpfObject, test_run

from .gateway import (
    ALICE,
    CARRIED,
    DROP,
    ETHERNET,
    HOLD_MAX,
    NEVER_NS,
    OBJECT,
    OUTSIDE,
    PASS,
    PEER,
    REINJECTED,
    ROUTER,
    STRANGER,
    TAKEN,
    Gateway,
    esp,
    to_inside,
    to_peer,
)

BOTH_WAYS = pytest.mark.parametrize("key", [to_inside(), to_peer()], ids=["to_inside", "to_peer"])


def _send(gateway: Gateway, key: FlowKey, sequence: int = 1) -> int:
    if key == to_inside():
        return gateway.from_outside(esp(PEER, OUTSIDE, sequence=sequence)).verdict
    return gateway.from_inside(esp(ALICE, PEER, sequence=sequence)).verdict


def _put_back(gateway: Gateway, key: FlowKey, count: int) -> None:
    packet = esp(PEER, OUTSIDE) if key == to_inside() else esp(ALICE, PEER)
    for _ in range(count):
        assert gateway.pass_held(key, packet).verdict == PASS


def _entry(gateway: Gateway, key: FlowKey) -> abi.PendingRecord:
    entry = gateway.pending(key)
    assert entry is not None
    return entry


@BOTH_WAYS
def test_packets_are_handed_over_whole_and_numbered(gateway: Gateway, key: FlowKey) -> None:
    before = time.monotonic_ns()
    for sequence in range(1, 6):
        assert _send(gateway, key, sequence) == TAKEN
    punts = gateway.punted()
    assert [punt.sequence for punt in punts] == [0, 1, 2, 3, 4]
    for number, punt in enumerate(punts):
        source, destination = (PEER, OUTSIDE) if key == to_inside() else (ALICE, PEER)
        assert punt.frame == ETHERNET + b"\x08\x00" + bytes(esp(source, destination, sequence=number + 1))
        assert (punt.kind, punt.key, punt.link_header_size) == (abi.PuntKind.HELD, key, 14)
        assert before <= punt.at_ns <= time.monotonic_ns()
    assert gateway.counted() == {Reason.PUNTED: 5}
    assert _entry(gateway, key).state is PendingState.WAITING


@BOTH_WAYS
def test_the_last_held_packet_opens_the_flow(gateway: Gateway, key: FlowKey) -> None:
    for _ in range(3):
        _send(gateway, key)
    assert gateway.decide(key, ALICE) == 0
    assert _entry(gateway, key).state is PendingState.DRAINING
    assert not gateway.is_open(key)
    _send(gateway, key)
    _put_back(gateway, key, 3)
    assert not gateway.is_open(key)
    assert _send(gateway, key) == TAKEN
    _put_back(gateway, key, 2)
    assert gateway.is_open(key)
    assert _entry(gateway, key).state is PendingState.DONE
    assert _send(gateway, key) == PASS
    assert gateway.counted()[Reason.REINJECTED] == 5
    assert [punt.sequence for punt in gateway.punted()] == [0, 1, 2, 3, 4]


@BOTH_WAYS
def test_no_more_than_64_are_held(gateway: Gateway, key: FlowKey) -> None:
    verdicts = [_send(gateway, key) for _ in range(HOLD_MAX + 3)]
    assert verdicts == [TAKEN] * HOLD_MAX + [DROP] * 3
    assert len(gateway.punted()) == HOLD_MAX
    assert gateway.counted() == {Reason.PUNTED: HOLD_MAX, Reason.HOLD_FULL: 3}
    entry = _entry(gateway, key)
    assert (entry.punted, entry.dropped) == (HOLD_MAX, 3)


@BOTH_WAYS
def test_a_draining_flow_takes_64_more_and_then_closes(gateway: Gateway, key: FlowKey) -> None:
    """Without this bound a flow that is faster than the daemon would never open."""
    for _ in range(10):
        _send(gateway, key)
    gateway.decide(key, ALICE)
    assert _entry(gateway, key).drain_cap == 10 + HOLD_MAX
    for _ in range(HOLD_MAX + 5):
        _put_back(gateway, key, 1)
        _send(gateway, key)
    assert _entry(gateway, key).punted == 10 + HOLD_MAX
    assert gateway.counted()[Reason.HOLD_FULL] == 5
    _put_back(gateway, key, 5)
    assert gateway.is_open(key)


@BOTH_WAYS
def test_a_verdict_before_any_packet_opens_at_once(gateway: Gateway, key: FlowKey) -> None:
    gateway.decide(key, ALICE)
    assert gateway.is_open(key)
    assert _send(gateway, key) == PASS
    assert gateway.pending(key) is None


@BOTH_WAYS
def test_a_flow_that_was_removed_is_asked_about_again(gateway: Gateway, key: FlowKey) -> None:
    _send(gateway, key)
    gateway.decide(key, ALICE)
    _put_back(gateway, key, 1)
    gateway.remove(key)
    gateway.punted()
    assert _send(gateway, key) == TAKEN
    (punt,) = gateway.punted()
    assert punt.sequence == 0
    entry = _entry(gateway, key)
    assert (entry.state, entry.punted, entry.reinjected) == (PendingState.WAITING, 1, 0)
    gateway.decide(key, ALICE)
    _put_back(gateway, key, 1)
    assert gateway.is_open(key)


@BOTH_WAYS
def test_an_entry_that_is_done_does_not_stop_an_open_flow(gateway: Gateway, key: FlowKey) -> None:
    """The state of a packet that found the flow closed, and the entry done a moment later."""
    _send(gateway, key)
    gateway.decide(key, ALICE)
    _put_back(gateway, key, 1)
    record = gateway.mapping(key)
    assert record is not None
    closed = abi.MappingRecord(record.host, abi.MappingFlag(0))
    gateway.loaded.maps["mappings"].update(abi.pack_key(key), closed.pack())
    assert _send(gateway, key) == TAKEN
    assert _entry(gateway, key).state is PendingState.WAITING


@BOTH_WAYS
def test_more_packets_back_than_were_held_open_nothing(gateway: Gateway, key: FlowKey) -> None:
    _send(gateway, key)
    gateway.decide(key, ALICE)
    _put_back(gateway, key, 1)
    _put_back(gateway, key, 2)
    entry = _entry(gateway, key)
    assert (entry.punted, entry.reinjected, entry.state) == (1, 1, PendingState.DONE)


def test_the_routers_own_held_packet_counts_where_it_goes_to_the_stack(gateway: Gateway) -> None:
    gateway.from_outside(esp(PEER, OUTSIDE))
    gateway.decide(to_inside(), ROUTER)
    assert not gateway.is_open(to_inside())
    out = gateway.from_outside(esp(PEER, OUTSIDE), mark=REINJECTED)
    assert (out.verdict, out.mark) == (PASS, 0)
    assert gateway.is_open(to_inside())


def test_a_peer_asks_no_more_than_its_budget(gateway: Gateway) -> None:
    gateway.configure(punts_per_peer=4)
    gateway.loaded.maps["peers"].update(bytes([203, 0, 113, 9]), struct.pack("=IIQ", 4, 0, time.monotonic_ns()))
    for spi in range(0x1000, 0x1008):
        gateway.from_outside(esp(PEER, OUTSIDE, spi))
    assert gateway.counted() == {Reason.PUNTED: 4, Reason.PUNT_RATE: 4}
    gateway.know_peer(STRANGER)
    gateway.from_outside(esp(STRANGER, OUTSIDE))
    gateway.from_outside(esp(PEER, OUTSIDE, 0x1000))
    assert gateway.counted() == {Reason.PUNTED: 2}, "another peer and a flow that already waits are not affected"


def test_a_host_asks_no_more_than_its_budget(gateway: Gateway) -> None:
    gateway.configure(punts_per_host=4)
    for spi in range(0x1000, 0x1008):
        gateway.from_inside(esp(ALICE, PEER, spi))
    gateway.from_inside(esp("10.77.0.99", PEER))
    assert gateway.counted() == {Reason.PUNTED: 5, Reason.PUNT_RATE: 4}


def test_a_budget_fills_again_with_time(gateway: Gateway) -> None:
    """Half a second is worth half the rate; what was left over is kept, and it never holds more than the rate."""
    gateway.configure(punts_per_peer=10)
    peers = gateway.loaded.maps["peers"]
    for ago_ns, tokens, expected in ((500_000_000, 0, 5), (500_000_000, 8, 10), (10**12, 0, 10), (-(10**9), 0, 0)):
        peers.update(bytes([203, 0, 113, 9]), struct.pack("=IIQ", tokens, 0, time.monotonic_ns() - ago_ns))
        base = 0x10000 * (ago_ns % 97 + tokens + 1)
        for spi in range(base, base + 20):
            gateway.from_outside(esp(PEER, OUTSIDE, spi))
        assert gateway.counted().get(Reason.PUNTED, 0) == pytest.approx(expected, abs=1)


def test_a_budget_keeps_the_time_that_made_no_whole_token(gateway: Gateway) -> None:
    """0.55 s at 10 a second are 5 tokens, and 0.05 s that count for the next one."""
    gateway.configure(punts_per_peer=10)
    peers = gateway.loaded.maps["peers"]
    refilled_ns = time.monotonic_ns() - 550_000_000
    peers.update(bytes([203, 0, 113, 9]), struct.pack("=IIQ", 0, 0, refilled_ns))
    gateway.from_outside(esp(PEER, OUTSIDE))
    assert peers.lookup(bytes([203, 0, 113, 9])) == struct.pack("=IIQ", 4, 0, refilled_ns + 500_000_000)


def test_a_rate_of_nothing_lets_nothing_ask(gateway: Gateway) -> None:
    gateway.configure(punts_per_peer=0)
    gateway.loaded.maps["peers"].update(bytes([203, 0, 113, 9]), struct.pack("=IIQ", 0, 0, 0))
    gateway.from_outside(esp(PEER, OUTSIDE))
    assert gateway.counted() == {Reason.PUNT_RATE: 1}


def test_a_full_table_of_flows_is_said(wan: int) -> None:
    with BpfObject.load(OBJECT, sizes={"pending": 2, "mappings": 64, "senders": 64}) as loaded:
        config = ConfigRecord(
            addresses=(IPv4Address(OUTSIDE),),
            outside_ifindex=wan,
            link_header_size=14,
            mark_mask=REINJECTED | CARRIED,
            mark_carried=CARRIED,
            mark_reinjected=REINJECTED,
            punts_per_peer=1000,
            punts_per_host=1000,
            ike_per_address=1000,
            fragments_per_address=1000,
            pending_max=2,
        )
        loaded.maps["config"].update(bytes(4), config.pack())
        for host in range(1, 7):
            frame = ETHERNET + b"\x08\x00" + bytes(esp(f"10.77.0.{host}", PEER))
            assert test_run(loaded.programs["outside_egress"], frame).verdict in (TAKEN, DROP)
        values = loaded.maps["reasons"].lookup(struct.pack("=I", Reason.PENDING_FULL))
        assert values is not None
        assert sum(struct.unpack(f"={len(values) // 8}Q", values)) >= 1


def test_a_full_ring_is_said_and_the_packet_dropped(gateway: Gateway) -> None:
    count = 0
    while Reason.RING_FULL not in (news := gateway.counted()):
        assert count < 5000, news
        for _ in range(HOLD_MAX):
            gateway.from_inside(esp(f"10.78.{count >> 8}.{count & 255}", PEER))
        count += 1
    assert len(gateway.punted()) > 2000
    gateway.from_inside(esp(ALICE, PEER))
    assert gateway.counted() == {Reason.PUNTED: 1}


@pytest.mark.parametrize("frame_size", [abi.FRAME_SMALL, abi.FRAME_SMALL + 1, 3000])
def test_frames_of_both_sizes_of_records_come_whole(gateway: Gateway, frame_size: int) -> None:
    """Larger ones are sent over a real interface in test_interfaces.py: a test run has no room for them."""
    packet = esp(PEER, OUTSIDE, size=frame_size - 14 - 28)
    gateway.from_outside(packet)
    assert [punt.frame[14:] for punt in gateway.punted()] == [bytes(packet)]


def test_refused_is_dropped_until_its_time_and_then_asked_again(gateway: Gateway) -> None:
    gateway.from_outside(esp(PEER, OUTSIDE))
    assert gateway.refuse(to_inside(), NEVER_NS) == 0
    gateway.punted()
    assert gateway.from_outside(esp(PEER, OUTSIDE)).verdict == DROP
    assert gateway.counted() == {Reason.PUNTED: 1, Reason.REFUSED: 1}
    assert gateway.punted() == []
    assert gateway.refuse(to_inside(), 1) == 0
    gateway.from_outside(esp(PEER, OUTSIDE))
    assert gateway.counted() == {Reason.PUNTED: 1}
    assert [punt.sequence for punt in gateway.punted()] == [0]
    assert _entry(gateway, to_inside()).state is PendingState.WAITING


def test_asking_again_costs_a_token(gateway: Gateway) -> None:
    gateway.configure(punts_per_peer=1)
    gateway.loaded.maps["peers"].update(bytes([203, 0, 113, 9]), struct.pack("=IIQ", 1, 0, time.monotonic_ns()))
    gateway.from_outside(esp(PEER, OUTSIDE))
    gateway.refuse(to_inside(), 1)
    gateway.from_outside(esp(PEER, OUTSIDE))
    assert gateway.counted() == {Reason.PUNTED: 1, Reason.PUNT_RATE: 1}


def test_nothing_is_held_after_the_flow_was_opened_whatever_the_cpus_do(gateway: Gateway) -> None:
    """While one CPU sends without a pause, another decides and puts back: each number comes once, the account closes.

    The sender runs in the kernel, so it is between its look at the mapping and the lock most of the time.
    """
    egress = gateway.loaded.programs["outside_egress"]
    back = struct.pack("=8xI180x", REINJECTED)
    for spi in range(0x5000, 0x5000 + 100):
        key = to_peer(spi=spi)
        frame = ETHERNET + b"\x08\x00" + bytes(esp(ALICE, PEER, spi))
        stop = threading.Event()
        sender = threading.Thread(target=_send_until, args=(egress, frame, stop))
        sender.start()
        numbers: list[int] = []
        try:
            deadline = time.monotonic() + 10
            while not gateway.is_open(key):
                assert time.monotonic() < deadline, gateway.pending(key)
                for punt in gateway.punted():
                    if punt.key != key:
                        continue
                    if not numbers:
                        gateway.decide(key, ALICE)
                    numbers.append(punt.sequence)
                    test_run(egress, punt.frame, back)
        finally:
            stop.set()
            sender.join()
        assert [punt for punt in gateway.punted() if punt.key == key] == [], "held though the flow was open"
        entry = _entry(gateway, key)
        assert numbers == list(range(entry.punted))
        assert (entry.state, entry.reinjected) == (PendingState.DONE, entry.punted)


def _send_until(program: int, frame: bytes, stop: threading.Event) -> None:
    """Send without a pause. What has passed once goes round as a packet of the router, which nobody minds here."""
    while not stop.is_set():
        test_run(program, frame, repeat=20_000)
