"""The routers that Throughway is compared with do what their names say."""

from tests.unit.simulate.bench import Bench
from throughway.simulate.baselines import TURN_S, UNANSWERED_S, FifoRouter, OnePerPeerRouter, SerialiseRouter


def test_fifo_gives_a_new_spi_to_who_has_waited_longest() -> None:
    bench = Bench(FifoRouter)
    bench.out(0, 1, 2)
    bench.come(0, 1, 2)
    assert bench.owners() == [(0,), (1,), (2,)]
    assert bench.score.all.to_owner == 3


def test_fifo_mispairs_two_hosts_that_start_at_once_when_the_second_is_answered_first() -> None:
    bench = Bench(FifoRouter)
    bench.out(0, 1)
    bench.come(1, 0)
    assert bench.owners()[:2] == [(1,), (0,)]
    assert bench.score.all.only_elsewhere == 2
    bench.come(0, 1)
    assert bench.score.all.only_elsewhere == 4, "a wrong guess stays"


def test_fifo_drops_what_comes_from_the_peer_first() -> None:
    bench = Bench(FifoRouter)
    bench.come(0)
    assert (bench.score.refused, bench.owners()[0]) == (1, ())


def test_fifo_forgets_who_waits_in_vain() -> None:
    bench = Bench(FifoRouter)
    bench.out(0)
    bench.wait(UNANSWERED_S)
    bench.out(1)
    bench.come(1)
    assert bench.owners()[1] == (1,)


def test_serialise_holds_the_others_back_until_the_first_is_answered() -> None:
    bench = Bench(SerialiseRouter)
    bench.out(0, 1)
    assert (bench.score.outward, bench.score.refused) == (2, 1)
    bench.come(0)
    bench.out(1)
    assert bench.score.refused == 1
    bench.come(1)
    assert bench.owners()[:2] == [(0,), (1,)]


def test_serialise_ends_a_turn_that_nobody_answers() -> None:
    bench = Bench(SerialiseRouter)
    bench.out(0)
    bench.wait(TURN_S)
    bench.out(1)
    bench.come(1)
    assert bench.owners()[:2] == [(), (1,)]


def test_serialise_gives_a_stray_spi_to_whose_turn_it_is() -> None:
    bench = Bench(SerialiseRouter)
    bench.out(0)
    bench.come(1)
    assert bench.owners()[1] == (0,)


def test_one_per_peer_gives_everything_to_who_came_first() -> None:
    bench = Bench(OnePerPeerRouter)
    bench.out(1, 0)
    bench.come(0, 1, 2)
    assert bench.owners() == [(1,), (1,), (1,)]
    assert bench.score.refused == 1
    assert (bench.score.all.to_owner, bench.score.all.only_elsewhere) == (1, 2)


def test_a_baseline_keeps_nothing_of_an_sa_that_is_over() -> None:
    bench = Bench(FifoRouter)
    bench.out(0)
    sa = bench.sas[0]
    bench.wire.end(sa)
    assert bench.wire.policy.flow_to_inside(sa.tunnel.peer, sa.inward.key.discriminator) is not sa.inward  # type: ignore[arg-type]
