"""The laws of inference, one property for each, over generated histories of a model world.

Law 4 has a world of its own, test_law_4.py, and law 7 test_law_7.py.
"""

from collections.abc import Iterable

from hypothesis import example, given
from hypothesis import strategies as st

from tests.properties.histories import (
    Agree,
    ComeIn,
    Converse,
    Forge,
    GoOut,
    History,
    How,
    Restart,
    Step,
    Wait,
    changing_address,
    conversing,
    fair,
    histories,
    restarting,
    talkative_hosts,
    unfair,
)
from tests.properties.watches import AdoptedWatch, CertainWatch
from tests.properties.world import HOSTS, PEERS, Sa, World
from throughway.core.commands import Command, FanOut, InstallMapping
from throughway.core.events import (
    EspUnclaimed,
    HostDisowned,
    RefusalKind,
)
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.verdicts import Contested, Unknown, Verdict

REKEY_EVERY_S = 300.0
PROBES = 12


def play(steps: list[Step], talkative: set[Host], *, is_fair: bool) -> World:
    """Play a history to its end in a new world."""
    world = World()
    world.talkative = talkative
    history = History(world, is_fair=is_fair)
    for step in steps:
        history.play(step)
    world.settle()
    return world


def assert_owners_got_all(world: World) -> None:
    """Every packet reached the host it was for, once, and each host's packets of one tunnel came in order."""
    for tunnel, marks in world.expected.items():
        mine = set(marks)
        assert [mark for mark in world.received[tunnel] if mark in mine] == marks


LAW_1 = (histories(*fair, conversing), talkative_hosts)
ALICE, BOB, CAROL = HOSTS[:3]
HOME = PEERS[0]

# The tunnel of a host that only sent ESP is quiet for longer than its mappings last.
QUIET_WITHOUT_IKE: list[Step] = [Agree((ALICE, HOME), How.MANUAL), Wait(1000.0), ComeIn(0)]

# So is one whose rival has a credit to spare, and answers for nothing.
QUIET_BESIDE_A_RIVAL: list[Step] = [
    *[Agree((ALICE, HOME), How.FIRST)] * 3,
    Agree((BOB, HOME), How.FIRST),
    ComeIn(3),
    Wait(1000.0),
    ComeIn(3),
]

# The answer to an exchange was never seen, but the host sends with its own SPI: there is an SA.
SENDS_AFTER_UNSEEN_ANSWER: list[Step] = [
    Agree((ALICE, HOME), How.UNANSWERED),
    Agree((ALICE, HOME), How.MANUAL),
    Agree((BOB, HOME), How.FIRST),
    Wait(120.0),
    ComeIn(0),
]

# Alice's rekey is answered 89 s after her first message; Bob has rekeyed meanwhile, and hears of it later.
ANSWERED_AFTER_RETRANSMISSIONS: list[Step] = [
    Agree((ALICE, HOME), How.FIRST),
    ComeIn(0),
    Agree((BOB, HOME), How.FIRST),
    ComeIn(1),
    Wait(40.0),
    Agree((BOB, HOME), How.CHILD),
    Agree((ALICE, HOME), How.LATE),
    ComeIn(3),
    ComeIn(2),
]


@given(*LAW_1)
@example(QUIET_WITHOUT_IKE, set())
@example(QUIET_BESIDE_A_RIVAL, {ALICE})
@example(SENDS_AFTER_UNSEEN_ANSWER, set())
@example(ANSWERED_AFTER_RETRANSMISSIONS, set())
def test_law_1_a_packet_reaches_its_owner_if_that_is_a_candidate(steps: list[Step], talkative: set[Host]) -> None:
    assert_owners_got_all(play(steps, talkative, is_fair=True))


LAW_2 = (histories(*unfair, conversing), talkative_hosts)


# Bob comes with a tunnel that is older than our watch: what was negotiated before our eyes is none of his business.
NEWCOMER: list[Step] = [Agree((ALICE, HOME), How.FIRST), ComeIn(0), Agree((BOB, HOME), How.MANUAL), ComeIn(0)]

# Alice's and Bob's peer has chosen one SPI for both; Alice, whose answers decided, falls silent, and Bob speaks.
SILENT_WITH_AN_EQUAL_SPI: list[Step] = [
    *[Agree((ALICE, HOME), How.FIRST)] * 2,
    *[Agree((ALICE, HOME), How.BARREN)] * 3,
    Agree((BOB, HOME), How.FIRST, 1, 0),
    Converse(0),
    GoOut(2, 1),
    Wait(40.0),
    Forge(HOME, 0x30000),
    Agree((ALICE, HOME), How.FIRST),
    Converse(2),
    ComeIn(0, 1, True),
]


