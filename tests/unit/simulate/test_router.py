"""The model's data plane holds, refuses, counts and traces as the real one does, and the tracker decides."""

from collections.abc import Iterator
from typing import cast

import pytest

from tests.unit.simulate.bench import Bench
from throughway.core.commands import Trace, Untrace
from throughway.core.events import CountersRead, Event, TracesRead
from throughway.core.limits import Limits
from throughway.simulate.router import CALM_READS, REFUSED_IN_A_ROW, SELDOM_S, VERDICT_S, ThroughwayRouter

LIMITS = Limits()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Event]]:
    """What the tracker is told, as it is told."""
    events: list[Event] = []
    tell = ThroughwayRouter._tell

    def note(router: ThroughwayRouter, event: Event) -> None:
        events.append(event)
        tell(router, event)

    monkeypatch.setattr(ThroughwayRouter, "_tell", note)
    yield events


def is_played(bench: Bench) -> bool:
    return bench.tunnels[0].talk.is_played


def router(bench: Bench) -> ThroughwayRouter:
    return cast("ThroughwayRouter", bench.wire.policy)


def test_the_first_packets_wait_for_the_verdict_and_none_is_lost() -> None:
    bench = Bench(ThroughwayRouter)
    bench.negotiate(0)
    for _ in range(3):
        bench.wire.peer_sends(bench.tunnels[0], False)
    assert (bench.score.all.packets, bench.score.all.to_owner) == (3, 0)
    bench.wait(VERDICT_S)
    assert bench.owners()[0] == (0,)
    assert (bench.score.all.to_owner, bench.sas[0].inward.packets) == (3, 3)


def test_no_more_wait_than_fit() -> None:
    bench = Bench(ThroughwayRouter)
    bench.negotiate(0)
    for _ in range(LIMITS.held_per_flow_max + 2):
        bench.wire.peer_sends(bench.tunnels[0], False)
    bench.wait(VERDICT_S)
    assert bench.score.all.to_owner == LIMITS.held_per_flow_max
    assert bench.score.refused == 2


def test_two_hosts_that_may_own_an_spi_get_a_copy_each() -> None:
    bench = Bench(ThroughwayRouter)
    bench.negotiate(0, 1)
    bench.come(1)
    assert set(bench.owners()[1]) == {0, 1}
    assert (bench.score.all.to_owner, bench.score.all.copies) == (1, 2)
    assert bench.sas[1].contested_since is not None


def test_a_refused_flow_is_asked_about_again_after_a_second(told: list[Event]) -> None:
    bench = Bench(ThroughwayRouter)
    bench.come(0)
    bench.come(0)
    assert (bench.score.refused, len(told)) == (2, 1)
    bench.wait(LIMITS.refused_s)
    bench.come(0)
    assert len([event for event in told if not isinstance(event, CountersRead)]) == 2


def test_what_is_refused_in_a_row_is_asked_about_seldom_and_counted_meanwhile(told: list[Event]) -> None:
    bench = Bench(ThroughwayRouter)
    for _ in range(REFUSED_IN_A_ROW):
        bench.come(0)
        bench.wait(LIMITS.refused_s)
    assert bench.sas[0].inward.is_settled
    told.clear()
    bench.come(0)
    assert told == []
    bench.wait(SELDOM_S)
    told.clear()
    bench.come(0)
    assert len(told) == 1


def test_counters_are_told_always_of_what_is_contested_and_seldom_of_what_is_certain(told: list[Event]) -> None:
    bench = Bench(ThroughwayRouter)
    bench.negotiate(0)
    bench.out(0)
    bench.come(0)
    bench.wait(LIMITS.counters_every_s * CALM_READS)
    assert told_of(told, bench.sas[0].inward.key) == 1
    bench.negotiate(1, 2)
    bench.out(1, 2)
    bench.come(1)
    told.clear()
    bench.wait(LIMITS.counters_every_s * CALM_READS)
    assert told_of(told, bench.sas[1].inward.key) == CALM_READS


def told_of(events: list[Event], key: object) -> int:
    return sum(count.key == key for event in events if isinstance(event, CountersRead) for count in event.counts)


def test_a_traced_flow_is_played_and_its_times_are_told(told: list[Event]) -> None:
    bench = Bench(ThroughwayRouter)
    bench.negotiate(0)
    bench.come(0)
    bench.out(0)
    flow = bench.sas[0].inward
    assert not is_played(bench)
    router(bench)._do(Trace(flow.key))
    assert is_played(bench)
    at = bench.agenda.now
    bench.come(0, 0)
    bench.come(0)
    bench.wait(LIMITS.traces_every_s)
    (trace,) = [trace for event in told if isinstance(event, TracesRead) for trace in event.traces][:1]
    assert (trace.key, trace.times) == (flow.key, (at, at + 0.01)), "a second packet at once is no new burst"
    router(bench)._do(Untrace(flow.key))
    assert flow.times is None
    assert not is_played(bench)
    told.clear()
    bench.wait(2 * LIMITS.traces_every_s)
    assert not any(isinstance(event, TracesRead) for event in told)


def test_two_hosts_with_an_equal_spi_share_a_flow_and_are_judged_by_themselves() -> None:
    bench = Bench(ThroughwayRouter, hosts=2)
    bench.negotiate(0)
    bench.come(0)
    second = bench.add_sa(bench.tunnels[1], 0x1000)
    assert second.inward is bench.sas[0].inward
    assert (bench.score.decided, bench.score.decided_right) == (2, 1)
