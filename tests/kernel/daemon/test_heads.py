"""The daemon names flows as they begin, by structure and not by port, and copies nothing that it need not see."""

import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from tests.kernel.bpf_plane.net import Network, inside
from tests.kernel.daemon.net import ALICE, BOB, LIMIT_S, PEER, Ends, wait_for
from tests.kernel.daemon.process import Daemon
from throughway.dataplane.head_abi import HEAD_PACKETS_MAX

INITIATION = struct.pack("<II", 1, 0x1234) + random.Random(1).randbytes(124) + bytes(16)  # noqa: S311
RESPONSE = struct.pack("<III", 2, 0x5678, 0x1234) + random.Random(2).randbytes(64) + bytes(16)  # noqa: S311
"""WireGuard's handshake (whitepaper section 5.4); what is encrypted is noise."""

PPTP_START = struct.pack("!HHIHHHHIIHH", 156, 1, 0x1A2B3C4D, 1, 0, 0x0100, 0, 1, 1, 0, 0).ljust(156, b"\0")
PPTP_STARTED = struct.pack("!HHIHH", 156, 1, 0x1A2B3C4D, 2, 0).ljust(156, b"\0")
PPTP_CALL = struct.pack("!HHIHHH", 168, 1, 0x1A2B3C4D, 7, 0, 5).ljust(168, b"\0")
PPTP_CALLED = struct.pack("!HHIHHHHB", 32, 1, 0x1A2B3C4D, 8, 0, 9, 5, 1).ljust(32, b"\0")
"""RFC 2637 sections 2.1, 2.2, 2.7 and 2.8; the last one says that the call is connected."""

PLAIN = bytes((0xEE,)) * 200


@contextlib.contextmanager
def bound(namespace: str, kind: socket.SocketKind, address: IPv4Address, port: int = 0) -> Iterator[socket.socket]:
    """A socket of an end, whose waiting has a limit."""
    with inside(namespace):
        made = socket.socket(socket.AF_INET, kind)
    with contextlib.closing(made):
        made.settimeout(LIMIT_S)
        made.bind((str(address), port))
        yield made


@pytest.fixture
def up(daemon: Daemon) -> Daemon:
    return daemon.up()


def heads(daemon: Daemon, what: str = "copied") -> int:
    return daemon.status().heads[what]


def datagrams(net: Network, port: int, *exchanged: tuple[bytes, bytes]) -> None:
    """Have Alice and the peer's port exchange datagrams, each answered."""
    with (
        bound(net.alice, socket.SOCK_DGRAM, ALICE) as alice,
        bound(net.peer, socket.SOCK_DGRAM, PEER, port) as peer,
    ):
        for asked, answered in exchanged:
            alice.sendto(asked, (str(PEER), port))
            received, source = peer.recvfrom(4096)
            assert received == asked
            peer.sendto(answered, source)
            assert alice.recv(4096) == answered


def test_a_handshake_of_wireguard_on_port_53_is_wireguard(up: Daemon, net: Network) -> None:
    datagrams(net, 53, (INITIATION, RESPONSE))
    wait_for("it is detected", lambda: bool(up.lines("flow.detected")))
    (line,) = up.lines("flow.detected")
    assert "protocol=wireguard" in line and f"host={ALICE}" in line and f"peer={PEER}" in line
    assert "port='udp 53'" in line and "handshake initiation" in line
    assert heads(up) == 2


def test_a_syn_to_1723_is_nothing_and_its_control_messages_are_pptp(up: Daemon, net: Network) -> None:
    with (
        bound(net.peer, socket.SOCK_STREAM, PEER, 1723) as listening,
        bound(net.alice, socket.SOCK_STREAM, ALICE) as alice,
    ):
        listening.listen()
        alice.connect((str(PEER), 1723))
        peer, _ = listening.accept()
        with peer:
            peer.settimeout(LIMIT_S)
            assert heads(up) == 0
            for sent, answered in ((PPTP_START, PPTP_STARTED), (PPTP_CALL, PPTP_CALLED)):
                alice.sendall(sent)
                assert peer.recv(4096) == sent
                peer.sendall(answered)
                assert alice.recv(4096) == answered
            wait_for("it is detected", lambda: bool(up.lines("flow.detected")))
    (line,) = up.lines("flow.detected")
    assert "protocol=pptp" in line and "Start-Control-Connection-Request" in line


def test_a_plain_flow_is_never_copied(up: Daemon, net: Network) -> None:
    """Nothing of it, and a VPN's flow no more than its first packets."""
    datagrams(net, 5353, *[(PLAIN, PLAIN)] * (3 * HEAD_PACKETS_MAX))
    assert heads(up) == 0
    # A first byte and a size that OpenVPN might have, and nothing that follows is.
    likely = bytes((0x20, *range(1, 9), 0, 0, 0)) + bytes(60)
    datagrams(net, 5354, *[(likely, PLAIN)] * (3 * HEAD_PACKETS_MAX))
    wait_for("its beginning is copied", lambda: heads(up) > 0)
    assert heads(up) <= 2 * HEAD_PACKETS_MAX
    assert up.lines("flow.detected") == []


def test_what_devices_say_to_each_other_or_to_the_router_is_not_looked_at(up: Daemon, net: Network) -> None:
    with (
        bound(net.alice, socket.SOCK_DGRAM, ALICE) as alice,
        bound(net.bob, socket.SOCK_DGRAM, BOB, 51820) as bob,
        bound(net.router, socket.SOCK_DGRAM, IPv4Address("10.20.1.1"), 51820) as router,
    ):
        for to, address in ((bob, BOB), (router, IPv4Address("10.20.1.1"))):
            alice.sendto(INITIATION, (str(address), 51820))
            received, source = to.recvfrom(4096)
            assert received == INITIATION
            to.sendto(RESPONSE, source)
            assert alice.recv(4096) == RESPONSE
    assert heads(up) == 0
    datagrams(net, 51820, (INITIATION, RESPONSE))
    wait_for("that which leaves is", lambda: heads(up) == 2)


def test_ike_is_detected_and_negotiated_as_before(up: Daemon, ends: Ends) -> None:
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 4))
    assert set(up.sessions()) == {str(ALICE)}
