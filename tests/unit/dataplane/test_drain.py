"""Releases as conversations with a kernel of which only the counts are played."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from throughway.core.flows import FlowKey
from throughway.core.ids import IpProtocol, Path, Peer
from throughway.dataplane.drain import WATCHDOG_S, Drain
from throughway.dataplane.held import HeldPackets
from throughway.dataplane.inject import Sent

PEER = Peer(IPv4Address("203.0.113.9"))
KEY = FlowKey.to_inside(IpProtocol.ESP, Path(PEER), 0x1000)
SECOND = FlowKey.to_inside(IpProtocol.ESP, Path(PEER), 0x1001)


@dataclass
class Counts:
    """What the kernel counts of each draining flow: packets handed over, and packets that passed since."""

    handed_over: dict[FlowKey, int] = field(default_factory=dict)
    passed: dict[FlowKey, int] = field(default_factory=dict)
    opened: list[FlowKey] = field(default_factory=list)
    ring_is_empty: bool = True

    def unpassed(self, key: FlowKey) -> tuple[int, int] | None:
        handed_over = self.handed_over.get(key)
        if handed_over is None or handed_over == self.passed.get(key, 0):
            return None
        return handed_over, handed_over - self.passed.get(key, 0)

    def open_if(self, key: FlowKey, handed_over: int) -> bool:
        if self.handed_over[key] != handed_over:
            return False
        self.opened.append(key)
        return True


class Wire:
    """Takes frames, or is busy, or loses them."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.answer = Sent.ACCEPTED

    def send(self, frame: bytes) -> Sent:
        if self.answer is Sent.ACCEPTED:
            self.frames.append(frame)
        return self.answer


def played() -> tuple[HeldPackets, Counts, Wire, Drain]:
    held = HeldPackets(8, 64, 1 << 20)
    counts, wire = Counts(), Wire()
    return held, counts, wire, Drain(held, counts, wire.send, lambda: counts.ring_is_empty)


def hold(held: HeldPackets, counts: Counts, key: FlowKey, *frames: bytes) -> None:
    for sequence, frame in enumerate(frames, counts.handed_over.get(key, 0)):
        held.hold(key, sequence, frame, 0.0)
    counts.handed_over[key] = counts.handed_over.get(key, 0) + len(frames)


def test_a_release_sends_at_once_and_ends_when_all_has_passed() -> None:
    held, counts, wire, drain = played()
    hold(held, counts, KEY, b"1", b"2")
    drain.start(KEY, 0.0)
    assert wire.frames == [b"1", b"2"]
    counts.passed[KEY] = 2
    assert drain.run(0.0) == WATCHDOG_S
    assert drain.run(WATCHDOG_S) is None
    assert KEY not in held
    assert counts.opened == []
    assert drain.lost == 0


def test_a_busy_interface_is_tried_again_with_the_same_frame() -> None:
    held, counts, wire, drain = played()
    hold(held, counts, KEY, b"1", b"2")
    wire.answer = Sent.BUSY
    drain.start(KEY, 0.0)
    wake = drain.run(0.0)
    assert wake is not None
    assert 0.0 < wake <= 0.002
    wire.answer = Sent.ACCEPTED
    drain.run(wake)
    assert wire.frames == [b"1", b"2"]


def test_a_frame_that_is_refused_for_ever_is_given_up() -> None:
    """A program that drops it on its way out looks like a full buffer, and the flow must not wait for it."""
    held, counts, wire, drain = played()
    hold(held, counts, KEY, b"1", b"2")
    wire.answer = Sent.BUSY
    drain.start(KEY, 0.0)
    now, wake = 0.0, drain.run(0.0)
    while wake is not None and now < 1.0:
        now = wake
        wake = drain.run(now)
    assert wake is None
    assert wire.frames == []
    assert counts.opened == [KEY]
    assert drain.lost == 2


def test_the_watchdog_opens_a_flow_whose_packets_got_lost() -> None:
    held, counts, wire, drain = played()
    hold(held, counts, KEY, b"1", b"2", b"3")
    drain.start(KEY, 0.0)
    counts.passed[KEY] = 1
    assert drain.run(WATCHDOG_S / 2) == WATCHDOG_S
    assert counts.opened == []
    assert drain.run(WATCHDOG_S) is None
    assert counts.opened == [KEY]
    assert drain.lost == 2
    assert wire.frames == [b"1", b"2", b"3"]


def test_the_watchdog_waits_for_what_is_in_the_ring() -> None:
    held, counts, _, drain = played()
    hold(held, counts, KEY, b"1")
    drain.start(KEY, 0.0)
    counts.handed_over[KEY] = 2
    counts.ring_is_empty = False
    assert drain.run(WATCHDOG_S) == 2 * WATCHDOG_S
    assert counts.opened == []
    assert KEY in held


def test_packets_dropped_for_a_bound_are_not_lost_on_the_way() -> None:
    held = HeldPackets(8, 2, 1 << 20)
    counts, wire = Counts(), Wire()
    drain = Drain(held, counts, wire.send, lambda: True)
    hold(held, counts, KEY, b"1", b"2", b"3")
    drain.start(KEY, 0.0)
    counts.passed[KEY] = 2
    assert drain.run(WATCHDOG_S) is None
    assert counts.opened == [KEY]
    assert drain.lost == 0


def test_one_call_sends_a_bounded_number_and_asks_to_be_called_at_once() -> None:
    held, counts, wire, drain = played()
    for flow in range(4):
        key = FlowKey.to_inside(IpProtocol.ESP, Path(PEER), 0x3000 + flow)
        hold(held, counts, key, *[b"x"] * 64)
        held.release(key, 0.0)
    assert drain.run(0.0) == 0.0
    assert len(wire.frames) == 128
    drain.run(0.0)
    assert len(wire.frames) == 256


def test_one_stuck_flow_does_not_stop_another() -> None:
    held, counts, wire, drain = played()
    held.hold(KEY, 1, b"late", 0.0)
    counts.handed_over[KEY] = 2
    hold(held, counts, SECOND, b"1")
    drain.start(KEY, 0.0)
    drain.start(SECOND, 0.0)
    assert wire.frames == [b"1"]
    assert held.has_frames(KEY)
