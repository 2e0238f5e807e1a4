"""Packets that are played and packets that are counted are the same traffic."""

from itertools import pairwise

import pytest

from tests.unit.simulate.bench import Bench
from throughway.simulate.baselines import FifoRouter
from throughway.simulate.flows import Flow
from throughway.simulate.router import ThroughwayRouter
from throughway.simulate.tunnel import Mix

MIXED = Mix(ask=2.0, asked=2.0, stream=2.0, one_way=3.0)
"""Ten packets a second each way: answers and acknowledgements come on top of what is asked and streamed."""

PERIODIC = Mix(ask=5.0, asked=0.0, stream=0.0, one_way=5.0, is_periodic=True)


def known_tunnel(mix: Mix) -> Bench:
    bench = Bench(FifoRouter, hosts=1, mix=mix)
    bench.out(0)
    bench.come(0)
    assert not bench.tunnels[0].talk.is_played
    return bench


def play(flow: Flow) -> None:
    """Have the packets of a flow played, as if it were traced."""
    flow.trace(64, 0.0)
    for sa in flow.users:
        sa.tunnel.talk.look()


@pytest.mark.parametrize("mix", [MIXED, PERIODIC], ids=["mixed", "periodic"])
@pytest.mark.parametrize("is_played", [True, False], ids=["played", "counted"])
def test_ten_packets_a_second_pass_each_way(mix: Mix, is_played: bool) -> None:
    bench = known_tunnel(mix)
    if is_played:
        play(bench.sas[0].inward)
    bench.wait(1000.0)
    bench.tunnels[0].talk.settle()
    assert bench.tunnels[0].talk.is_played is is_played
    assert bench.score.all.packets == pytest.approx(10_000, rel=0.06)
    assert bench.score.outward == pytest.approx(10_000, rel=0.06)
    assert bench.sas[0].inward.packets == bench.score.all.packets
    assert bench.sas[0].outward.packets == bench.score.outward
    assert bench.sas[0].inward.last_at > 990.0


@pytest.mark.parametrize("is_played", [True, False], ids=["played", "counted"])
def test_a_host_that_gets_nothing_answers_nothing(is_played: bool) -> None:
    """What it was asked is two packets a second, and half as much for what it acknowledges."""
    bench = Bench(FifoRouter, hosts=2, mix=MIXED)
    bench.out(1, 0)
    bench.come(0)
    assert bench.owners()[0] == (1,), "given to the wrong host"
    bench.wire.end(bench.sas[1])
    bench.tunnels[1].host_sends = bench.tunnels[1].peer_sends = None
    if is_played:
        play(bench.sas[0].inward)
    before = bench.score.outward
    bench.wait(1000.0)
    bench.tunnels[0].talk.settle()
    assert bench.score.outward - before == pytest.approx(7_000, rel=0.06)


def test_what_is_periodic_is_periodic() -> None:
    bench = known_tunnel(PERIODIC)
    play(bench.sas[0].outward)
    bench.wait(5.0)
    times = list(bench.sas[0].outward.times or ())
    assert len(times) == pytest.approx(50, abs=1)
    assert {round(later - sooner, 6) for sooner, later in pairwise(times)} == {0.1}


def test_what_is_not_periodic_is_not() -> None:
    bench = known_tunnel(MIXED)
    play(bench.sas[0].outward)
    bench.wait(10.0)
    times = list(bench.sas[0].outward.times or ())
    assert len({round(later - sooner, 4) for sooner, later in pairwise(times)}) > len(times) / 2


def test_a_host_answers_within_its_lan_time_and_the_far_end_after_its_round_trip() -> None:
    bench = known_tunnel(Mix(ask=0.0, asked=0.0, stream=0.0, one_way=1e-9))
    inward, outward = bench.sas[0].inward, bench.sas[0].outward
    play(inward)
    play(outward)
    bench.come(0, wants_answer=True)
    asked_at, answered_at = inward.last_at, outward.last_at
    assert 0.0 < answered_at - asked_at < 0.005
    bench.wire.host_sends(bench.tunnels[0], True)
    bench.wait(1.0)
    assert 0.020 <= inward.last_at - outward.last_at < 0.030


def test_what_one_host_sends_to_another_comes_out_in_the_sa_of_the_other() -> None:
    bench = Bench(ThroughwayRouter, hosts=2)
    bench.negotiate(0, 1)
    one, other = bench.tunnels
    one.partner, other.partner = other, one
    bench.out(0, 1)
    bench.wire.host_sends(one, True)
    bench.wait(1.0)
    assert (bench.sas[0].outward.packets, bench.sas[1].outward.packets) == (2, 2)
    assert bench.score.all.packets == 4, "both hellos, the request and its answer"


def test_the_first_packet_of_an_unknown_flow_is_played_and_what_follows_is_counted() -> None:
    bench = Bench(ThroughwayRouter, hosts=1, mix=MIXED)
    assert is_played(bench)
    assert list(bench.wire.restless) == [bench.tunnels[0].talk]
    bench.negotiate(0)
    bench.out(0)
    bench.come(0)
    assert not is_played(bench)
    assert list(bench.wire.restless) == []


def is_played(bench: Bench) -> bool:
    return bench.tunnels[0].talk.is_played
