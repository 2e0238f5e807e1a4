"""ICMP errors through the real stack, whose kernels write them: nothing of the inside shows outside."""

import contextlib
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from tests.kernel.bpf_plane.conftest import Ends, Gateway
from tests.kernel.bpf_plane.net import ALICE, BOB, OUTSIDE, PEER, Ear, checksum, ip_packet, run, wait_for
from throughway.core.flows import FlowKey
from throughway.core.ports import AhObserved, ControlObserved, Disowned
from throughway.core.reasons import Reason

_GRE = struct.pack("!HHI", 0x2000, 0x0800, 6)
_OTHER = 94
"""A protocol that no stack of these namespaces knows, so that it answers protocol unreachable."""


@pytest.fixture
def errors(up: Gateway) -> Iterator[Ear]:
    """What the peer hears of ICMP."""
    with contextlib.closing(Ear(up.net.peer, 1)) as ear:
        yield ear


def _quoted(message: bytes) -> tuple[int, int, IPv4Address, IPv4Address, bytes]:
    """Take an ICMP error apart, its checksums included: type, code, quoted addresses, quoted payload."""
    icmp = message[(message[0] & 15) * 4 :]
    assert checksum(message[:20]) == 0
    assert checksum(icmp + bytes(len(icmp) % 2)) == 0
    quoted = icmp[8:]
    assert checksum(quoted[:20]) == 0
    return icmp[0], icmp[1], IPv4Address(quoted[12:16]), IPv4Address(quoted[16:20]), quoted[20:]


@pytest.mark.parametrize(("protocol", "head"), [(50, struct.pack("!II", 0x5555, 1)), (47, _GRE), (115, b"\0\0\0\7")])
def test_the_routers_own_errors_do_not_show_the_host(
    up: Gateway, ends: Ends, errors: Ear, protocol: int, head: bytes
) -> None:
    """A time to live that ends at the router, and a packet that is too large for the inside."""
    up.make_peer_known(ends)
    up.give_all()
    run("ip", "-n", up.net.router, "link", "set", "in0", "mtu", "600")
    ends.peer.send(ip_packet(PEER, OUTSIDE, protocol, head + bytes(60), ttl=1))
    ends.peer.send(ip_packet(PEER, OUTSIDE, protocol, head + bytes(900), fragment=0x4000))
    up.until("both heard", lambda: len(errors.collect()) >= 2)
    told = [(message, *_quoted(message)) for message in errors.received]
    assert {(kind, code) for _, kind, code, *_ in told} == {(11, 0), (3, 4)}
    for message, _, _, source, destination, rest in told:
        assert IPv4Address(message[12:16]) == OUTSIDE
        assert (source, destination) == (PEER, OUTSIDE)
        assert rest.startswith(head)
        assert ALICE.packed not in message
    assert up.count(Reason.ICMP_ERROR_TRANSLATED) == 2


def test_a_hosts_error_leaves_as_ours(up: Gateway, ends: Ends, errors: Ear) -> None:
    up.make_peer_known(ends)
    up.give_all()
    ends.peer.send(ip_packet(PEER, OUTSIDE, _OTHER, bytes(range(60))))
    up.until("heard", lambda: bool(errors.collect()))
    (message,) = errors.received
    assert IPv4Address(message[12:16]) == OUTSIDE
    assert _quoted(message) == (3, 2, PEER, OUTSIDE, bytes(range(60)))
    assert ALICE.packed not in message
    up.until("told", lambda: Disowned(ALICE, PEER, _OTHER, 0, 2) in up.told)


def test_hosts_that_disown_copies_are_told_of_and_not_heard(up: Gateway, ends: Ends, errors: Ear) -> None:
    up.make_peer_known(ends)
    up.give_all((ALICE, BOB))
    ends.peer.send(ip_packet(PEER, OUTSIDE, _OTHER, bytes(60)))
    up.until("both told", lambda: {each.host for each in up.told if isinstance(each, Disowned)} == {ALICE, BOB})
    assert up.count(Reason.DISOWNED) == 2
    assert errors.collect() == []


def test_an_error_about_what_nobody_has_does_not_leave(up: Gateway, ends: Ends, errors: Ear) -> None:
    """A host forges an error about a tunnel that it does not have."""
    quoted = ip_packet(PEER, ALICE, 50, struct.pack("!II", 0x9999, 1))
    icmp = struct.pack("!BBHI", 3, 2, 0, 0) + quoted
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    ends.alice.send(ip_packet(ALICE, PEER, 1, icmp))
    up.until("dropped", lambda: up.count(Reason.ICMP_ERROR_UNKNOWN) == 1)
    assert errors.collect() == []


def test_a_provider_that_cannot_pass_a_large_packet_is_heard_by_the_host(up: Gateway, ends: Ends) -> None:
    """Path MTU discovery (RFC 1191): the host's own kernel learns the smaller MTU from the translated error, since it
    has a socket for the protocol.
    """
    up.give_all()
    ends.alice.send(ip_packet(ALICE, PEER, 47, _GRE + bytes(1200), fragment=0x4000))
    up.until("sent", lambda: up.count(Reason.TRANSLATED_TO_PEER) == 1)
    quoted = ip_packet(OUTSIDE, PEER, 47, _GRE + bytes(1200), fragment=0x4000, ttl=63)[:28]
    icmp = struct.pack("!BBHHH", 3, 4, 0, 0, 1000) + quoted
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    with contextlib.closing(Ear(up.net.alice, 1)) as ear, contextlib.closing(Ear(up.net.alice, 47)):
        ends.peer.send(ip_packet(PEER, OUTSIDE, 1, icmp))
        wait_for("heard", lambda: bool(ear.collect()))
        assert _quoted(ear.received[0]) == (3, 4, ALICE, PEER, _GRE)
    assert "mtu 1000" in run("ip", "-n", up.net.alice, "route", "get", str(PEER))


def test_control_messages_and_ah_are_told(up: Gateway, ends: Ends) -> None:
    message = struct.pack("!HHIHH", 0xC803, 12, 0, 0, 0)
    ends.alice.send(ip_packet(ALICE, PEER, 115, bytes(4) + message))
    ends.bob.send(ip_packet(BOB, PEER, 51, bytes(24)))
    up.until(
        "told",
        lambda: (
            ControlObserved(ALICE, PEER, up.punted()[0].direction, 115, message) in up.told if up.punted() else False
        ),
    )
    up.until("AH told", lambda: AhObserved(BOB, PEER) in up.told)
    assert up.punted() == [FlowKey.to_peer(115, ALICE, PEER, 1 << 32)]


def test_what_nobody_inside_asked_for_is_the_stacks(up: Gateway, ends: Ends, errors: Ear) -> None:
    """The router itself says that it does not know the protocol; ESP gets no answer."""
    ends.peer.send(ip_packet(PEER, OUTSIDE, _OTHER, bytes(60)))
    wait_for("heard", lambda: bool(errors.collect()))
    assert _quoted(errors.received[0]) == (3, 2, PEER, OUTSIDE, bytes(60))
    assert up.told == []
