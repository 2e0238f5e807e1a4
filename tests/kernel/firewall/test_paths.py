"""The map of paths in a real table: whoever is first decides, and IKE leaves by what was decided."""

import time
from ipaddress import IPv4Address

import pytest

from tests.kernel.firewall.net import HOST, PEER, ROUTER_OUTSIDE, Row, entered, until
from throughway.core.addresses import Slots
from throughway.core.ids import Host, Path, Peer
from throughway.core.limits import Limits
from throughway.dataplane.nft import Nft
from throughway.policy.ruleset import transactions
from throughway.service.paths import Paths

from .conftest import SETTINGS

FIRST, SECOND, THIRD = IPv4Address(ROUTER_OUTSIDE), IPv4Address("203.0.113.2"), IPv4Address("203.0.113.3")
BOB = "10.1.0.3"
ALICE_HOST, BOB_HOST = Host(IPv4Address(HOST)), Host(IPv4Address(BOB))
SERVER = Peer(IPv4Address(PEER))
BOTH: Slots = (FIRST, SECOND)
SHORT_S = 2
TICK_S = 0.02
"""The kernel counts in ticks, of which it may take one less."""


@pytest.fixture
def two(row: Row, ours: Nft) -> Row:
    """A router with two addresses, and a second host, which is an address more of the first one's namespace."""
    row.run("router", f"ip addr add {SECOND}/24 dev wan0")
    row.run("host", f"ip addr add {BOB}/24 dev eth0")
    return row


@pytest.fixture
def paths(two: Row, ours: Nft) -> Paths:
    """The map, laid for two addresses, of which no host has any yet."""
    made = Paths(ours, SETTINGS.insides, SETTINGS.outside, Limits())
    made.lay(BOTH, (0, 1), (FIRST, SECOND), [])
    return made


def seen_from(row: Row, host: str, port: int = 500) -> IPv4Address:
    """Send a datagram to a port of the peer, from another port each time, and return whom the peer sees."""
    sender, server = row.udp("host", host, 0), row.udp("peer", PEER, port)
    sender.sendto(b"who am I?", (PEER, port))
    return IPv4Address(server.recvfrom(100)[1][0])


def elements(row: Row, name: str = "path") -> str:
    kind = "map" if name == "path" else "set"
    return row.run("router", f"nft list {kind} inet throughway {name}")


@pytest.mark.parametrize("port", [500, 1701, 4500])
def test_rules_give_the_second_host_another_address(two: Row, paths: Paths, port: int) -> None:
    assert [seen_from(two, host, port) for host in (HOST, BOB, HOST, BOB)] == [FIRST, SECOND, FIRST, SECOND]


def test_everything_else_is_masqueraded(two: Row, paths: Paths) -> None:
    assert [seen_from(two, host, 51820) for host in (HOST, BOB)] == [FIRST, FIRST]


def test_daemon_that_is_first_decides_for_the_rules(two: Row, paths: Paths) -> None:
    wanted = Path(SERVER, 1)
    assert paths.settle(ALICE_HOST, wanted) == wanted
    assert seen_from(two, HOST) == SECOND
    assert seen_from(two, BOB) == FIRST


def test_rules_that_are_first_decide_for_the_daemon(two: Row, paths: Paths) -> None:
    assert seen_from(two, HOST) == FIRST
    assert "timeout 1h" in elements(two)
    assert paths.settle(ALICE_HOST, Path(SERVER, 1)) == Path(SERVER, 0)
    assert "timeout" not in elements(two).partition("elements")[2], "what the daemon knows of does not end"
    assert "timeout" not in elements(two, "taken_0").partition("elements")[2]
    assert seen_from(two, HOST) == FIRST


def test_what_the_rules_chose_is_forgotten_at_its_limit_and_not_before(two: Row, ours: Nft) -> None:
    short = Paths(ours, SETTINGS.insides, SETTINGS.outside, Limits(path_remembered_s=SHORT_S))
    short.lay(BOTH, (0, 1), (FIRST, SECOND), [])
    began = time.monotonic()
    assert seen_from(two, HOST) == FIRST
    until(lambda: HOST not in elements(two) and PEER not in elements(two, "taken_0"), "the choice is forgotten")
    assert SHORT_S - TICK_S <= time.monotonic() - began < SHORT_S + 1
    assert seen_from(two, BOB) == FIRST


