"""A gateway with two outside addresses: no contests, whatever comes and goes."""

from ipaddress import IPv4Address

import pytest

from tests.kernel.bpf_plane.net import Network, run
from tests.kernel.daemon.conftest import MakeDaemon
from tests.kernel.daemon.net import ALICE, BOB, NEW_OUTSIDE, OUTSIDE, PEER, Ends, batch, ike_message, wait_for
from tests.kernel.daemon.process import BOTH, Daemon
from throughway.core.ids import Host

SECOND = NEW_OUTSIDE
OF: dict[Host, IPv4Address] = {ALICE: OUTSIDE, BOB: SECOND}


@pytest.fixture
def two(net: Network) -> Network:
    """The router with another address."""
    batch(net.router, f"address add {SECOND}/24 dev out0")
    return net


def tunnel(ends: Ends, host: Host, spi: int, outside: IPv4Address, *, is_new: bool = True) -> None:
    """Bring a tunnel up whose SPI to the inside every host has chosen."""
    if is_new:
        ends.exchange(host, spi, 34, 0, outside)
        ends.exchange(host, spi, 35, 1, outside)
    ends.both_ways(host, 0x1000, 0x2000, range(1, 4), outside=outside)


def noted(net: Network) -> str:
    return run("nsenter", f"--net=/run/netns/{net.router}", "nft", "list", "map", "inet", "throughway", "path")


def test_two_hosts_with_equal_spis_have_an_address_each(daemon: Daemon, two: Network, ends: Ends) -> None:
    daemon.up()
    for host, spi in ((ALICE, 0xA1), (BOB, 0xB1)):
        tunnel(ends, host, spi, OF[host])
    assert not daemon.lines("mapping.contested")
    assert daemon.status().outside_addresses == (str(OUTSIDE), str(SECOND))
    seen = {(row.device, row.address) for row in daemon.sessions().values()}
    assert seen == {(str(host), str(address)) for host, address in OF.items()}
    for host, address in OF.items():
        assert f"{host} . {PEER} : {address}" in noted(two), "what the daemon knows of does not end"


def test_without_ike_the_daemon_chooses(daemon: Daemon, two: Network, ends: Ends) -> None:
    """And what comes later goes by what it chose."""
    daemon.up()
    for host in (ALICE, BOB):
        tunnel(ends, host, 0, OF[host], is_new=False)
    for host, spi in ((BOB, 0xB1), (ALICE, 0xA1)):
        ends.exchange(host, spi, 34, 0, OF[host])


def test_only_the_named_address_is_given(daemon: Daemon, two: Network, ends: Ends) -> None:
    daemon.up(*BOTH, "--outside-address", str(SECOND))
    tunnel(ends, ALICE, 0xA1, SECOND)
    ends.exchange(BOB, 0xB1, 34, 0, SECOND)


def test_named_address_that_is_missing_is_told_and_taken_when_it_comes(
    daemon: Daemon, net: Network, ends: Ends
) -> None:
    daemon.up(*BOTH, "--outside-address", str(SECOND))
    assert f"wanted={SECOND}" in daemon.lines("outside.none-of-named")[0]
    tunnel(ends, ALICE, 0xA1, OUTSIDE)
    batch(net.router, f"address add {SECOND}/24 dev out0")
    wait_for("followed", lambda: len(daemon.status().outside_addresses) == 2)
    ends.exchange(BOB, 0xB1, 34, 0, SECOND)


def test_address_that_comes_later_is_given_from_then_on(daemon: Daemon, net: Network, ends: Ends) -> None:
    daemon.up()
    tunnel(ends, ALICE, 0xA1, OUTSIDE)
    batch(net.router, f"address add {SECOND}/24 dev out0")
    wait_for("followed", lambda: len(daemon.status().outside_addresses) == 2)
    tunnel(ends, BOB, 0xB1, SECOND)
    ends.both_ways(ALICE, 0x1000, 0x2000, range(4, 8))
    assert not daemon.lines("mapping.contested")


def test_host_whose_address_goes_gets_another_one(daemon: Daemon, two: Network, ends: Ends) -> None:
    """Its tunnel is made anew, as with any change of address; that of the other host goes on."""
    daemon.up()
    for host, spi in ((ALICE, 0xA1), (BOB, 0xB1)):
        tunnel(ends, host, spi, OF[host])
    batch(two.router, f"address del {SECOND}/24 dev out0")
    wait_for("followed", lambda: daemon.status().outside_addresses == (str(OUTSIDE),))
    wait_for("flushed", lambda: bool(daemon.lines("flows.flushed")))
    ends.both_ways(ALICE, 0x1000, 0x2000, range(4, 8))
    ends.exchange(BOB, 0xB2, 34, 0, OUTSIDE)
    ends.exchange(BOB, 0xB2, 35, 1, OUTSIDE)
    ends.both_ways(BOB, 0x1002, 0x2002, range(1, 4))


def test_killed_daemon_comes_back_to_the_same_addresses(make_daemon: MakeDaemon, two: Network, ends: Ends) -> None:
    """To the tunnels, and to IKE that had no tunnel yet."""
    first = make_daemon().up()
    ends.exchange(BOB, 0xB1, 34, 0, OUTSIDE)
    tunnel(ends, ALICE, 0xA1, SECOND)
    first.kill()
    second = make_daemon().up()
    ends.both_ways(ALICE, 0x1000, 0x2000, range(4, 8), outside=SECOND)
    ends.exchange(BOB, 0xB1, 35, 1, OUTSIDE)
    tunnel(ends, BOB, 0xB1, OUTSIDE, is_new=False)
    assert not second.lines("mapping.contested")


def test_ike_on_a_kept_port_goes_by_the_address_of_all_else(daemon: Daemon, two: Network, ends: Ends) -> None:
    """Equal SPIs of IKE pass too, and the peer sees port 500 of both hosts."""
    daemon.up(*BOTH, "--ike-port", "keep")
    message, answer = ike_message(0xA1, 34, 0), ike_message(0xA1, 34, 0, is_answer=True)
    for host, address in OF.items():
        ends.ike[host].socket.sendto(message, (str(PEER), 500))
        assert ends.ike[PEER].socket.recvfrom(4096) == (message, (str(address), 500))
    for host, address in reversed(OF.items()):
        ends.ike[PEER].socket.sendto(answer, (str(address), 500))
        assert ends.ike[host].socket.recv(4096) == answer
        tunnel(ends, host, 0, address, is_new=False)
    assert not daemon.lines("mapping.contested")
    rows = {(row.device, row.address) for row in daemon.sessions("ike").values()}
    assert rows == {(str(host), str(address)) for host, address in OF.items()}
    batch(two.router, f"address del {SECOND}/24 dev out0")
    wait_for("followed", lambda: daemon.status().outside_addresses == (str(OUTSIDE),))
    ends.ike[BOB].socket.sendto(ike_message(0xB2, 34, 0), (str(PEER), 500))
    assert ends.ike[PEER].socket.recvfrom(4096)[1] == (str(OUTSIDE), 500)
