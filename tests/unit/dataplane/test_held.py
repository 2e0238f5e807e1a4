"""Held packets: order, gaps and bounds."""

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer
from throughway.dataplane.held import GAP_S, HeldPackets

PEER = Peer(IPv4Address("203.0.113.9"))
OTHER_PEER = Peer(IPv4Address("203.0.113.10"))
ALICE = Host(IPv4Address("10.10.1.2"))
KEY = FlowKey.to_inside(IpProtocol.ESP, Path(PEER), 0x1000)
SECOND = FlowKey.to_inside(IpProtocol.ESP, Path(PEER), 0x1001)
THIRD = FlowKey.to_inside(IpProtocol.ESP, Path(PEER), 0x1002)
FOREIGN = FlowKey.to_inside(IpProtocol.ESP, Path(OTHER_PEER), 0x1000)


def held(flows_max: int = 8, per_flow_max: int = 64, bytes_max: int = 1 << 20) -> HeldPackets:
    return HeldPackets(flows_max, per_flow_max, bytes_max)


def take_all(packets: HeldPackets, key: FlowKey, now: float) -> list[bytes]:
    taken: list[bytes] = []
    while (frame := packets.next_frame(key, now)) is not None:
        packets.pop(key, now)
        taken.append(frame)
    return taken


def test_nothing_comes_out_before_the_release() -> None:
    """An undecided flow keeps its packets however long it takes."""
    packets = held()
    assert packets.hold(KEY, 0, b"first", 1.0) == 0
    assert packets.next_frame(KEY, 99.0) is None
    assert list(packets.undecided()) == [KEY]
    assert packets.size_bytes == 5


@given(st.permutations(list(range(12))))
def test_packets_come_out_in_the_order_of_their_numbers(arrival: list[int]) -> None:
    """Whatever the order of arrival, the order of the numbers comes out."""
    packets = held()
    for sequence in arrival:
        packets.hold(KEY, sequence, bytes([sequence]), 0.0)
    packets.release(KEY, 0.0)
    assert take_all(packets, KEY, 0.0) == [bytes([sequence]) for sequence in range(12)]
    assert packets.size_bytes == 0


def test_a_missing_number_is_waited_for() -> None:
    """The neighbour that overtook waits for the one that is still being written."""
    packets = held()
    packets.hold(KEY, 1, b"second", 0.0)
    packets.release(KEY, 0.0)
    assert packets.next_frame(KEY, GAP_S / 2) is None
    packets.hold(KEY, 0, b"first", GAP_S / 2)
    assert take_all(packets, KEY, GAP_S / 2) == [b"first", b"second"]


def test_a_missing_number_is_not_waited_for_longer_than_the_gap() -> None:
    """A number that was lost with an earlier daemon does not close the flow."""
    packets = held()
    packets.hold(KEY, 7, b"eighth", 0.0)
    packets.release(KEY, 0.0)
    assert packets.next_frame(KEY, GAP_S) == b"eighth"


def test_packets_after_the_release_follow() -> None:
    """What the kernel still hands over while a flow drains comes out too."""
    packets = held()
    packets.hold(KEY, 0, b"first", 0.0)
    packets.release(KEY, 0.0)
    assert take_all(packets, KEY, 0.0) == [b"first"]
    packets.hold(KEY, 1, b"second", 0.1)
    assert take_all(packets, KEY, 0.1) == [b"second"]
    assert packets.released() == [KEY]


def test_a_flow_holds_no_more_than_its_bound() -> None:
    """The packet over the bound is dropped and the ones before it stay."""
    packets = held(per_flow_max=2)
    assert [packets.hold(KEY, sequence, b"x", 0.0) for sequence in range(4)] == [0, 0, 1, 1]
    assert packets.dropped(KEY) == 2
    assert packets.forget(KEY) == 2


def test_a_flow_over_the_number_of_flows_is_not_begun() -> None:
    """Flows that are held already are not disturbed by one more."""
    packets = held(flows_max=1)
    assert packets.hold(KEY, 0, b"x", 0.0) == 0
    assert packets.hold(SECOND, 0, b"x", 0.0) == 1
    assert SECOND not in packets
    assert len(packets) == 1


def test_who_holds_most_gives_way() -> None:
    """A peer that floods loses its own newest packets, and another peer's first packet is kept."""
    packets = held(bytes_max=40)
    for key in (KEY, SECOND, THIRD):
        assert packets.hold(key, 0, b"x" * 12, 0.0) == 0
    assert packets.hold(FOREIGN, 0, b"y" * 12, 0.0) == 1
    packets.release(FOREIGN, 0.0)
    packets.release(KEY, 0.0)
    packets.release(THIRD, 0.0)
    assert take_all(packets, FOREIGN, 0.0) == [b"y" * 12]
    assert take_all(packets, KEY, 0.0) == [b"x" * 12]
    assert take_all(packets, THIRD, 0.0) == []
    assert THIRD in packets
    assert packets.dropped(THIRD) == 1


def test_who_holds_most_may_be_who_sends_now() -> None:
    """The last packet of the flood is the one that goes."""
    packets = held(bytes_max=30)
    packets.hold(FOREIGN, 0, b"y" * 10, 0.0)
    packets.hold(KEY, 0, b"x" * 15, 0.0)
    assert packets.hold(KEY, 1, b"x" * 15, 0.0) == 1
    packets.release(KEY, 0.0)
    assert take_all(packets, KEY, 0.0) == [b"x" * 15]


@given(
    st.lists(
        st.tuples(st.sampled_from([KEY, SECOND, THIRD, FOREIGN]), st.integers(0, 20), st.integers(1, 50)), max_size=60
    )
)
def test_the_bytes_are_bounded_and_every_packet_is_accounted_for(arrivals: list[tuple[FlowKey, int, int]]) -> None:
    """Held plus dropped is what came, and the total never goes over its bound."""
    packets = held(bytes_max=200, per_flow_max=6)
    dropped = 0
    for key, sequence, size in arrivals:
        dropped += packets.hold(key, sequence, bytes(size), 0.0)
        assert packets.size_bytes <= 200
    kept = sum(packets.forget(key) for key in (KEY, SECOND, THIRD, FOREIGN))
    assert kept + dropped == len(arrivals)
    assert packets.size_bytes == 0
    assert len(packets) == 0


def test_only_undecided_flows_become_overdue() -> None:
    """A released flow is the business of the watchdog."""
    packets = held()
    packets.hold(KEY, 0, b"x", 1.0)
    packets.hold(SECOND, 0, b"x", 2.0)
    packets.hold(THIRD, 0, b"x", 1.0)
    packets.release(THIRD, 1.0)
    assert packets.overdue(1.5) == [KEY]


def test_the_parties_of_the_two_directions_are_host_and_peer() -> None:
    """What a host sends counts as its own, not as the peer's."""
    packets = held(bytes_max=20)
    to_peer = FlowKey.to_peer(IpProtocol.ESP, ALICE, PEER, 0x2000)
    packets.hold(to_peer, 0, b"x" * 5, 0.0)
    packets.hold(KEY, 0, b"x" * 10, 0.0)
    assert packets.hold(SECOND, 0, b"x" * 10, 0.0) == 1
    packets.release(to_peer, 0.0)
    assert take_all(packets, to_peer, 0.0) == [b"x" * 5]
