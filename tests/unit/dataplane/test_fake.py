"""The fake data plane: where does this packet go?"""

import errno
from ipaddress import IPv4Address
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP
from scapy.packet import Packet, Raw

from throughway.core.errors import InvariantBroken, KernelRefused
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Peer
from throughway.core.limits import Limits
from throughway.core.ports import DataPlane, IkeObserved
from throughway.core.reasons import Reason
from throughway.dataplane.fake import Delivery, FakeDataPlane

ALICE, BOB = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11))
PEER, STRANGER = (Peer(IPv4Address(f"203.0.113.{n}")) for n in (9, 66))
OUTSIDE = IPv4Address("198.51.100.1")
SPI_IN, SPI_OUT = 0xAAAA0001, 0xBBBB0001
IN = FlowKey.to_inside(IpProtocol.ESP, Path(PEER), SPI_IN)
OUT = FlowKey.to_peer(IpProtocol.ESP, ALICE, PEER, SPI_OUT)


class Bench:
    """A fake data plane with a clock that a test moves."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.now = 100.0
        self.plane = FakeDataPlane(limits or Limits(), lambda: self.now, [OUTSIDE])
        self.port: DataPlane = self.plane

    def know_peer(self) -> None:
        """Let Alice send once, so that the peer is known; forget what was asked."""
        self.plane.from_inside(outgoing(1))
        self.plane.refuse(OUT, Reason.REFUSED)
        self.plane.punted.clear()

    def hosts(self) -> list[Host]:
        """Take out who got what was delivered."""
        found = [delivery.host for delivery in self.plane.delivered]
        self.plane.delivered.clear()
        return found

    def sequences(self) -> list[int]:
        """Take out the sequence numbers of what was delivered."""
        found = [IP(delivery.packet)[ESP].seq for delivery in self.plane.delivered]
        self.plane.delivered.clear()
        return found


def esp(source: IPv4Address, destination: IPv4Address, spi: int, sequence: int, **ip: Any) -> bytes:
    packet: Packet = IP(src=str(source), dst=str(destination), **ip) / ESP(spi=spi, seq=sequence, data=bytes(40))
    return bytes(packet)


def incoming(sequence: int, *, peer: Peer = PEER, spi: int = SPI_IN, **ip: Any) -> bytes:
    return esp(peer, OUTSIDE, spi, sequence, **ip)


def outgoing(sequence: int) -> bytes:
    return esp(ALICE, PEER, SPI_OUT, sequence)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_unknown_flow_is_asked_about_once_and_held(bench: Bench) -> None:
    for sequence in (1, 2, 3):
        bench.plane.from_inside(outgoing(sequence))
    (question,) = bench.plane.punted
    assert (question.key, question.is_copy) == (OUT, False)
    assert not bench.plane.sent
    assert bench.plane.reasons() == {Reason.PUNTED: 3}


def test_held_packets_come_out_in_order_and_before_what_follows(bench: Bench) -> None:
    bench.know_peer()
    bench.plane.from_outside(incoming(1))
    bench.plane.from_outside(incoming(2))
    bench.port.install(IN, (ALICE,))
    bench.plane.from_outside(incoming(3))
    assert bench.hosts() == [], "not open until what is held has gone first"
    bench.port.reinject(IN)
    bench.plane.from_outside(incoming(4))
    assert bench.sequences() == [1, 2, 3, 4]


def test_packet_is_translated_and_otherwise_as_it_was(bench: Bench) -> None:
    bench.port.install(OUT, (ALICE,))
    bench.plane.from_inside(outgoing(1))
    bench.port.install(IN, (ALICE,))
    bench.plane.from_outside(incoming(1))
    assert list(bench.plane.sent) == [esp(OUTSIDE, PEER, SPI_OUT, 1)]
    assert list(bench.plane.delivered) == [Delivery(ALICE, esp(PEER, ALICE, SPI_IN, 1))]


def test_fan_out_gives_each_host_a_copy(bench: Bench) -> None:
    bench.know_peer()
    bench.port.install(IN, (ALICE, ROUTER, BOB))
    bench.plane.from_outside(incoming(1))
    assert list(bench.plane.delivered) == [
        Delivery(ALICE, esp(PEER, ALICE, SPI_IN, 1)),
        Delivery(ROUTER, incoming(1)),
        Delivery(BOB, esp(PEER, BOB, SPI_IN, 1)),
    ]
    assert bench.plane.reasons()[Reason.FAN_OUT_COPY] == 2


def test_other_hosts_cannot_use_a_flow_to_the_peer(bench: Bench) -> None:
    bench.port.install(OUT, (ALICE,))
    bench.plane.from_inside(esp(BOB, PEER, SPI_OUT, 1))
    assert not bench.plane.sent
    assert bench.plane.punted[0].key.host == BOB


def test_refused_flow_is_dropped_and_asked_about_again_later(bench: Bench) -> None:
    bench.know_peer()
    bench.plane.from_outside(incoming(1))
    bench.port.refuse(IN, Reason.NO_CANDIDATE)
    bench.plane.punted.clear()
    bench.plane.from_outside(incoming(2))
    assert not bench.plane.punted
    bench.now += Limits().refused_s
    bench.plane.from_outside(incoming(3))
    assert len(bench.plane.punted) == 1
    bench.port.install(IN, (ALICE,))
    bench.port.reinject(IN)
    assert bench.sequences() == [3]
    assert bench.plane.reasons()[Reason.NO_CANDIDATE] == 1
    assert bench.plane.reasons()[Reason.REFUSED] == 2


def test_flow_that_nobody_decides_is_asked_about_again(bench: Bench) -> None:
    bench.know_peer()
    bench.plane.from_outside(incoming(1))
    bench.now += Limits().held_s + 1
    bench.plane.from_outside(incoming(2))
    assert len(bench.plane.punted) == 2
    assert bench.plane.reasons()[Reason.HELD_TOO_LONG] == 1


def test_what_is_held_is_bounded_for_each_flow_and_in_total() -> None:
    bench = Bench(Limits(held_per_flow_max=2, pending_max=2))
    bench.know_peer()
    for sequence in (1, 2, 3):
        bench.plane.from_outside(incoming(sequence))
    assert bench.plane.reasons()[Reason.HOLD_FULL] == 1
    bench.plane.from_outside(incoming(1, spi=SPI_IN + 1))
    assert bench.plane.reasons()[Reason.PENDING_FULL] == 1
    bench.now += Limits().refused_s
    bench.plane.from_outside(incoming(1, spi=SPI_IN + 1))
    assert len(bench.plane.punted) == 2, "the refusal of Alice's own flow has ended and makes room"


def test_removed_flow_is_unknown_again(bench: Bench) -> None:
    bench.know_peer()
    bench.port.install(IN, (ALICE,))
    bench.port.remove(IN)
    bench.port.remove(IN)
    bench.plane.from_outside(incoming(1))
    assert bench.hosts() == []
    assert bench.plane.punted[0].key == IN


def test_held_packets_without_a_mapping_go_nowhere(bench: Bench) -> None:
    bench.know_peer()
    bench.plane.from_outside(incoming(1))
    bench.port.reinject(IN)
    assert bench.hosts() == []
    assert bench.plane.reasons()[Reason.NO_CANDIDATE] == 1


def test_counters_are_kept_when_the_owner_changes(bench: Bench) -> None:
    bench.know_peer()
    bench.port.install(IN, (ALICE, BOB))
    bench.plane.from_outside(incoming(1))
    bench.now += 5
    bench.port.install(IN, (BOB,))
    bench.plane.from_outside(incoming(2))
    (flow,) = bench.port.flows()
    assert (flow.hosts, flow.created_at) == ((BOB,), 100.0)
    assert (flow.count.packets, flow.count.bytes, flow.count.last_packet_at) == (2, 2 * len(incoming(1)), 105.0)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (incoming(1, peer=STRANGER), Reason.NO_CANDIDATE),
        (incoming(1, spi=255), Reason.RESERVED_SPI),
        (bytes(IP(src=str(PEER), dst=str(OUTSIDE), proto=50) / Raw(bytes(7))), Reason.MALFORMED),
        (incoming(1, frag=185), Reason.FRAGMENT_BEFORE_FIRST),
    ],
    ids=lambda value: value.name if isinstance(value, Reason) else "",
)
def test_what_names_no_tunnel_is_dropped_with_its_reason(bench: Bench, packet: bytes, reason: Reason) -> None:
    bench.know_peer()
    before = bench.plane.reasons().get(reason, 0)
    bench.plane.from_outside(packet)
    assert bench.plane.reasons()[reason] == before + 1
    assert not bench.plane.punted
    assert bench.hosts() == []


def test_later_fragment_goes_where_its_first_one_went(bench: Bench) -> None:
    bench.know_peer()
    bench.port.install(IN, (ALICE,))
    bench.plane.from_outside(incoming(1, flags="MF", id=7))
    bench.plane.from_outside(bytes(IP(src=str(PEER), dst=str(OUTSIDE), proto=50, frag=6, id=7) / Raw(bytes(30))))
    assert bench.hosts() == [ALICE, ALICE]
    bench.now += 31
    bench.plane.from_outside(bytes(IP(src=str(PEER), dst=str(OUTSIDE), proto=50, frag=6, id=7) / Raw(bytes(30))))
    assert bench.hosts() == []


def test_packet_to_another_address_is_not_ours(bench: Bench) -> None:
    bench.know_peer()
    bench.port.install(IN, (ALICE,))
    bench.plane.from_outside(esp(PEER, IPv4Address("198.51.100.2"), SPI_IN, 1))
    bench.port.set_outside_addresses([])
    bench.plane.from_outside(incoming(1))
    assert bench.hosts() == []


def test_inside_address_never_leaves(bench: Bench) -> None:
    bench.port.install(OUT, (ALICE,))
    bench.port.set_outside_addresses([])
    bench.plane.from_inside(outgoing(1))
    assert not bench.plane.sent
    assert bench.plane.reasons()[Reason.NO_OUTSIDE_ADDRESS] == 1


def test_routers_own_packets_pass_and_are_asked_about_as_copies(bench: Bench) -> None:
    own = esp(OUTSIDE, PEER, SPI_OUT, 1)
    bench.plane.from_router(own)
    (question,) = bench.plane.punted
    assert (question.key.host, question.is_copy) == (ROUTER, True)
    bench.port.install(question.key, (ROUTER,))
    bench.plane.from_router(own)
    assert list(bench.plane.sent) == [own, own]
    assert len(bench.plane.punted) == 1


@pytest.mark.parametrize(("port", "marker", "floated"), [(500, b"", False), (4500, bytes(4), True)])
def test_ike_is_observed_both_ways(bench: Bench, port: int, marker: bytes, floated: bool) -> None:
    message = bytes(range(1, 29))
    datagram = UDP(sport=port, dport=port) / Raw(marker + message)
    bench.plane.from_inside(bytes(IP(src=str(ALICE), dst=str(PEER)) / datagram))
    bench.plane.from_kernel_nat(bytes(IP(src=str(PEER), dst=str(ALICE)) / datagram))
    seen = [
        (o.host, o.peer, o.direction, o.floated, o.message) for o in bench.plane.observed if isinstance(o, IkeObserved)
    ]
    assert seen == [
        (ALICE, PEER, Direction.TO_PEER, floated, message),
        (ALICE, PEER, Direction.TO_INSIDE, floated, message),
    ]
    bench.plane.from_outside(incoming(1))
    assert bench.plane.punted[0].key == IN, "the peer is known by now"


def test_what_no_packet_could_be_given_to_is_our_fault(bench: Bench) -> None:
    for hosts in ((), (ALICE, ALICE)):
        with pytest.raises(InvariantBroken):
            bench.port.install(IN, hosts)
    with pytest.raises(InvariantBroken):
        bench.port.install(OUT, (BOB,))
    assert list(bench.port.flows()) == []


def test_full_tables_refuse_as_the_kernel_does() -> None:
    bench = Bench(Limits(mappings_max=1, fan_out_late_max=1))
    with pytest.raises(KernelRefused) as refusal:
        bench.port.install(IN, (ALICE, BOB))
    assert refusal.value.errno == errno.E2BIG
    bench.port.install(IN, (ALICE,))
    bench.port.install(IN, (BOB,))
    with pytest.raises(KernelRefused):
        bench.port.install(OUT, (ALICE,))
    assert [flow.hosts for flow in bench.port.flows()] == [(BOB,)]


def test_killed_daemon_loses_what_it_held_and_no_mapping(bench: Bench) -> None:
    bench.know_peer()
    bench.port.install(IN, (ALICE,))
    bench.plane.from_inside(esp(BOB, PEER, SPI_OUT, 1))
    bench.plane.forget_held()
    assert not bench.plane.punted
    bench.plane.from_outside(incoming(1))
    assert bench.hosts() == [ALICE]


def test_each_burst_of_a_traced_flow_is_noted_once(bench: Bench) -> None:
    bench.know_peer()
    bench.port.install(IN, (ALICE,))
    bench.port.trace(IN)
    for later_s in (0.0, 0.001, 0.5):
        bench.now += later_s
        bench.plane.from_outside(incoming(1))
    assert [trace.times for trace in bench.port.traces()] == [(100.0, 100.501)]
    bench.port.untrace(IN)
    assert list(bench.port.traces()) == []
