"""What is traced, compared and passed over, piece by piece: the state of one peer, without a tracker."""

from collections.abc import Sequence
from ipaddress import IPv4Address
from random import Random

import pytest

from tests.unit.core.playbook import to_inside, to_peer
from throughway.core import answers, deciding, resolving
from throughway.core.bindings import Binding, PeerState
from throughway.core.commands import FanOut, InstallMapping, Trace, Untrace
from throughway.core.credits import HostAtPeer, OutgoingSa
from throughway.core.events import FlowTrace
from throughway.core.ids import Host, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.verdicts import Basis, Certain

PEER = Peer(IPv4Address("203.0.113.9"))
HOSTS = [Host(IPv4Address("192.168.1.10") + n) for n in range(40)]
ALICE, BOB, CAROL = HOSTS[:3]
LIMITS = Limits()
SPI_1, SPI_2, OUT = Spi(0xC1), Spi(0xC2), Spi(0xA0)
NOW = 50.0


def contest(hosts: Sequence[Host], *spis: Spi, limits: Limits = LIMITS) -> PeerState:
    """Return a peer with SPIs that each of the hosts may own, all of them as likely, and all flows noted."""
    state = PeerState(Path(PEER), round_trip_s=0.04)
    for host in hosts:
        state.hosts[host] = HostAtPeer(host, 0.0, 0.0, credits_in=1, outgoing={OUT: OutgoingSa(0.0, 0.0)})
    for spi in spis:
        fits = dict.fromkeys(hosts, 0.0)
        deciding.settle(state, Binding(spi, 0.0, 0.0, is_credited=True, candidates=fits), fits, NOW, limits)
    keys = [to_inside(PEER, spi) for spi in spis] + [to_peer(host, PEER, OUT) for host in hosts]
    resolving.Tracing(limits).begin(state, keys)
    return state


def note(state: PeerState, *, came: dict[Spi, list[float]], sent: dict[Host, list[float]]) -> None:
    """Read times: what came with each SPI, and what each host sent."""
    inside = [FlowTrace(to_inside(PEER, spi), tuple(times)) for spi, times in came.items()]
    outside = [FlowTrace(to_peer(host, PEER, OUT), tuple(times)) for host, times in sent.items()]
    resolving.note(state, inside + outside, LIMITS)


def moments(count: int, begin: float = 10.0) -> list[float]:
    """Return so many times that follow no rhythm."""
    random = Random(count)  # noqa: S311 - a model, no secret
    times = [begin]
    while len(times) < count:
        times.append(times[-1] + random.uniform(0.2, 0.6))
    return times


def behind(times: Sequence[float], delay_s: float = 0.002) -> list[float]:
    return [at + delay_s for at in times]


# Tracing


def test_no_more_flows_are_noted_than_there_is_room_for_and_each_counts_once() -> None:
    state, tracing = PeerState(Path(PEER)), resolving.Tracing(Limits(traces_max=3))
    first, second, third, fourth = keys = [to_inside(PEER, number) for number in range(1, 5)]
    assert tracing.begin(state, [first, second]) == [Trace(first), Trace(second)]
    assert tracing.begin(state, [first, *keys]) == [Trace(third)]
    assert tracing.end(state, [fourth]) == [], "it was never noted, and makes no room"
    assert tracing.begin(state, [fourth]) == []
    assert tracing.end(state, [first, second]) == [Untrace(first), Untrace(second)]
    assert tracing.begin(state, keys) == [Trace(first), Trace(second)]
    assert tracing.end(state, keys, is_removed=True) == [], "those of removed flows end by themselves"
    assert tracing.begin(state, keys) == [Trace(first), Trace(second), Trace(third)]


def test_the_times_of_a_flow_that_is_noted_no_more_are_forgotten() -> None:
    state = contest([ALICE, BOB], SPI_1)
    note(state, came={SPI_1: [1.0, 2.0]}, sent={ALICE: [1.5]})
    resolving.Tracing(LIMITS).end(state, [to_inside(PEER, SPI_1)])
    assert state.times == {to_peer(ALICE, PEER, OUT): [1.5]}


