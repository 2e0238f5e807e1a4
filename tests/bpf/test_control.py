"""The program `control`: verdicts, refusals and the watchdog, and what it answers to nonsense."""

import errno
import struct

import pytest

from throughway.core.flows import FlowKey
from throughway.core.reasons import Reason
from throughway.dataplane import abi
from throughway.dataplane.abi import ControlOp, ControlRequest, MappingFlag, PendingState
from throughway.dataplane.libbpf import test_run
from throughway.dataplane.libbpf_maps import LOCK

from .gateway import ALICE, BOB, CAROL, NEVER_NS, OUTSIDE, PASS, PEER, Gateway, esp, readdressed, to_inside, to_peer


def _hold(gateway: Gateway, count: int) -> None:
    for _ in range(count):
        gateway.from_outside(esp(PEER, OUTSIDE))


def _state(gateway: Gateway, key: FlowKey) -> PendingState | None:
    entry = gateway.pending(key)
    return None if entry is None else entry.state


def test_a_new_verdict_keeps_counters_birth_and_the_open_way(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    gateway.from_outside(esp(PEER, OUTSIDE))
    first = gateway.mapping(to_inside())
    assert gateway.decide(to_inside(), BOB) == 0
    second = gateway.mapping(to_inside())
    assert first is not None and second is not None
    assert (second.packets, second.octets, second.created_ns) == (first.packets, first.octets, first.created_ns)
    assert first.created_ns > 0
    assert second.flags is MappingFlag.ACTIVE
    assert gateway.from_outside(esp(PEER, OUTSIDE)).packet == readdressed(esp(PEER, OUTSIDE), dst=BOB)


def test_a_fan_out_has_its_list_and_the_best_candidate(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE, BOB, CAROL)
    mapping = gateway.mapping(to_inside())
    assert mapping is not None
    assert (str(mapping.host), mapping.flags) == (CAROL, MappingFlag.ACTIVE | MappingFlag.FAN_OUT)
    value = gateway.loaded.maps["fan_outs"].lookup(abi.pack_key(to_inside()))
    assert value is not None
    assert [str(host) for host in abi.unpack_fan_out(value)] == [ALICE, BOB, CAROL]


def test_a_new_verdict_while_draining_changes_the_owner_and_drains_on(gateway: Gateway) -> None:
    _hold(gateway, 2)
    gateway.decide(to_inside(), ALICE)
    _hold(gateway, 1)
    entry = gateway.pending(to_inside())
    gateway.decide(to_inside(), BOB)
    assert gateway.pending(to_inside()) == entry, "a new verdict would lengthen the draining for ever"
    assert not gateway.is_open(to_inside())
    out = gateway.pass_held(to_inside(), esp(PEER, OUTSIDE))
    assert out.packet == readdressed(esp(PEER, OUTSIDE), dst=BOB)
    for _ in range(2):
        assert not gateway.is_open(to_inside())
        gateway.pass_held(to_inside(), esp(PEER, OUTSIDE))
    assert gateway.is_open(to_inside())


def test_a_new_verdict_never_closes_an_open_flow(gateway: Gateway) -> None:
    """A packet that was handed over while the first verdict was written is on its way, and may come out of order."""
    _hold(gateway, 1)
    opened = abi.MappingRecord(to_peer().host, MappingFlag.ACTIVE)
    gateway.loaded.maps["mappings"].update(abi.pack_key(to_inside()), opened.pack())
    gateway.decide(to_inside(), BOB)
    assert gateway.is_open(to_inside())
    assert _state(gateway, to_inside()) is PendingState.DONE


def test_refused_then_decided_is_open_at_once(gateway: Gateway) -> None:
    """What was held at the refusal was dropped then; nobody waits for it."""
    _hold(gateway, 3)
    gateway.refuse(to_inside(), NEVER_NS)
    entry = gateway.pending(to_inside())
    assert entry is not None and (entry.punted, entry.reinjected, entry.until_ns) == (3, 3, NEVER_NS)
    gateway.decide(to_inside(), ALICE)
    assert gateway.is_open(to_inside())
    assert _state(gateway, to_inside()) is PendingState.DONE
    assert gateway.from_outside(esp(PEER, OUTSIDE)).verdict == PASS


def test_a_refusal_needs_no_packet_before_it(gateway: Gateway) -> None:
    assert gateway.refuse(to_inside(), NEVER_NS) == 0
    gateway.from_outside(esp(PEER, OUTSIDE))
    assert gateway.counted() == {Reason.REFUSED: 1}


def test_watchdog_opens_what_lost_its_held_packets(gateway: Gateway) -> None:
    _hold(gateway, 3)
    gateway.decide(to_inside(), ALICE)
    gateway.pass_held(to_inside(), esp(PEER, OUTSIDE))
    assert gateway.watchdog(to_inside(), 2) == errno.EAGAIN
    assert gateway.watchdog(to_inside(), 4) == errno.EAGAIN
    assert not gateway.is_open(to_inside())
    assert gateway.watchdog(to_inside(), 3) == 0
    assert gateway.is_open(to_inside())
    assert _state(gateway, to_inside()) is PendingState.DONE
    assert gateway.watchdog(to_inside(), 3) == 0


def test_watchdog_decides_nothing(gateway: Gateway) -> None:
    assert gateway.watchdog(to_inside(), 0) == errno.ENOENT
    _hold(gateway, 1)
    assert gateway.watchdog(to_inside(), 1) == 0
    assert _state(gateway, to_inside()) is PendingState.WAITING
    assert gateway.mapping(to_inside()) is None


def test_watchdog_after_the_mapping_was_removed(gateway: Gateway) -> None:
    _hold(gateway, 1)
    gateway.decide(to_inside(), ALICE)
    gateway.remove(to_inside())
    assert gateway.watchdog(to_inside(), 1) == 0
    assert gateway.mapping(to_inside()) is None
    _hold(gateway, 1)
    assert _state(gateway, to_inside()) is PendingState.WAITING


@pytest.mark.parametrize("count", [0, 65, 0xFFFFFFFF])
def test_a_verdict_for_too_few_or_too_many_is_refused(gateway: Gateway, count: int) -> None:
    packet = bytearray(ControlRequest(op=ControlOp.DECIDE, key=to_inside()).pack())
    struct.pack_into("=I", packet, 14 + 4, count)
    assert test_run(gateway.loaded.programs["control"], bytes(packet)).verdict == errno.EINVAL
    assert gateway.mapping(to_inside()) is None


def test_unknown_requests_and_short_ones_are_refused(gateway: Gateway) -> None:
    request = ControlRequest(op=ControlOp.DECIDE, key=to_inside()).pack()
    assert test_run(gateway.loaded.programs["control"], request[:-1]).verdict == errno.EINVAL
    unknown = request[:14] + struct.pack("=I", 99) + request[18:]
    assert test_run(gateway.loaded.programs["control"], unknown).verdict == errno.EINVAL


def test_full_tables_are_said(gateway: Gateway) -> None:
    limits = gateway.loaded.maps
    mappings = limits["mappings"].max_entries
    answers = [gateway.decide(to_peer(spi=spi), ALICE) for spi in range(0x1000, 0x1000 + mappings + 1)]
    assert set(answers[:-1]) == {0}
    assert answers[-1] == errno.E2BIG
    gateway.remove(to_peer(spi=0x1000))
    assert gateway.decide(to_peer(spi=0x1000 + mappings), ALICE) in (0, errno.E2BIG)


def test_a_full_table_of_fan_outs_leaves_no_mapping(gateway: Gateway) -> None:
    table = gateway.loaded.maps["fan_outs"]
    table.update_batch({abi.pack_key(to_inside(spi)): abi.pack_fan_out([to_peer().host]) for spi in range(4096)})
    assert gateway.decide(to_inside(0x9999), ALICE, BOB) == errno.E2BIG
    assert gateway.mapping(to_inside(0x9999)) is None


def test_entries_are_read_under_their_lock(gateway: Gateway) -> None:
    _hold(gateway, 1)
    value = gateway.loaded.maps["pending"].lookup(abi.pack_key(to_inside()), LOCK)
    assert value is not None
    assert abi.PendingRecord.unpack(value).punted == 1