def test_all_are_taken(two: Row, paths: Paths) -> None:
    """A third host gets one of the two, and keeps it."""
    for slot in (0, 1):
        paths.settle(Host(IPv4Address(f"10.1.0.{20 + slot}")), Path(SERVER, slot))
    first = seen_from(two, HOST)
    assert first in (FIRST, SECOND)
    assert {seen_from(two, HOST) for _ in range(4)} == {first}


def test_forgotten_path_is_free_again(two: Row, paths: Paths) -> None:
    path = Path(SERVER, 0)
    paths.settle(ALICE_HOST, path)
    paths.forget(ALICE_HOST, path, is_last=True)
    paths.forget(ALICE_HOST, path, is_last=True)
    assert seen_from(two, BOB) == FIRST


def test_address_that_another_host_has_too_stays_taken(two: Row, paths: Paths) -> None:
    paths.settle(ALICE_HOST, Path(SERVER, 0))
    paths.forget(ALICE_HOST, Path(SERVER, 0), is_last=False)
    assert seen_from(two, BOB) == SECOND


def test_where_there_is_no_room_the_path_is_that_of_masquerade(two: Row, ours: Nft) -> None:
    full = Paths(ours, SETTINGS.insides, SETTINGS.outside, Limits(relations_max=1))
    full.lay(BOTH, (1, 0), (FIRST, SECOND), [])
    assert full.settle(BOB_HOST, Path(SERVER, 1)) == Path(SERVER, 1)
    assert full.settle(ALICE_HOST, Path(SERVER, 1)) == Path(SERVER, 0)
    assert [seen_from(two, host) for host in (HOST, BOB)] == [FIRST, SECOND]


def test_one_address_lays_nothing_and_another_one_lays_it(two: Row, ours: Nft) -> None:
    paths = Paths(ours, SETTINGS.insides, SETTINGS.outside, Limits())
    path = Path(SERVER, 0)
    paths.lay((FIRST,), (0,), (FIRST,), [])
    assert paths.settle(ALICE_HOST, path) == path
    assert "path" not in two.run("router", "nft list table inet throughway")
    paths.lay(BOTH, (0, 1), (FIRST, SECOND), [(ALICE_HOST, path)])
    assert [seen_from(two, host) for host in (BOB, HOST)] == [SECOND, FIRST]
    paths.lay((FIRST,), (0,), (FIRST,), [(ALICE_HOST, path)])
    assert "path" not in two.run("router", "nft list table inet throughway")
    assert seen_from(two, BOB) == FIRST


def test_the_only_usable_address_is_used_where_masquerade_would_take_another(two: Row, ours: Nft) -> None:
    paths = Paths(ours, SETTINGS.insides, SETTINGS.outside, Limits())
    paths.lay(BOTH, (1,), (FIRST, SECOND), [])
    assert [seen_from(two, host) for host in (HOST, BOB)] == [SECOND, SECOND]
    assert seen_from(two, HOST, 51820) == FIRST


def test_addresses_that_change_take_the_choices_along(two: Row, paths: Paths) -> None:
    """Slot 0 gets another address; what the rules chose for bob, whom the daemon does not know, stays."""
    paths.settle(ALICE_HOST, Path(SERVER, 0))
    assert seen_from(two, BOB) == SECOND
    two.run("router", f"ip addr add {THIRD}/24 dev wan0")
    paths.lay((THIRD, SECOND), (0, 1), (FIRST, SECOND, THIRD), [(ALICE_HOST, Path(SERVER, 0))])
    assert [seen_from(two, host) for host in (HOST, BOB)] == [THIRD, SECOND]


def test_another_run_goes_by_what_this_one_left(two: Row, paths: Paths, ours: Nft) -> None:
    """The table is laid anew: what the tracker adopted counts, and of the rest what the rules had chosen."""
    assert [seen_from(two, host) for host in (HOST, BOB)] == [FIRST, SECOND]
    paths.settle(ALICE_HOST, Path(SERVER, 0))
    with entered(two.name("router")):
        again = Paths(ours, SETTINGS.insides, SETTINGS.outside, Limits())
    again.read()
    for transaction in transactions(SETTINGS):
        ours.apply(transaction)
    again.lay(BOTH, (0, 1), (FIRST, SECOND), [])
    assert [seen_from(two, host) for host in (BOB, HOST)] == [SECOND, FIRST]
    assert again.settle(BOB_HOST, Path(SERVER, 0)) == Path(SERVER, 1)
