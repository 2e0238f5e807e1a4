"""What a stop takes away, what `--keep` and a kill leave at work, and how the next daemon goes on."""

import signal
import threading
from pathlib import Path

import pytest

from tests.kernel.bpf_plane.net import Network, inside
from tests.kernel.daemon.conftest import MakeDaemon
from tests.kernel.daemon.net import (
    ALICE,
    BOB,
    IKE_PORT,
    OUTSIDE,
    PEER,
    Ends,
    batch,
    network,
    nft,
    pins,
    programs,
    setting,
    settings,
    tables,
    wait_for,
)
from tests.kernel.daemon.process import BOTH, Daemon
from throughway.dataplane.sysctls import IP_FORWARD, NEEDED

OFF = dict.fromkeys(NEEDED, "0")
ON = {name: str(least) for name, least in NEEDED.items()}
OURS = "inet throughway"


def assert_nothing_at_work(net: Network) -> None:
    assert tables(net) == []
    assert programs(net) == 0
    assert pins(net) == []
    assert settings(net) == OFF


def assert_nothing_left(net: Network, run_folder: Path) -> None:
    assert_nothing_at_work(net)
    assert list(run_folder.iterdir()) == []


def carry_two(ends: Ends) -> None:
    ends.begin(ALICE, 0xA1)
    ends.begin(BOB, 0xB1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 6))
    ends.agree(BOB, 0xB1)
    ends.both_ways(BOB, 0x1002, 0x2002, range(1, 4))


def known(daemon: Daemon) -> dict[str, tuple[object, ...]]:
    """Tell who has which tunnel, how sure that is, and what was counted."""
    return {
        row.device: (
            row.discriminators_to_peer,
            row.discriminators_to_inside,
            row.verdict,
            row.packets_to_peer,
            row.packets_to_inside,
        )
        for row in daemon.sessions().values()
    }


@pytest.mark.parametrize(("way", "mode"), [("SIGTERM", "tcx"), ("SIGHUP", "tcx"), ("down", "clsact")])
def test_stop_takes_everything_away(
    way: str, mode: str, daemon: Daemon, net: Network, ends: Ends, run_folder: Path
) -> None:
    """Rules, programs, pins, socket and settings are gone, with tunnels at work until then."""
    daemon.up(*BOTH, "--attach", mode)
    assert (tables(net), settings(net)) == ([OURS], ON)
    assert programs(net) > 0
    assert len(pins(net)) == 1
    carry_two(ends)
    assert (daemon.down() if way == "down" else daemon.terminate(signal.Signals[way])) == 0
    assert_nothing_left(net, run_folder)
    assert "kept=False" in daemon.lines("gateway.stopped")[0]


@pytest.mark.parametrize(("way", "mode"), [("down", "tcx"), ("option", "clsact")])
def test_keep_leaves_all_at_work_and_the_next_start_adopts(
    way: str, mode: str, make_daemon: MakeDaemon, net: Network, ends: Ends, run_folder: Path
) -> None:
    first = make_daemon()
    first.up(*BOTH, "--attach", mode, *(["--keep"] if way == "option" else []))
    carry_two(ends)
    before = known(first)
    assert (first.terminate() if way == "option" else first.down(keep=True)) == 0
    assert (tables(net), settings(net), len(pins(net))) == ([OURS], ON, 1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(6, 11))

    second = make_daemon().up(*BOTH, "--attach", mode)
    assert second.lines("mappings.adopted")
    assert second.status().adopted == 4
    after = known(second)
    assert after[str(BOB)] == before[str(BOB)]
    assert after[str(ALICE)] == (*before[str(ALICE)][:3], 10, 10)
    assert second.terminate() == 0
    assert_nothing_left(net, run_folder)


