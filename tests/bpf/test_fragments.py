"""Fragments: later ones have no discriminator and follow their first one, both ways, in whatever order they come."""

import threading
from collections.abc import Callable
from itertools import permutations

import pytest
from scapy.layers.inet import IP
from scapy.packet import Packet

from throughway.core.flows import Direction, FlowKey
from throughway.core.reasons import Reason
from throughway.dataplane import abi
from throughway.dataplane.abi import FragmentState, PuntKind
from throughway.dataplane.libbpf import test_run

from .gateway import (
    ALICE,
    BOB,
    CARRIED,
    DROP,
    ETHERNET,
    OUTSIDE,
    PASS,
    PEER,
    REDIRECT,
    REINJECTED,
    ROUTER,
    STRANGER,
    TAKEN,
    THEIRS,
    Gateway,
    Outcome,
    cut,
    esp,
    gre,
    l2tp,
    l2tp_control,
    other,
    pptp,
    readdressed,
    to_inside,
    to_peer,
)

_KEYED = 1 << 32
_TICK_NS = 20_000_000
"""More than a step of the coarse clock."""
BACK = CARRIED | REINJECTED
"""The marks of a fragment that the daemon puts back."""

PROTOCOLS = [
    pytest.param(esp, 50, 0x1000, id="ESP"),
    pytest.param(lambda a, b, **more: gre(a, b, key=6, **more), 47, _KEYED | 6, id="GRE"),
    pytest.param(l2tp, 115, 7, id="L2TPv3"),
    pytest.param(other, 4, 0, id="another"),
]
BOTH_WAYS = pytest.mark.parametrize("is_inward", [True, False], ids=["to_inside", "to_peer"])
Build = Callable[..., Packet]


class Way:
    """One direction: where packets go in, and how they shall look when they come out."""

    def __init__(self, gateway: Gateway, is_inward: bool, protocol: int = 50, discriminator: int = 0x1000) -> None:
        self.gateway = gateway
        self.is_inward = is_inward
        self.ends = (PEER, OUTSIDE) if is_inward else (ALICE, PEER)
        self.key = (
            to_inside(discriminator, protocol=protocol) if is_inward else to_peer(spi=discriminator, protocol=protocol)
        )

    def send(self, packet: Packet | bytes, mark: int = 0) -> Outcome:
        return self.gateway.from_outside(packet, mark) if self.is_inward else self.gateway.from_inside(packet, mark)

    def put_back(self, packet: Packet | bytes) -> Outcome:
        """Send what waited, as the daemon does, and follow it where it is turned round."""
        out = self.gateway.from_inside(packet, mark=BACK | THEIRS)
        if not self.is_inward:
            return out
        assert (out.verdict, out.mark, out.packet) == (REDIRECT, THEIRS, bytes(packet))
        return self.gateway.from_outside(out.packet, out.mark)

    def expected(self, packet: Packet) -> bytes:
        return readdressed(packet, dst=ALICE) if self.is_inward else readdressed(packet, src=OUTSIDE)


def _pieces(source: str, destination: str, ip_id: int = 7) -> list[IP]:
    pieces = cut(esp(source, destination, size=2900, id=ip_id))
    assert len(pieces) == 3
    return pieces


@BOTH_WAYS
@pytest.mark.parametrize(("build", "protocol", "discriminator"), PROTOCOLS)
def test_any_order_of_four(gateway: Gateway, build: Build, protocol: int, discriminator: int, is_inward: bool) -> None:
    """What comes before the first one waits, all of it leaves readdressed, and nothing is counted as a drop."""
    way = Way(gateway, is_inward, protocol, discriminator)
    gateway.decide(way.key, ALICE)
    for number, order in enumerate(permutations(range(4))):
        pieces = cut(build(*way.ends, size=3900, id=100 + number))
        assert len(pieces) == 4
        passed: dict[int, bytes] = {}
        waiting: list[int] = []
        for at in order:
            out = way.send(pieces[at])
            if out.verdict == PASS:
                passed[at] = out.packet
            else:
                waiting.append(at)
        assert waiting == list(order[: order.index(0)])
        punts = gateway.punted()
        assert [(punt.kind, punt.frame[14:]) for punt in punts if punt.kind is PuntKind.FRAGMENT] == [
            (PuntKind.FRAGMENT, bytes(pieces[at])) for at in waiting
        ]
        assert [punt.kind for punt in punts[len(waiting) :]] == [PuntKind.FIRST_FRAGMENT] * bool(waiting)
        for at in waiting:
            passed[at] = way.put_back(pieces[at]).packet
        assert passed == {at: way.expected(piece) for at, piece in enumerate(pieces)}
    counted = gateway.counted()
    assert counted.pop(Reason.FRAGMENT_HELD) == 24 * 3 / 2
    assert counted == {Reason.TRANSLATED_TO_INSIDE if is_inward else Reason.TRANSLATED_TO_PEER: 24 * 4}


