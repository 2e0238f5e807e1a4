"""Law 7: state is bounded by peer, by host and in total, and an attacker can fill only its own share."""

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from itertools import count, islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.properties.histories import Agree, History, How
from tests.properties.world import HOSTS, PEERS, World
from throughway.core import discriminators
from throughway.core.events import (
    AhFromInside,
    EspFromInside,
    EspUnclaimed,
    Event,
    HostDisowned,
    IkeExchange,
    IkeMessageSeen,
    L2tpControl,
    L2tpControlSeen,
    PortlessFromInside,
    PortlessUnclaimed,
    RefusalKind,
)
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, Spi, hashed
from throughway.core.limits import Limits
from throughway.wire.l2tpv3 import LOCAL_SESSION_ID

LIMITS = Limits(
    mappings_max=400,
    hosts_per_peer_max=8,
    peers_per_host_max=6,
    relations_max=48,
    spis_per_host_and_peer_max=4,
    spis_per_peer_max=32,
    contested_spis_per_peer_max=8,
    uncredited_spis_per_peer_max=8,
    refusals_max=32,
    refusals_per_host_max=8,
)
ALICE, BOB = HOSTS[:2]
HOME, WORK = (Peer(hashed(Host(peer))) for peer in PEERS)
MALLORY = hashed(Host(IPv4Address("192.168.1.66")))
NET = tuple(Peer(hashed(Host(address))) for address in IPv4Network("192.0.2.0/24"))
EVIL = NET[66]
GRE, L2TPV3 = IpProtocol.GRE, IpProtocol.L2TPV3
KEY, SESSION = discriminators.of_gre(0xA11CE), 0xA11CE
ROUND = 60
"""How often each attack is made before it is looked at."""

FILLING_MAX, AFTERWARDS = 10, 3
"""Rounds in which there may be more and more state, and rounds after them in which there may not."""

FULL = 15
"""Objects: a round that leaves no more behind than so many has filled what there is to fill."""

EXAMPLES = settings().max_examples // 2
"""These take longer than those of the other laws."""

Attack = Callable[[int], Iterable[Event]]


def _peer(n: int) -> Peer:
    return NET[n % len(NET)]


def many_spis_to_a_peer(n: int) -> Iterable[Event]:
    """Mallory sends with another SPI each time, to the peer that honest hosts use."""
    yield EspFromInside(MALLORY, HOME, Spi(0x100000 + n), 1)


def many_peers(n: int) -> Iterable[Event]:
    """Mallory sends to another peer each time."""
    yield EspFromInside(MALLORY, _peer(n), Spi(0x200000 + n), 1)


