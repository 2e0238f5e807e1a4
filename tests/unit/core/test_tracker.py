"""The frame of the tracker: time, room for peers, questions about any protocol, change of address, restart."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook, ike, ikev2_start, to_inside, to_peer
from throughway.core import discriminators
from throughway.core.commands import (
    ForgetPath,
    InstallMapping,
    KeepPort,
    Record,
    Reinject,
    RemoveMapping,
    TranslatePort,
    WakeAt,
)
from throughway.core.events import (
    AdoptedFlow,
    EspFromInside,
    EspUnclaimed,
    Event,
    FlowCount,
    IkeExchange,
    IkeMessageSeen,
    L2tpControl,
    L2tpControlSeen,
    MappingsAdopted,
    OutsideAddressesChanged,
    PortlessFromInside,
    PortsRemembered,
    RouterSaAdded,
    TimerExpired,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Peer, Spi, UdpPort
from throughway.core.limits import Limits
from throughway.core.verdicts import Basis, Certain, Contested

ALICE, BOB, CAROL = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11, 12))
PEER, OTHER, THIRD = (Peer(IPv4Address(f"203.0.113.{n}")) for n in (9, 10, 11))
FIRST, SECOND = (IPv4Address(f"192.0.2.{n}") for n in (2, 3))
OUT, IN_1, IN_2 = Spi(0xA0000001), Spi(0x11111111), Spi(0x22222222)
GRE, IPIP, L2TPV3, UDP = 47, 4, 115, 17
LIMITS = Limits()


def tell(play: Playbook, *events: Event) -> None:
    for event in events:
        play >> event


# Time


def test_a_timer_without_a_reason_changes_nothing(play: Playbook) -> None:
    assert play.tracker.handle(TimerExpired(), play.now) == []
    tell(play, EspFromInside(ALICE, PEER, OUT, 1))
    play.now += LIMITS.sweep_every_s / 2
    assert play.tracker.handle(TimerExpired(), play.now) == [], "the moment that was asked for is still to come"


def test_a_moment_for_two_things_does_both() -> None:
    """Alice's turn ends at the moment at which idle flows are looked for."""
    play = Playbook(Limits(sweep_every_s=LIMITS.l2tpv3_turn_s))
    tell(play, PortlessFromInside(ALICE, PEER, L2TPV3, 0xA1), PortlessFromInside(BOB, PEER, L2TPV3, 0xB1))
    play.now += LIMITS.l2tpv3_turn_s
    play >> TimerExpired() << RemoveMapping(FlowKey.to_peer(L2TPV3, ALICE, PEER, 0xA1))
    play.finish()
    assert WakeAt(play.now + LIMITS.l2tpv3_turn_s) in play.answer, "when idle flows are looked for again"
    assert WakeAt(play.now + LIMITS.l2tpv3_answer_s) in play.answer, "when it is Bob's turn"


# Questions


def test_the_owner_of_an_spi_is_the_one_that_gets_it_alone(play: Playbook) -> None:
    key = to_inside(PEER, IN_1)
    assert play.tracker.owner(key) is None
    tell(play, *ikev2_start(ALICE, PEER, 0xA), EspUnclaimed(Path(PEER), IN_1, 1))
    assert play.tracker.owner(key) == ALICE
    assert play.tracker.owner(to_inside(PEER, IN_2)) is None
    assert play.tracker.owner(FlowKey.to_inside(IpProtocol.ESP, Path(PEER, 1), IN_1)) is None
    tell(play, *ikev2_start(BOB, OTHER, 0xB), *ikev2_start(CAROL, OTHER, 0xC), EspUnclaimed(Path(OTHER), IN_1, 1))
    assert play.tracker.owner(to_inside(OTHER, IN_1)) is None, "two have it"


@pytest.mark.parametrize(
    "event",
    [
        EspFromInside(CAROL, PEER, IN_1, 1),
        IkeMessageSeen(CAROL, PEER, 0xC, IkeExchange.INITIAL, 0, True, False),
        PortlessFromInside(CAROL, PEER, L2TPV3, 0xA1),
        PortlessFromInside(CAROL, PEER, UDP, discriminators.of_l2tpv2(0xA1), port=UdpPort.L2TP),
    ],
    ids=["ESP", "IKE", "L2TPv3", "L2TPv2"],
)
def test_what_says_nothing_of_what_comes_back_asks_for_any_address(play: Playbook, event: Event) -> None:
    """The emptiest one, and of those the first: that another host gets this ID there is no matter."""
    tell(play, OutsideAddressesChanged((), (FIRST, SECOND), (0, 1)), PortsRemembered(((PEER, UdpPort.L2TP),)))
    for host, own in ((ALICE, 0xA1), (BOB, 0xB1)):
        over_ip = L2tpControl(0, 10, local_session_id=own)
        over_udp = L2tpControl(0, 1, assigned_connection_id=own, version=2)
        tell(play, L2tpControlSeen(host, PEER, True, over_ip))
        tell(play, L2tpControlSeen(host, PEER, True, over_udp, port=UdpPort.L2TP, host_port=UdpPort.L2TP))
    assert len(play.mappings) == 4
    assert play.tracker.wanted_path(event) == (CAROL, Path(PEER, 0))


