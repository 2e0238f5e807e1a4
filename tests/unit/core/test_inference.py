"""Elimination agrees with trying every assignment."""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from throughway.core.ids import Host, Spi
from throughway.core.inference import possible_owners

A, B, C = (Host(IPv4Address(f"10.0.0.{n}")) for n in (1, 2, 3))
HOSTS = [Host(IPv4Address(f"10.0.0.{n}")) for n in range(1, 6)]


def test_two_hosts_that_must_own_two_spis_leave_the_third_to_the_third_host() -> None:
    """Nobody knows which of the two is whose, and yet the third SPI is certain."""
    contested = {Spi(1): [A, B], Spi(2): [A, B], Spi(3): [A, B, C]}
    assert possible_owners(contested, {A: 1, B: 1, C: 1}) == {Spi(1): (A, B), Spi(2): (A, B), Spi(3): (C,)}


def test_a_spare_credit_rules_nobody_out() -> None:
    contested = {Spi(1): [A, B], Spi(2): [A, B], Spi(3): [A, B, C]}
    assert possible_owners(contested, {A: 2, B: 1, C: 1}) == {spi: tuple(hosts) for spi, hosts in contested.items()}


def test_credits_that_cannot_explain_the_spis_conclude_nothing() -> None:
    assert possible_owners({Spi(1): [A], Spi(2): [A]}, {A: 1}) is None
    assert possible_owners({Spi(1): []}, {A: 1}) is None


def test_nothing_contested_is_nothing_to_conclude() -> None:
    assert possible_owners({}, {}) == {}


def assignments(
    candidates: Mapping[Spi, Sequence[Host]], credits_left: Mapping[Host, int]
) -> Iterator[tuple[Host, ...]]:
    for owners in product(*candidates.values()):
        if all(owners.count(host) <= left for host, left in credits_left.items()):
            yield owners


@given(
    candidates=st.lists(st.lists(st.sampled_from(HOSTS), unique=True, max_size=5), max_size=5),
    credits_left=st.fixed_dictionaries({host: st.integers(0, 3) for host in HOSTS}),
)
def test_a_host_stays_exactly_when_some_assignment_gives_it_the_spi(
    candidates: list[list[Host]], credits_left: dict[Host, int]
) -> None:
    contested = {Spi(1000 + at): hosts for at, hosts in enumerate(candidates)}
    consistent = list(assignments(contested, credits_left))
    found = possible_owners(contested, credits_left)
    if not consistent:
        assert found is None
        return
    assert found == {
        spi: tuple(host for host in hosts if any(owners[at] == host for owners in consistent))
        for at, (spi, hosts) in enumerate(contested.items())
    }
