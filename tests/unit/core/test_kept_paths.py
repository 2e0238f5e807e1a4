"""Kept ports where there are several outside addresses: everything goes by the path of a host."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook
from throughway.core.commands import FanOut, ForgetPath, InstallMapping, Record, Refuse, Reinject, RemoveMapping
from throughway.core.events import (
    AdoptedFlow,
    FlowCount,
    IkeExchange,
    IkeMessageSeen,
    L2tpControl,
    L2tpControlSeen,
    MappingsAdopted,
    OutsideAddressesChanged,
    PathChosen,
    PortlessFromInside,
    PortlessUnclaimed,
    PortsRemembered,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Peer, UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.core.limits import Limits
from throughway.core.reasons import Reason

ALICE, BOB, CAROL = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11, 12))
PEER = Peer(IPv4Address("203.0.113.9"))
FIRST, SECOND = (IPv4Address(f"192.0.2.{n}") for n in (2, 3))
UDP, IKE, L2TP = IpProtocol.UDP, UdpPort.IKE, UdpPort.L2TP
SPI = 0xA


def with_addresses(play: Playbook) -> Playbook:
    return play >> OutsideAddressesChanged((), (FIRST, SECOND), (0, 1))


@pytest.fixture
def play() -> Playbook:
    """A gateway with two addresses that keeps both ports with every peer."""
    return with_addresses(Playbook(ports=dict.fromkeys(UdpPort, PortSetting.KEEP)))


def out(host: Host, spi: int) -> FlowKey:
    return FlowKey.to_peer(UDP, host, PEER, spi, IKE)


def back(slot: int, spi: int, port: UdpPort = IKE) -> FlowKey:
    return FlowKey.to_inside(UDP, Path(PEER, slot), spi, port)


def message(host: Host, spi: int, *, from_host: bool, slot: int = 0) -> IkeMessageSeen:
    return IkeMessageSeen(
        host, PEER, spi, IkeExchange.INITIAL, 0, from_host, floated=False, slot=slot, is_first=from_host
    )


def sends(host: Host, spi: int, slot: int = 0) -> PortlessFromInside:
    return PortlessFromInside(host, PEER, UDP, spi, slot, IKE)


def comes(slot: int, spi: int) -> PortlessUnclaimed:
    return PortlessUnclaimed(Path(PEER, slot), UDP, spi, IKE)


def has_sa(play: Playbook, host: Host, spi: int, slot: int = 0) -> None:
    play >> message(host, spi, from_host=True, slot=slot) >> sends(host, spi, slot)
    play >> message(host, spi, from_host=False, slot=slot)


def test_two_hosts_with_one_spi_pass_by_two_addresses(play: Playbook) -> None:
    for slot, host in enumerate((ALICE, BOB)):
        play >> message(host, SPI, from_host=True)
        (
            play
            >> sends(host, SPI)
            << InstallMapping(back(slot, SPI), host)
            << InstallMapping(out(host, SPI), host, slot)
            << Reinject(out(host, SPI))
        )
    assert [play.tracker.owner(back(slot, SPI)) for slot in (0, 1)] == [ALICE, BOB]
    assert {(row.host, row.slot) for row in play.tracker.tunnels()} == {(ALICE, 0), (BOB, 1)}


def test_a_host_asks_for_the_address_where_its_spi_is_free(play: Playbook) -> None:
    has_sa(play, ALICE, SPI)
    has_sa(play, BOB, SPI + 1)
    assert play.tracker.wanted_path(sends(CAROL, SPI)) == (CAROL, Path(PEER, 1))
    assert play.tracker.wanted_path(sends(CAROL, SPI + 1)) == (CAROL, Path(PEER, 0))


def test_a_host_asks_for_the_address_where_its_tunnel_id_is_free(play: Playbook) -> None:
    def says(host: Host, tunnel_id: int) -> L2tpControlSeen:
        assigns = L2tpControl(0, 1, assigned_connection_id=tunnel_id, version=2)
        return L2tpControlSeen(host, PEER, True, assigns, port=L2TP, host_port=L2TP)

    play >> says(ALICE, 7) >> says(BOB, 8)
    assert {(row.host, row.slot) for row in play.tracker.tunnels()} == {(ALICE, 0), (BOB, 1)}
    assert play.tracker.wanted_path(says(CAROL, 7)) == (CAROL, Path(PEER, 1))
    assert play.tracker.wanted_path(says(CAROL, 8)) == (CAROL, Path(PEER, 0))


def test_what_the_peer_begins_goes_to_the_hosts_on_that_address_alone(play: Playbook) -> None:
    for at, host in enumerate((ALICE, BOB, CAROL)):
        has_sa(play, host, SPI + at)
    play >> comes(1, 0xF) << InstallMapping(back(1, 0xF), BOB) << Reinject(back(1, 0xF))
    play >> comes(0, 0xF) << FanOut(back(0, 0xF), (ALICE, CAROL)) << Reinject(back(0, 0xF))


def test_who_answers_what_was_offered_on_its_address_has_it_once(play: Playbook) -> None:
    for at, host in enumerate((ALICE, BOB)):
        has_sa(play, host, SPI + at)
    has_sa(play, ROUTER, SPI + 2, 1)
    for spi, host in ((0xE, BOB), (0xF, ROUTER)):
        play >> comes(1, spi)
        assert set(play.mappings[back(1, spi)]) == {BOB, ROUTER}
        play >> sends(host, spi, 1)
        assert play.mappings[back(1, spi)] == (host,)
        assert play.tracker.mapping_count == len(play.mappings)


def test_what_a_host_began_is_not_its_own_at_another_address(play: Playbook) -> None:
    play >> message(ALICE, SPI, from_host=True)
    play >> comes(1, SPI) << Refuse(back(1, SPI), Reason.NO_CANDIDATE)
    play >> comes(0, SPI) << InstallMapping(back(0, SPI), ALICE) << Reinject(back(0, SPI))


def test_the_path_that_the_kernel_gave_to_a_translated_port_stays_when_it_is_kept() -> None:
    play = with_addresses(Playbook())
    play >> PathChosen(ALICE, Path(PEER, 1)) >> message(ALICE, SPI, from_host=True)
    play >> message(ALICE, SPI, from_host=False)
    play >> PortsRemembered(((PEER, IKE),))
    play >> sends(ALICE, SPI)
    assert play.mappings[back(1, SPI)] == (ALICE,)


def test_the_router_has_flows_at_each_of_its_addresses(play: Playbook) -> None:
    for slot in (1, 0):
        has_sa(play, ROUTER, SPI + slot, slot)
    assert [play.tracker.owner(back(slot, SPI + slot)) for slot in (0, 1)] == [ROUTER, ROUTER]
    play.answers_until(play.now + Limits().candidate_idle_s + 2 * Limits().sweep_every_s)
    assert play.mappings == {}
    assert play.tracker.addresses.hosts_at(Path(PEER, 1)) == []


def test_hosts_on_an_address_that_is_gone_begin_anew_at_another_one(play: Playbook) -> None:
    for at, host in enumerate((ALICE, BOB)):
        has_sa(play, host, SPI + at)
    play >> comes(1, 0xF)
    (
        play
        >> OutsideAddressesChanged((FIRST, SECOND), (FIRST,), (0,))
        << RemoveMapping(back(1, SPI + 1))
        << RemoveMapping(out(BOB, SPI + 1))
        << RemoveMapping(back(1, 0xF))
        << Record("outside.address-changed")
    )
    has_sa(play, BOB, SPI + 1)
    assert play.mappings[back(0, SPI + 1)] == (BOB,)
    assert play.tracker.mapping_count == len(play.mappings) == 4


def test_a_path_ends_with_the_last_that_was_said_by_it(play: Playbook) -> None:
    play >> message(ALICE, SPI, from_host=True)
    answers = play.answers_until(play.now + Limits().candidate_idle_s + 2 * Limits().sweep_every_s)
    assert ForgetPath(ALICE, Path(PEER, 0)) in answers
    assert list(play.tracker.addresses.chosen()) == []


def test_after_a_restart_everybody_is_where_he_was(play: Playbook) -> None:
    for at, host in enumerate((ALICE, BOB)):
        has_sa(play, host, SPI + at)
    flows = tuple(
        AdoptedFlow(key, hosts, FlowCount(key, 1, 100, play.now), 0 if ALICE in hosts else 1)
        for key, hosts in play.mappings.items()
    )
    later = Playbook(ports=dict.fromkeys(UdpPort, PortSetting.KEEP))
    later >> MappingsAdopted(flows)
    with_addresses(later)
    assert [later.tracker.owner(back(slot, SPI + slot)) for slot in (0, 1)] == [ALICE, BOB]
    later >> comes(1, 0xF) << InstallMapping(back(1, 0xF), BOB) << Reinject(back(1, 0xF))
