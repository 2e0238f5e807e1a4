"""Who gets which of several outside addresses, and what follows for the tracker."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook, ikev2_start, to_peer
from throughway.core import discriminators
from throughway.core.addresses import Addresses, fill
from throughway.core.commands import ForgetPath, InstallMapping, Record, Refuse, Reinject, RemoveMapping
from throughway.core.events import (
    AdoptedFlow,
    EspFromInside,
    EspUnclaimed,
    FlowCount,
    L2tpControl,
    L2tpControlSeen,
    MappingsAdopted,
    OutsideAddressesChanged,
    PathChosen,
    PortlessFromInside,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.core.verdicts import Certain

ALICE, BOB, CAROL = (Host(IPv4Address(f"10.77.0.{n}")) for n in (11, 12, 13))
PEER = Peer(IPv4Address("203.0.113.9"))
FIRST, SECOND, THIRD = (IPv4Address(f"192.0.2.{n}") for n in (2, 3, 4))
GRE = int(IpProtocol.GRE)
KEY = discriminators.of_gre(7)
OUT, IN = Spi(0x1000), Spi(0xAAAA)


@pytest.fixture
def play() -> Playbook:
    """A gateway with two addresses."""
    made = Playbook()
    made >> OutsideAddressesChanged((FIRST, SECOND), (FIRST, SECOND), (0, 1))
    return made


def to_inside(protocol: int, slot: int, name: int) -> FlowKey:
    return FlowKey.to_inside(protocol, Path(PEER, slot), name)


@pytest.mark.parametrize(
    ("before", "now", "after"),
    [
        ((), [FIRST], (FIRST,)),
        ((FIRST,), [SECOND], (SECOND,)),
        ((FIRST, SECOND), [SECOND], (None, SECOND)),
        ((None, SECOND), [SECOND, THIRD], (THIRD, SECOND)),
        ((FIRST, SECOND), [SECOND, FIRST], (FIRST, SECOND)),
        ((FIRST,), [FIRST, SECOND, THIRD], (FIRST, SECOND, THIRD)),
    ],
)
def test_an_address_keeps_its_slot_and_a_new_one_takes_an_empty_one(
    before: tuple[IPv4Address | None, ...], now: list[IPv4Address], after: tuple[IPv4Address | None, ...]
) -> None:
    assert fill(before, now, 16) == after


def test_there_are_no_more_slots_than_the_kernel_has() -> None:
    many = [IPv4Address(n) for n in range(1, 9)]
    assert fill((), many, 4) == tuple(many[:4])


def test_a_host_gets_the_first_address_without_others_and_then_the_emptiest() -> None:
    addresses = Addresses()
    addresses.usable = (0, 1)
    for host, slot in ((ALICE, 0), (BOB, 1), (CAROL, 0)):
        path = addresses.choose(host, PEER)
        assert path == Path(PEER, slot)
        assert addresses.join(host, path)
    assert addresses.choose(BOB, PEER) == Path(PEER, 1)
    assert not addresses.join(BOB, Path(PEER, 0))
    addresses.leave(ALICE, PEER)
    addresses.leave(CAROL, PEER)
    assert addresses.hosts_at(Path(PEER, 0)) == []
    assert addresses.choose(ALICE, PEER) == Path(PEER, 0)


def test_equal_spis_by_two_addresses_are_certain_at_once(play: Playbook) -> None:
    for host in (ALICE, BOB):
        for message in ikev2_start(host, PEER, 0xA0):
            play >> message
    for slot, host in enumerate((ALICE, BOB)):
        key = to_inside(IpProtocol.ESP, slot, IN)
        play >> EspUnclaimed(Path(PEER, slot), IN, 1) << InstallMapping(key, host) << Reinject(key)
        assert isinstance(play.tracker.verdict(Path(PEER, slot), IN), Certain)
        out = to_peer(host, PEER, OUT)
        play >> EspFromInside(host, PEER, OUT, 1) << InstallMapping(out, host, slot) << Reinject(out)


def test_a_third_host_shares_an_address_and_only_there_is_a_contest(play: Playbook) -> None:
    for host in (ALICE, BOB, CAROL):
        for message in ikev2_start(host, PEER, 0xA0):
            play >> message
    play >> EspUnclaimed(Path(PEER, 0), IN, 1)
    assert set(play.mappings[to_inside(IpProtocol.ESP, 0, IN)]) == {ALICE, CAROL}
    play >> EspUnclaimed(Path(PEER, 1), IN, 1)
    assert play.mappings[to_inside(IpProtocol.ESP, 1, IN)] == (BOB,)


def test_equal_keys_pass_by_two_addresses_and_a_third_is_refused(play: Playbook) -> None:
    for slot, host in enumerate((ALICE, BOB)):
        play >> PortlessFromInside(host, PEER, GRE, KEY)
        assert play.mappings[to_inside(GRE, slot, KEY)] == (host,)
    refused = FlowKey.to_peer(GRE, CAROL, PEER, KEY)
    play >> PortlessFromInside(CAROL, PEER, GRE, KEY) << Refuse(refused, Reason.DISCRIMINATOR_TAKEN)
    play.finish()


def test_what_a_host_asks_for_chooses_where_it_is_free(play: Playbook) -> None:
    other = discriminators.of_gre(8)
    play >> PortlessFromInside(ALICE, PEER, GRE, KEY)
    play >> PortlessFromInside(BOB, PEER, GRE, other)
    wanted = play.tracker.wanted_path(PortlessFromInside(CAROL, PEER, GRE, KEY))
    assert wanted == (CAROL, Path(PEER, 1))
    assert play.tracker.wanted_path(PortlessFromInside(CAROL, PEER, GRE, other)) == (CAROL, Path(PEER, 0))
    assert play.tracker.wanted_path(PortlessFromInside(ALICE, PEER, GRE, other)) is None
    assert play.tracker.wanted_path(PortlessFromInside(ROUTER, PEER, GRE, KEY)) is None


def test_equal_connection_ids_choose_where_they_are_free(play: Playbook) -> None:
    for host, connection in ((ALICE, 0x77), (BOB, 0x88)):
        play >> L2tpControlSeen(host, PEER, True, L2tpControl(0, 1, assigned_connection_id=connection))
    asks = L2tpControlSeen(CAROL, PEER, True, L2tpControl(0, 1, assigned_connection_id=0x77))
    assert play.tracker.wanted_path(asks) == (CAROL, Path(PEER, 1))


def test_a_path_that_the_kernel_chose_first_is_kept(play: Playbook) -> None:
    play >> PathChosen(ALICE, Path(PEER, 1))
    play >> PortlessFromInside(ALICE, PEER, GRE, KEY)
    assert play.mappings[to_inside(GRE, 1, KEY)] == (ALICE,)
    play >> PortlessFromInside(BOB, PEER, GRE, KEY)
    assert play.mappings[to_inside(GRE, 0, KEY)] == (BOB,)


def test_a_path_ends_with_what_it_was_for(play: Playbook) -> None:
    play >> PortlessFromInside(ALICE, PEER, GRE, KEY)
    limits = Limits()
    answers = play.answers_until(play.now + limits.gre_idle_s + 2 * limits.sweep_every_s)
    assert ForgetPath(ALICE, Path(PEER, 0)) in answers
    assert list(play.tracker.addresses.chosen()) == []


def test_a_path_that_was_chosen_for_what_is_refused_ends_at_once(play: Playbook) -> None:
    for host in (ALICE, BOB):
        play >> PortlessFromInside(host, PEER, GRE, KEY)
    play >> PathChosen(CAROL, Path(PEER, 0))
    play >> PortlessFromInside(CAROL, PEER, GRE, KEY)
    assert ForgetPath(CAROL, Path(PEER, 0)) in play.answer
    assert {host for host, _ in play.tracker.addresses.chosen()} == {ALICE, BOB}


def test_with_one_address_nothing_is_said_of_paths() -> None:
    play = Playbook()
    event = PortlessFromInside(ALICE, PEER, GRE, KEY)
    assert play.tracker.wanted_path(event) is None
    play >> event
    limits = Limits()
    answers = play.answers_until(play.now + limits.gre_idle_s + 2 * limits.sweep_every_s)
    assert not any(isinstance(answer, ForgetPath) for answer in answers)


def test_hosts_on_an_address_that_is_gone_get_another_one(play: Playbook) -> None:
    for host in (ALICE, BOB):
        play >> PortlessFromInside(host, PEER, GRE, discriminators.of_gre(int(host)))
    bobs = discriminators.of_gre(int(BOB))
    out = FlowKey.to_peer(GRE, BOB, PEER, bobs)
    (
        play
        >> OutsideAddressesChanged((FIRST, SECOND), (FIRST,), (0,))
        << RemoveMapping(to_inside(GRE, 1, bobs))
        << RemoveMapping(out)
        << Record("outside.address-changed")
    )
    play >> PortlessFromInside(BOB, PEER, GRE, bobs)
    assert play.mappings[to_inside(GRE, 0, bobs)] == (BOB,)
    assert play.tracker.mapping_count == len(play.mappings) == 4


def test_without_any_address_everybody_stays_where_he_was(play: Playbook) -> None:
    for host in (ALICE, BOB):
        play >> PortlessFromInside(host, PEER, GRE, KEY)
    before = dict(play.mappings)
    play >> OutsideAddressesChanged((FIRST, SECOND), (), ())
    play >> OutsideAddressesChanged((), (FIRST, SECOND), (0, 1))
    assert play.mappings == before


def test_the_router_uses_what_it_sends_from_and_has_as_many_as_it_likes(play: Playbook) -> None:
    for slot in (1, 0):
        play >> EspFromInside(ROUTER, PEER, Spi(OUT + slot), 1, slot)
        play >> EspUnclaimed(Path(PEER, slot), IN, 1)
        assert play.mappings[to_inside(IpProtocol.ESP, slot, IN)] == (ROUTER,)
    play >> PathChosen(ALICE, play.tracker.addresses.choose(ALICE, PEER))
    assert play.tracker.addresses.hosts_at(Path(PEER, 0)) == [ROUTER, ALICE]
    limits = Limits()
    play.wait_until(play.now + limits.esp_idle_s + limits.candidate_idle_s + 4 * limits.sweep_every_s)
    assert play.mappings == {}
    assert play.tracker.mapping_count == 0
    assert play.tracker.addresses.paths(ROUTER, PEER) == []


def adopted(key: FlowKey, host: Host, now: float, slot: int = 0) -> AdoptedFlow:
    return AdoptedFlow(key, (host,), FlowCount(key, 1, 100, now), slot)


def test_adopted_mappings_tell_the_paths(play: Playbook) -> None:
    flows = [
        adopted(to_inside(GRE, 1, KEY), ALICE, play.now),
        adopted(FlowKey.to_peer(GRE, ALICE, PEER, KEY), ALICE, play.now, slot=1),
    ]
    play >> MappingsAdopted(tuple(flows))
    assert list(play.tracker.addresses.chosen()) == [(ALICE, Path(PEER, 1))]
    assert play.tracker.mapping_count == 2


def test_of_adopted_mappings_that_do_not_agree_the_address_sent_from_counts(play: Playbook) -> None:
    stale = to_inside(GRE, 0, KEY)
    flows = [
        adopted(stale, ALICE, play.now),
        adopted(to_inside(IpProtocol.ESP, 1, IN), ALICE, play.now),
        adopted(to_peer(ALICE, PEER, OUT), ALICE, play.now, slot=1),
    ]
    play >> MappingsAdopted(tuple(flows)) << RemoveMapping(stale)
    play.finish()
    assert list(play.tracker.addresses.chosen()) == [(ALICE, Path(PEER, 1))]
    assert play.tracker.mapping_count == 2
