"""The laws for protocols that may carry clear text: no packet of theirs ever goes to two hosts.

Law 7 for them is in test_law_7.py.
"""

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from tests.properties.clear_text import (
    ClearWorld,
    Hush,
    Kill,
    Pass,
    SendUnmanaged,
    Step,
    changing,
    fair,
    hushing,
    killing,
    owners,
    talking,
    unfair,
)
from tests.properties.world import HOSTS, PEERS, World
from throughway.core.commands import Command, FanOut, InstallMapping, RemoveMapping
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol

FAIR = st.lists(st.one_of(*fair), min_size=3, max_size=20)
UNFAIR = st.lists(st.one_of(*unfair), min_size=3, max_size=20)


class OwnerWatch:
    """Fails when clear text is fanned out, or changes hands before its mapping was given up."""

    def __init__(self, world: World) -> None:
        self._known: dict[FlowKey, Host] = owners(world)
        world.on_command.append(self._on_command)

    def _on_command(self, command: Command) -> None:
        match command:
            case FanOut(key):
                assert key.protocol == IpProtocol.ESP
            case InstallMapping(key, host) if key.direction is Direction.TO_INSIDE:
                assert self._known.setdefault(key, host) == host, f"{key} was {self._known[key]}'s and goes to {host}"
            case RemoveMapping(key):
                self._known.pop(key, None)


LAW_2 = (UNFAIR,)


@given(*LAW_2)
def test_law_2_clear_text_has_one_owner_until_it_is_given_up(steps: Sequence[Step]) -> None:
    play = ClearWorld()
    OwnerWatch(play.world)
    for step in steps:
        play.play(step)
        owners(play.world)
        assert play.world.tracker.mapping_count == len(play.world.mappings())


LAW_2_ANSWERS = (st.lists(changing, min_size=12, max_size=40), st.sampled_from([0.0, 0.05, 1.5, 1.5]))


# The answer to what Alice begins late in her turn comes when Bob has been waiting for a whole one.
BEGUN_LATE_IN_A_TURN: list[Step] = [
    SendUnmanaged((HOSTS[0], PEERS[0]), 1),
    Pass(1.0),
    SendUnmanaged((HOSTS[0], PEERS[0]), 0),
    SendUnmanaged((HOSTS[1], PEERS[0]), 0),
]

# The peer comes back when Alice's turn is long over, and answers what she sent just before Bob begins.
ANSWERED_LATE: list[Step] = [
    Hush(PEERS[0], is_silent=True),
    SendUnmanaged((HOSTS[0], PEERS[0]), 0),
    Pass(40.0),
    Hush(PEERS[0], is_silent=False),
    SendUnmanaged((HOSTS[0], PEERS[0]), 0),
    SendUnmanaged((HOSTS[1], PEERS[0]), 0),
]


@given(*LAW_2_ANSWERS)
@example(BEGUN_LATE_IN_A_TURN, 1.5)
@example(ANSWERED_LATE, 0.05)
def test_law_2_what_a_peer_answers_within_a_turn_comes_to_nobody_else(steps: Sequence[Step], answer_s: float) -> None:
    play = ClearWorld(answer_s=answer_s)
    for step in steps:
        play.play(step)
        play.wait(0.01)
    play.wait(10.0)
    assert play.wrong == []


LAW_3 = (UNFAIR,)


@given(*LAW_3)
def test_law_3_clear_text_comes_to_nobody_who_exchanged_nothing_with_its_peer(steps: Sequence[Step]) -> None:
    play = ClearWorld()

    def on_command(command: Command) -> None:
        if isinstance(command, InstallMapping):
            assert (command.host, command.key.peer) in play.world.exchanged

    play.world.on_command.append(on_command)
    for step in steps:
        play.play(step)


LAW_6 = (UNFAIR, st.integers(2, 3))


@given(*LAW_6)
def test_law_6_handling_the_same_event_twice_changes_nothing(steps: Sequence[Step], times_told: int) -> None:
    once, often = ClearWorld(), ClearWorld()
    often.world.times_told = times_told
    for step in steps:
        once.play(step)
        often.play(step)
        assert often.world.mappings() == once.world.mappings()
        assert often.received == once.received
        assert set(often.world.tracker.tunnels()) == set(once.world.tracker.tunnels())
        assert often.world.tracker.mapping_count == once.world.tracker.mapping_count


LAW_8 = (
    st.lists(st.one_of(*fair, hushing, talking), min_size=3, max_size=20),
    st.lists(st.one_of(*fair, hushing, talking, killing), min_size=1, max_size=10),
    st.sampled_from([0.0, 0.05, 1.5]),
)


@given(*LAW_8)
def test_law_8_after_a_restart_clear_text_stays_with_its_owner(
    before: Sequence[Step], after: Sequence[Step], answer_s: float
) -> None:
    play = ClearWorld(answer_s=answer_s)
    for step in before:
        play.play(step)
    known = owners(play.world)
    OwnerWatch(play.world)
    play.play(Kill())
    assert owners(play.world) == known
    for step in after:
        play.play(step)
    assert play.wrong == []
