"""Which candidates get copies where they are many: their shares, and what one SPI says of another."""

from math import exp

import pytest

from tests.unit.core.test_comparing import ALICE, BOB, CAROL, HOSTS, LIMITS, NOW, SPI_1, SPI_2, contest
from tests.unit.core.test_ranking import asked
from throughway.core import deciding, ranking
from throughway.core.bindings import Binding, PeerState
from throughway.core.ids import Host, Spi

SPI_3, SPI_4 = Spi(0xC3), Spi(0xC4)
LATER = NOW + 10.0
"""When answers would have come."""


def weigh(binding: Binding, *hosts: Host, by: float) -> None:
    """Let something speak for some hosts."""
    for host in hosts:
        binding.candidates[host] += by
        ranking.weigh(binding, host)


def choose(state: PeerState, spi: Spi = SPI_1, at: float = LATER) -> tuple[Host, ...]:
    return ranking.choose(state, state.bindings[spi], at, LIMITS)


def test_what_speaks_for_a_candidate_and_against_it_adds_up() -> None:
    binding = contest([ALICE, BOB], SPI_1).bindings[SPI_1]
    binding.candidates = {ALICE: 1.0, BOB: 0.5}
    binding.answers, binding.echoes, binding.passed_over = {ALICE: 5.0}, {ALICE: 3.0}, {ALICE: 0.25}
    for host in (ALICE, BOB):
        ranking.weigh(binding, host)
    assert binding.weights == {ALICE: 8.75, BOB: 0.5}


# Who gets copies


def test_as_many_as_may_all_get_copies_and_the_likeliest_the_original() -> None:
    hosts = HOSTS[: LIMITS.fan_out_max]
    state = contest(hosts, SPI_1)
    for number, host in enumerate((hosts[3], hosts[1], hosts[2])):
        weigh(state.bindings[SPI_1], host, by=50.0 + number)
    chosen = choose(state)
    assert set(chosen) == set(hosts)
    assert chosen[-3:] == (hosts[3], hosts[1], hosts[2])


@pytest.mark.parametrize(
    ("is_credited", "is_late", "after_s", "copies"),
    [
        (True, False, 0.0, LIMITS.fan_out_first_max),
        (True, False, 10.0, LIMITS.fan_out_max),
        (False, False, 0.0, LIMITS.fan_out_max),
        (True, True, 10.0, len(HOSTS)),
    ],
    ids=["first", "later", "not-announced", "first-packet-lost"],
)
def test_of_many_that_are_as_likely_so_many_get_copies(
    is_credited: bool, is_late: bool, after_s: float, copies: int
) -> None:
    state = contest(HOSTS)
    binding = Binding(SPI_1, NOW, NOW, is_credited, dict.fromkeys(HOSTS, 0.0), is_late=is_late)
    assert len(ranking.choose(state, binding, NOW + after_s, LIMITS)) == copies


@pytest.mark.parametrize(("likely", "lead"), [([ALICE], 9.0), ([ALICE], 400.0), ([ALICE, BOB], 20.0)])
def test_where_a_few_have_nearly_all_the_others_get_no_copies(likely: list[Host], lead: float) -> None:
    state = contest(HOSTS, SPI_1)
    weigh(state.bindings[SPI_1], *likely, by=lead)
    chosen = choose(state)
    assert set(likely) <= set(chosen)
    assert len(chosen) < 5


@pytest.mark.parametrize(
    ("lead", "keep_at_first", "keep_later"), [(1.0, True, True), (6.0, True, False), (12.0, False, False)]
)
def test_who_has_copies_keeps_them_beside_likelier_ones_unless_it_is_unlikely(
    lead: float, keep_at_first: bool, keep_later: bool
) -> None:
    """At first the more so, as nothing but beginnings speaks for anybody."""
    for at, is_kept in ((NOW, keep_at_first), (LATER, keep_later)):
        state = contest(HOSTS)
        binding = Binding(SPI_1, NOW, NOW, is_credited=True, candidates=dict.fromkeys(HOSTS, 0.0))
        weigh(binding, *HOSTS[3:30], by=lead)
        binding.offered = (ALICE, BOB)
        chosen = ranking.choose(state, binding, at, LIMITS)
        assert len(set(chosen)) == len(chosen)
        assert {ALICE, BOB} <= set(chosen) if is_kept else {ALICE, BOB}.isdisjoint(chosen)


def test_a_candidate_that_fell_off_the_short_list_keeps_no_copy() -> None:
    state = contest(HOSTS, SPI_1)
    binding = state.bindings[SPI_1]
    weigh(binding, *HOSTS[: ranking.SHORTLIST], by=1.0)
    binding.offered = tuple(HOSTS[ranking.SHORTLIST :])
    assert set(HOSTS[ranking.SHORTLIST :]).isdisjoint(choose(state))


def test_of_very_many_whose_first_packet_was_lost_the_likeliest_are_divided_among() -> None:
    hosts = [Host(HOSTS[0] + number) for number in range(2 * ranking.LATE_SHORTLIST)]
    state = contest(hosts)
    binding = Binding(SPI_1, NOW, NOW, is_credited=True, candidates=dict.fromkeys(hosts, 0.0), is_late=True)
    weigh(binding, *hosts[::2], by=1.0)
    ranking.divide(state, binding, NOW)
    assert set(binding.shares) == set(hosts[::2])


# What one SPI says of another