# Room


def test_a_known_peer_needs_no_room_and_a_new_one_makes_it() -> None:
    play = Playbook(Limits(peers_per_host_max=2))
    for peer in (PEER, OTHER, PEER):
        play.now += 1
        tell(play, EspFromInside(ALICE, peer, OUT, 1))
    assert {key.peer for key in play.mappings} == {PEER, OTHER}
    play >> EspFromInside(ALICE, THIRD, OUT, 1) << RemoveMapping(to_peer(ALICE, OTHER, OUT))
    play << InstallMapping(key := to_peer(ALICE, THIRD, OUT), ALICE) << Reinject(key)
    play.finish()
    assert play.tracker.mapping_count == 2


@pytest.mark.parametrize("host", [ALICE, ROUTER], ids=["host", "router"])
def test_what_a_host_contested_with_a_peer_that_makes_room_is_the_others(host: Host) -> None:
    play = Playbook(Limits(peers_per_host_max=1))
    tell(play, *ikev2_start(host, PEER, 0xA), *ikev2_start(BOB, PEER, 0xB), EspUnclaimed(Path(PEER), IN_1, 1))
    assert play.candidates(PEER, IN_1) == {host, BOB}
    play.now += 1
    play >> (RouterSaAdded(Path(OTHER), IN_2) if host == ROUTER else EspFromInside(host, OTHER, OUT, 1))
    assert InstallMapping(to_inside(PEER, IN_1), BOB) in play.answer
    assert play.tracker.verdict(Path(PEER), IN_1) == Certain(BOB, Basis.CREDIT)
    if host == ROUTER:
        play >> RouterSaAdded(Path(OTHER), IN_1) << InstallMapping(to_inside(OTHER, IN_1), ROUTER)
        play.finish()
        assert play.tracker.owner(to_inside(OTHER, IN_2)) == ROUTER, "the same peer makes no room for itself"


def test_an_association_of_the_router_makes_no_room_where_the_peer_is_known() -> None:
    play = Playbook(Limits(peers_per_host_max=1))
    tell(play, EspFromInside(ROUTER, PEER, OUT, 1), RouterSaAdded(Path(PEER), IN_1))
    assert set(play.mappings) == {to_peer(ROUTER, PEER, OUT), to_inside(PEER, IN_1)}


# Ports that are translated again


def test_l2tp_ends_with_its_port_though_others_wait_for_their_turn() -> None:
    """The flows of another port stay."""
    play = Playbook(Limits(kept_ports_max=2))
    tell(play, PortsRemembered(((PEER, UdpPort.L2TP), (PEER, UdpPort.IKE))))
    tell(play, PortlessFromInside(ALICE, PEER, UDP, 0x5, port=UdpPort.IKE))
    for host, name in ((ALICE, 0xA1), (BOB, 0xB1), (CAROL, 0xC1)):
        play.now += 0.1
        tell(play, PortlessFromInside(host, PEER, UDP, name, port=UdpPort.L2TP))
    assert len(play.mappings) == 3
    for host, spi, from_host in ((ALICE, 1, True), (ALICE, 1, False), (BOB, 2, True), (ALICE, 2, False)):
        tell(play, IkeMessageSeen(host, OTHER, spi, IkeExchange.INITIAL, 0, from_host, False, is_first=from_host))
    assert TranslatePort(PEER, UdpPort.L2TP) in play.answer
    assert KeepPort(OTHER, UdpPort.IKE) in play.answer
    assert {key.port for key in play.mappings} == {int(UdpPort.IKE)}
    assert play.tracker.mapping_count == len(play.mappings) == 2


# Change of address


def test_a_change_of_address_is_told_in_words(play: Playbook) -> None:
    play >> OutsideAddressesChanged((), (FIRST, SECOND), (0, 1))
    play << Record("outside.address-changed", {"old": "none", "new": "192.0.2.2, 192.0.2.3"})
    play >> OutsideAddressesChanged((FIRST, SECOND), (SECOND, FIRST), (0, 1))
    assert play.answer == [], "the same ones"


