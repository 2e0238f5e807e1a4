"""Death and return of the daemon: what outlives it, and what does not."""

import contextlib
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.bpf_plane.conftest import Ends, Gateway
from tests.kernel.bpf_plane.net import ALICE, OUTSIDE, PEER, Network, wait_for
from tests.kernel.bpf_plane.watch import SPI, TO_INSIDE, TO_PEER, both_ways
from throughway.core import ids
from throughway.core.errors import KernelRefused
from throughway.core.flows import FlowKey
from throughway.core.ids import IpProtocol
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.dataplane import abi
from throughway.dataplane.adopt import Outcome
from throughway.dataplane.libbpf import map_get


@contextlib.contextmanager
def keeper(net: Network, bpffs: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the data plane."""
    command = [
        sys.executable,
        "-m",
        "tests.kernel.bpf_plane.keeper",
        str(bpffs),
        str(OUTSIDE),
        str(ALICE),
        "in0",
        "in1",
    ]
    root = Path(__file__).parents[3]
    paths = os.pathsep.join((str(root / "src"), str(root)))
    with subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{net.router}", *command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_a_killed_daemon_interrupts_nothing_and_the_next_one_adopts(gateway: Gateway, ends: Ends) -> None:
    """kill -9: known flows go on without a process; the next one knows them with their counters."""
    net, bpffs = gateway.net, gateway.bpffs
    with keeper(net, bpffs) as process:
        both_ways(gateway, ends, range(1, 9))
        # The last held packet opens the flow as it passes; the keeper has to do nothing for that.
        ends.alice.send_esp(ALICE, PEER, SPI, range(9, 10))
        ends.peer.send_esp(PEER, OUTSIDE, SPI, range(9, 10))
        wait_for("9 each", lambda: len(ends.peer.sequences(SPI)) == 9 and len(ends.alice.sequences(SPI)) == 9)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=5)
    both_ways(gateway, ends, range(10, 31))
    gateway.up()
    assert gateway.plane.adoption.outcome is Outcome.ADOPTED
    adopted = {flow.key: (flow.hosts, flow.count.packets) for flow in gateway.plane.adopted_flows()}
    assert adopted == {TO_INSIDE: ((ALICE,), 30), TO_PEER: ((ALICE,), 30)}
    age = time.monotonic() - max(flow.count.last_packet_at for flow in gateway.plane.adopted_flows())
    assert 0 <= age < 60
    both_ways(gateway, ends, range(31, 41))
    assert gateway.punted() == []


def test_an_adopted_flow_that_nobody_used_is_as_new_as_its_mapping(gateway: Gateway) -> None:
    """And not idle since the machine was started, or it would be forgotten at once."""
    gateway.up().install(TO_INSIDE, [ALICE])
    gateway.close(keep=True)
    gateway.up()
    (flow,) = gateway.plane.adopted_flows()
    assert flow.count.packets == 0
    assert 0 <= time.monotonic() - flow.count.last_packet_at < 60


def test_an_undecided_flow_recovers_after_a_daemon_was_killed(gateway: Gateway, ends: Ends) -> None:
    """What the dead daemon held is lost; the flow opens for what follows."""
    gateway.up()
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.make_peer_known(ends)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 65))
    gateway.until("64 held", lambda: gateway.count(Reason.PUNTED) == 64)
    gateway.close(keep=True)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(65, 70))
    gateway.up()
    gateway.give_all()

    def passes() -> bool:
        sent = 100 + len(ends.alice.sequences(SPI))
        ends.peer.send_esp(PEER, OUTSIDE, SPI, range(sent, sent + 1))
        return len(ends.alice.sequences(SPI)) > 3

    gateway.until("open again", passes)


def test_a_flow_that_was_being_drained_opens_after_a_daemon_was_killed(gateway: Gateway, ends: Ends) -> None:
    """The verdict was written, nothing was put back: the next daemon opens the flow."""
    gateway.up()
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.make_peer_known(ends)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 11))
    gateway.until("10 held", lambda: gateway.count(Reason.PUNTED) == 10 and gateway.punted() == [TO_INSIDE])
    gateway.plane.install(TO_INSIDE, [ALICE])
    gateway.close(keep=True)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(11, 14))
    gateway.up()
    gateway.until("drained", lambda: ends.alice.sequences(SPI) == [11, 12, 13])
    gateway.until("opened", lambda: gateway.plane.pending_count() == 0 and gateway.count(Reason.REINJECTED_LOST) == 10)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(14, 17))
    gateway.until("open", lambda: ends.alice.sequences(SPI) == [*range(11, 17)])


def test_what_waited_too_long_in_the_ring_is_discarded_and_counted(gateway: Gateway, ends: Ends) -> None:
    """A packet over a second old when the daemon comes back is not delivered."""
    gateway.up()
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.make_peer_known(ends)
    gateway.close(keep=True)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(1, 6))
    begun = time.monotonic()
    wait_for("a second", lambda: time.monotonic() > begun + 1.1)
    gateway.give_all()
    gateway.up()
    gateway.until("discarded", lambda: gateway.plane.stale_records == 5)
    assert gateway.count(Reason.HELD_TOO_LONG) == 5
    ends.peer.send_esp(PEER, OUTSIDE, SPI, range(6, 9))
    gateway.until("the fresh ones arrived", lambda: len(ends.alice.sequences(SPI)) == 3)
    assert ends.alice.sequences(SPI) == [6, 7, 8]


def test_tables_of_another_layout_are_discarded_and_said_so(gateway: Gateway, ends: Ends) -> None:
    """An upgrade that cannot read the tables begins anew, on the same links, and the tunnel goes on."""
    gateway.up()
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.give_all()
    both_ways(gateway, ends, range(1, 4))
    gateway.close(keep=True)
    [folder] = (gateway.bpffs / "throughway").iterdir()
    config = map_get(folder / "map-config")
    value = config.lookup(struct.pack("=I", 0))
    assert value is not None
    config.update(struct.pack("=I", 0), struct.pack("=I", abi.LAYOUT_VERSION + 1) + value[4:])
    config.close()
    gateway.up()
    adoption = gateway.plane.adoption
    assert adoption.outcome is Outcome.DISCARDED
    assert f"layout version {abi.LAYOUT_VERSION + 1}" in adoption.detail
    assert gateway.plane.adopted_flows() == ()
    assert list(gateway.plane.flows()) == []
    gateway.plane.set_outside_addresses([OUTSIDE])
    ends.alice.send_ike(ALICE, PEER)
    gateway.until("IKE observed", lambda: bool(gateway.told))
    both_ways(gateway, ends, range(4, 8))


def test_the_address_of_an_earlier_run_stays_until_it_is_set(gateway: Gateway, ends: Ends) -> None:
    """Adoption itself changes nothing for the traffic."""
    gateway.up()
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.give_all()
    both_ways(gateway, ends, range(1, 4))
    gateway.close(keep=True)
    gateway.up()
    both_ways(gateway, ends, range(4, 8))


def test_removed_flows_are_unknown_again(up: Gateway, ends: Ends) -> None:
    """The next packet asks; an unknown key is no error."""
    up.give_all()
    both_ways(up, ends, range(1, 4))
    up.until("open", lambda: up.plane.pending_count() == 0)
    for key in (TO_INSIDE, TO_PEER, TO_INSIDE):
        up.plane.remove(key)
    assert list(up.plane.flows()) == []
    told = len(up.punted())
    both_ways(up, ends, range(4, 8))
    assert sorted(up.punted()[told:], key=str) == sorted([TO_INSIDE, TO_PEER], key=str)


def test_pending_entries_do_not_pile_up(up: Gateway, ends: Ends) -> None:
    """Entries of opened and of refused flows leave the kernel's table in seconds."""
    up.give_all()
    both_ways(up, ends, range(1, 4))
    other = FlowKey.to_inside(IpProtocol.ESP, ids.Path(PEER), 0x9999)
    up.plane.refuse(other, Reason.NO_CANDIDATE)
    assert len(list(up.plane._tables.all_pending())) >= 1
    up.until("swept", lambda: list(up.plane._tables.all_pending()) == [])


def test_a_full_table_is_said_with_its_remedy(gateway: Gateway) -> None:
    """The kernel's refusal names the flow and what to do."""
    gateway.up(limits=Limits(mappings_max=4))
    with pytest.raises(KernelRefused, match="full") as refused:
        for spi in range(0x1000, 0x1100):
            gateway.plane.install(FlowKey.to_inside(IpProtocol.ESP, ids.Path(PEER), spi), [ALICE])
    assert "limit" in refused.value.remedy
