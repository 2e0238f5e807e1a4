"""Several addresses of ours: what comes to each is a flow of its own, and each flow leaves by its own."""

import struct
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import ICMP, IP

from throughway.core.ids import Host
from throughway.core.reasons import Reason
from throughway.dataplane import abi

from .gateway import (
    ALICE,
    BOB,
    CAROL,
    CARRIED,
    DROP,
    OUTSIDE,
    PASS,
    PEER,
    REDIRECT,
    REINJECTED,
    ROUTER,
    TAKEN,
    Gateway,
    cut,
    esp,
    gre,
    quote,
    readdressed,
    sum_of_icmp,
    to_inside,
    to_peer,
)

SECOND, LAST = "192.0.2.7", "192.0.2.99"


@pytest.fixture
def gateway(gateway: Gateway) -> Gateway:
    """A gateway with sixteen slots, of which three have an address."""
    slots: list[IPv4Address | None] = [None] * abi.SLOTS_MAX
    slots[0], slots[3], slots[15] = IPv4Address(OUTSIDE), IPv4Address(SECOND), IPv4Address(LAST)
    gateway.configure(addresses=tuple(slots))
    return gateway


@pytest.mark.parametrize(("address", "slot"), [(OUTSIDE, 0), (SECOND, 3), (LAST, 15)])
def test_what_comes_to_an_address_is_a_flow_of_its_slot(gateway: Gateway, address: str, slot: int) -> None:
    gateway.decide(to_inside(slot=slot), ALICE)
    out = gateway.from_outside(esp(PEER, address))
    assert (out.verdict, out.packet) == (PASS, readdressed(esp(PEER, address), dst=ALICE))
    for other in {OUTSIDE, SECOND, LAST} - {address}:
        assert gateway.from_outside(esp(PEER, other)).verdict == TAKEN
    assert {punt.key.slot for punt in gateway.punted()} == {0, 3, 15} - {slot}


def test_equal_spis_to_two_addresses_reach_their_hosts(gateway: Gateway) -> None:
    gateway.decide(to_inside(slot=0), ALICE)
    gateway.decide(to_inside(slot=3), BOB)
    for address, host in ((OUTSIDE, ALICE), (SECOND, BOB)):
        assert gateway.from_outside(esp(PEER, address)).packet == readdressed(esp(PEER, address), dst=host)
    assert gateway.counted() == {Reason.TRANSLATED_TO_INSIDE: 2}


def test_an_address_that_is_not_ours_passes(gateway: Gateway) -> None:
    for address in ("192.0.2.8", "0.0.0.0"):  # noqa: S104 - empty slots must not match it
        assert gateway.from_outside(esp(PEER, address)).verdict == PASS
    assert gateway.counted() == {}


@pytest.mark.parametrize(("slot", "address"), [(0, OUTSIDE), (3, SECOND), (15, LAST)])
def test_a_flow_is_sent_from_its_slot(gateway: Gateway, slot: int, address: str) -> None:
    gateway.decide(to_peer(ALICE), ALICE, slot=slot)
    assert gateway.from_inside(esp(ALICE, PEER)).packet == readdressed(esp(ALICE, PEER), src=address)


def test_a_flow_of_an_empty_slot_does_not_leave(gateway: Gateway) -> None:
    gateway.decide(to_peer(ALICE), ALICE, slot=4)
    assert gateway.from_inside(esp(ALICE, PEER)).verdict == DROP
    assert gateway.counted() == {Reason.NO_OUTSIDE_ADDRESS: 1}


def test_a_slot_that_there_is_not_is_the_callers_mistake(gateway: Gateway) -> None:
    assert gateway.decide(to_peer(ALICE), ALICE, slot=abi.SLOTS_MAX) == 22