def test_times_are_kept_once_in_order_and_not_for_ever() -> None:
    """A reading tells again what the one before told; one of a flow that is no longer noted comes late."""
    state = contest([ALICE, BOB], SPI_1)
    late = FlowTrace(to_inside(PEER, SPI_2), (1.0,))
    key = to_inside(PEER, SPI_1)
    for times in ((1.0, 2.0), (1.0, 2.0, 2.001, 3.0), (3.0, 4.0)):
        resolving.note(state, [late, FlowTrace(key, times)], LIMITS)
    assert state.times == {key: [1.0, 2.0, 3.0, 4.0]}
    resolving.note(state, [FlowTrace(key, tuple(10.0 + n for n in range(resolving.HISTORY)))], LIMITS)
    assert state.times[key][0] == 10.0
    assert len(state.times[key]) == resolving.HISTORY


# Comparing


def test_an_answer_decides_where_other_flows_have_said_nothing_yet() -> None:
    """Nor does it take any more comparing for what does not change."""
    state = contest([ALICE, BOB, CAROL], SPI_1, SPI_2)
    came = moments(30)
    note(state, came={SPI_1: came}, sent={ALICE: behind(came)})
    assert InstallMapping(to_inside(PEER, SPI_1), ALICE) in resolving.resolve(state, NOW, LIMITS)
    assert state.bindings[SPI_1].verdict == Certain(ALICE, Basis.ANSWERS)
    assert set(state.bindings[SPI_2].candidates) == {BOB, CAROL}, "Alice had one credit"


def test_too_little_is_not_compared_and_nothing_twice() -> None:
    state = contest([ALICE, BOB], SPI_1)
    binding = state.bindings[SPI_1]
    came = moments(30)
    for count, compared in ((5, 0), (20, 20), (21, 20), (30, 30), (30, 30)):
        note(state, came={SPI_1: came[:count]}, sent={})
        resolving.resolve(state, NOW, LIMITS)
        assert binding.audited_packets == compared


def test_where_many_are_contested_each_is_compared_in_its_turn() -> None:
    limits = Limits(compared_per_read_max=5)
    state = contest([ALICE, BOB], SPI_1, SPI_2, Spi(0xC3))
    came = {spi: moments(30, 10.0 + spi / 10) for spi in state.bindings}
    note(state, came=came, sent={})
    assert resolving.resolve(state, NOW, limits) == []
    assert [bool(one.answers) for one in state.bindings.values()] == [True, True, False], "two SPIs of two hosts each"
    again = {spi: moments(30, 30.0 + spi / 10) for spi in came}
    note(state, came=again, sent={BOB: behind(again[Spi(0xC3)])})
    assert InstallMapping(to_inside(PEER, 0xC3), BOB) in resolving.resolve(state, NOW, limits)


def test_all_that_one_reading_decides_is_carried_out() -> None:
    state = contest([ALICE, BOB, CAROL], SPI_1, SPI_2)
    came = {SPI_1: moments(30), SPI_2: moments(31)}
    note(state, came=came, sent={ALICE: behind(came[SPI_1]), BOB: behind(came[SPI_2])})
    commands = resolving.resolve(state, NOW, LIMITS)
    for spi, host in ((SPI_1, ALICE), (SPI_2, BOB)):
        assert InstallMapping(to_inside(PEER, spi), host) in commands


def test_who_answers_two_spis_at_the_same_moments_is_given_one_when_their_packets_differ() -> None:
    """The peer sends to both tunnels at once, and Bob has nothing to say: Alice may answer what comes with either."""
    state = contest([ALICE, BOB], SPI_1, SPI_2)
    both = moments(30)
    for spi in (SPI_1, SPI_2):
        note(state, came={spi: both}, sent={ALICE: behind(both)})
    resolving.resolve(state, NOW, LIMITS)
    assert set(state.open) == {SPI_1, SPI_2}
    alone = moments(60, both[-1] + 1.0)
    note(state, came={SPI_2: behind(both[-1:], 0.5), SPI_1: alone}, sent={ALICE: behind(alone)})
    resolving.resolve(state, NOW, LIMITS)
    assert state.bindings[SPI_1].verdict == Certain(ALICE, Basis.ANSWERS)
    assert set(state.bindings[SPI_2].candidates) == {BOB}


