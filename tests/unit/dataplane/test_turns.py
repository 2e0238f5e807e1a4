"""Questions in turn: each sender's in their order, none's before the others had one."""

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer
from throughway.core.ports import Punted
from throughway.dataplane.turns import Turns, sender_of

HOST = Host(IPv4Address("10.10.1.2"))
PEERS = [Peer(IPv4Address(f"203.0.113.{n}")) for n in range(9, 14)]


def question(peer: int, number: int, packet: bytes = b"") -> Punted:
    return Punted(FlowKey.to_inside(IpProtocol.ESP, Path(PEERS[peer]), number), packet, is_copy=False)


def take_all(turns: Turns) -> list[tuple[int, int]]:
    taken = []
    while turns:
        key = turns.take().key
        taken.append((PEERS.index(key.peer), key.discriminator))
    return taken


def test_a_peer_pays_for_what_comes_in_and_a_host_for_what_goes_out() -> None:
    assert sender_of(FlowKey.to_inside(IpProtocol.ESP, Path(PEERS[0]), 1)) == PEERS[0]
    assert sender_of(FlowKey.to_peer(IpProtocol.ESP, HOST, PEERS[0], 1)) == HOST


def test_who_comes_late_with_one_waits_for_no_flood() -> None:
    turns = Turns(per_sender_max=1000)
    for number in range(1000):
        turns.add(question(0, number))
    turns.add(question(1, 1))
    assert take_all(turns)[:4] == [(0, 0), (1, 1), (0, 1), (0, 2)]


def test_a_sender_has_no_more_than_so_many() -> None:
    turns = Turns(per_sender_max=2)
    assert [turns.add(question(0, number)) for number in range(3)] == [True, True, False]
    assert turns.add(question(1, 0))
    assert turns.add(question(0, 1, b"later")), "it takes the place of the one about the same flow"
    turns.take()
    turns.take()
    assert turns.take().packet == b"later"
    assert not turns


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=60, unique=True))
def test_nobody_waits_for_more_than_one_of_each_other(asked: list[tuple[int, int]]) -> None:
    """All come out, each sender's in order; and the n-th of one before the n+1-th of another."""
    turns = Turns(per_sender_max=100)
    for peer, number in asked:
        turns.add(question(peer, number))
    taken = take_all(turns)
    rounds: list[int] = []
    for peer in range(5):
        own = [number for sender, number in taken if sender == peer]
        assert own == [number for sender, number in asked if sender == peer]
    for at, (peer, _) in enumerate(taken):
        rounds.append([sender for sender, _ in taken[:at]].count(peer))
    assert rounds == sorted(rounds)
