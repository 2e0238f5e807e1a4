"""Interfaces and addresses come and go, and the gateway follows."""

import pytest

from tests.kernel.bpf_plane.net import Network, run
from tests.kernel.daemon.net import (
    ALICE,
    BOB,
    NEW_OUTSIDE,
    OUTSIDE,
    PEER,
    Ends,
    batch,
    make_inside,
    make_outside,
    pins,
    programs,
    tables,
    wait_for,
)
from tests.kernel.daemon.process import BOTH, Daemon


def carry(ends: Ends) -> None:
    """Bring up a tunnel of alice's."""
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 4))


def test_gateway_without_an_address_waits_for_one(daemon: Daemon, net: Network, ends: Ends) -> None:
    """It starts and translates nothing, so that no inside address leaves; with the address, everything passes."""
    batch(net.router, f"address del {OUTSIDE}/24 dev out0")
    daemon.up()
    assert "none yet" in daemon.lines("gateway.started")[0]
    assert daemon.status().outside_address is None
    batch(net.router, "route add 203.0.113.0/24 dev out0")
    ends.alice.send_esp(ALICE, PEER, 0x1001, range(1, 4))
    wait_for("counted", lambda: daemon.status().reasons["no-outside-address"] == 3)
    assert ends.peer.collect() == []
    batch(net.router, "route del 203.0.113.0/24 dev out0", f"address add {OUTSIDE}/24 dev out0")
    wait_for("followed", lambda: daemon.status().outside_address == str(OUTSIDE))
    carry(ends)


def test_new_address_is_translated_to_from_then_on(daemon: Daemon, net: Network, ends: Ends) -> None:
    """The mappings stay: a peer that follows the change keeps its SPIs (RFC 4555)."""
    daemon.up()
    carry(ends)
    batch(net.router, f"address del {OUTSIDE}/24 dev out0", f"address add {NEW_OUTSIDE}/24 dev out0")
    wait_for("followed", lambda: daemon.status().outside_address == str(NEW_OUTSIDE))
    assert f"new={NEW_OUTSIDE}" in daemon.lines("outside.address-changed")[-1]
    ends.both_ways(ALICE, 0x1001, 0x2001, range(4, 8), outside=NEW_OUTSIDE)
    assert daemon.status().mappings == 2


def test_outside_that_was_made_anew_works_again(daemon: Daemon, net: Network, ends: Ends, mode: str) -> None:
    """As ppp0 at every redial: the same name, another index, none of our programs."""
    daemon.up(*BOTH, "--attach", mode)
    carry(ends)
    attached = programs(net)
    batch(net.router, "link del out0")
    wait_for("it is gone", lambda: bool(daemon.lines("outside.gone")))
    assert daemon.status().outside_address is None
    make_outside(net)
    wait_for("it is back", lambda: bool(daemon.lines("outside.returned")))
    wait_for("with its address", lambda: daemon.status().outside_address == str(OUTSIDE))
    assert programs(net) == attached
    ends.both_ways(ALICE, 0x1001, 0x2001, range(4, 8))


def test_inside_that_was_made_anew_works_again(daemon: Daemon, net: Network, ends: Ends, mode: str) -> None:
    """The other inside goes on meanwhile; then IKE is seen and packets pass on the new interface."""
    daemon.up(*BOTH, "--attach", mode)
    ends.begin(BOB, 0xB1)
    carry(ends)
    ends.agree(BOB, 0xB1)
    ends.both_ways(BOB, 0x1002, 0x2002, range(1, 4))
    attached = programs(net)
    batch(net.router, "link del in0")
    wait_for("it is gone", lambda: bool(daemon.lines("inside.gone")))
    ends.both_ways(BOB, 0x1002, 0x2002, range(4, 8))
    make_inside(net, "in0")
    wait_for("it is back", lambda: bool(daemon.lines("inside.returned")))
    assert programs(net) == attached
    ends.both_ways(ALICE, 0x1001, 0x2001, range(4, 8))
    ends.exchange(ALICE, 0xA1, 36, 2)
    ends.both_ways(ALICE, 0x1003, 0x2003, range(1, 4))
    assert not daemon.lines("mapping.contested")


def test_outside_that_was_made_anew_with_the_same_index_works_again(
    daemon: Daemon, net: Network, ends: Ends, mode: str
) -> None:
    """By name and index it is the one that it was, and by then the daemon may have seen nothing: it was away.

    Nor is it the address that tells: it has the same.
    """
    daemon.up(*BOTH, "--attach", mode)
    carry(ends)
    index, attached = net.outside.index, programs(net)
    with daemon.frozen():
        batch(net.router, "link del out0")
        make_outside(net, index=index)
        assert net.outside.index == index
        assert programs(net) < attached
    wait_for("it is back", lambda: bool(daemon.lines("outside.returned")))
    assert programs(net) == attached
    ends.both_ways(ALICE, 0x1001, 0x2001, range(4, 8))
    assert not daemon.lines("outside.gone")


@pytest.mark.parametrize("is_in_use", [True, False], ids=["known", "new"])
def test_nothing_leaves_untranslated_by_an_interface_that_has_no_programs_yet(
    daemon: Daemon, net: Network, ends: Ends, mode: str, is_in_use: bool
) -> None:
    """Between its making and the daemon's next look a packet of a device would have gone out as it was."""
    daemon.up(*BOTH, "--attach", mode)
    spi = 0x1001 if is_in_use else 0x1002
    carry(ends)
    with daemon.frozen():
        batch(net.router, "link del out0")
        make_outside(net)
        ends.alice.send_esp(ALICE, PEER, spi, range(4, 8))
        wait_for("held back", lambda: held_back(net) == 4)
    assert ends.peer.sequences(spi)[3 if is_in_use else 0 :] == []
    wait_for("it is back", lambda: bool(daemon.lines("outside.returned")))
    ends.both_ways(ALICE, spi, 0x2001, range(8, 12))
    assert held_back(net) == 4
    assert {each.source for each in ends.peer.received} == {OUTSIDE}


def held_back(net: Network) -> int:
    """Count the packets that were kept because no program would have translated them."""
    listing = run("nsenter", f"--net=/run/netns/{net.router}", "nft", "list", "chain", "inet", "throughway", "leaving")
    (line,) = [line for line in listing.splitlines() if "no programs yet" in line]
    return int(line.partition("packets ")[2].split()[0])


def test_all_interfaces_made_anew_at_once(daemon: Daemon, net: Network, ends: Ends) -> None:
    """A network service that is restarted takes all of them away and makes them in any order.

    And it may be stopped while its outside is gone.
    """
    daemon.up()
    carry(ends)
    for _ in range(3):
        batch(net.router, "link del out0", "link del in0", "link del in1")
        make_inside(net, "in1")
        make_outside(net)
        make_inside(net, "in0")
    wait_for("all are attached", lambda: programs(net) == 6 and daemon.status().outside_address is not None)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(4, 8))
    batch(net.router, "link del out0")
    wait_for("it is gone", lambda: daemon.status().outside_address is None)
    assert daemon.terminate() == 0
    assert (programs(net), tables(net), pins(net)) == (0, [], [])
