"""A run as a whole: its figures, and that they are the same every time."""

import pytest

from throughway.simulate.run import World, simulate
from throughway.simulate.score import Inward, Result, Score
from throughway.simulate.settings import Policy, Settings

SMALL = Settings(hosts=8, minutes=2, loss=0.01)

KEYS = {
    "policy",
    "hosts",
    "peers",
    "sa_pairs",
    "packets",
    "delivered_to_owner",
    "delivered_only_elsewhere",
    "copies_per_packet",
    "first_10_s",
    "first_verdict_right",
    "contested_seconds_p50",
    "contested_seconds_p99",
    "refused",
}


@pytest.mark.parametrize("policy", Policy)
def test_the_same_seed_gives_the_same_numbers_and_another_one_others(policy: Policy) -> None:
    first = simulate(SMALL, policy)
    assert simulate(SMALL, policy) == first
    other = simulate(Settings(hosts=8, minutes=2, loss=0.01, seed=2), policy)
    assert other.packets != first.packets


@pytest.mark.parametrize("policy", Policy)
def test_every_packet_is_accounted_for(policy: Policy) -> None:
    world = World(SMALL, policy)
    result = world.run(lambda share: None)
    figures = world.score.all
    assert set(result.to_json()) >= KEYS
    assert set(result.to_json()["first_10_s"]) >= {"delivered_to_owner", "copies_per_packet"}  # type: ignore[call-overload]
    assert figures.to_owner + figures.only_elsewhere + world.score.refused >= figures.packets
    assert result.packets == figures.packets + world.score.outward
    assert result.packets == pytest.approx(8 * 120 * 20, rel=0.15) or policy is Policy.ONE_PER_PEER
    assert 0 < world.score.first.packets < figures.packets / 5
    assert len(world.score.contested_s) >= result.sa_pairs - 2


def test_hosts_alone_with_their_peers_lose_nothing() -> None:
    """Eight hosts with eight peers: there is nothing to guess."""
    result = simulate(Settings(hosts=8, peers=8, minutes=12, loss=0.01), Policy.THROUGHWAY)
    assert (result.all.delivered_to_owner, result.all.copies_per_packet) == (1.0, 1.0)
    assert (result.first_verdict_right, result.never_certain, result.refused) == (1.0, 0, 0)
    assert result.contested_seconds_p99 == 0.0


def test_hosts_that_start_at_once_get_theirs_from_throughway_and_not_from_the_others() -> None:
    """Twelve hosts are fewer than a fan-out may have, so whoever owns an SPI gets a copy."""
    settings = Settings(hosts=12, minutes=1)
    shares = {policy: simulate(settings, policy).first.delivered_to_owner for policy in Policy}
    assert shares[Policy.THROUGHWAY] == 1.0
    assert shares[Policy.FIFO] < 0.95
    assert shares[Policy.SERIALISE] < 0.95
    assert shares[Policy.ONE_PER_PEER] < 0.2


def test_hosts_that_speak_to_each_other_and_equal_spis_can_be_asked_for() -> None:
    world = World(Settings(hosts=40, peers=2, minutes=1, between=1.0, equal_spi=0.5, periodic=0.5), Policy.FIFO)
    pairs = [(tunnel, tunnel.partner) for tunnel in world.tunnels if tunnel.partner is not None]
    assert len(pairs) == 40
    assert all(one.peer == other.peer and other.partner is one for one, other in pairs)
    assert 10 <= sum(tunnel.mix.is_periodic for tunnel in world.tunnels) <= 30
    world.run(lambda share: None)
    users = [len(sa.inward.users) for tunnel in world.tunnels for sa in tunnel.sas]
    assert set(users) == {1, 2}
    assert 10 <= users.count(2) <= 36


def test_progress_is_told_up_to_the_end() -> None:
    shares: list[float] = []
    World(Settings(hosts=1, minutes=0.5), Policy.FIFO).run(shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_shares_are_of_what_came_and_percentiles_of_all_sas() -> None:
    score = Score(all=Inward(packets=8, to_owner=6, only_elsewhere=1, copies=12), outward=2, refused=1, sa_pairs=4)
    score.decided, score.decided_right, score.contested_s = 4, 3, [9.0, 0.0, 1.0, 2.0]
    result = Result.of(Policy.THROUGHWAY, SMALL, score)
    assert (result.packets, result.packets_to_inside) == (10, 8)
    assert (result.all.delivered_to_owner, result.all.delivered_only_elsewhere) == (0.75, 0.125)
    assert (result.all.copies_per_packet, result.first_verdict_right) == (1.5, 0.75)
    assert (result.contested_seconds_p50, result.contested_seconds_p99) == (1.0, 9.0)
    assert Result.of(Policy.FIFO, SMALL, Score()).first_verdict_right is None
