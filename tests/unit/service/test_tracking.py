"""What connection tracking has of the flows that sessions have."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address

from throughway.core.ids import ROUTER, Host, IpProtocol, Peer
from throughway.core.tracked import TrackedCount, TrackedFlow, TrackedTuple
from throughway.service.tracking import CLOSED, FORGOTTEN, SLICE, Tracking, calls_of
from throughway.sessions.facts import Counted, Detected, Fact, FlowGone, FlowName
from throughway.sessions.register import Register

HOST, PEER = Host(IPv4Address("10.77.0.11")), Peer(IPv4Address("198.51.100.20"))
OUTSIDE = IPv4Address("192.0.2.2")
NAME = FlowName(HOST, PEER, IpProtocol.UDP, 40000, 51820)

WIREGUARD = TrackedFlow(
    protocol=17,
    original=TrackedTuple(HOST, PEER, 40000, 51820),
    reply=TrackedTuple(PEER, OUTSIDE, 51820, 31022),
    sent=TrackedCount(2, 300),
    answered=TrackedCount(1, 120),
    age_s=5.0,
    timeout_s=100,
    is_answered=True,
    is_assured=True,
    is_expected=False,
    helper="",
)

CALL_FROM_THE_SERVER = replace(
    WIREGUARD,
    protocol=47,
    original=TrackedTuple(PEER, OUTSIDE, 128, 51594),
    reply=TrackedTuple(HOST, PEER, 7, 128),
    is_expected=True,
    is_answered=False,
)


class Kernel:
    """What connection tracking would answer, and a register that hears what follows."""

    def __init__(self) -> None:
        self.flows: dict[FlowName, TrackedFlow] = {}
        self.asked: list[int] = []
        self.register = Register()
        self.tracking = Tracking(self.register, self.look)
        self.now = 1000.0
        self.detect(NAME)

    def detect(self, name: FlowName, protocol: str = "wireguard") -> None:
        self.register.handle(Detected(name, protocol, protocol, 0.9, "seen"), self.now)

    def look(self, wanted: Iterable[tuple[int, TrackedTuple]]) -> list[TrackedFlow | None]:
        names = [
            FlowName(Host(one.source), Peer(one.destination), protocol, one.source_key, one.destination_key)
            for protocol, one in wanted
        ]
        self.asked.append(len(names))
        return [self.flows.get(name) for name in names]

    def read(self) -> list[Fact]:
        self.now += 2.0

        async def all_facts() -> list[Fact]:
            return [fact async for facts in self.tracking.read([OUTSIDE]) for fact in facts]

        facts = asyncio.run(all_facts())
        for fact in facts:
            self.register.handle(fact, self.now)
        return facts


def test_flow_is_counted_with_what_the_peer_sees_and_told_again_when_it_moved() -> None:
    kernel = Kernel()
    kernel.flows[NAME] = WIREGUARD
    (fact,) = kernel.read()
    assert isinstance(fact, Counted)
    assert (fact.to_peer.packets, fact.to_inside.bytes) == (2, 120)
    assert (fact.translated_to, fact.is_tracked) == (f"{OUTSIDE} port 31022", True)
    assert kernel.read() == []
    kernel.flows[NAME] = replace(WIREGUARD, sent=TrackedCount(3, 400))
    (fact,) = kernel.read()
    assert isinstance(fact, Counted)
    assert fact.to_inside.last_at is not None
    assert fact.to_peer.last_at is not None
    assert fact.to_peer.last_at > fact.to_inside.last_at, "only one direction moved"


def test_flow_that_was_there_and_is_not_is_gone_and_comes_back_as_a_new_session() -> None:
    kernel = Kernel()
    assert kernel.read() == [], "its first packet may have been dropped"
    kernel.flows[NAME] = WIREGUARD
    kernel.read()
    del kernel.flows[NAME]
    assert kernel.read() == [FlowGone(NAME, FORGOTTEN)]
    assert kernel.read() == []
    kernel.flows[NAME] = replace(WIREGUARD, sent=TrackedCount(1, 148), answered=TrackedCount(1, 92))
    detected, counted = kernel.read()
    assert isinstance(detected, Detected)
    assert (detected.protocol, detected.evidence) == ("wireguard", "seen")
    assert isinstance(counted, Counted)
    old, new = kernel.register.entries()
    assert old.ended_at is not None
    assert (new.ended_at, new.session.id) == (None, f"{old.session.id}.2")
    assert kernel.read() == []


def test_closed_connection_is_gone_at_once_and_no_longer_asked_for() -> None:
    kernel = Kernel()
    name = FlowName(HOST, PEER, IpProtocol.TCP, 40001, 443)
    kernel.detect(name, "sstp")
    kernel.flows[name] = replace(WIREGUARD, protocol=6, is_closed=True)
    assert FlowGone(name, CLOSED) in kernel.read()
    assert kernel.read() == []
    assert kernel.asked == [2, 1]


def test_routers_own_flow_is_asked_for_by_its_address() -> None:
    kernel = Kernel()
    kernel.detect(NAME._replace(device=ROUTER))
    kernel.flows[NAME._replace(device=Host(OUTSIDE))] = replace(
        WIREGUARD,
        original=TrackedTuple(OUTSIDE, PEER, 40000, 51820),
        reply=TrackedTuple(PEER, OUTSIDE, 51820, 40000),
    )
    (fact,) = kernel.read()
    assert isinstance(fact, Counted)
    assert fact.flow.device == ROUTER


def test_flows_are_asked_for_in_slices_and_nothing_else_is() -> None:
    kernel = Kernel()
    for port in range(SLICE):
        kernel.detect(NAME._replace(source=50000 + port))
    kernel.detect(FlowName(HOST, PEER, IpProtocol.ESP), "esp")
    kernel.read()
    assert kernel.asked == [SLICE, 1]


def test_call_that_the_server_began_is_the_devices() -> None:
    strangers = replace(WIREGUARD, protocol=47, original=TrackedTuple(OUTSIDE, PEER, 1, 2))
    forwarded = replace(CALL_FROM_THE_SERVER, is_expected=False)
    flows = [CALL_FROM_THE_SERVER, strangers, forwarded, replace(WIREGUARD, protocol=47)]
    assert list(calls_of(flows, [OUTSIDE])) == [
        FlowName(HOST, PEER, IpProtocol.GRE, 7, 128),
        FlowName(HOST, PEER, IpProtocol.GRE, 40000, 51820),
    ]


def test_counts_of_a_call_that_the_server_began_are_turned() -> None:
    kernel = Kernel()
    name = FlowName(HOST, PEER, IpProtocol.GRE, 7, 128)
    kernel.detect(name, "pptp-gre")
    kernel.flows[name] = CALL_FROM_THE_SERVER
    (fact,) = kernel.read()
    assert isinstance(fact, Counted)
    assert (fact.to_peer.packets, fact.to_inside.packets) == (1, 2)
    assert fact.translated_to == f"{OUTSIDE} call 51594"