def many_spis_to_many_peers(n: int) -> Iterable[Event]:
    """Mallory fills each peer before taking the next."""
    yield EspFromInside(MALLORY, _peer(n // 5), Spi(0x300000 + n), 1)


def many_ike_sas(n: int) -> Iterable[Event]:
    """Mallory begins another IKE SA each time; with an accomplice outside all are answered."""
    for from_host in (True, False):
        yield IkeMessageSeen(MALLORY, HOME, 0xBAD0000 + n, IkeExchange.INITIAL, 0, from_host, floated=False)
        yield IkeMessageSeen(MALLORY, HOME, 0xBAD0000 + n, IkeExchange.FIRST_CHILD, 1, from_host, floated=False)


def many_exchanges(n: int) -> Iterable[Event]:
    """Mallory and an accomplice outside agree on another child SA each time."""
    for from_host in (True, False):
        yield IkeMessageSeen(MALLORY, EVIL, 0xBAD, IkeExchange.CHILD, n, from_host, floated=False)
    yield EspUnclaimed(Path(EVIL), Spi(0x400000 + n), 1)


def many_unanswered_exchanges(n: int) -> Iterable[Event]:
    """Mallory asks and asks."""
    yield IkeMessageSeen(MALLORY, HOME, 0xBAD0000 + n, IkeExchange.FIRST_CHILD, n, from_host=True, floated=False)


def many_forged_spis(n: int) -> Iterable[Event]:
    """Somebody outside sends with the address of a peer and another SPI each time."""
    yield EspFromInside(MALLORY, EVIL, Spi(0x500000), 1)
    yield EspUnclaimed(Path(EVIL), Spi(0x600000 + n), 1)


def many_forged_spis_of_a_used_peer(n: int) -> Iterable[Event]:
    """The same with the address of a peer that honest hosts use, as new SPIs and as old ones."""
    yield EspUnclaimed(Path(HOME), Spi(0xA00000 + n), 1)
    yield EspUnclaimed(Path(HOME), Spi(0xB00000 + n), 100_000)


def many_forged_peers(n: int) -> Iterable[Event]:
    """Somebody outside sends with addresses that nobody inside ever asked."""
    yield EspUnclaimed(Path(Peer(IPv4Address("233.252.0.0") + n)), Spi(0x700000 + n), 1)


def many_disowned_spis(n: int) -> Iterable[Event]:
    """Mallory disowns what was never anybody's."""
    yield HostDisowned(MALLORY, EVIL, Spi(0x800000 + n), RefusalKind.INVALID_SPI)
    yield HostDisowned(Host(IPv4Address("10.0.0.0") + n), HOME, Spi(0x900000 + n), RefusalKind.INVALID_SPI)


def many_gre_keys(n: int) -> Iterable[Event]:
    """Mallory sends with another key each time, and with those of others."""
    yield PortlessFromInside(MALLORY, HOME, GRE, discriminators.of_gre(n))
    yield PortlessFromInside(MALLORY, _peer(n), GRE, discriminators.of_gre(None))


def many_protocols(n: int) -> Iterable[Event]:
    """Mallory sends with another protocol each time, AH among them, to one peer and another."""
    yield PortlessFromInside(MALLORY, _peer(n % 2), 60 + n % 40, 0)
    yield AhFromInside(MALLORY, _peer(n))
    yield AhFromInside(Host(IPv4Address("10.1.0.0") + n), HOME)


def many_unmanaged_sessions(n: int) -> Iterable[Event]:
    """Mallory sends with another L2TPv3 session each time, while others wait, and an accomplice answers."""
    yield PortlessFromInside(MALLORY, HOME, L2TPV3, 0x1000000 + n)
    yield PortlessFromInside(MALLORY, EVIL, L2TPV3, 0x1000000 + n)
    yield PortlessUnclaimed(Path(EVIL), L2TPV3, 0x2000000 + n)
    yield PortlessUnclaimed(Path(EVIL), L2TPV3, 0x3000000 + n)


def many_assigned_sessions(n: int) -> Iterable[Event]:
    """Mallory assigns itself one L2TPv3 ID after the other, those of others too, and so does an accomplice."""
    ids = L2tpControl(0, 10, 0x4000000 + n, 0x5000000 + n, 0x6000000 + n)
    yield L2tpControlSeen(MALLORY, HOME, True, ids)
    yield L2tpControlSeen(MALLORY, HOME, False, ids)
    yield L2tpControlSeen(MALLORY, HOME, True, L2tpControl(0, 10, None, SESSION))


def many_forged_sessions(n: int) -> Iterable[Event]:
    """Somebody outside sends with the address of a peer and another L2TPv3 session or GRE key each time."""
    yield PortlessUnclaimed(Path(HOME), L2TPV3, 0x7000000 + n)
    yield PortlessUnclaimed(Path(HOME), GRE, discriminators.of_gre(0x7000000 + n))


ATTACKS: tuple[Attack, ...] = (
    many_spis_to_a_peer,
    many_peers,
    many_spis_to_many_peers,
    many_ike_sas,
    many_exchanges,
    many_unanswered_exchanges,
    many_forged_spis,
    many_forged_spis_of_a_used_peer,
    many_forged_peers,
    many_disowned_spis,
    many_gre_keys,
    many_protocols,
    many_unmanaged_sessions,
    many_assigned_sessions,
    many_forged_sessions,
)

_NO_STATE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, Enum, Limits)


def state_size(root: object) -> int:
    """Count the objects that are reached from one, without code, types and settings."""
    seen = {id(root)}
    waiting = [root]
    while waiting:
        for referent in gc.get_referents(waiting.pop()):
            if id(referent) not in seen and not isinstance(referent, _NO_STATE):
                seen.add(id(referent))
                waiting.append(referent)
    return len(seen)


def assert_bounded(world: World) -> None:
    """What is installed keeps to the limits: in total, by peer, and by host and peer."""
    keys = world.mappings().keys()
    assert len(keys) == world.tracker.mapping_count <= LIMITS.mappings_max
    inside = Counter((key.peer, _part(key)) for key in keys if key.direction is Direction.TO_INSIDE)
    outside = Counter((key.host, key.peer, _part(key)) for key in keys if key.direction is Direction.TO_PEER)
    relations = {(host, peer) for host, peer, _ in outside}
    assert max(inside.values(), default=0) <= LIMITS.spis_per_peer_max
    assert max(outside.values(), default=0) <= LIMITS.spis_per_host_and_peer_max
    assert max(Counter(host for host, _ in relations).values(), default=0) <= LIMITS.peers_per_host_max
    refused = Counter(refusal.host for refusal in world.tracker.refusals())
    assert refused.total() <= LIMITS.refusals_max
    assert max(refused.values(), default=0) <= LIMITS.refusals_per_host_max


def _part(key: FlowKey) -> int:
    """Tell apart the protocols that are counted for themselves: ESP, L2TPv3, and all others."""
    return key.protocol if key.protocol in (IpProtocol.ESP, L2TPV3) else 0


def batched(numbers: Iterable[int], size: int) -> Iterator[list[int]]:
    """Cut numbers into lists of this size."""
    left = iter(numbers)
    while some := list(islice(left, size)):
        yield some


LAW_7 = (
    st.lists(st.sampled_from(ATTACKS), min_size=1, max_size=3, unique=True),
    st.integers(0, 0xFFFF),
    st.sampled_from((1, 7, ROUND)),
    st.sampled_from((0.1, 2.5, 40.0, 100.0)),
)
"""Draw who attacks, from which number on, how often in a row, and the seconds between two rounds."""


@settings(max_examples=EXAMPLES)
@given(*LAW_7)
@example([many_ike_sas, many_exchanges], 0, 1, 100.0)
@example([many_forged_sessions, many_unmanaged_sessions], 0, ROUND, 0.1)
@example([many_exchanges, many_spis_to_many_peers], 38, 7, 0.1)
def test_law_7_state_is_bounded_and_an_attacker_fills_only_its_own_share(
    attacks: list[Attack], begin: int, in_a_row: int, pause_s: float
) -> None:
    world = World(LIMITS)
    history = History(world, is_fair=True)
    for host, peer in ((ALICE, HOME), (ALICE, WORK)):
        history.play(Agree((host, peer), How.FIRST))
        world.send_out(world.sas[-1])
        world.come_in(world.sas[-1])
    clear_text = ((GRE, KEY), (L2TPV3, SESSION))
    world.say_l2tp(ALICE, HOME, 0, 10, {LOCAL_SESSION_ID: SESSION})
    world.send_portless(ALICE, HOME, GRE, KEY)
    sizes: list[int] = []
    numbers = count(begin)
    full_after = FILLING_MAX
    while len(sizes) < full_after + AFTERWARDS:
        for some in batched(islice(numbers, ROUND), in_a_row):
            for attack in attacks:
                for n in some:
                    for event in attack(n):
                        world.tell(event)
        assert_bounded(world)
        sizes.append(state_size(world.tracker))
        if len(sizes) in range(2, full_after) and sizes[-1] <= max(sizes[:-1]) + FULL:
            full_after = len(sizes)
        for sa in world.sas:
            world.send_out(sa)
            world.come_in(sa)
        for protocol, name in clear_text:
            world.come_portless(HOME, protocol, name)
            assert world.mappings()[FlowKey.to_inside(protocol, Path(HOME), name)] == {ALICE}
        world.wait(pause_s)
    # The most that there was counts, and not one round alone: what makes room for other things goes up and down.
    assert min(sizes[-2:]) <= 1.05 * max(sizes[:full_after]) + 80, f"state grows with what is thrown at it: {sizes}"
    for host, peer in ((BOB, HOME), (BOB, WORK), (ALICE, HOME)):
        history.play(Agree((host, peer), How.FIRST))
        world.come_in(world.sas[-1])
        world.send_out(world.sas[-1])
        world.come_in(world.sas[-1])
    for tunnel, marks in world.expected.items():
        mine = set(marks)
        assert [mark for mark in world.received[tunnel] if mark in mine] == marks