def test_who_keeps_the_same_clock_does_not_answer_what_comes_without_what_comes_to_another_tunnel_too() -> None:
    """All that speaks for Alice's answers came with both SPIs; what one had alone keeps strict time, as she does."""
    state = contest([ALICE, BOB], SPI_1, SPI_2)
    both = moments(30)
    ticks = [both[-1] + 1.0 + n * 0.25 for n in range(100)]
    sent = behind([*both, *ticks[::3], *ticks[1::9]])
    note(state, came={SPI_1: [*both, *ticks], SPI_2: both}, sent={ALICE: sorted(sent)})
    resolving.resolve(state, NOW, LIMITS)
    assert state.bindings[SPI_1].answers[ALICE] > answers.CERTAIN
    assert set(state.bindings[SPI_1].candidates) == set(state.bindings[SPI_2].candidates) == {ALICE, BOB}


@pytest.mark.parametrize("is_first", [True, False])
def test_an_echo_decides_only_together_with_the_beginnings(is_first: bool) -> None:
    """What comes in follows what Alice sends, so another tunnel may be meant; but hers began as its SPI came."""
    state = contest([ALICE, BOB], SPI_1)
    binding = state.bindings[SPI_1]
    binding.candidates = {ALICE: 5.0, BOB: -5.0} if is_first else {ALICE: -5.0, BOB: 5.0}
    sent = moments(40)
    note(state, came={SPI_1: behind(sent, 0.1)}, sent={ALICE: sent})
    resolving.resolve(state, NOW, LIMITS)
    assert set(binding.candidates) == ({ALICE} if is_first else {ALICE, BOB})


def test_two_echoes_decide_nothing_however_well_one_begins() -> None:
    state = contest([ALICE, BOB], SPI_1)
    binding = state.bindings[SPI_1]
    binding.candidates = {ALICE: 5.0, BOB: -5.0}
    one, other = moments(60), moments(61, 10.1)
    note(state, came={SPI_1: sorted(behind(one, 0.1) + behind(other, 0.1))}, sent={ALICE: one, BOB: other})
    resolving.resolve(state, NOW, LIMITS)
    assert binding.echoes[ALICE] == binding.echoes[BOB] > 20.0
    assert set(binding.candidates) == {ALICE, BOB}


# Audits


def audit(*others: Host) -> tuple[PeerState, Binding]:
    """Return a peer with an SPI of Alice's that is offered to Bob, who only sends; others may have turned up since."""
    state = contest([ALICE, BOB, CAROL], SPI_1)
    binding = state.bindings[SPI_1]
    deciding.settle(state, binding, {ALICE: 0.0}, NOW, LIMITS)
    for host in (BOB, *others):
        deciding.admit(state, binding, host, NOW, LIMITS)
    binding.auditor = BOB
    return state, binding


@pytest.mark.parametrize(("others", "left"), [([], {ALICE}), ([CAROL], {ALICE, CAROL})])
def test_an_audit_without_a_sign_ends_as_if_it_had_not_been(others: list[Host], left: set[Host]) -> None:
    state, binding = audit(*others)
    note(state, came={SPI_1: moments(60)}, sent={})
    resolving.resolve(state, NOW, LIMITS)
    assert set(binding.candidates) == set(binding.offered) == left
    assert binding.auditor is None
    assert binding.basis == (Basis.ANSWERS if len(left) == 1 else None)


