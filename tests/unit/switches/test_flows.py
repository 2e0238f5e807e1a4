"""Known flows follow the switches, whatever comes in what order, and stay within their bounds."""

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.switches.boards import ALICE, BOB, PEER, board
from throughway.core.ids import Host, Peer
from throughway.sessions.facts import Detected, FlowName
from throughway.switches.flows import Blocked, Change, KnownFlows, Lifted

BOARDS = [
    board(),
    board(("openvpn", "off")),
    board(("wireguard", "off", ALICE, None)),
    board(("openvpn", "off"), ("openvpn", "on", BOB, PEER)),
]


def flow(device: str = ALICE, port: int = 4000) -> FlowName:
    return FlowName(Host(IPv4Address(device)), Peer(IPv4Address(PEER)), 17, port, 1194)


def detected(name: FlowName, protocol: str = "openvpn") -> Detected:
    return Detected(name, protocol, protocol, 0.9, "evidence")


steps = st.lists(
    st.one_of(
        st.tuples(st.just("detected"), st.sampled_from([ALICE, BOB]), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("gone"), st.sampled_from([ALICE, BOB]), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("board"), st.sampled_from([ALICE]), st.integers(0, 3), st.booleans()),
    ),
    max_size=40,
)


@given(steps)
def test_exactly_what_is_off_is_blocked(history: list[tuple[str, str, int, bool]]) -> None:
    """A model set, driven by the changes alone, holds at every step the known flows whose switch is off."""
    known, now = KnownFlows(flows_max=6, per_device_max=3), BOARDS[0]
    blocked: set[FlowName] = set()

    def apply(changes: list[Change]) -> None:
        for change in changes:
            if isinstance(change, Blocked):
                blocked.add(change.flow)
            else:
                blocked.remove(change.flow)

    protocols: dict[FlowName, str] = {}
    for what, device, number, is_wireguard in history:
        name = flow(device, number)
        if what == "detected":
            protocols[name] = "wireguard" if is_wireguard else "openvpn"
            apply(known.on_detected(detected(name, protocols[name]), now))
        elif what == "gone":
            known.on_gone(name)
        else:
            now = BOARDS[number]
            apply(known.rule_anew(known.names(), now))
        names = known.names()
        assert blocked == {one for one in names if now.is_off(protocols[one], one.device, one.peer)}
        assert all(known.is_blocked(one) == (one in blocked) for one in names)
        assert sum(one.device == IPv4Address(ALICE) for one in names) <= 3


def test_a_blocked_flow_is_remembered_when_the_kernel_forgets_it() -> None:
    known = KnownFlows()
    assert known.on_detected(detected(flow()), BOARDS[1]) == [Blocked(flow(), "openvpn", "openvpn", "openvpn")]
    known.on_gone(flow())
    assert known.rule_anew(known.names(), BOARDS[0]) == [Lifted(flow())]
    assert known.counts() == {"openvpn": (1, 0)}
    known.on_gone(flow())
    assert known.names() == []


def test_a_flow_that_is_detected_again_is_blocked_again() -> None:
    """Its time in the packet filter may be over."""
    known = KnownFlows()
    known.on_detected(detected(flow()), BOARDS[1])
    again = Blocked(flow(), "openvpn", "openvpn", "openvpn", is_again=True)
    assert known.on_detected(detected(flow()), BOARDS[1]) == [again], "and people are told of it once"
    assert known.on_expired(flow()) == Lifted(flow())
    assert known.on_expired(flow()) is None


def test_a_device_fills_only_its_own_share_and_what_makes_room_is_blocked_no_more() -> None:
    known = KnownFlows(flows_max=8, per_device_max=2)
    known.on_detected(detected(flow(BOB, 1)), BOARDS[1])
    for port in (1, 2):
        known.on_detected(detected(flow(ALICE, port)), BOARDS[1])
    changes = known.on_detected(detected(flow(ALICE, 3)), BOARDS[1])
    assert changes[0] == Lifted(flow(ALICE, 1))
    assert known.is_blocked(flow(BOB, 1))
    assert len(known.names()) == 3


def test_a_protocol_that_was_removed_blocks_nothing() -> None:
    known = KnownFlows()
    known.on_detected(Detected(flow(), "acme", "acme", 0.9, "x"), BOARDS[0])
    assert known.rule_anew([flow(), flow(BOB)], BOARDS[1]) == []