def test_killed_daemon_interrupts_nothing_and_the_next_one_restores_the_settings_of_before(
    mode: str, make_daemon: MakeDaemon, net: Network, ends: Ends, run_folder: Path
) -> None:
    """kill -9: known tunnels go on, the next daemon knows them by the same SPIs with counters that went on."""
    first = make_daemon().up(*BOTH, "--attach", mode)
    carry_two(ends)
    before = known(first)
    first.kill()
    ends.both_ways(ALICE, 0x1001, 0x2001, range(6, 11))
    ends.both_ways(BOB, 0x1002, 0x2002, range(4, 6))
    second = make_daemon().up(*BOTH, "--attach", mode)
    after = known(second)
    assert [after[str(host)][:3] for host in (ALICE, BOB)] == [before[str(host)][:3] for host in (ALICE, BOB)]
    assert [after[str(host)][3:] for host in (ALICE, BOB)] == [(10, 10), (5, 5)]
    ends.both_ways(ALICE, 0x1001, 0x2001, range(11, 14))
    assert not second.lines("settings.enabled")
    assert second.terminate() == 0
    assert_nothing_left(net, run_folder)


def test_what_others_set_up_before_stays(daemon: Daemon, net: Network) -> None:
    """Forwarding that was on, and a table of somebody else's."""
    nft(net, "table inet house { chain forward { type filter hook forward priority 0; accept; }; }")
    with inside(net.router):
        setting(IP_FORWARD).write_text("1")
    daemon.up()
    assert sorted(tables(net)) == ["inet house", OURS]
    assert daemon.terminate() == 0
    assert tables(net) == ["inet house"]
    assert settings(net) == {**OFF, IP_FORWARD: "1"}


def test_note_of_another_namespace_changes_nothing(make_daemon: MakeDaemon, net: Network, run_folder: Path) -> None:
    """A daemon of the same name that was killed in a namespace that is gone must not switch off forwarding here."""
    with network() as other:
        killed = Daemon(other, run_folder.with_name("other.log"))
        killed.up()
        killed.kill()
    assert (run_folder / "default.restore.json").exists()
    with inside(net.router):
        setting(IP_FORWARD).write_text("1")
    here = make_daemon().up()
    assert here.terminate() == 0
    assert settings(net) == {**OFF, IP_FORWARD: "1"}


def test_daemon_is_told_to_stop_while_it_starts(daemon: Daemon, net: Network, run_folder: Path) -> None:
    """As soon as it holds its name, SIGTERM undoes what was begun by then."""
    daemon.run(*BOTH)
    wait_for("it holds its name", (run_folder / "default.sock").exists)
    assert daemon.terminate() == 0
    assert_nothing_left(net, run_folder)


def test_flow_from_before_the_start_is_translated_from_then_on(daemon: Daemon, net: Network, ends: Ends) -> None:
    """It went out as it was, on a router without NAT, and must not be held back for as long as it goes on."""
    nft(net, "table inet before { chain c { type filter hook forward priority 0; ct state new accept; }; }")
    with inside(net.router):
        setting(IP_FORWARD).write_text("1")
    batch(net.peer, f"route add {ALICE} via {OUTSIDE}")
    asking, answering = ends.ike[ALICE].socket, ends.ike[PEER].socket
    asking.sendto(b"before", (str(PEER), IKE_PORT))
    assert answering.recvfrom(100)[1][0] == str(ALICE)
    daemon.up()
    wait_for("it is forgotten", lambda: bool(daemon.lines("untranslated.flushed")))
    ends.begin(ALICE, 0xA1)


def test_nothing_leaves_untranslated_while_it_stops(daemon: Daemon, net: Network, ends: Ends, mode: str) -> None:
    """Without its programs and with its rules the router would send ESP as it comes; then it forwards no more."""
    daemon.up(*BOTH, "--attach", mode)
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    has_stopped = threading.Event()

    def send() -> None:
        while not has_stopped.is_set():
            ends.alice.send_esp(ALICE, PEER, 0x1001, range(1, 9))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        wait_for("packets pass", lambda: len(ends.peer.sequences(0x1001)) > 100)
        assert daemon.terminate() == 0
    finally:
        has_stopped.set()
        sender.join()
    ends.peer.collect()
    assert {each.source for each in ends.peer.received} == {OUTSIDE}
    assert_nothing_at_work(net)
