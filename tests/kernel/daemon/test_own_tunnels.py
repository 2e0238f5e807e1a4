"""The router's own IPsec, of which its kernel tells: what is its own comes to its stack, and to nobody else."""

from tests.kernel.associations import GROUP_ASSOCIATIONS, NEW, allocation, announce, information
from tests.kernel.bpf_plane.net import Network, inside
from tests.kernel.daemon.net import ALICE, NEW_OUTSIDE, OUTSIDE, PEER, Ends, batch, wait_for
from tests.kernel.daemon.process import BOTH, Daemon
from throughway.control.client import ControlClient
from throughway.control.schema import Verdict

OWN, OTHER = 0x1001, 0x1002


def allocate(net: Network, spi: int, destination: object = OUTSIDE) -> None:
    """Have the kernel choose the SPI of an association, as an IKE daemon does before it negotiates."""
    batch(net.router, allocation(PEER, destination, spi))


def finish(daemon: Daemon, net: Network, spi: int) -> None:
    """Say that the IKE daemon has given the kernel an association, until it is known.

    Again and again, since what is said before the daemon listens is not what the kernel has, and is heard by nobody.
    """

    def is_known() -> bool:
        with inside(net.router):
            announce(GROUP_ASSOCIATIONS, NEW, information(PEER, OUTSIDE, spi))
        return f"{spi:#010x}" in own_spis(daemon)

    wait_for("it is known", is_known)


def own_spis(daemon: Daemon) -> tuple[str, ...]:
    row = daemon.sessions().get("router")
    return row.discriminators_to_inside if row else ()


def test_an_association_of_the_router_is_its_own_from_the_first_packet_on(
    daemon: Daemon, net: Network, ends: Ends, mode: str
) -> None:
    """Nobody has sent anything to this peer, so without it the packet would be dropped."""
    daemon.up(*BOTH, "--attach", mode)
    finish(daemon, net, OWN)
    ends.peer.send_esp(PEER, OUTSIDE, OWN, range(1, 6))
    wait_for("it comes to the stack", lambda: ends.router.sequences(OWN) == list(range(1, 6)))
    row = daemon.sessions()["router"]
    assert (row.verdict, row.candidates, row.packets_to_inside) == (Verdict.CERTAIN, 1, 5)
    assert "basis=router-sa" in daemon.lines("mapping.installed")[-1]


def test_it_is_gone_with_the_association(daemon: Daemon, net: Network, ends: Ends) -> None:
    allocate(net, OWN)
    allocate(net, OTHER)
    daemon.up()
    assert set(own_spis(daemon)) == {f"{OWN:#010x}", f"{OTHER:#010x}"}, "what there is at the start is known at once"
    batch(net.router, f"xfrm state delete src {PEER} dst {OUTSIDE} proto esp spi {OWN:#x}")
    wait_for("one is gone", lambda: own_spis(daemon) == (f"{OTHER:#010x}",))
    ends.peer.send_esp(PEER, OUTSIDE, OWN, range(1, 4))
    wait_for("dropped", lambda: daemon.status().reasons.get("no-candidate") == 3)
    batch(net.router, "xfrm state flush")
    wait_for("all are gone", lambda: daemon.status().mappings == 0)


def test_a_device_at_the_same_peer_gets_its_own_and_nothing_of_the_routers(
    daemon: Daemon, net: Network, ends: Ends
) -> None:
    daemon.up()
    finish(daemon, net, OWN)
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x2001, 0x3001, range(1, 6))
    ends.peer.send_esp(PEER, OUTSIDE, OWN, range(1, 6))
    wait_for("the router's comes to it", lambda: ends.router.sequences(OWN) == list(range(1, 6)))
    assert ends.alice.sequences(OWN) == ends.router.sequences(0x3001) == []
    assert not daemon.lines("mapping.contested")


def test_only_what_comes_to_an_outside_address_counts(daemon: Daemon, net: Network, ends: Ends) -> None:
    """An association outlives a change of the address, and its packets cannot come then; MOBIKE makes a new one."""
    batch(net.router, f"address add {NEW_OUTSIDE}/24 dev in0")
    allocate(net, OWN, NEW_OUTSIDE)
    allocate(net, OTHER)
    daemon.up()
    assert own_spis(daemon) == (f"{OTHER:#010x}",)
    batch(
        net.router,
        f"address del {NEW_OUTSIDE}/24 dev in0",
        f"address del {OUTSIDE}/24 dev out0",
        f"address add {NEW_OUTSIDE}/24 dev out0",
    )
    wait_for("the other one counts now", lambda: own_spis(daemon) == (f"{OWN:#010x}",))
    ends.peer.send_esp(PEER, NEW_OUTSIDE, OWN, range(1, 4))
    wait_for("it comes to the stack", lambda: ends.router.sequences(OWN) == [1, 2, 3])


def test_each_outside_address_has_associations_of_its_own(daemon: Daemon, net: Network, ends: Ends) -> None:
    """Those of an address that goes are gone, and the rest stays."""
    batch(net.router, f"address add {NEW_OUTSIDE}/24 dev out0")
    allocate(net, OWN, NEW_OUTSIDE)
    allocate(net, OTHER)
    daemon.up()
    with ControlClient.of_gateway(daemon.gateway) as client:
        known = {(row.address, row.discriminators_to_inside) for row in client.sessions()}
    assert known == {(f"{OUTSIDE}, {NEW_OUTSIDE}", (f"{OTHER:#010x}", f"{OWN:#010x}"))}
    batch(net.router, f"address del {OUTSIDE}/24 dev out0", f"address replace {NEW_OUTSIDE}/24 dev out0")
    wait_for("one is left", lambda: own_spis(daemon) == (f"{OWN:#010x}",) and daemon.status().mappings == 1)
    ends.peer.send_esp(PEER, NEW_OUTSIDE, OWN, range(1, 4))
    wait_for("it comes to the stack", lambda: ends.router.sequences(OWN) == [1, 2, 3])
