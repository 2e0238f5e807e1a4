"""Tunnels start, rekey, vanish and come back as the settings say, whatever the router does."""

from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest

from throughway.core.events import IkeExchange, IkeMessageSeen
from throughway.simulate.flows import Packet, Sa
from throughway.simulate.run import World
from throughway.simulate.settings import Policy, Settings


class Seen:
    """What was agreed on, when it ended, who sent first, and the IKE messages that passed."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch, policy: Policy = Policy.FIFO) -> None:
        self.began: dict[Sa, float] = {}
        self.ended: dict[Sa, float] = {}
        self.first_in: dict[Sa, float] = {}
        self.first_out: dict[Sa, float] = {}
        self.ike: list[tuple[float, IkeMessageSeen]] = []
        self.world = World(settings, policy)
        wire, router = self.world.wire, self.world.wire.policy
        with monkeypatch.context() as patch:
            self._note(patch, wire, "use", self.began)
            self._note(patch, wire, "end", self.ended)
            self._note(patch, router, "from_peer", self.first_in)
            self._note(patch, router, "from_host", self.first_out)
            patch.setattr(router, "saw_ike", lambda message: self.ike.append((self.world.agenda.now, message)))
            self.world.run(lambda share: None)

    def _note(self, patch: pytest.MonkeyPatch, whom: object, what: str, times: dict[Sa, float]) -> None:
        """Note when something first happens to each SA, and let it happen."""
        does: Callable[[Sa | Packet], None] = getattr(whom, what)

        def do(about: Sa | Packet) -> None:
            times.setdefault(about if isinstance(about, Sa) else about.sa, self.world.agenda.now)
            does(about)

        patch.setattr(whom, what, do)

    def of(self, number: int) -> list[Sa]:
        return [sa for sa in self.began if sa.tunnel.number == number]

    def share(self, sas: Iterable[bool]) -> float:
        found = list(sas)
        return sum(found) / len(found)


def test_all_start_within_two_seconds_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(Settings(hosts=50, minutes=0.5, vanishing=0.0), monkeypatch)
    assert len(seen.began) == 50
    first = [min(at for at, message in seen.ike if message.host == tunnel.host) for tunnel in seen.world.tunnels]
    assert 0.0 <= min(first) < 0.3
    assert 1.7 < max(first) < 2.1


def test_a_fifth_of_the_sas_begins_with_the_peer_and_a_tenth_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(Settings(hosts=600, minutes=0.5, vanishing=0.0), monkeypatch)
    waits = [seen.first_out[sa] - seen.first_in.get(sa, 99.0) for sa in seen.began if sa in seen.first_out]
    assert seen.share(wait > 0 for wait in waits) == pytest.approx(0.2, abs=0.05)
    assert seen.share(wait > 9.0 for wait in waits) == pytest.approx(0.1, abs=0.04)


def test_a_rekey_makes_before_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(Settings(hosts=30, minutes=25, vanishing=0.0, loss=0.01), monkeypatch)
    for number in range(30):
        sas = seen.of(number)
        assert len(sas) == 3
        for old, new in pairwise(sas):
            assert 540.0 <= seen.began[new] - seen.began[old] <= 661.0
            assert seen.ended[old] > max(seen.first_in[new], seen.first_out[new]), "the old one ended too early"
            assert seen.ended[old] - seen.began[new] < 20.0
    begun_by_host = [
        next(seen_.from_host for at, seen_ in seen.ike if seen_.host == sa.tunnel.host and at >= seen.began[sa])
        for sa in seen.began
        if seen.began[sa] > 100.0
    ]
    assert 0.3 < seen.share(begun_by_host) < 0.7


def test_who_vanishes_is_asked_for_and_given_up_and_half_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(Settings(hosts=40, minutes=15, vanishing=1.0), monkeypatch)
    lives = [tunnel.life for tunnel in seen.world.tunnels]
    assert set(lives) <= {1, 2}
    assert 8 <= lives.count(2) <= 32
    for tunnel in seen.world.tunnels:
        if tunnel.is_gone and tunnel.peer_sends is None:
            assert tunnel.sas == []
            asked = [m for _, m in seen.ike if m.host == tunnel.host and m.exchange is IkeExchange.INFORMATIONAL]
            assert [message.from_host for message in asked[-5:]] == [False] * 5


def test_ike_versions_eap_rounds_and_ids_are_as_the_tracker_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(Settings(hosts=40, minutes=35, vanishing=0.0), monkeypatch)
    for tunnel in seen.world.tunnels:
        messages = [message for _, message in seen.ike if message.host == tunnel.host]
        first_child = [m for m in messages if m.exchange is IkeExchange.FIRST_CHILD]
        assert len(first_child) == (0 if tunnel.is_ikev1 else 2 * tunnel.auth_rounds)
        initial = [m for m in messages if m.exchange is IkeExchange.INITIAL]
        assert len(initial) == (12 if tunnel.is_ikev1 else 2), "Main Mode again after half an hour"
        exchanges = {(m.initiator_spi, m.exchange_id) for m in messages if m.exchange is IkeExchange.CHILD}
        children = [m for m in messages if m.exchange is IkeExchange.CHILD]
        assert len(children) == len(exchanges) * (3 if tunnel.is_ikev1 else 2)
        assert len({m.initiator_spi for m in messages}) == 2 or not tunnel.has_liveness_checks
    assert {tunnel.is_ikev1 for tunnel in seen.world.tunnels} == {True, False}
    assert {tunnel.auth_rounds > 1 for tunnel in seen.world.tunnels} == {True, False}


def test_the_world_is_the_same_for_every_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(hosts=8, minutes=12, loss=0.02, vanishing=0.3)
    agreed = []
    for policy in Policy:
        seen = Seen(settings, monkeypatch, policy)
        agreed.append([(at, sa.inward.key, sa.outward.key) for sa, at in seen.began.items()])
    assert len(agreed[0]) > 12
    assert agreed == [agreed[0]] * 4
