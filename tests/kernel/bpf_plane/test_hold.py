"""The first packets of a tunnel: none is lost, and none is overtaken."""

from tests.kernel.bpf_plane.conftest import Ends, Gateway
from tests.kernel.bpf_plane.net import ALICE, BOB, OUTSIDE, PEER, inside, run, wait_for
from tests.kernel.bpf_plane.watch import SPI, TO_INSIDE, TO_PEER, drops
from throughway.core.limits import Limits
from throughway.core.ports import IkeObserved
from throughway.core.reasons import Reason
from throughway.dataplane.attach import AttachMode


def test_a_burst_of_64_to_the_inside_arrives_whole_and_in_order(gateway: Gateway, ends: Ends, mode: AttachMode) -> None:
    """64 packets wait for a decision, and come out before the 64 that follow it."""
    gateway.up(attach=mode)
    gateway.plane.set_outside_addresses([OUTSIDE])
    assert gateway.plane.attach_mode == mode
    gateway.make_peer_known(ends)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 65))
    gateway.until("64 held", lambda: gateway.count(Reason.PUNTED) == 64 and len(gateway.punted()) == 1)
    assert gateway.punted() == [TO_INSIDE]
    assert ends.alice.sequences(SPI) == []
    gateway.give(TO_INSIDE, ALICE)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(65, 129))
    gateway.until("128 arrived", lambda: len(ends.alice.sequences(SPI)) >= 128)
    assert ends.alice.sequences(SPI) == list(range(1, 129))
    assert not any(drops(gateway).values())
    gateway.until("nothing pending", lambda: gateway.plane.pending_count() == 0)


def test_a_burst_of_64_to_the_peer_arrives_whole_and_in_order(gateway: Gateway, ends: Ends, mode: AttachMode) -> None:
    """The same the other way, with the address translated."""
    gateway.up(attach=mode)
    gateway.plane.set_outside_addresses([OUTSIDE])
    ends.alice.send_esp(ALICE, PEER, SPI, range(1, 65))
    gateway.until("64 held", lambda: gateway.count(Reason.PUNTED) == 64 and len(gateway.punted()) == 1)
    assert gateway.punted() == [TO_PEER]
    assert ends.peer.sequences(SPI) == []
    gateway.give(TO_PEER, ALICE)
    ends.alice.send_esp(ALICE, PEER, SPI, range(65, 129))
    gateway.until("128 arrived", lambda: len(ends.peer.sequences(SPI)) >= 128)
    assert ends.peer.sequences(SPI) == list(range(1, 129))
    assert {each.source for each in ends.peer.received} == {OUTSIDE}
    assert not any(drops(gateway).values())


def test_opening_the_flow_before_the_held_packets_is_out_of_order(up: Gateway, ends: Ends) -> None:
    """The control: the same check fails for a data plane that opens first and puts back later."""
    up.make_peer_known(ends)
    held: list[bytes] = []
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 9))
    up.until("8 held", lambda: up.count(Reason.PUNTED) == 8 and len(up.punted()) == 1)
    while (frame := _steal(up)) is not None:
        held.append(frame)
    assert len(held) == 8
    up.plane._tables.forget_pending(TO_INSIDE)
    up.plane.install(TO_INSIDE, [ALICE])
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(9, 17))
    wait_for("8 arrived directly", lambda: len(ends.alice.sequences(SPI)) == 8)
    for frame in held:
        up.plane._send(frame)
    wait_for("16 arrived", lambda: len(ends.alice.sequences(SPI)) == 16)
    assert ends.alice.sequences(SPI) != list(range(1, 17))
    assert sorted(ends.alice.sequences(SPI)) == list(range(1, 17))


def _steal(up: Gateway) -> bytes | None:
    """Take a held frame away from the drain."""
    held = up.plane._held
    held.release(TO_INSIDE, 0.0)
    frame = held.next_frame(TO_INSIDE, 0.0)
    if frame is not None:
        held.pop(TO_INSIDE, 0.0)
    return frame


def test_what_is_over_the_bound_is_dropped_and_counted(up: Gateway, ends: Ends) -> None:
    """Of 100 packets the first 64 are held, the others are counted as such."""
    up.make_peer_known(ends)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 101))
    up.until("100 seen", lambda: up.count(Reason.PUNTED) + up.count(Reason.HOLD_FULL) == 100)
    assert up.count(Reason.HOLD_FULL) == 36
    up.until("told", lambda: up.punted() == [TO_INSIDE])
    up.give(TO_INSIDE, ALICE)
    up.until("64 arrived", lambda: len(ends.alice.sequences(SPI)) >= 64)
    up.until("open", lambda: up.plane.pending_count() == 0)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(101, 111))
    up.until("10 more arrived", lambda: len(ends.alice.sequences(SPI)) >= 74)
    assert ends.alice.sequences(SPI) == [*range(1, 65), *range(101, 111)]


