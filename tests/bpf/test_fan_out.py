"""Fan-out: each host of the list gets the packet once, the last one the packet itself."""

import os
import socket
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute

from throughway.core.reasons import Reason
from throughway.dataplane import abi
from throughway.dataplane.libbpf import TCX_INGRESS, link_create, link_detach

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
    THEIRS,
    Gateway,
    esp,
    readdressed,
    to_inside,
)

_ETH_P_IP = 0x0800


@pytest.fixture
def clones(wan: int) -> Iterator[socket.socket]:
    """What comes in by the outside interface: the clones, since nothing else is sent there."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP)) as tap:
        tap.bind(("wan0", _ETH_P_IP))
        tap.settimeout(2)
        yield tap


def _arrived(tap: socket.socket, count: int) -> list[bytes]:
    packets = [tap.recv(65536) for _ in range(count)]
    tap.setblocking(False)
    with pytest.raises(BlockingIOError):
        tap.recv(65536)
    return packets


@pytest.mark.parametrize("count", [2, 3, 5, 64])
def test_every_host_gets_the_packet_once(gateway: Gateway, clones: socket.socket, count: int) -> None:
    hosts = [f"10.77.1.{number + 1}" for number in range(count)]
    assert gateway.decide(to_inside(), *hosts) == 0
    packet = esp(PEER, OUTSIDE, size=1000)
    out = gateway.from_outside(packet, mark=THEIRS)
    assert (out.verdict, out.mark) == (PASS, THEIRS | CARRIED)
    copies = [readdressed(packet, dst=host) for host in hosts]
    assert out.packet == copies[-1]
    assert _arrived(clones, count - 1) == copies[:-1]
    assert gateway.counted() == {Reason.TRANSLATED_TO_INSIDE: 1, Reason.FAN_OUT_COPY: count - 1}
    mapping = gateway.mapping(to_inside())
    assert mapping is not None and (mapping.packets, mapping.octets) == (1, len(packet))


def test_the_router_in_the_list_gets_the_packet_as_it_came(gateway: Gateway, clones: socket.socket) -> None:
    gateway.decide(to_inside(), ALICE, ROUTER, BOB)
    packet = esp(PEER, OUTSIDE)
    out = gateway.from_outside(packet)
    assert out.packet == readdressed(packet, dst=BOB)
    assert _arrived(clones, 2) == [readdressed(packet, dst=ALICE), bytes(packet)]


def test_the_router_last_in_the_list_gets_the_original(gateway: Gateway, clones: socket.socket) -> None:
    gateway.decide(to_inside(), ALICE, BOB, ROUTER)
    packet = esp(PEER, OUTSIDE)
    out = gateway.from_outside(packet, mark=THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, bytes(packet), THEIRS)
    assert len(_arrived(clones, 2)) == 2
    assert gateway.counted() == {Reason.ROUTER_OWN: 1, Reason.FAN_OUT_COPY: 2}


def test_clones_carry_the_mark_and_are_not_fanned_out_again(gateway: Gateway, clones: socket.socket, wan: int) -> None:
    """With the program attached to the interface, the router's unchanged copy would come round for ever."""
    link = link_create(gateway.loaded.programs["outside_ingress"], wan, TCX_INGRESS)
    gateway.decide(to_inside(), ROUTER, ALICE, BOB)
    gateway.from_outside(esp(PEER, OUTSIDE))
    _arrived(clones, 2)
    link_detach(link)
    os.close(link)
    assert gateway.counted() == {Reason.TRANSLATED_TO_INSIDE: 1, Reason.FAN_OUT_COPY: 2}


def test_a_held_packet_waits_behind_its_clones_and_counts_once(gateway: Gateway, clones: socket.socket) -> None:
    packet = esp(PEER, OUTSIDE)
    gateway.from_outside(packet)
    gateway.decide(to_inside(), ALICE, BOB, CAROL)
    out = gateway.from_outside(packet, mark=REINJECTED | THEIRS)
    assert (out.verdict, out.mark) == (REDIRECT, REINJECTED | CARRIED | THEIRS)
    for copy in _arrived(clones, 2):
        gateway.run("inside_egress", copy, mark=CARRIED | THEIRS)
    assert not gateway.is_open(to_inside())
    again = gateway.from_outside(out.packet, mark=out.mark)
    assert (again.verdict, again.packet, again.mark) == (PASS, out.packet, out.mark)
    gateway.run("inside_egress", again.packet, mark=again.mark)
    assert gateway.is_open(to_inside())


def test_a_held_packet_whose_last_owner_is_the_router_counts_at_once(gateway: Gateway, clones: socket.socket) -> None:
    packet = esp(PEER, OUTSIDE)
    gateway.from_outside(packet)
    gateway.decide(to_inside(), ALICE, ROUTER)
    out = gateway.from_outside(packet, mark=REINJECTED | THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, bytes(packet), THEIRS)
    assert gateway.is_open(to_inside())
    _arrived(clones, 1)


def test_fewer_hosts_later_and_more_again(gateway: Gateway, clones: socket.socket) -> None:
    packet = esp(PEER, OUTSIDE)
    for hosts in ([ALICE, BOB, CAROL], [BOB], [CAROL, BOB], [ALICE]):
        gateway.decide(to_inside(), *hosts)
        out = gateway.from_outside(packet)
        assert out.packet == readdressed(packet, dst=hosts[-1])
        clones.settimeout(2)
        assert _arrived(clones, len(hosts) - 1) == [readdressed(packet, dst=host) for host in hosts[:-1]]
    mapping = gateway.mapping(to_inside())
    assert mapping is not None and mapping.packets == 4


def test_a_list_that_is_gone_leaves_the_best_candidate(gateway: Gateway, clones: socket.socket) -> None:
    gateway.decide(to_inside(), ALICE, BOB)
    gateway.loaded.maps["fan_outs"].delete(abi.pack_key(to_inside()))
    packet = esp(PEER, OUTSIDE)
    assert gateway.from_outside(packet).packet == readdressed(packet, dst=BOB)
    _arrived(clones, 0)


@pytest.mark.parametrize("count", [0, 17, 1 << 31])
def test_a_count_that_cannot_be_sends_no_more_than_the_list(gateway: Gateway, count: int) -> None:
    gateway.decide(to_inside(), ALICE, BOB)
    value = count.to_bytes(4, "little") + bytes(4 * abi.FAN_OUT_MAX)
    gateway.loaded.maps["fan_outs"].update(abi.pack_key(to_inside()), value)
    assert gateway.from_outside(esp(PEER, OUTSIDE)).verdict == PASS
    assert gateway.counted().get(Reason.FAN_OUT_COPY, 0) <= abi.FAN_OUT_MAX - 1


def test_copies_that_the_interface_refuses_are_counted(gateway: Gateway, wan: int) -> None:
    gateway.decide(to_inside(), ALICE, BOB, CAROL)
    packet = esp(PEER, OUTSIDE)
    with IPRoute() as route:
        route.link("set", index=wan, state="down")
        try:
            out = gateway.from_outside(packet)
        finally:
            route.link("set", index=wan, state="up")
    assert out.verdict != DROP
    assert out.packet == readdressed(packet, dst=CAROL)
    assert gateway.counted() == {Reason.TRANSLATED_TO_INSIDE: 1, Reason.CLONE_FAILED: 2}
