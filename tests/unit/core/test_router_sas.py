"""Conversations about the router's own security associations, of which its kernel tells."""

from ipaddress import IPv4Address

from tests.unit.core.playbook import Playbook, ikev2_child, ikev2_start, to_inside, to_peer
from throughway.core.commands import FanOut, InstallMapping, Reinject, RemoveMapping
from throughway.core.events import (
    CountersRead,
    EspFromInside,
    EspUnclaimed,
    FlowCount,
    OutsideAddressesChanged,
    RouterSaAdded,
    RouterSaDeleted,
)
from throughway.core.ids import ROUTER, Host, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.verdicts import Basis, Certain

ALICE, BOB = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11))
PEER = Peer(IPv4Address("203.0.113.9"))
IN_1, IN_2 = Spi(0x11111111), Spi(0x22222222)
LIMITS = Limits()


def tell(play: Playbook, *events: object) -> None:
    for event in events:
        play >> event  # type: ignore[operator]


def test_the_spi_is_the_routers_before_its_first_packet(play: Playbook) -> None:
    play >> RouterSaAdded(Path(PEER), IN_1) << InstallMapping(to_inside(PEER, IN_1), ROUTER)
    assert play.tracker.verdict(Path(PEER), IN_1) == Certain(ROUTER, Basis.ROUTER_SA)


def test_told_twice_is_told_once(play: Playbook) -> None:
    play >> RouterSaAdded(Path(PEER), IN_1)
    (play >> RouterSaAdded(Path(PEER), IN_1)).nothing()
    assert play.tracker.mapping_count == 1


def test_it_goes_with_its_association(play: Playbook) -> None:
    play >> RouterSaAdded(Path(PEER), IN_1)
    play >> RouterSaDeleted(Path(PEER), IN_1) << RemoveMapping(to_inside(PEER, IN_1))
    assert play.mappings == {}
    assert play.tracker.mapping_count == 0
    (play >> RouterSaDeleted(Path(PEER), IN_1)).nothing()


def test_the_same_spi_at_two_addresses_are_two_associations(play: Playbook) -> None:
    """The router keeps its place at the peer for as long as one of them is there."""
    first, second = Path(PEER, 0), Path(PEER, 1)
    tell(play, RouterSaAdded(first, IN_1), RouterSaAdded(second, IN_1))
    assert play.tracker.mapping_count == 2
    play >> RouterSaDeleted(first, IN_1) << RemoveMapping(to_inside(PEER, IN_1))
    assert play.tracker.verdict(second, IN_1) == Certain(ROUTER, Basis.ROUTER_SA)
    play.wait_until(play.now + 2 * LIMITS.candidate_idle_s)
    assert list(play.mappings.values()) == [(ROUTER,)]


def test_a_device_gets_another_address_than_the_routers_association_has(play: Playbook) -> None:
    play >> OutsideAddressesChanged((), (IPv4Address("192.0.2.2"), IPv4Address("192.0.2.3")), (0, 1))
    tell(play, RouterSaAdded(Path(PEER, 0), IN_1), *ikev2_start(ALICE, PEER, 0xA))
    assert play.tracker.addresses.paths(ALICE, PEER) == [Path(PEER, 1)]


def test_what_is_known_of_others_is_not_deleted_with_it(play: Playbook) -> None:
    tell(play, *ikev2_start(ALICE, PEER, 0xA), EspUnclaimed(Path(PEER), IN_1, 1))
    (play >> RouterSaDeleted(Path(PEER), IN_1)).nothing()
    assert play.candidates(PEER, IN_1) == {ALICE}


def test_it_ends_a_contest_and_decides_the_other_one(play: Playbook) -> None:
    """Alice and the router agreed on one child SA each. Knowing whose the first is tells whose the second is."""
    tell(play, *ikev2_start(ALICE, PEER, 0xA), *ikev2_start(ROUTER, PEER, 0xB))
    tell(play, EspUnclaimed(Path(PEER), IN_1, 1), EspUnclaimed(Path(PEER), IN_2, 1))
    assert play.candidates(PEER, IN_1) == play.candidates(PEER, IN_2) == {ALICE, ROUTER}
    (
        play
        >> RouterSaAdded(Path(PEER), IN_1)
        << InstallMapping(to_inside(PEER, IN_1), ROUTER)
        << InstallMapping(to_inside(PEER, IN_2), ALICE)
    )
    assert play.tracker.verdict(Path(PEER), IN_2) == Certain(ALICE, Basis.CREDIT)


def test_it_uses_up_the_credit_of_its_exchange_so_that_hosts_are_told_apart_at_once(play: Playbook) -> None:
    tell(play, *ikev2_start(ROUTER, PEER, 0xB), RouterSaAdded(Path(PEER), IN_1), *ikev2_start(ALICE, PEER, 0xA))
    key = to_inside(PEER, IN_2)
    play >> EspUnclaimed(Path(PEER), IN_2, 1) << InstallMapping(key, ALICE) << Reinject(key)