def test_all_that_went_by_a_lost_address_is_forgotten(play: Playbook) -> None:
    """And where a host's claim goes with it, the SPI is the other one's."""
    tell(play, OutsideAddressesChanged((), (FIRST, SECOND), (0, 1)))
    tell(play, *ikev2_start(CAROL, PEER, 0xC), PortlessFromInside(CAROL, OTHER, IPIP, 0))
    tell(play, *ikev2_start(ALICE, PEER, 0xA))
    tell(play, *(replace(message, slot=1) for message in ikev2_start(ROUTER, PEER, 0xB)))
    tell(play, PortlessFromInside(BOB, OTHER, GRE, 0), EspUnclaimed(Path(PEER, 1), IN_1, 1))
    assert play.tracker.verdict(Path(PEER, 1), IN_1) == Contested((ROUTER, ALICE))
    play >> OutsideAddressesChanged((FIRST, SECOND), (FIRST,), (0,))
    play << InstallMapping(FlowKey.to_inside(IpProtocol.ESP, Path(PEER, 1), IN_1), ROUTER)
    play << RemoveMapping(FlowKey.to_peer(GRE, BOB, OTHER, 0))
    play << RemoveMapping(FlowKey.to_inside(GRE, Path(OTHER, 1), 0))
    play.finish()
    assert {host for host, _ in play.tracker.addresses.chosen()} == {CAROL}
    assert play.tracker.mapping_count == len(play.mappings) == 3


# Restart


def adopted(key: FlowKey, *hosts: Host, slot: int = 0) -> AdoptedFlow:
    return AdoptedFlow(key, hosts, FlowCount(key, 5, 500, 99_999.0), slot)


def test_the_routers_flows_at_all_its_addresses_are_adopted(play: Playbook) -> None:
    inside = [FlowKey.to_inside(IpProtocol.ESP, Path(PEER, slot), IN_1) for slot in (0, 1)]
    flows = [adopted(to_peer(ROUTER, PEER, OUT + slot), ROUTER, slot=slot) for slot in (0, 1)]
    (play >> MappingsAdopted((*flows, *(adopted(key, ROUTER) for key in inside)))).nothing()
    assert [play.tracker.owner(key) for key in inside] == [ROUTER, ROUTER]
    assert play.tracker.mapping_count == 4


def test_adopted_mappings_that_disagree_are_removed_and_counted(play: Playbook) -> None:
    stale = [FlowKey.to_inside(GRE, Path(PEER, 0), discriminators.of_gre(key)) for key in (1, 2)]
    sent = adopted(to_peer(ALICE, PEER, OUT), ALICE, slot=1)
    play >> MappingsAdopted((*(adopted(key, ALICE) for key in stale), sent))
    play << RemoveMapping(stale[0]) << RemoveMapping(stale[1])
    play.finish()
    assert play.tracker.mapping_count == 1


@pytest.mark.parametrize("protocol", [IpProtocol.ESP, GRE, L2TPV3, IPIP])
def test_what_does_not_fit_is_removed_and_its_path_is_free(protocol: int) -> None:
    """The limits of this run may be lower than those of the earlier one."""
    play = Playbook(Limits(relations_max=1))
    tell(play, OutsideAddressesChanged((), (FIRST, SECOND), (0, 1)))
    flows = []
    for slot, host in enumerate((ALICE, BOB)):
        flows.append((host, slot, FlowKey.to_peer(protocol, host, PEER, 0x1001)))
        flows.append((host, slot, FlowKey.to_inside(protocol, Path(PEER, slot), 0x1001)))
    play >> MappingsAdopted(tuple(adopted(key, host, slot=slot) for host, slot, key in flows))
    for host, _, key in flows:
        if host == BOB:
            play << RemoveMapping(key)
    play << ForgetPath(BOB, Path(PEER, 1))
    play.finish()
    assert [host for host, _ in play.tracker.addresses.chosen()] == [ALICE]
    assert play.tracker.mapping_count == 2


def test_an_adopted_host_is_a_candidate_as_long_as_it_was_not_ruled_out(play: Playbook) -> None:
    tell(play, MappingsAdopted((adopted(to_inside(PEER, IN_1), ALICE),)))
    tell(play, *ike(BOB, PEER, 0xB, IkeExchange.INFORMATIONAL, 3, "><"), EspUnclaimed(Path(PEER), IN_2, 1))
    assert play.candidates(PEER, IN_2) == {ALICE, BOB}