@BOTH_WAYS
def test_what_waits_is_named_by_what_all_fragments_share(gateway: Gateway, is_inward: bool) -> None:
    way = Way(gateway, is_inward)
    first, second, _ = _pieces(*way.ends, ip_id=0x0102)
    way.send(second)
    way.send(first)
    held, told = (punt.fragment for punt in gateway.punted() if punt.fragment)
    assert held == told
    assert (str(held.source), str(held.destination)) == way.ends
    assert (held.identification, held.protocol) == (b"\1\2", 50)
    assert held.direction == (Direction.TO_INSIDE if is_inward else Direction.TO_PEER)
    assert gateway.loaded.maps["fragments"].lookup(held.pack()) is not None


@BOTH_WAYS
def test_in_order_nothing_is_told(gateway: Gateway, is_inward: bool) -> None:
    way = Way(gateway, is_inward)
    gateway.decide(way.key, ALICE)
    for piece in _pieces(*way.ends):
        out = way.send(piece)
        assert (out.verdict, out.packet) == (PASS, way.expected(piece))
    assert gateway.punted() == []


def test_whatever_the_cpus_do_a_fragment_that_waits_is_found_by_its_first_one(gateway: Gateway) -> None:
    """Two threads bring the first and a later fragment at once: nothing stays awaited once the first one has come."""
    gateway.decide(to_inside(), ALICE)
    program = gateway.loaded.programs["outside_ingress"]
    held = told = 0
    for number in range(400):
        frames = [ETHERNET + b"\x08\x00" + bytes(each) for each in _pieces(PEER, OUTSIDE, ip_id=number + 1)[:2]]
        meet = threading.Barrier(2)

        def bring(frame: bytes, meet: threading.Barrier = meet) -> None:
            meet.wait()
            test_run(program, frame)

        threads = [threading.Thread(target=bring, args=(frame,)) for frame in frames]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kinds = [punt.kind for punt in gateway.punted()]
        held += PuntKind.FRAGMENT in kinds
        told += PuntKind.FIRST_FRAGMENT in kinds
    assert {each.state for each in gateway.fragments()} == {FragmentState.KNOWN}
    assert held == told, "whoever waited was told of"


@BOTH_WAYS
def test_the_first_one_is_told_once(gateway: Gateway, is_inward: bool) -> None:
    """Also where it comes twice, and where several have waited."""
    way = Way(gateway, is_inward)
    first, second, third = _pieces(*way.ends)
    for piece in (third, second, first, first):
        way.send(piece)
    kinds = [punt.kind for punt in gateway.punted()]
    assert kinds.count(PuntKind.FIRST_FRAGMENT) == 1


@BOTH_WAYS
def test_of_an_undecided_flow_it_becomes_one_of_the_held_packets(gateway: Gateway, is_inward: bool) -> None:
    """What waited for its first one gets its number when it comes back, and opens the flow with the others."""
    way = Way(gateway, is_inward)
    first, second, third = _pieces(*way.ends)
    assert way.send(second).verdict == TAKEN
    assert way.send(first).verdict == TAKEN
    assert way.put_back(second).verdict == TAKEN
    assert way.send(third).verdict == TAKEN
    held = [punt for punt in gateway.punted() if punt.kind is PuntKind.HELD]
    assert [(punt.sequence, punt.frame[14:]) for punt in held] == [
        (number, bytes(piece)) for number, piece in enumerate((first, second, third))
    ]
    gateway.decide(way.key, ALICE)
    for piece in (first, second, third):
        assert not gateway.is_open(way.key)
        assert gateway.pass_held(way.key, piece).packet == way.expected(piece)
    assert gateway.is_open(way.key)


@BOTH_WAYS
def test_put_back_while_the_flow_drains_it_does_not_open_it_early(gateway: Gateway, is_inward: bool) -> None:
    way = Way(gateway, is_inward)
    way.send(esp(*way.ends))
    gateway.decide(way.key, ALICE)
    first, second, _ = _pieces(*way.ends)
    way.send(second)
    way.send(first)
    assert way.put_back(second).verdict == TAKEN, "it waits behind the packets before it"
    entry = gateway.pending(way.key)
    assert entry is not None and (entry.punted, entry.reinjected) == (3, 0)


@BOTH_WAYS
def test_put_back_though_its_first_one_is_forgotten_it_waits_again(gateway: Gateway, is_inward: bool) -> None:
    way = Way(gateway, is_inward)
    gateway.decide(way.key, ALICE)
    _, second, _ = _pieces(*way.ends)
    assert way.put_back(second).verdict == TAKEN
    assert [punt.kind for punt in gateway.punted()] == [PuntKind.FRAGMENT]


