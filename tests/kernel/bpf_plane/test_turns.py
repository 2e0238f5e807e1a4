"""A flood of questions and one that came last: it is told with the first, and nothing of the flood is lost by that."""

from tests.kernel.bpf_plane.conftest import Ends, Gateway
from tests.kernel.bpf_plane.net import ALICE, OUTSIDE, PEER
from tests.kernel.bpf_plane.watch import SPI, TO_PEER
from throughway.core.limits import Limits
from throughway.core.reasons import Reason

FLOOD = 400


def test_who_asks_last_is_not_told_last(up: Gateway, ends: Ends) -> None:
    """All of it lies in the ring before the daemon reads at all."""
    up.make_peer_known(ends)
    for spi in range(0x10000, 0x10000 + FLOOD):
        ends.peer.send_esp(PEER, OUTSIDE, spi, range(1, 2))
    ends.alice.send_esp(ALICE, PEER, SPI, range(1, 4))
    up.give_all()
    up.until("all is told", lambda: len(up.punted()) == FLOOD + 1)
    assert up.punted().index(TO_PEER) < 20
    up.until("all arrived", lambda: len(ends.alice.collect()) == FLOOD)
    up.until("all is open", lambda: up.plane.pending_count() == 0)
    assert ends.peer.sequences(SPI) == [1, 2, 3]


def test_what_one_sender_may_not_have_more_of_is_counted(gateway: Gateway, ends: Ends) -> None:
    """A quarter of what is free, so a fifth of the table."""
    gateway.up(limits=Limits(pending_max=100))
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.make_peer_known(ends)
    for spi in range(0x10000, 0x10000 + FLOOD):
        ends.peer.send_esp(PEER, OUTSIDE, spi, range(1, 2))
    ends.alice.send_esp(ALICE, PEER, SPI, range(1, 4))
    gateway.until("all is counted", lambda: gateway.count(Reason.SHARE_FULL) == FLOOD - 20)
    assert gateway.count(Reason.PUNTED) == 20 + 3
    gateway.until("all is told", lambda: len(gateway.punted()) == 21)
    for key in list(gateway.punted()):
        gateway.give(key, ALICE)
    gateway.until("there is room again", lambda: list(gateway.plane._tables.all_pending()) == [])
    ends.peer.send_esp(PEER, OUTSIDE, 0x90000, range(1, 2))
    gateway.until("it is asked about", lambda: len(gateway.punted()) == 22)