def test_a_rekey_leaves_no_credit_behind(play: Playbook) -> None:
    """After the old association is deleted the router has what it had, and contests nothing of alice's."""
    tell(play, *ikev2_start(ROUTER, PEER, 0xB), RouterSaAdded(Path(PEER), IN_1))
    tell(play, *ikev2_child(ROUTER, PEER, 0xB, 2), RouterSaAdded(Path(PEER), IN_2), RouterSaDeleted(Path(PEER), IN_1))
    assert play.candidates(PEER, IN_2) == {ROUTER}
    tell(play, *ikev2_start(ALICE, PEER, 0xA), EspUnclaimed(Path(PEER), Spi(0x33333333), 1))
    assert play.candidates(PEER, Spi(0x33333333)) == {ALICE}


def test_it_takes_an_spi_that_was_believed_to_be_a_hosts(play: Playbook) -> None:
    """Alice was the only one known, and met in the middle of her conversation."""
    tell(play, EspFromInside(ALICE, PEER, Spi(0xA1), 5000), EspUnclaimed(Path(PEER), IN_1, 5000))
    assert play.candidates(PEER, IN_1) == {ALICE}
    play >> RouterSaAdded(Path(PEER), IN_1) << InstallMapping(to_inside(PEER, IN_1), ROUTER)
    tell(play, EspFromInside(BOB, PEER, Spi(0xB1), 5000))
    assert play.candidates(PEER, IN_1) == {ROUTER}, "a newcomer does not shake it"


def test_it_takes_an_spi_that_fell_idle_and_its_host_has_the_credit_again(play: Playbook) -> None:
    tell(play, *ikev2_start(ALICE, PEER, 0xA), EspUnclaimed(Path(PEER), IN_1, 1))
    play.wait_until(play.now + LIMITS.esp_idle_s + 2 * LIMITS.sweep_every_s)
    assert play.mappings == {}
    play >> RouterSaAdded(Path(PEER), IN_1) << InstallMapping(to_inside(PEER, IN_1), ROUTER)
    tell(play, EspUnclaimed(Path(PEER), IN_2, 1))
    assert play.tracker.verdict(Path(PEER), IN_2) == Certain(ALICE, Basis.CREDIT)
    assert play.tracker.mapping_count == len(play.mappings) == 2


def test_it_is_offered_to_no_host_that_only_sends(play: Playbook) -> None:
    """Bob's tunnel stays one-way, but what the kernel has is not his."""
    tell(play, *ikev2_start(ALICE, PEER, 0xA), EspUnclaimed(Path(PEER), IN_2, 1))
    tell(play, RouterSaAdded(Path(PEER), IN_1), *ikev2_start(BOB, PEER, 0xB), EspFromInside(BOB, PEER, Spi(0xB1), 1))
    play.now += 2 * LIMITS.one_way_s
    moved = (to_inside(PEER, IN_1), to_inside(PEER, IN_2), to_peer(BOB, PEER, 0xB1))
    play >> CountersRead(tuple(FlowCount(key, 2, 0, play.now) for key in moved))
    assert play.candidates(PEER, IN_1) == {ROUTER}
    assert play.candidates(PEER, IN_2) == {ALICE, BOB}


def test_it_is_kept_while_it_is_silent(play: Playbook) -> None:
    play >> RouterSaAdded(Path(PEER), IN_1)
    play.wait_until(play.now + 2 * LIMITS.candidate_idle_s)
    assert play.mappings == {to_inside(PEER, IN_1): (ROUTER,)}
    play >> RouterSaDeleted(Path(PEER), IN_1)
    play.wait_until(play.now + 2 * LIMITS.candidate_idle_s)
    (play >> RouterSaAdded(Path(PEER), IN_2)) << InstallMapping(to_inside(PEER, IN_2), ROUTER)


def test_peers_that_the_router_meets_besides_do_not_push_it_out() -> None:
    """Anybody outside can make the router answer IKE, and so fill what it may know of peers."""
    play = Playbook(Limits(peers_per_host_max=4))
    play >> RouterSaAdded(Path(PEER), IN_1)
    for n in range(20):
        play.now += 1.0
        tell(play, *ikev2_start(ROUTER, Peer(IPv4Address(f"198.51.100.{n}")), 0x100 + n))
    assert play.mappings == {to_inside(PEER, IN_1): (ROUTER,)}


def test_without_room_for_it_the_router_is_a_candidate_like_any_host() -> None:
    play = Playbook(Limits(mappings_max=1))
    tell(play, EspFromInside(ALICE, PEER, Spi(0xA1), 1))
    (play >> RouterSaAdded(Path(PEER), IN_1)).nothing()
    assert play.tracker.mapping_count == 1


def test_vpn_program_of_the_router_is_a_candidate_beside_it(play: Playbook) -> None:
    """The kernel knows nothing of vpnc on the router, whose IKE and ESP are on raw sockets."""
    tell(play, RouterSaAdded(Path(PEER), IN_1), *ikev2_start(ROUTER, PEER, 0xB), *ikev2_start(ALICE, PEER, 0xA))
    key = to_inside(PEER, IN_2)
    play >> EspUnclaimed(Path(PEER), IN_2, 1) << FanOut(key, (ROUTER, ALICE)) << Reinject(key)