def test_all_flows_follow_a_slot_to_another_address(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    gateway.decide(to_peer(ALICE), ALICE)
    gateway.configure(addresses=(IPv4Address(SECOND),))
    assert gateway.from_outside(esp(PEER, SECOND)).packet == readdressed(esp(PEER, SECOND), dst=ALICE)
    assert gateway.from_inside(esp(ALICE, PEER)).packet == readdressed(esp(ALICE, PEER), src=SECOND)


def test_error_from_outside_reaches_the_host_that_sent_from_this_address(gateway: Gateway) -> None:
    for host, slot in ((ALICE, 0), (BOB, 3)):
        gateway.decide(to_peer(host), host, slot=slot)
    for host, address in ((ALICE, OUTSIDE), (BOB, SECOND)):
        error = IP(src=PEER, dst=address) / ICMP(type=3, code=4, nexthopmtu=1400) / quote(esp(address, PEER))
        out = gateway.from_outside(error)
        expected = IP(src=PEER, dst=host) / ICMP(type=3, code=4, nexthopmtu=1400) / quote(esp(host, PEER))
        assert out.packet == bytes(expected)
        assert sum_of_icmp(out.packet) == 0xFFFF


def test_a_host_that_is_given_another_address_is_found_by_the_new_one_alone(gateway: Gateway) -> None:
    gateway.decide(to_peer(ALICE), ALICE, slot=0)
    gateway.decide(to_peer(ALICE), ALICE, slot=3)
    senders = gateway.loaded.maps["senders"]
    assert senders.lookup(abi.pack_sender_key(to_peer(ALICE), 0)) is None
    assert senders.lookup(abi.pack_sender_key(to_peer(ALICE), 3)) == Host(IPv4Address(ALICE)).packed
    mapping = gateway.mapping(to_peer(ALICE))
    assert mapping is not None
    assert mapping.slot == 3


@pytest.mark.parametrize("hosts", [(BOB,), (CAROL, BOB)], ids=["an owner", "a candidate"])
def test_error_of_a_host_leaves_by_the_address_that_its_flow_came_to(gateway: Gateway, hosts: tuple[str, ...]) -> None:
    gateway.decide(to_inside(slot=0), ALICE)
    gateway.decide(to_inside(slot=3), *hosts)
    error = IP(src=BOB, dst=PEER) / ICMP(type=3, code=4, nexthopmtu=1400) / quote(esp(PEER, BOB))
    out = gateway.from_inside(error)
    expected = IP(src=SECOND, dst=PEER) / ICMP(type=3, code=4, nexthopmtu=1400) / quote(esp(PEER, SECOND))
    assert out.packet == bytes(expected)
    assert sum_of_icmp(out.packet) == 0xFFFF


def test_error_of_the_router_passes_from_any_of_its_addresses(gateway: Gateway) -> None:
    gateway.decide(to_inside(slot=3), ROUTER)
    error = IP(src=SECOND, dst=PEER) / ICMP(type=3, code=3) / quote(esp(PEER, SECOND))
    assert gateway.from_inside(error).packet == bytes(error)
    (told,) = gateway.observed()
    assert (told.host, told.slot) == (IPv4Address(ROUTER), 3)


def test_held_packets_of_each_address_open_their_own_flow(gateway: Gateway) -> None:
    for address, slot, host in ((OUTSIDE, 0, ALICE), (SECOND, 3, BOB)):
        assert gateway.from_outside(esp(PEER, address)).verdict == TAKEN
        gateway.decide(to_inside(slot=slot), host)
    gateway.pass_held(to_inside(slot=3), esp(PEER, SECOND))
    assert gateway.is_open(to_inside(slot=3))
    assert not gateway.is_open(to_inside(slot=0))
    gateway.pass_held(to_inside(slot=0), esp(PEER, OUTSIDE))
    assert gateway.is_open(to_inside(slot=0))


def test_held_fragments_are_named_by_their_address(gateway: Gateway) -> None:
    pieces = cut(gre(PEER, SECOND, key=6, size=1600, id=77))
    key = to_inside(1 << 32 | 6, protocol=47, slot=3)
    for piece in pieces:
        assert gateway.from_outside(piece).verdict == TAKEN
    gateway.decide(to_inside(1 << 32 | 6, protocol=47, slot=0), ALICE)
    gateway.decide(key, BOB)
    for piece in pieces:
        assert not gateway.is_open(key)
        assert gateway.pass_held(key, piece).verdict == PASS
    assert gateway.is_open(key)


def test_what_was_held_turns_around_at_any_address(gateway: Gateway) -> None:
    assert gateway.from_inside(esp(PEER, LAST), mark=REINJECTED).verdict == REDIRECT


def test_the_router_is_known_by_the_address_that_it_sends_from(gateway: Gateway) -> None:
    assert gateway.from_inside(esp(SECOND, PEER)).packet == bytes(esp(SECOND, PEER))
    (copy,) = gateway.punted()
    assert (copy.kind, copy.key, copy.slot) == (abi.PuntKind.COPY, to_peer(ROUTER), 3)


def test_a_copy_for_the_router_keeps_its_address(gateway: Gateway) -> None:
    """The list ends with the router: a copy for a host has been cloned, and the packet itself is as it came."""
    gateway.decide(to_inside(slot=3), ALICE, ROUTER)
    out = gateway.from_outside(esp(PEER, SECOND))
    assert (out.verdict, out.packet) == (PASS, bytes(esp(PEER, SECOND)))
    assert out.mark & CARRIED == 0


def test_the_configuration_reads_as_it_was_written(gateway: Gateway) -> None:
    value = gateway.loaded.maps["config"].lookup(struct.pack("=I", 0))
    assert value is not None
    _, count, packed, *_ = abi.LAYOUTS["config"].format.unpack(value)
    assert count == 16
    assert packed[4 * 3 : 4 * 4] == IPv4Address(SECOND).packed