# Alice only sends: all that she had were copies of Bob's, before his answers decided.
NOTHING_BUT_COPIES: list[Step] = [
    Agree((BOB, HOME), How.FIRST),
    Agree((ALICE, HOME), How.FIRST),
    GoOut(1, 1),
    Agree((ALICE, HOME), How.FIRST),
    Wait(2.0),
    *[Converse(0)] * 2,
    Agree((ALICE, HOME), How.FIRST),
    Wait(0.1),
    Converse(0),
]


@given(*LAW_2)
@example(NEWCOMER, set())
@example(NOTHING_BUT_COPIES, set())
@example(SILENT_WITH_AN_EQUAL_SPI, set())
def test_law_2_after_a_certain_verdict_no_other_host_receives_the_spi(steps: list[Step], talkative: set[Host]) -> None:
    world = World()
    world.talkative = talkative
    watch = CertainWatch(world)
    history = History(world, is_fair=False)
    for step in steps:
        history.play(step)
        watch.look()


LAW_3 = (histories(*unfair, conversing, restarting, changing_address), talkative_hosts)


@given(*LAW_3)
def test_law_3_a_host_that_never_exchanged_anything_receives_nothing(steps: list[Step], talkative: set[Host]) -> None:
    world = World()
    world.talkative = talkative

    def on_command(command: Command) -> None:
        match command:
            case InstallMapping(key, host):
                assert (host, key.peer) in world.exchanged
            case FanOut(key, hosts):
                assert {(host, key.peer) for host in hosts} <= world.exchanged

    world.on_command.append(on_command)
    world.on_delivery.append(lambda host, peer, _: _assert_in((host, peer), world.exchanged))
    history = History(world, is_fair=False)
    for step in steps:
        history.play(step)
    for peer in set(PEERS) - {peer for _, peer in world.exchanged}:
        assert world.tracker.verdict(Path(peer), Spi(0x30000)) == Unknown()


def _assert_in(member: object, group: set[tuple[Host, Peer]]) -> None:
    assert member in group


def inside_key(sa: Sa) -> FlowKey:
    """Name what comes in of an SA."""
    return FlowKey.to_inside(IpProtocol.ESP, Path(sa.peer), sa.spi_to_inside)


def outside_key(sa: Sa) -> FlowKey:
    """Name what goes out of an SA."""
    return FlowKey.to_peer(IpProtocol.ESP, sa.host, sa.peer, sa.spi_to_peer)


rekeys = st.lists(
    st.tuples(
        st.sampled_from(HOSTS[:3]),
        st.sampled_from([How.CHILD, How.CHILD_OF_PEER, How.QUICK, How.FIRST]),
        st.booleans(),
        st.sampled_from([1.0, REKEY_EVERY_S, 900.0]),
    ),
    min_size=1,
    max_size=15,
)
"""Draw who rekeys next and how, whether the peer sends with the new SPI first, and how long both are in use."""


LAW_5 = (rekeys, talkative_hosts)


