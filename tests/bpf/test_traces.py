"""Traces: when the packets of a flow came, by the kernel's clock, one time for each burst."""

import time

from throughway.core.events import FlowTrace
from throughway.core.flows import FlowKey
from throughway.core.limits import Limits
from throughway.dataplane import abi
from throughway.dataplane.abi import MappingFlag
from throughway.dataplane.tables import Tables

from .gateway import ALICE, BOB, OUTSIDE, PEER, Gateway, esp, to_inside, to_peer


def _tables(gateway: Gateway) -> Tables:
    return Tables(gateway.loaded.maps, gateway.loaded.programs["control"])


def _trace(gateway: Gateway, key: FlowKey) -> FlowTrace | None:
    return next((trace for trace in _tables(gateway).traces() if trace.key == key), None)


def _pause() -> None:
    """Wait until a packet begins a new burst."""
    until = time.monotonic() + 2 * Limits().trace_gap_s
    while time.monotonic() < until:
        pass


def test_each_burst_of_a_traced_flow_is_noted_once(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    _tables(gateway).trace(to_inside())
    before = time.monotonic()
    for _ in range(3):
        for _ in range(4):
            gateway.from_outside(esp(PEER, OUTSIDE))
        _pause()
    trace = _trace(gateway, to_inside())
    assert trace is not None
    assert len(trace.times) == 3
    assert before <= trace.times[0] < trace.times[1] < trace.times[2] <= time.monotonic()


def test_what_a_host_sends_is_noted_too(gateway: Gateway) -> None:
    key = to_peer(ALICE)
    gateway.decide(key, ALICE)
    _tables(gateway).trace(key)
    gateway.from_inside(esp(ALICE, PEER))
    trace = _trace(gateway, key)
    assert trace is not None
    assert len(trace.times) == 1


def test_the_latest_times_are_kept(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    tables = _tables(gateway)
    tables.trace(to_inside())
    for _ in range(abi.TRACE_TIMES + 2):
        gateway.from_outside(esp(PEER, OUTSIDE))
        _pause()
    trace = _trace(gateway, to_inside())
    assert trace is not None
    assert len(trace.times) == abi.TRACE_TIMES
    assert list(trace.times) == sorted(trace.times)


def test_a_verdict_does_not_end_a_trace_and_its_end_does(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE, BOB)
    tables = _tables(gateway)
    tables.trace(to_inside())
    gateway.decide(to_inside(), BOB)
    mapping = gateway.mapping(to_inside())
    assert mapping is not None
    assert mapping.flags == MappingFlag.ACTIVE | MappingFlag.TRACED
    tables.untrace(to_inside())
    assert _trace(gateway, to_inside()) is None
    mapping = gateway.mapping(to_inside())
    assert mapping is not None
    assert mapping.flags == MappingFlag.ACTIVE


def test_what_an_earlier_run_traced_is_an_ordinary_flow_again(gateway: Gateway) -> None:
    gateway.decide(to_inside(), ALICE)
    _tables(gateway).trace(to_inside())
    _tables(gateway).forget_traces()
    mapping = gateway.mapping(to_inside())
    assert mapping is not None
    assert mapping.flags == MappingFlag.ACTIVE
    assert _trace(gateway, to_inside()) is None


def test_what_is_not_installed_is_not_traced_and_what_is_removed_no_more(gateway: Gateway) -> None:
    tables = _tables(gateway)
    tables.trace(to_inside())
    assert _trace(gateway, to_inside()) is None
    gateway.decide(to_inside(), ALICE)
    tables.trace(to_inside())
    tables.remove(to_inside())
    assert _trace(gateway, to_inside()) is None