@pytest.mark.parametrize(("credits_in", "fraction"), [(1, 0.5), (2, 0.5), (4, 0.75)])
def test_who_probably_owns_one_spi_is_less_likely_to_own_the_next(credits_in: int, fraction: float) -> None:
    """By what is left of its credits; for a new SPI by no more than half, which others knew nothing of."""
    state = contest(HOSTS, SPI_1)
    state.hosts[ALICE].credits_in = credits_in
    weigh(state.bindings[SPI_1], ALICE, by=30.0)
    ranking.divide(state, state.bindings[SPI_1], NOW)
    assert state.claimed[ALICE] == pytest.approx(1.0)
    fits = {ALICE: -1.0, BOB: 0.0} | dict.fromkeys(HOSTS[2:], -2.0)
    other = Binding(SPI_2, NOW, NOW, is_credited=True, candidates=fits)
    ranking.divide(state, other, NOW)
    assert sum(other.shares.values()) == pytest.approx(1.0)
    assert other.shares[ALICE] / other.shares[BOB] == pytest.approx(fraction * exp(-1.0))
    ranking.divide(state, other, NOW)
    later = other.shares[ALICE] / other.shares[BOB]
    assert 0.0 < later <= fraction * exp(-1.0) + 1e-9, "never quite explained"
    assert later < fraction * exp(-1.0) / 2 or credits_in > 1


def test_what_nothing_announced_may_be_of_anybody_whatever_else_it_owns() -> None:
    """Credits do not say who owns it, and a host may be left out of account that is forgotten by now."""
    state = contest(HOSTS, SPI_1)
    weigh(state.bindings[SPI_1], ALICE, by=30.0)
    ranking.divide(state, state.bindings[SPI_1], NOW)
    del state.hosts[CAROL]
    other = Binding(SPI_2, NOW, NOW, is_credited=False, candidates=dict.fromkeys(HOSTS, 0.0))
    other.is_late = True
    ranking.divide(state, other, NOW)
    assert other.shares[ALICE] == other.shares[BOB] == other.shares[CAROL] == pytest.approx(1.0 / len(HOSTS))


def test_claims_are_as_many_as_the_spis_and_end_with_them() -> None:
    state = contest(HOSTS[:20], SPI_1, SPI_2)
    for binding in state.bindings.values():
        weigh(binding, CAROL, by=-15.0)
    for _ in range(3):
        for spi in (SPI_1, SPI_2):
            choose(state, spi)
        assert sum(state.claimed.values()) == pytest.approx(2.0)
    deciding.settle(state, state.bindings[SPI_1], {ALICE: 0.0}, NOW, LIMITS)
    assert sum(state.claimed.values()) == pytest.approx(1.0)
    deciding.forget_binding(state, SPI_2)
    assert state.claimed == {}


def test_spis_that_claim_the_likely_owner_of_a_new_one_are_divided_again_and_no_others() -> None:
    state = contest(HOSTS, SPI_1, SPI_2, SPI_3)
    for spi, likely in ((SPI_1, ALICE), (SPI_2, BOB), (SPI_3, ALICE)):
        weigh(state.bindings[spi], likely, by=30.0)
        ranking.divide(state, state.bindings[spi], NOW)
    state.bindings[SPI_2].shares.pop(ALICE)
    assert ranking.rivals_of(state, state.bindings[SPI_3]) == [state.bindings[SPI_1]]


def test_a_beginning_that_was_one_spis_is_no_other_ones_that_came_then() -> None:
    state = contest([ALICE, BOB], SPI_1, SPI_2, SPI_3, SPI_4)
    one, together, later, of_others = state.bindings.values()
    for binding in state.bindings.values():
        binding.first_at = NOW
    later.first_at = NOW + 100.0
    of_others.candidates = {BOB: 0.0, CAROL: 0.0}
    deciding.settle(state, one, {ALICE: 0.0}, NOW, LIMITS)
    assert together.weights[ALICE] < together.weights[BOB] == 0.0
    assert later.weights[ALICE] == later.weights[BOB] == 0.0
    assert ALICE not in of_others.candidates


# A lost answer


def test_a_repeated_question_speaks_for_who_asked_where_its_answer_was_due() -> None:
    """Not for what came before an answer could be there, or long after; and it takes nothing away from a better fit."""
    said_at, round_trip_s = NOW, 0.04
    due = {Spi(1): 0.0, Spi(2): 0.5, Spi(3): 0.95, Spi(4): 1.7, Spi(5): 10.0}
    state = contest([ALICE, BOB], *due, Spi(6), Spi(7))
    state.round_trip_s = round_trip_s
    for binding in state.bindings.values():
        binding.first_at = said_at + due.get(binding.spi, 1.0) * round_trip_s
        binding.candidates = dict.fromkeys(binding.candidates, -20.0)
    state.bindings[Spi(6)].candidates[ALICE] = 6.0
    del state.bindings[Spi(7)].candidates[ALICE]
    host = state.hosts[ALICE]
    ranking.time_answer(state, host, asked(1), said_at - 1.0)
    ranking.time_answer(state, host, asked(2), said_at)
    host.said_at = said_at
    for at, spoken_for in ((said_at + 0.1, []), (said_at + 1.0, [Spi(3), Spi(4)])):
        ranking.time_answer(state, host, asked(1), at)
        fits = {spi: binding.candidates.get(ALICE) for spi, binding in state.bindings.items()}
        assert [spi for spi in due if fits[spi] != -20.0] == spoken_for
        assert fits[Spi(6)] == 6.0
        assert fits[Spi(7)] is None
    assert state.bindings[Spi(3)].weights[ALICE] > state.bindings[Spi(3)].weights[BOB] - 20.0