@given(*LAW_5)
def test_law_5_a_rekey_never_interrupts(rekeys: list[tuple[Host, How, bool, float]], talkative: set[Host]) -> None:
    world = World()
    world.talkative = talkative
    history = History(world, is_fair=True)
    current: dict[Host, Sa] = {}
    for host in {host for host, *_ in rekeys}:
        history.play(Agree((host, PEERS[0]), How.FIRST))
        current[host] = world.sas[-1]
    use(world, current.values())
    for host, how, is_inbound_first, overlap_s in rekeys:
        old = current[host]
        history.play(Agree(old.between, how))
        new = current[host] = world.sas[-1]
        if is_inbound_first:
            world.come_in(new)
        in_use = [old, *current.values()]
        for _ in range(int(overlap_s // REKEY_EVERY_S) + 1):
            use(world, in_use)
            assert_mapped(world, in_use)
            world.wait(min(overlap_s, REKEY_EVERY_S))
        old.is_gone = True
    assert_owners_got_all(world)
    outlast_idle(world, current.values())
    assert_mapped(world, current.values())
    assert set(world.mappings()) == {key for sa in current.values() for key in (inside_key(sa), outside_key(sa))}
    assert_owners_got_all(world)


def use(world: World, sas: Iterable[Sa]) -> None:
    """Let packets go both ways in each SA."""
    for sa in sas:
        world.send_out(sa)
        world.come_in(sa)


def assert_mapped(world: World, sas: Iterable[Sa]) -> None:
    """Both directions of each SA have a mapping, and the host is in it."""
    mappings = world.mappings()
    for sa in sas:
        assert sa.host in mappings[inside_key(sa)]
        assert mappings[outside_key(sa)] == {sa.host}


def outlast_idle(world: World, sas: Iterable[Sa]) -> None:
    """Use these SAs until all others are idle for good."""
    for _ in range(int((world.limits.esp_idle_s + 2 * world.limits.sweep_every_s) // REKEY_EVERY_S) + 1):
        world.wait(REKEY_EVERY_S)
        use(world, sas)


LAW_6 = (histories(*unfair, conversing, restarting, changing_address), talkative_hosts, st.integers(2, 3))

# One exchange is all that tells how far away the peer is, which answers are judged by.
ONE_EXCHANGE_SINCE_A_RESTART: list[Step] = [
    Agree((BOB, HOME), How.FIRST),
    Agree((ALICE, HOME), How.FIRST),
    Restart(),
    Agree((ALICE, HOME), How.CHILD),
    Converse(0),
]

# The same where the peer began it: what the host says then is the answer.
ONE_EXCHANGE_OF_THE_PEER: list[Step] = [
    Agree((ALICE, HOME), How.FIRST),
    Agree((BOB, HOME), How.FIRST),
    Restart(),
    Agree((BOB, HOME), How.CHILD_OF_PEER),
    Converse(0),
]


@given(*LAW_6)
@example(ONE_EXCHANGE_SINCE_A_RESTART, set(), 2)
@example(ONE_EXCHANGE_OF_THE_PEER, set(), 2)
def test_law_6_handling_the_same_event_twice_changes_nothing(
    steps: list[Step], talkative: set[Host], times_told: int
) -> None:
    once, often = World(), World()
    often.times_told = times_told
    histories = [History(world, is_fair=False) for world in (once, often)]
    for world in (once, often):
        world.talkative = talkative
    for step in steps:
        for history in histories:
            history.play(step)
        assert often.mappings() == once.mappings()
        assert often.received == once.received
        assert set(often.tracker.bindings()) == set(once.tracker.bindings())
    often.times_told = 1
    for peer in PEERS:
        assert probe(often, peer) == probe(once, peer)


def probe(world: World, peer: Peer) -> list[Verdict]:
    """Use up all credits there are, one by one, and list the verdicts on the way: what a tracker knows shows."""
    verdicts = []
    for n in range(PROBES):
        spi = Spi(0x40000 + n)
        world.tell(EspUnclaimed(Path(peer), spi, 1))
        verdict = world.tracker.verdict(Path(peer), spi)
        verdicts.append(verdict)
        for host in verdict.hosts[1:] if isinstance(verdict, Contested) else ():
            world.tell(HostDisowned(host, peer, spi, RefusalKind.INVALID_SPI))
    return verdicts


LAW_8 = (histories(*fair, conversing), histories(*fair, conversing), talkative_hosts)


# What was contested before the restart takes none of Alice's credit for what she negotiated after it.
CONTESTED_BEFORE: list[Step] = [*[Agree((ALICE, HOME), How.FIRST)] * 4, Agree((BOB, HOME), How.FIRST), ComeIn(0)]
NEGOTIATED_AFTER: list[Step] = [
    Agree((CAROL, HOME), How.FIRST),
    Agree((ALICE, HOME), How.FIRST),
    Wait(1000.0),
    Agree((CAROL, HOME), How.FIRST),
    Converse(1),
]


@given(*LAW_8)
@example(CONTESTED_BEFORE, NEGOTIATED_AFTER, set())
@example(NEWCOMER[:2], NEWCOMER[2:], set())
def test_law_8_after_a_restart_no_packet_of_a_known_tunnel_goes_elsewhere(
    before: list[Step], after: list[Step], talkative: set[Host]
) -> None:
    world = World()
    world.talkative = talkative
    history = History(world, is_fair=True)
    for step in before:
        history.play(step)
    history.play(Restart())
    AdoptedWatch(world)
    for step in after:
        history.play(step)
    world.settle()
    assert_owners_got_all(world)


FEW_COPIES = Limits(fan_out_max=2, fan_out_first_max=2, fan_out_late_max=2)

LAW_8_CONTESTS = (histories(*unfair, conversing), talkative_hosts)


@given(*LAW_8_CONTESTS)
def test_law_8_a_restart_rules_out_no_host_that_sends(steps: list[Step], talkative: set[Host]) -> None:
    world = World(FEW_COPIES)
    world.talkative = talkative
    history = History(world, is_fair=False)
    for step in steps:
        history.play(step)
    world.settle()
    sending = {(key.host, key.peer) for key in world.mappings() if key.direction is Direction.TO_PEER}
    contests = [(path, spi, one.hosts) for path, spi, one in world.tracker.bindings() if isinstance(one, Contested)]
    history.play(Restart())
    for path, spi, hosts in contests:
        verdict = world.tracker.verdict(path, spi)
        assert isinstance(verdict, Contested)
        assert {host for host in hosts if (host, path.peer) in sending} <= set(verdict.hosts)
