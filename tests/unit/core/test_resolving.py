"""Conversations about contests: who answers is the owner, and a wrong verdict is undone."""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from random import Random

from tests.unit.core.playbook import Playbook, ike, ikev2_child, ikev2_start, to_inside, to_peer
from throughway.core import deciding, resolving
from throughway.core.bindings import Binding, PeerState
from throughway.core.commands import RemoveMapping, Trace, Untrace
from throughway.core.credits import HostAtPeer
from throughway.core.events import (
    CountersRead,
    EspFromInside,
    EspUnclaimed,
    FlowCount,
    FlowTrace,
    IkeExchange,
    OutsideAddressesChanged,
    TimerExpired,
    TracesRead,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.verdicts import Basis, Certain, Contested

HOSTS = [Host(IPv4Address("192.168.1.10") + n) for n in range(40)]
ALICE, BOB, CAROL = HOSTS[:3]
PEER = Peer(IPv4Address("203.0.113.9"))
LIMITS = Limits()
ROUND_TRIP_S = 0.04


class Traffic:
    """Tunnels to one peer, with traffic; plays what the data plane would note, a reading at a time."""

    def __init__(self, play: Playbook, path: Path, seed: int = 1) -> None:
        self._play = play
        self._path = path
        self._random = Random(seed)  # noqa: S311 - a model, no secret
        self._times: dict[FlowKey, list[float]] = {}
        self.talks: list[Callable[[float], None]] = []
        self.traced: dict[FlowKey, float] = {}
        """Since when each is."""

    def start(self, host: Host, number: int) -> None:
        """Let a host negotiate and send for the first time, a little after the one before."""
        for message in ikev2_start(host, PEER, 0x1CE00 + number):
            self.tell(message)
            self._play.now += ROUND_TRIP_S
        self.tell(EspFromInside(host, PEER, out_of(host), 1))

    def asked(self, owner: Host, spi: Spi, rate: float = 5.0) -> None:
        """Have the peer ask, and the owner answer within 3 ms if it gets a copy."""

        def talk(at: float) -> None:
            for sent in self._poisson(at, rate):
                self._note(self._inside(spi), sent)
                if owner in self._play.mappings.get(self._inside(spi), ()):
                    self._note(to_peer(owner, PEER, out_of(owner)), sent + self._random.uniform(0.001, 0.003))

        self.talks.append(talk)

    def hears(self, spi: Spi, rate: float = 5.0) -> None:
        """Have the peer send what nobody answers."""

        def talk(at: float) -> None:
            for sent in self._poisson(at, rate):
                self._note(self._inside(spi), sent)

        self.talks.append(talk)

    def asks(self, owner: Host, spi: Spi, rate: float = 5.0) -> None:
        """Have the owner ask, and the peer answer after a round trip."""

        def talk(at: float) -> None:
            for sent in self._poisson(at, rate):
                self._note(to_peer(owner, PEER, out_of(owner)), sent)
                self._note(self._inside(spi), sent + ROUND_TRIP_S + self._random.uniform(0.0, 0.001))

        self.talks.append(talk)

    def run(self, seconds: float) -> None:
        """Let time pass, with traces and counters read."""
        for _ in range(int(seconds / LIMITS.traces_every_s)):
            for talk in self.talks:
                talk(self._play.now)
            self._play.now += LIMITS.traces_every_s
            traces = [
                FlowTrace(
                    key, tuple(sorted(at for at in self._times.get(key, ()) if since <= at <= self._play.now))[-64:]
                )
                for key, since in self.traced.items()
            ]
            if traces:
                self.tell(TracesRead(tuple(traces)))
            latest = [(key, [at for at in times if at <= self._play.now]) for key, times in self._times.items()]
            counts = [FlowCount(key, len(times), 0, max(times)) for key, times in latest if times]
            self.tell(CountersRead(tuple(counts)))

    def tell(self, event: object) -> None:
        """Tell an event, and follow which flows are traced."""
        self._play >> event  # type: ignore[operator]
        for command in self._play.answer:
            if isinstance(command, Trace):
                self.traced.setdefault(command.key, self._play.now)
            elif isinstance(command, Untrace | RemoveMapping):
                self.traced.pop(command.key, None)

    def _inside(self, spi: Spi) -> FlowKey:
        return FlowKey.to_inside(IpProtocol.ESP, self._path, spi)

    def _note(self, key: FlowKey, at: float) -> None:
        self._times.setdefault(key, []).append(at)

    def _poisson(self, begin: float, rate: float) -> Iterable[float]:
        at = begin + self._random.expovariate(rate)
        while at < begin + LIMITS.traces_every_s:
            yield at
            at += self._random.expovariate(rate)


def out_of(host: Host) -> Spi:
    return Spi(0xA0000000 + int(host) % 256)


def into(host: Host) -> Spi:
    return Spi(0x10000000 + int(host) % 256)


def power_cut(play: Playbook, hosts: list[Host], slot: int = 0) -> Traffic:
    """Let all hosts negotiate and send before any of them hears of the peer; then their SPIs come in another order."""
    traffic = Traffic(play, Path(PEER, slot))
    for number, host in enumerate(hosts):
        traffic.start(host, number)
    for host in sorted(hosts, key=lambda host: int(host) * 7 % 11):
        traffic.tell(EspUnclaimed(Path(PEER, slot), into(host), 1))
    return traffic


def test_who_answers_is_the_owner(play: Playbook) -> None:
    traffic = power_cut(play, [ALICE, BOB])
    assert play.candidates(PEER, into(ALICE)) == {ALICE, BOB}
    traffic.asked(ALICE, into(ALICE))
    traffic.asks(ALICE, into(ALICE))
    traffic.asks(BOB, into(BOB))
    traffic.run(20)
    assert play.tracker.verdict(Path(PEER), into(ALICE)) == Certain(ALICE, Basis.ANSWERS)
    assert play.candidates(PEER, into(BOB)) == {BOB}, "the other SPI is the other host's"


def test_who_answers_on_another_address_is_the_owner_there(play: Playbook) -> None:
    """What hosts send names no address of ours, and what the peer sends does."""
    addresses = (IPv4Address("192.0.2.2"), IPv4Address("192.0.2.3"))
    play >> OutsideAddressesChanged((), addresses, (1,))
    traffic = power_cut(play, [ALICE, BOB], slot=1)
    assert play.tracker.verdict(Path(PEER, 1), into(ALICE)) == Contested((ALICE, BOB))
    for host in (ALICE, BOB):
        traffic.asked(host, into(host))
    traffic.run(20)
    for host in (ALICE, BOB):
        assert play.tracker.verdict(Path(PEER, 1), into(host)) == Certain(host, Basis.ANSWERS)
    assert traffic.traced == {}


def test_what_is_decided_is_traced_no_more(play: Playbook) -> None:
    traffic = power_cut(play, [ALICE, BOB])
    assert len(traffic.traced) == 4
    for host in (ALICE, BOB):
        traffic.asked(host, into(host))
    traffic.run(20)
    assert traffic.traced == {}


def test_silence_is_no_evidence_against_an_owner(play: Playbook) -> None:
    """Bob is asked and has nothing to say; nobody else answers for him, so he keeps his copies."""
    traffic = power_cut(play, [ALICE, BOB, CAROL])
    traffic.asks(ALICE, into(ALICE))
    traffic.asked(CAROL, into(CAROL))
    traffic.hears(into(BOB))
    traffic.run(30)
    assert BOB in play.candidates(PEER, into(BOB))


def test_one_host_that_speaks_to_another_through_the_peer_does_not_take_its_tunnel(play: Playbook) -> None:
    """What Alice sends comes out of Bob's tunnel, and he answers nothing: that she is echoed there proves nothing."""
    traffic = power_cut(play, [ALICE, BOB])
    traffic.asks(ALICE, into(BOB), rate=10.0)
    traffic.run(30)
    assert play.candidates(PEER, into(BOB)) == {ALICE, BOB}


def test_two_hosts_that_speak_with_each_other_keep_their_own_tunnels(play: Playbook) -> None:
    traffic = power_cut(play, [ALICE, BOB])
    for one, other in ((ALICE, BOB), (BOB, ALICE)):
        traffic.asks(one, into(other))
        traffic.asked(other, into(other), rate=3.0)
    traffic.run(30)
    assert play.candidates(PEER, into(ALICE)) == {ALICE}
    assert play.candidates(PEER, into(BOB)) == {BOB}


def test_two_hosts_with_one_spi_both_keep_it(play: Playbook) -> None:
    """Bob's SPI is the one that Alice has; neither of them is cut off, however long it takes."""
    traffic = power_cut(play, [ALICE, BOB])
    shared = into(ALICE)
    for host in (ALICE, BOB):
        traffic.asked(host, shared)
    traffic.run(30)
    assert play.tracker.verdict(Path(PEER), shared) == Contested((ALICE, BOB))


def test_a_host_that_only_sends_is_offered_what_others_have(play: Playbook) -> None:
    """Bob comes later and chooses Alice's SPI. His tunnel is one-way, which is a sign that it is his as well."""
    traffic = power_cut(play, [ALICE])
    shared = into(ALICE)
    traffic.asked(ALICE, shared)
    traffic.run(5)
    assert play.candidates(PEER, shared) == {ALICE}
    traffic.start(BOB, 1)
    traffic.asks(BOB, Spi(0x20000000))
    traffic.asked(BOB, shared)
    traffic.run(2 * LIMITS.one_way_s)
    assert play.candidates(PEER, shared) == {ALICE, BOB}
    traffic.run(30)
    assert play.candidates(PEER, shared) == {ALICE, BOB}, "both answer, so both keep it"


def test_a_host_that_only_sends_for_good_disturbs_others_a_little_while_only(play: Playbook) -> None:
    traffic = power_cut(play, [ALICE])
    traffic.asked(ALICE, into(ALICE))
    traffic.run(5)
    traffic.start(BOB, 1)
    traffic.asks(BOB, Spi(0x20000000))
    traffic.run(2 * LIMITS.one_way_s)
    traffic.run(15)
    assert play.candidates(PEER, into(ALICE)) == {ALICE}


def test_many_hosts_at_once_all_find_their_tunnels(play: Playbook) -> None:
    """More hosts than may have copies: who is likely is first, and all are found out in the end."""
    hosts = HOSTS[:24]
    traffic = power_cut(play, hosts)
    for host in hosts:
        traffic.asked(host, into(host))
        traffic.asks(host, into(host))
    traffic.run(40)
    owners = {host: play.tracker.verdict(Path(PEER), into(host)) for host in hosts}
    wrong = {host: verdict for host, verdict in owners.items() if isinstance(verdict, Certain) and verdict.host != host}
    assert wrong == {}
    assert sum(isinstance(verdict, Certain) for verdict in owners.values()) == len(hosts)


def test_an_owner_by_answers_that_begins_anew_is_doubted(play: Playbook) -> None:
    """Alice negotiates again, as if her tunnel were dead: those who might own her SPI get copies again."""
    traffic = power_cut(play, [ALICE, BOB, CAROL])
    traffic.asked(ALICE, into(ALICE))
    traffic.run(20)
    assert play.candidates(PEER, into(ALICE)) == {ALICE}
    traffic.start(ALICE, 9)
    assert ALICE in play.candidates(PEER, into(ALICE))
    assert len(play.candidates(PEER, into(ALICE))) > 1


def test_the_credit_of_a_rekeyed_ike_sa_is_taken_back(play: Playbook) -> None:
    """An IKE SA that begins without IKE_SA_INIT came of a CREATE_CHILD_SA, which brought no child SA then."""
    traffic = power_cut(play, [ALICE])
    for message in ikev2_child(ALICE, PEER, 0x1CE00, 2):
        traffic.tell(message)
    play.now += 60
    for message in ike(ALICE, PEER, 0xE1E, IkeExchange.INFORMATIONAL, 0, "><"):
        traffic.tell(message)
    traffic.start(BOB, 1)
    traffic.tell(EspUnclaimed(Path(PEER), into(BOB), 1))
    assert play.candidates(PEER, into(BOB)) == {BOB}


def test_the_credit_of_a_rekeyed_ike_sa_is_taken_back_later_if_the_new_one_speaks_at_once(play: Playbook) -> None:
    """The new IKE SA is used a second after the exchange that brought it, which then may have brought a child SA."""
    traffic = power_cut(play, [ALICE])
    for message in ikev2_child(ALICE, PEER, 0x1CE00, 2):
        traffic.tell(message)
    play.now += 1
    for message in ike(ALICE, PEER, 0xE1E, IkeExchange.INFORMATIONAL, 0, "><"):
        traffic.tell(message)
    play.wait_until(play.now + 2 * LIMITS.sweep_every_s)
    traffic.start(BOB, 1)
    traffic.tell(EspUnclaimed(Path(PEER), into(BOB), 1))
    assert play.candidates(PEER, into(BOB)) == {BOB}


def test_a_credit_of_an_idle_spi_makes_its_host_no_candidate_for_others(play: Playbook) -> None:
    """Alice's old SPI fell idle after a rekey. It is still hers, and Bob's new one is none of her business."""
    traffic = power_cut(play, [ALICE])
    play.wait_until(play.now + LIMITS.esp_idle_s + 2 * LIMITS.sweep_every_s)
    assert to_inside(PEER, into(ALICE)) not in play.mappings
    traffic.start(BOB, 1)
    traffic.tell(EspUnclaimed(Path(PEER), into(BOB), 1))
    assert play.candidates(PEER, into(BOB)) == {BOB}
    traffic.tell(EspUnclaimed(Path(PEER), into(ALICE), 2))
    assert play.candidates(PEER, into(ALICE)) == {ALICE}


def test_flows_of_a_candidate_are_noted_once_and_again_after_an_idle_time(play: Playbook) -> None:
    """However many SPIs it may own. When nothing is contested they are not, and the next contest notes them again."""
    traffic = Traffic(play, Path(PEER))
    told: list[FlowKey] = []
    outward = {to_peer(host, PEER, Spi(0xA0000000 + n)) for host in (ALICE, BOB) for n in range(3)}

    def tell(event: object) -> None:
        traffic.tell(event)
        told.extend(command.key for command in play.answer if isinstance(command, Trace))

    for host in (ALICE, BOB):
        for n in range(3):
            tell(EspFromInside(host, PEER, Spi(0xA0000000 + n), 200_000))
    for n in range(20):
        tell(EspUnclaimed(Path(PEER), Spi(0x20000 + n), 200_000))
    assert len(told) == len(set(told))
    assert set(traffic.traced) == outward | {to_inside(PEER, Spi(0x20000 + n)) for n in range(20)}
    for _ in range(20):
        play.now += LIMITS.esp_idle_s / 15
        tell(CountersRead(tuple(FlowCount(key, 1, 0, play.now) for key in outward)))
        tell(TimerExpired())
    assert not traffic.traced
    tell(EspUnclaimed(Path(PEER), Spi(0x30000), 200_000))
    assert set(traffic.traced) == outward | {to_inside(PEER, Spi(0x30000))}


def test_a_flow_that_makes_room_for_the_next_is_noted_no_more() -> None:
    play = Playbook(Limits(spis_per_host_and_peer_max=2, traces_max=8))
    for host in (ALICE, BOB):
        play >> EspFromInside(host, PEER, out_of(host), 200_000)
    play >> EspUnclaimed(Path(PEER), into(ALICE), 200_000)
    for n in range(20):
        play.now += 0.01
        play >> EspFromInside(ALICE, PEER, Spi(0xA0000000 + n), 200_000)
        assert Trace(to_peer(ALICE, PEER, Spi(0xA0000000 + n))) in play.answer


def test_who_was_struck_off_a_long_list_since_the_last_reading_is_compared_no_more() -> None:
    """Its share and its copies end with the next reading; a verdict needs it no more."""
    state = PeerState(Path(PEER))
    state.hosts = {host: HostAtPeer(host, 0.0, 0.0, credits_in=1, credits_out=1) for host in HOSTS}
    fits = dict.fromkeys(HOSTS, 0.0)
    binding = Binding(Spi(0xC0), 0.0, 0.0, is_credited=True, candidates=fits, weights=dict(fits))
    deciding.settle(state, binding, fits, 10.0, LIMITS)
    key = to_inside(PEER, Spi(0xC0))
    resolving.Tracing(LIMITS).begin(state, [key])
    unoffered = next(host for host in binding.shares if host not in binding.offered)
    for begin, struck in ((20.0, unoffered), (60.0, binding.offered[0])):
        state.hosts[struck].credits_in = 0
        deciding.reconsider(state, 11.0, LIMITS, [struck])
        assert struck not in binding.candidates
        resolving.note(state, [FlowTrace(key, tuple(begin + number for number in range(30)))], LIMITS)
        resolving.resolve(state, begin + 30.0, LIMITS)
        resolving.pass_over(state, frozenset(), begin + 30.0, LIMITS)
        assert struck not in binding.offered
