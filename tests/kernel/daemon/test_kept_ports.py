"""Hosts that keep port 500: told to, or learned from a peer that answers to it whoever asked."""

import json
from pathlib import Path

import pytest

from tests.kernel.bpf_plane.net import Network
from tests.kernel.daemon.conftest import MakeDaemon
from tests.kernel.daemon.net import ALICE, AUTH, BOB, OUTSIDE, PEER, SA_INIT, Ends, Ike, ike_message, wait_for
from tests.kernel.daemon.process import BOTH, Daemon
from throughway.control.schema import CarriedBy, Verdict
from throughway.core.ids import Host

TO_PEER = (str(PEER), 500)
FROM_US = (str(OUTSIDE), 500)


def ask(ends: Ends, host: Host, spi: int, size: int = 0) -> tuple[str, int]:
    """Have a host begin an IKE SA, and return whom the peer takes it to be from."""
    message = ike_message(spi, SA_INIT, 0) + bytes(size)
    ends.ike[host].socket.sendto(message, TO_PEER)
    received, source = ends.ike[PEER].socket.recvfrom(65535)
    assert received == message
    return str(source[0]), int(source[1])


def answer(ends: Ends, spi: int, at: Ike, size: int = 0) -> None:
    """Have the peer answer to port 500, and the answer come to this end."""
    message = ike_message(spi, SA_INIT, 0, is_answer=True) + bytes(size)
    ends.ike[PEER].socket.sendto(message, FROM_US)
    assert at.socket.recv(65535) == message


def test_every_host_keeps_the_port_where_it_is_told_to(daemon: Daemon, ends: Ends, mode: str) -> None:
    daemon.up(*BOTH, "--attach", mode, "--ike-port", "keep")
    for spi, host in ((0xA1, ALICE), (0xB1, BOB)):
        assert ask(ends, host, spi) == FROM_US
    for spi, host in ((0xB1, BOB), (0xA1, ALICE)):
        answer(ends, spi, ends.ike[host])
        ends.exchange(host, spi, AUTH, 1)
    rows = daemon.sessions("ike")
    assert {device: row.discriminators_to_peer for device, row in rows.items()} == {
        str(ALICE): ("0x00000000000000a1",),
        str(BOB): ("0x00000000000000b1",),
    }
    assert {(row.verdict, row.carried_by) for row in rows.values()} == {(Verdict.CERTAIN, CarriedBy.BPF)}
    assert daemon.status().ike_port == "keep"


def test_a_restart_with_another_wish_holds_for_what_goes_on(make_daemon: MakeDaemon, ends: Ends) -> None:
    daemon = make_daemon().up()
    ask(ends, ALICE, 0xA1)
    answer(ends, 0xA1, ends.ike[ALICE])
    assert ask(ends, BOB, 0xB1)[1] != 500
    daemon.kill()
    make_daemon().up(*BOTH, "--ike-port", "keep")
    for spi, host in ((0xA1, ALICE), (0xB1, BOB)):
        assert ask(ends, host, spi) == FROM_US
        answer(ends, spi, ends.ike[host])


def test_a_large_message_is_cut_and_arrives_both_ways(daemon: Daemon, ends: Ends) -> None:
    daemon.up(*BOTH, "--ike-port", "keep")
    ask(ends, ALICE, 0xA1, size=4000)
    answer(ends, 0xA1, ends.ike[ALICE], size=4000)


def test_what_the_peer_begins_reaches_every_host_with_an_ike_sa(daemon: Daemon, ends: Ends) -> None:
    daemon.up(*BOTH, "--ike-port", "keep")
    for spi, host in ((0xA1, ALICE), (0xB1, BOB)):
        ask(ends, host, spi)
        answer(ends, spi, ends.ike[host])
    message = ike_message(0xF1, SA_INIT, 0)
    ends.ike[PEER].socket.sendto(message, FROM_US)
    assert [ends.ike[host].socket.recv(4096) for host in (ALICE, BOB)] == [message, message]
    ends.ike[BOB].socket.sendto(ike_message(0xF1, SA_INIT, 0, is_answer=True), TO_PEER)
    assert ends.ike[PEER].socket.recvfrom(4096)[1] == FROM_US
    ends.ike[PEER].socket.sendto(ike_message(0xF1, AUTH, 1), FROM_US)
    assert ends.ike[BOB].socket.recv(4096) == ike_message(0xF1, AUTH, 1)
    ends.ike[ALICE].socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        ends.ike[ALICE].socket.recv(4096)


def test_the_routers_own_ike_goes_on(daemon: Daemon, ends: Ends, net: Network) -> None:
    daemon.up(*BOTH, "--ike-port", "keep")
    ask(ends, ALICE, 0xA1)
    own = Ike(net.router, OUTSIDE)
    try:
        own.socket.sendto(ike_message(0xC1, SA_INIT, 0), TO_PEER)
        assert ends.ike[PEER].socket.recvfrom(4096)[1] == FROM_US
        answer(ends, 0xC1, own)
        answer(ends, 0xA1, ends.ike[ALICE])
    finally:
        own.close()


def test_a_peer_that_answers_to_the_standard_port_is_learned_and_remembered(
    make_daemon: MakeDaemon, ends: Ends, run_folder: Path
) -> None:
    daemon = make_daemon().up()
    assert ask(ends, ALICE, 0xA1) == FROM_US
    answer(ends, 0xA1, ends.ike[ALICE])
    assert ask(ends, BOB, 0xB1)[1] != 500
    answer(ends, 0xB1, ends.ike[ALICE])
    wait_for("that is learned, and what was tracked is forgotten", lambda: daemon.says("flows.flushed"))
    assert daemon.lines("port.kept")
    assert daemon.status().ports_kept == (f"{PEER} udp 500",)
    assert ask(ends, BOB, 0xB1) == FROM_US
    answer(ends, 0xB1, ends.ike[BOB])
    answer(ends, 0xA1, ends.ike[ALICE])
    (file,) = (run_folder / "state").iterdir()
    assert json.loads(file.read_text())["ports"] == [{"peer": str(PEER), "port": 500}]

    daemon.kill()
    again = make_daemon().up()
    assert again.status().ports_kept == (f"{PEER} udp 500",)
    assert ask(ends, BOB, 0xB2) == FROM_US
    answer(ends, 0xA1, ends.ike[ALICE])
    assert again.down() == 0
    file.write_text("{")
    later = make_daemon().up()
    assert later.lines("ports.unreadable")
    assert later.status().ports_kept == ()
