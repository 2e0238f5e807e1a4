"""Interfaces and addresses come and go, and the gateway follows."""

from tests.kernel.bpf_plane.net import Network
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
