"""Two hosts and the router itself with one peer: packets pass, and the rows tell what passed."""

import time

from tests.kernel.bpf_plane.net import Network
from tests.kernel.daemon.net import ALICE, BOB, OUTSIDE, PEER, Ends, wait_for
from tests.kernel.daemon.process import BOTH, Daemon
from throughway.control.schema import CarriedBy, Session, Verdict

ESP_BYTES = 96 + 20
"""What `End.send_esp` makes by default, with its IP header."""


def counts(row: Session) -> tuple[int, int, int, int]:
    return row.packets_to_peer, row.bytes_to_peer, row.packets_to_inside, row.bytes_to_inside


def test_two_hosts_with_one_peer_are_told_apart_by_their_ike(daemon: Daemon, ends: Ends, mode: str) -> None:
    """Who alone agreed on a child SA owns the SPI that comes next; the rows say so, with what was counted."""
    began = time.monotonic()
    daemon.up(*BOTH, "--attach", mode)
    assert daemon.sessions() == {}
    status = daemon.status()
    assert daemon.process is not None
    assert status.pid == daemon.process.pid
    assert (status.attached_by, status.outside_address, status.sessions) == (mode, str(OUTSIDE), 0)
    assert (status.inside, status.outside, status.adopted) == (("in0", "in1"), "out0", 0)

    ends.begin(ALICE, 0xA1)
    ends.begin(BOB, 0xB1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 9))
    ends.agree(BOB, 0xB1)
    ends.both_ways(BOB, 0x1002, 0x2002, range(1, 6))

    rows = daemon.sessions()
    elapsed = time.monotonic() - began
    assert set(rows) == {str(ALICE), str(BOB)}
    for host, number, packets in ((ALICE, 1, 8), (BOB, 2, 5)):
        row = rows[str(host)]
        assert row.peer == str(PEER)
        assert row.discriminators_to_peer == (f"0x{0x1000 + number:08x}",)
        assert row.discriminators_to_inside == (f"0x{0x2000 + number:08x}",)
        assert (row.verdict, row.candidates, row.carried_by) == (Verdict.CERTAIN, 1, CarriedBy.BPF)
        assert counts(row) == (packets, packets * ESP_BYTES) * 2
        assert 0 <= row.idle_s <= row.age_s <= elapsed
    assert rows[str(BOB)].age_s <= rows[str(ALICE)].age_s
    assert not daemon.lines("mapping.contested")

    ike = daemon.sessions("ike")
    assert {row.verdict for row in ike.values()} == {Verdict.TRACKED}
    assert set(ike) == set(rows)
    assert [counts(row)[::2] for row in ike.values()] == [(2, 2), (2, 2)]
    status = daemon.status()
    assert (status.mappings, status.sessions, status.pending) == (4, 2, 0)
    assert ends.alice.sequences(0x2002) == ends.bob.sequences(0x2001) == []


def test_ages_go_on_and_idle_begins_anew_with_each_packet(daemon: Daemon, ends: Ends) -> None:
    daemon.up()
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 3))
    first = daemon.sessions()[str(ALICE)]
    wait_for("it is idle", lambda: daemon.sessions()[str(ALICE)].idle_s > first.idle_s + 0.2)
    before = daemon.sessions()[str(ALICE)]
    ends.both_ways(ALICE, 0x1001, 0x2001, range(3, 5))
    after = daemon.sessions()[str(ALICE)]
    assert after.idle_s < before.idle_s
    assert after.age_s > before.age_s > first.age_s + 0.2


def test_spi_that_two_hosts_may_own_goes_to_both(daemon: Daemon, ends: Ends) -> None:
    """Both agreed before either's packet came: each gets a copy, and the rows say who contests it."""
    daemon.up()
    for host, initiator_spi in ((ALICE, 0xA1), (BOB, 0xB1)):
        ends.begin(host, initiator_spi)
        ends.agree(host, initiator_spi)
    ends.peer.send_esp(PEER, OUTSIDE, 0x2001, range(1, 6))
    wait_for("both get it", lambda: ends.alice.sequences(0x2001) == ends.bob.sequences(0x2001) == [1, 2, 3, 4, 5])
    assert daemon.lines("mapping.contested")
    ends.alice.send_esp(ALICE, PEER, 0x1001, range(1, 2))
    ends.bob.send_esp(BOB, PEER, 0x1002, range(1, 2))
    wait_for("both are rows", lambda: len(daemon.sessions()) == 2)
    for row in daemon.sessions().values():
        assert (row.verdict, row.candidates) == (Verdict.CONTESTED, 2)
        assert row.discriminators_to_inside == ("0x00002001",)


def test_routers_own_esp_passes_untouched_and_makes_it_a_candidate(
    daemon: Daemon, ends: Ends, net: Network, mode: str
) -> None:
    """Its stack gets what comes with the outside address on it, also while a host contests it."""
    daemon.up(*BOTH, "--attach", mode)
    ends.router.send_esp(OUTSIDE, PEER, 0x1009, range(1, 4))
    wait_for("the peer gets it", lambda: ends.peer.sequences(0x1009) == [1, 2, 3])
    assert {each.source for each in ends.peer.received} == {OUTSIDE}
    wait_for("the router is known", lambda: "router" in daemon.sessions())
    ends.peer.send_esp(PEER, OUTSIDE, 0x2009, range(1, 6))
    wait_for("its stack gets it", lambda: ends.router.sequences(0x2009) == [1, 2, 3, 4, 5])
    assert {each.destination for each in ends.router.received} == {OUTSIDE}
    row = daemon.sessions()["router"]
    assert (row.verdict, row.discriminators_to_inside) == (Verdict.CERTAIN, ("0x00002009",))

    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.alice.send_esp(ALICE, PEER, 0x1001, range(1, 2))
    ends.peer.send_esp(PEER, OUTSIDE, 0x2001, range(1, 4))
    wait_for("both get it", lambda: ends.router.sequences(0x2001) == ends.alice.sequences(0x2001) == [1, 2, 3])
    assert daemon.sessions()["router"].candidates == 2