def test_fragments_of_other_packets_do_not_follow(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    gateway.from_outside(_pieces(PEER, OUTSIDE, ip_id=7)[0])
    assert gateway.from_outside(_pieces(PEER, OUTSIDE, ip_id=8)[1]).verdict == TAKEN
    later = _pieces(PEER, OUTSIDE, ip_id=7)[1]
    later.proto = 47
    del later.chksum
    assert gateway.from_outside(IP(bytes(later))).verdict == TAKEN


def _age(gateway: Gateway, by_ns: int) -> None:
    """Let the time of everything that is known of fragments come nearer by so much."""
    fragments = gateway.loaded.maps["fragments"]
    layout = abi.LAYOUTS["fragment"].format
    for name, value in list(fragments.items()):
        key, until_ns, *rest = layout.unpack(value)
        fragments.update(name, layout.pack(key, until_ns - by_ns, *rest))


@BOTH_WAYS
def test_an_old_first_fragment_says_nothing(gateway: Gateway, is_inward: bool) -> None:
    way = Way(gateway, is_inward)
    gateway.decide(way.key, ALICE)
    first, second, third = _pieces(*way.ends)
    way.send(first)
    _age(gateway, abi.FRAGMENT_FRESH_NS - 10**10)
    assert way.send(second).verdict == PASS
    _age(gateway, 10**10 + _TICK_NS)
    assert way.send(third).verdict == TAKEN
    assert [each.state for each in gateway.fragments()] == [FragmentState.AWAITED]


def test_an_ip_id_that_is_used_again_soon_names_the_new_packet(gateway: Gateway) -> None:
    """A packet that came whole is over a second later, so a later fragment of the next one with its ID waits."""
    gateway.decide(to_inside(0xA00), ALICE)
    gateway.decide(to_inside(0xB00), BOB)
    old, new = (cut(esp(PEER, OUTSIDE, spi, size=1500, id=9)) for spi in (0xA00, 0xB00))
    for piece in old:
        assert IP(gateway.from_outside(piece).packet).dst == ALICE
    (entry,) = gateway.fragments()
    assert (entry.seen, entry.total) == (1508, 1508)
    _age(gateway, abi.FRAGMENT_REUSED_NS + _TICK_NS)
    assert gateway.from_outside(new[1]).verdict == TAKEN
    assert IP(gateway.from_outside(new[0]).packet).dst == BOB
    assert IP(Way(gateway, True).put_back(new[1]).packet).dst == BOB


def test_a_first_fragment_replaces_what_was_known_of_its_id(gateway: Gateway) -> None:
    gateway.decide(to_inside(0xA00), ALICE)
    gateway.decide(to_inside(0xB00), BOB)
    old, new = (cut(esp(PEER, OUTSIDE, spi, size=2500, id=9)) for spi in (0xA00, 0xB00))
    gateway.from_outside(old[0])
    gateway.from_outside(new[0])
    assert IP(gateway.from_outside(new[1]).packet).dst == BOB
    assert gateway.punted() == []


def test_a_packet_that_is_not_complete_is_known_for_long(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    first, second, third = _pieces(PEER, OUTSIDE)
    gateway.from_outside(first)
    gateway.from_outside(third)
    _age(gateway, abi.FRAGMENT_FRESH_NS - 5 * 10**9)
    assert gateway.from_outside(second).verdict == PASS


@BOTH_WAYS
def test_held_fragments_come_back_long_after_they_were_complete(gateway: Gateway, is_inward: bool) -> None:
    way = Way(gateway, is_inward)
    pieces = _pieces(*way.ends)
    for piece in pieces:
        way.send(piece)
    _age(gateway, 40 * 10**9)
    gateway.decide(way.key, ALICE)
    for piece in pieces:
        assert gateway.pass_held(way.key, piece).packet == way.expected(piece)
    assert gateway.is_open(way.key)


def test_who_sends_nothing_but_later_fragments_spends_a_budget_of_its_own(gateway: Gateway) -> None:
    gateway.configure(fragments_per_address=5)
    for number in range(20):
        gateway.from_inside(_pieces(ALICE, PEER, ip_id=number)[1])
    assert gateway.counted() == {Reason.FRAGMENT_HELD: 5, Reason.FRAGMENT_BEFORE_FIRST: 15}
    gateway.from_inside(_pieces(BOB, PEER)[1])
    gateway.from_outside(_pieces(PEER, OUTSIDE)[1])
    gateway.from_inside(esp(ALICE, PEER))
    assert gateway.counted() == {Reason.FRAGMENT_HELD: 2, Reason.PUNTED: 1}


def test_of_a_stranger_nothing_waits_and_nothing_is_remembered(gateway: Gateway) -> None:
    """Its ESP goes nowhere, and all else goes to the stack, whatever comes first."""
    builds: list[tuple[Build, int]] = [(esp, DROP), (gre, PASS), (l2tp, PASS), (other, PASS)]
    for build, verdict in builds:
        for piece in reversed(cut(build(STRANGER, OUTSIDE, size=2900))):
            out = gateway.from_outside(piece)
            assert (out.verdict, out.packet) == (verdict, bytes(piece))
    assert gateway.fragments() == []
    assert gateway.punted() == []
    assert gateway.counted() == {Reason.NO_CANDIDATE: 3}


def test_pptp_in_fragments_is_the_kernels_in_whatever_order(gateway: Gateway) -> None:
    """That a later fragment is PPTP's shows only when its first one has come."""
    packet = IP(bytes(pptp(PEER, OUTSIDE, id=3)) + bytes(2000))
    del packet.len, packet.chksum
    first, second, third = cut(IP(bytes(packet)))
    assert gateway.from_outside(second).verdict == TAKEN
    out = gateway.from_outside(first)
    assert (out.verdict, out.packet) == (PASS, bytes(first))
    assert [punt.kind for punt in gateway.punted()] == [PuntKind.FRAGMENT, PuntKind.FIRST_FRAGMENT]
    for out, piece in ((Way(gateway, True).put_back(second), second), (gateway.from_outside(third), third)):
        assert (out.verdict, out.packet, out.mark & BACK) == (PASS, bytes(piece), 0)


def test_the_routers_own_fragments_are_its_own(gateway: Gateway) -> None:
    """Outwards they pass in any order; inwards its first one says so."""
    for piece in reversed(cut(gre(OUTSIDE, PEER, size=2900))):
        assert gateway.from_inside(piece).packet == bytes(piece)
    gateway.punted()
    gateway.decide(to_peer(ROUTER, 0, protocol=47), ROUTER)
    first, second, _ = cut(gre(PEER, OUTSIDE, size=2900))
    assert gateway.from_outside(second).verdict == TAKEN
    assert gateway.from_outside(first).packet == bytes(first)
    assert Way(gateway, True).put_back(second).packet == bytes(second)


def test_fragments_of_control_messages_follow_too(gateway: Gateway) -> None:
    gateway.decide(to_peer(spi=_KEYED | 9, protocol=115), ALICE)
    first, second = cut(l2tp_control(ALICE, PEER, 9, avps=bytes(1500)))
    assert gateway.from_inside(second).verdict == TAKEN
    assert gateway.from_inside(first).verdict == PASS
    assert Way(gateway, False).put_back(second).packet == readdressed(second, src=OUTSIDE)


def test_a_packet_that_the_stack_cuts_counts_once(gateway: Gateway) -> None:
    """It went out of our hands whole: only the first of its fragments has a name at the inside interface."""
    packet = esp(PEER, OUTSIDE, size=2900)
    gateway.from_outside(packet)
    gateway.from_outside(packet)
    gateway.decide(to_inside(), ALICE)
    delivered = gateway.from_outside(packet, mark=REINJECTED)
    for piece in cut(delivered.packet):
        gateway.run("inside_egress", piece, mark=delivered.mark)
    entry = gateway.pending(to_inside())
    assert entry is not None and (entry.punted, entry.reinjected) == (2, 1)
    assert not gateway.is_open(to_inside())


def test_fragments_of_two_hosts_with_one_ip_id_stay_apart(gateway: Gateway) -> None:
    for host, spi in ((ALICE, 0xA00), (BOB, 0xB00)):
        gateway.decide(to_peer(host, spi), host)
    mine = cut(esp(ALICE, PEER, 0xA00, size=1500, id=5))
    theirs = cut(esp(BOB, PEER, 0xB00, size=1500, id=5))
    for piece in (mine[0], theirs[0], mine[1], theirs[1]):
        assert gateway.from_inside(piece).verdict == PASS
    for host, spi in ((ALICE, 0xA00), (BOB, 0xB00)):
        mapping = gateway.mapping(to_peer(host, spi))
        assert mapping is not None and mapping.packets == 2


@pytest.mark.parametrize("key", [to_inside(), to_peer()])
def test_a_fragment_larger_than_can_be_held_is_said(gateway: Gateway, key: FlowKey) -> None:
    """A test run has no room for such a frame; what can be seen is that the usual ones come whole."""
    way = Way(gateway, key == to_inside())
    pieces = cut(esp(*way.ends, size=7000), 3000)
    way.send(pieces[1])
    (punt,) = gateway.punted()
    assert punt.frame[14:] == bytes(pieces[1])
