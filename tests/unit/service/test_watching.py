"""Readings of conntrack become flows as a host sees them, with the time since they last moved."""

from dataclasses import replace
from ipaddress import IPv4Address

from throughway.core.tracked import TrackedCount, TrackedFlow, TrackedTuple
from throughway.service.watching import Watch

OUTSIDE, HOST, PEER = (IPv4Address(a) for a in ("192.0.2.2", "10.77.0.11", "198.51.100.20"))

WIREGUARD = TrackedFlow(
    protocol=17,
    original=TrackedTuple(HOST, PEER, 40000, 51820),
    reply=TrackedTuple(PEER, OUTSIDE, 51820, 40000),
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


def test_flow_that_moves_is_not_idle_and_one_that_rests_is() -> None:
    watch = Watch()
    (first,) = watch.update([WIREGUARD], [OUTSIDE], 100.0)
    assert (first.first_at, first.moved_at) == (95.0, 100.0)
    (second,) = watch.update([WIREGUARD], [OUTSIDE], 110.0)
    assert second.moved_at == 100.0
    (third,) = watch.update([replace(WIREGUARD, sent=TrackedCount(3, 400))], [OUTSIDE], 120.0)
    assert (third.first_at, third.moved_at) == (95.0, 120.0)


def test_call_that_the_server_began_is_told_from_the_host_on() -> None:
    (call,) = Watch().update([CALL_FROM_THE_SERVER], [OUTSIDE], 0.0)
    assert call.flow.original == CALL_FROM_THE_SERVER.reply
    assert (call.flow.sent, call.flow.answered) == (CALL_FROM_THE_SERVER.answered, CALL_FROM_THE_SERVER.sent)
    assert call.flow.is_answered


def test_what_is_not_between_a_host_and_a_peer_is_left_out() -> None:
    routers_own = replace(WIREGUARD, original=TrackedTuple(OUTSIDE, PEER, 40000, 51820))
    between_insides = replace(WIREGUARD, reply=TrackedTuple(PEER, HOST, 51820, 40000))
    unexpected = replace(CALL_FROM_THE_SERVER, is_expected=False)
    assert Watch().update([routers_own, between_insides, unexpected], [OUTSIDE], 0.0) == []
    assert Watch().update([WIREGUARD], [], 0.0) == []


def test_what_is_gone_is_forgotten() -> None:
    watch = Watch()
    watch.update([WIREGUARD], [OUTSIDE], 0.0)
    assert watch.update([], [OUTSIDE], 1.0) == []
    (again,) = watch.update([WIREGUARD], [OUTSIDE], 50.0)
    assert again.moved_at == 50.0