def test_what_follows_an_auditors_packets_may_be_its_own_even_where_the_owner_answers() -> None:
    """Alice leads, and not by enough to decide. So both of them have the SPI from now on."""
    state, binding = audit()
    asks, came = moments(20), moments(45, 10.1)
    note(state, came={SPI_1: sorted(behind(asks, 0.1) + came)}, sent={BOB: asks, ALICE: behind(came[:12])})
    resolving.resolve(state, NOW, LIMITS)
    assert binding.answers[ALICE] > binding.echoes[BOB] > answers.SUSPECT
    assert binding.answers[ALICE] - binding.echoes[BOB] < answers.CERTAIN
    assert binding.is_shared
    assert set(binding.candidates) == {ALICE, BOB}


def test_an_audit_goes_on_while_the_auditor_leads_however_little() -> None:
    state, binding = audit()
    asks, came = moments(40), moments(50, 10.137)
    note(state, came={SPI_1: sorted(behind(asks[:9], 0.1) + came)}, sent={BOB: asks})
    resolving.resolve(state, NOW, LIMITS)
    assert 0.0 < binding.echoes[BOB] < answers.SUSPECT
    assert binding.auditor == BOB
    assert set(binding.candidates) == {ALICE, BOB}


# More candidates than may have copies


def test_who_answers_is_the_owner_among_more_hosts_than_can_be_compared() -> None:
    """The likeliest of the others are its rivals, should it be doubted."""
    state = contest(HOSTS, SPI_1, SPI_2)
    binding = state.bindings[SPI_1]
    owner, likely = binding.offered[0], next(host for host in HOSTS if host not in binding.offered)
    binding.candidates[likely] += 1.0
    came = moments(30)
    note(state, came={SPI_1: came}, sent={owner: behind(came)})
    assert resolving.resolve(state, NOW, LIMITS)[0] == InstallMapping(to_inside(PEER, SPI_1), owner)
    assert likely in binding.rivals
    assert len(binding.rivals) == LIMITS.fan_out_max


def test_whose_packets_are_answered_there_gets_a_copy_next_if_it_is_likely() -> None:
    """It is compared although it has none yet, and so are those that have one."""
    state = contest(HOSTS, SPI_1)
    binding = state.bindings[SPI_1]
    likely = next(host for host in binding.shares if host not in binding.offered)
    sent = moments(40)
    note(state, came={SPI_1: behind(sent, 0.1)}, sent={likely: sent})
    (command,) = resolving.resolve(state, NOW, LIMITS)
    assert isinstance(command, FanOut)
    assert command.hosts[-1] == likely
    assert command.hosts == binding.offered


def test_each_candidate_has_copies_in_the_end_and_who_gives_a_sign_keeps_them() -> None:
    """Those too whose beginnings fit less well."""
    state = contest(HOSTS, SPI_1, SPI_2)
    signs, had = {}, {}
    for spi, binding in state.bindings.items():
        for host in HOSTS[30:]:
            binding.candidates[host] = binding.weights[host] = -1.5
        deciding.offer(state, binding, NOW, LIMITS)
        one, other, *_ = binding.offered
        binding.answers[one] = binding.echoes[other] = 5.0
        signs[spi], had[spi] = {one, other}, set(binding.offered)
    offered = {to_inside(PEER, spi): binding.offered for spi, binding in state.bindings.items()}
    for _ in range(60):
        commands = resolving.pass_over(state, frozenset(), NOW + 10.0, LIMITS)
        offered |= {command.key: command.hosts for command in commands if isinstance(command, FanOut)}
        for spi, binding in state.bindings.items():
            assert binding.offered == offered[to_inside(PEER, spi)], "what changes is carried out"
            assert signs[spi] <= set(binding.offered)
            had[spi].update(binding.offered)
    assert had == {key: set(HOSTS) for key in (SPI_1, SPI_2)}


def test_who_sends_without_a_sign_makes_room_later_than_who_is_silent() -> None:
    state = contest(HOSTS, SPI_1)
    binding = state.bindings[SPI_1]
    first = binding.offered
    heard = frozenset(first[::2])
    for _ in range(20):
        resolving.pass_over(state, heard, NOW, LIMITS)
        if set(binding.offered) != set(first):
            break
    assert heard <= set(binding.offered) != set(first)
