"""How many hosts, peers and mappings there may be at once, and what makes room for what."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook, ikev2_start, to_inside, to_peer
from throughway.core.bounds import Bounds
from throughway.core.commands import ForgetPath, InstallMapping, Refuse, Reinject, RemoveMapping
from throughway.core.events import (
    CountersRead,
    EspFromInside,
    FlowCount,
    OutsideAddressesChanged,
    RouterSaAdded,
    RouterSaDeleted,
)
from throughway.core.ids import ROUTER, Host, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.reasons import Reason

HOSTS = [Host(IPv4Address("192.168.1.10") + n) for n in range(8)]
ALICE, BOB = HOSTS[:2]
PEERS = [Peer(IPv4Address("203.0.113.9") + n) for n in range(8)]
PEER = PEERS[0]
SPI = Spi(0xA0000001)


def meet(bounds: Bounds, *hosts: Host, peer: Peer = PEER) -> list[bool]:
    return [bounds.meet(host, Path(peer), "esp", 0.0) for host in hosts]


def test_hosts_that_left_a_peer_make_room_for_as_many_others() -> None:
    bounds = Bounds(Limits(hosts_per_peer_max=4))
    assert meet(bounds, *HOSTS[:5]) == [True, True, True, True, False]
    for host in HOSTS[:2]:
        bounds.release(host, Path(PEER), "esp")
    assert meet(bounds, *HOSTS[4:7]) == [True, True, False]


def test_relations_that_ended_make_room_for_as_many_others() -> None:
    bounds = Bounds(Limits(relations_max=4))
    assert [meet(bounds, ALICE, peer=peer) for peer in PEERS[:5]] == [[True]] * 4 + [[False]]
    for peer in PEERS[:2]:
        bounds.release(ALICE, Path(peer), "esp")
    assert [meet(bounds, BOB, peer=peer) for peer in PEERS[:3]] == [[True], [True], [False]]


@pytest.mark.parametrize("limits", [{"hosts_per_peer_max": 1}, {"relations_max": 1}], ids=str)
def test_who_is_known_already_needs_no_more_room(limits: dict[str, int]) -> None:
    play = Playbook(Limits(**limits))
    for number in range(3):
        key = to_peer(ALICE, PEER, SPI + number)
        play >> EspFromInside(ALICE, PEER, Spi(SPI + number), 1) << InstallMapping(key, ALICE) << Reinject(key)
    play >> EspFromInside(BOB, PEER, SPI, 1) << Refuse(to_peer(BOB, PEER, SPI), Reason.REFUSED)
    play.finish()


def test_a_host_has_one_path_to_a_peer_and_the_router_any() -> None:
    bounds = Bounds(Limits())
    assert bounds.meet(ALICE, Path(PEER, 0), "esp", 0.0)
    assert not bounds.meet(ALICE, Path(PEER, 1), "esp", 0.0)
    assert bounds.addresses.paths(ALICE, PEER) == [Path(PEER, 0)]
    assert bounds.meet(ROUTER, Path(PEER, 0), "esp", 0.0)
    assert bounds.meet(ROUTER, Path(PEER, 1), "esp", 0.0)


def test_a_relation_lasts_until_the_last_part_lets_go() -> None:
    bounds = Bounds(Limits())
    for part in ("esp", "exact"):
        bounds.meet(ALICE, Path(PEER), part, 0.0)
    bounds.release(ALICE, Path(PEER), "esp")
    assert bounds.is_related(ALICE, PEER)
    bounds.release(ALICE, Path(PEER), "esp")
    assert bounds.is_related(ALICE, PEER)
    bounds.release(ALICE, Path(PEER), "exact")
    assert not bounds.is_related(ALICE, PEER)
    bounds.release(ALICE, Path(PEER), "exact")
    assert bounds.is_empty


def test_the_peer_that_a_host_used_least_recently_makes_room_for_another(play: Playbook) -> None:
    play = Playbook(Limits(peers_per_host_max=3))
    for peer in (PEERS[3], PEERS[2], PEERS[1]):
        play.now += 1
        play >> EspFromInside(ALICE, peer, SPI, 1)
    play.now += 1
    play >> CountersRead((FlowCount(to_peer(ALICE, PEERS[3], SPI), 2, 0, play.now),))
    play >> EspFromInside(ALICE, PEERS[4], SPI, 1)
    assert set(play.mappings) == {to_peer(ALICE, PEERS[n], SPI) for n in (1, 3, 4)}


def test_peers_with_associations_of_the_router_never_make_room() -> None:
    play = Playbook(Limits(peers_per_host_max=2))
    for peer in PEERS[:3]:
        play >> RouterSaAdded(Path(peer), SPI)
    assert set(play.mappings) == {to_inside(peer, SPI) for peer in PEERS[:3]}


def test_a_peer_makes_room_again_when_the_routers_association_is_deleted() -> None:
    """The router went on speaking with it, so it is known still."""
    play = Playbook(Limits(peers_per_host_max=1))
    play >> RouterSaAdded(Path(PEER), SPI) >> EspFromInside(ROUTER, PEER, SPI, 1)
    play >> RouterSaDeleted(Path(PEER), SPI) << RemoveMapping(to_inside(PEER, SPI))
    play >> EspFromInside(ROUTER, PEERS[1], SPI, 1)
    assert set(play.mappings) == {to_peer(ROUTER, PEERS[1], SPI)}


def test_what_makes_room_for_its_own_kind_fits_where_all_is_full() -> None:
    play = Playbook(Limits(mappings_max=2, spis_per_host_and_peer_max=2))
    for number in range(4):
        play.now += 1
        play >> EspFromInside(ALICE, PEER, Spi(SPI + number), 1)
    assert set(play.mappings) == {to_peer(ALICE, PEER, SPI + number) for number in (2, 3)}
    assert play.tracker.mapping_count == 2


def test_all_hosts_forget_their_path_when_its_address_is_gone(play: Playbook) -> None:
    addresses = (IPv4Address("192.0.2.2"), IPv4Address("192.0.2.3"))
    play >> OutsideAddressesChanged((), addresses, (1, 0))
    for number, host in enumerate((ALICE, BOB)):
        for message in ikev2_start(host, PEERS[number], 0xA + number):
            play >> message
    play >> OutsideAddressesChanged(addresses, addresses[:1], (0, 2))
    for number, host in enumerate((ALICE, BOB)):
        play << ForgetPath(host, Path(PEERS[number], 1))