def test_the_bytes_held_are_bounded_and_the_flow_opens_all_the_same(gateway: Gateway, ends: Ends) -> None:
    """A packet dropped for the bound of bytes is counted, and does not keep the flow closed."""
    gateway.up(limits=Limits(held_bytes_max=3000))
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.make_peer_known(ends)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 6), size=966)
    gateway.until("5 held, 2 dropped", lambda: gateway.count(Reason.HOLD_FULL) == 2)
    gateway.give(TO_INSIDE, ALICE)
    gateway.until("open", lambda: gateway.plane.pending_count() == 0)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(6, 9))
    gateway.until("6 arrived", lambda: len(ends.alice.sequences(SPI)) >= 6)
    assert len(set(ends.alice.sequences(SPI))) == 6
    assert ends.alice.sequences(SPI) == sorted(ends.alice.sequences(SPI))
    assert gateway.count(Reason.REINJECTED_LOST) == 0


def test_many_new_tunnels_at_once_each_keep_their_order(up: Gateway, ends: Ends) -> None:
    """20 unknown SPIs, 16 packets each, interleaved, to two hosts behind two interfaces."""
    up.make_peer_known(ends)
    spis = range(0x2000, 0x2014)
    up.decide = lambda punted: up.give(punted.key, ALICE if punted.key.discriminator % 2 else BOB)
    for sequence in range(1, 17):
        for spi in spis:
            ends.peer.send_esp(PEER, OUTSIDE, spi, range(sequence, sequence + 1))
    up.until("all arrived", lambda: len(ends.alice.collect()) + len(ends.bob.collect()) == 320)
    for spi in spis:
        end = ends.alice if spi % 2 else ends.bob
        assert end.sequences(spi) == list(range(1, 17)), hex(spi)
    assert not any(drops(up).values())


def test_a_refused_tunnel_is_dropped_and_asked_about_again(gateway: Gateway, ends: Ends) -> None:
    """What was held is counted under the reason given; after the refusal the next packet is a question again."""
    gateway.up(limits=Limits(refused_s=0.2))
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.make_peer_known(ends)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 4))
    gateway.until("3 held", lambda: gateway.count(Reason.PUNTED) == 3 and len(gateway.punted()) == 1)
    gateway.plane.refuse(TO_INSIDE, Reason.NO_CANDIDATE)
    assert gateway.count(Reason.NO_CANDIDATE) == 3
    assert gateway.plane.pending_count() == 0
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(4, 6))
    gateway.until("2 refused", lambda: gateway.count(Reason.REFUSED) == 2)
    assert len(gateway.punted()) == 1

    def asked_again() -> bool:
        ends.peer.send_esp(PEER, OUTSIDE, SPI, range(6, 7))
        return len(gateway.punted()) == 2

    gateway.until("asked again", asked_again)
    gateway.give(TO_INSIDE, ALICE)
    gateway.until("arrived", lambda: 6 in ends.alice.sequences(SPI))
    assert set(ends.alice.sequences(SPI)) == {6}


def test_an_undecided_tunnel_is_dropped_in_time_and_asked_about_again(gateway: Gateway, ends: Ends) -> None:
    """A verdict that never comes costs the held packets and nothing else."""
    gateway.up(limits=Limits(held_s=0.1))
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.make_peer_known(ends)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 4))
    gateway.until("held", lambda: gateway.plane.pending_count() == 1)
    gateway.until("dropped", lambda: gateway.plane.pending_count() == 0)
    assert gateway.count(Reason.HELD_TOO_LONG) == 3
    gateway.give_all()
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(4, 8))
    gateway.until("arrived", lambda: len(ends.alice.sequences(SPI)) == 4)
    assert ends.alice.sequences(SPI) == [4, 5, 6, 7]


def test_the_watchdog_opens_a_flow_whose_held_packets_are_filtered_away(up: Gateway, ends: Ends) -> None:
    """Somebody's filter eats what is put back: it is counted, and what follows passes."""
    up.make_peer_known(ends)
    with inside(up.net.router):
        run("nft", "insert rule inet test forward meta mark & 0x20000000 != 0 counter drop")
    up.give_all()
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 9))
    up.until("opened", lambda: up.count(Reason.REINJECTED_LOST) == 8 and up.plane.pending_count() == 0)
    assert ends.alice.sequences(SPI) == []
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(9, 17))
    up.until("arrived", lambda: len(ends.alice.sequences(SPI)) == 8)
    assert ends.alice.sequences(SPI) == list(range(9, 17))


def test_a_stranger_is_not_worth_a_question(up: Gateway, ends: Ends) -> None:
    """Nobody here spoke to the peer, so its packets are dropped in the kernel."""
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 4))
    up.until("dropped", lambda: up.count(Reason.NO_CANDIDATE) == 3)
    assert up.told == []


def test_ike_is_observed_both_ways(up: Gateway, ends: Ends) -> None:
    """The tracker sees who negotiates with whom, and the packets go on untouched."""
    up.make_peer_known(ends)
    seen = [each for each in up.told if isinstance(each, IkeObserved)]
    assert [(each.host, each.peer, each.direction, each.floated) for each in seen] == [(ALICE, PEER, 1, False)]
    assert len(seen[0].message) == 28
    assert seen[0].message[:8] == bytes(range(1, 9))
