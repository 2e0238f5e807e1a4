"""A PPTP call through the kernel's helper, message by message (RFC 2637), with a strict foreign table in the way."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations

import pytest
from scapy.layers.inet import IP
from scapy.packet import Raw

from tests.kernel.firewall.net import HOST, PEER, ROUTER_OUTSIDE, Row, arrives, entered, fragments_of, until
from tests.kernel.firewall.test_doctor import BARE, doctor, drops
from throughway.core.ids import IpProtocol
from throughway.core.limits import Limits
from throughway.core.tracked import TrackedFlow
from throughway.dataplane import sysctls
from throughway.dataplane.conntrack import Interest, tracked_flows
from throughway.dataplane.nft import Nft

HOST_CALL, PEER_CALL = 0x1111, 0x2222
GRE = 47


def control(kind: int, body: bytes) -> bytes:
    """A control message: length, type 1, the magic cookie, the message's own type (RFC 2637 section 2)."""
    return struct.pack("!HHIHH", 12 + len(body), 1, 0x1A2B3C4D, kind, 0) + body


START_REQUEST = control(1, struct.pack("!HHIIHH", 0x100, 0, 1, 1, 0, 1) + bytes(128))
START_REPLY = control(2, struct.pack("!HBBIIHH", 0x100, 1, 0, 1, 1, 0, 1) + bytes(128))
CALL_REQUEST = control(7, struct.pack("!HHIIIIHHHH", HOST_CALL, 1, 300, 10**8, 3, 3, 64, 0, 0, 0) + bytes(128))


def call_reply(call_of_host: int) -> bytes:
    return control(8, struct.pack("!HHBBHIHHI", PEER_CALL, call_of_host, 1, 0, 0, 10**8, 64, 0, 0))


def gre(call: int, data: bytes) -> bytes:
    """Enhanced GRE: key and sequence number present, version 1 (RFC 2637 section 4.1)."""
    return struct.pack("!HHHHI", 0x3001, 0x880B, len(data), call, 0) + data


def exchange(sender: socket.socket, receiver: socket.socket, message: bytes) -> bytes:
    sender.sendall(message)
    received = b""
    while len(received) < len(message):
        received += receiver.recv(4096)
    return received


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was set up. `translated` is the host's call ID as the peer knows it."""

    host_gre: socket.socket
    peer_gre: socket.socket
    translated: int


@contextmanager
def called(row: Row) -> Iterator[Call]:
    """Set a call up by its control connection, which lives until the end of the block."""
    listener = row.open("peer", socket.AF_INET, socket.SOCK_STREAM, bind=(PEER, 1723))
    listener.listen()
    client = row.open("host", socket.AF_INET, socket.SOCK_STREAM, bind=(HOST, 4003))
    client.connect((PEER, 1723))
    host_gre = row.open("host", socket.AF_INET, socket.SOCK_RAW, GRE)
    peer_gre = row.open("peer", socket.AF_INET, socket.SOCK_RAW, GRE)
    with listener.accept()[0] as server:
        server.settimeout(5)
        assert exchange(client, server, START_REQUEST) == START_REQUEST
        assert exchange(server, client, START_REPLY) == START_REPLY
        (translated,) = struct.unpack_from("!H", exchange(client, server, CALL_REQUEST), 12)
        answer = exchange(server, client, call_reply(translated))
        assert struct.unpack_from("!HH", answer, 12) == (PEER_CALL, HOST_CALL)
        yield Call(host_gre, peer_gre, translated)


def speak_both_ways(row: Row, call: Call, *, peer_first: bool = False) -> None:
    ways = [
        (lambda: call.host_gre.sendto(gre(PEER_CALL, b"out"), (PEER, 0)), call.peer_gre, b"out"),
        (lambda: call.peer_gre.sendto(gre(call.translated, b"in"), (ROUTER_OUTSIDE, 0)), call.host_gre, b"in"),
    ]
    for way in reversed(ways) if peer_first else ways:
        assert arrives(row, *way)


def tracked_call(row: Row) -> TrackedFlow:
    with entered(row.name("router")):
        (flow,) = tracked_flows([Interest(IpProtocol.GRE)])
    return flow


@pytest.mark.parametrize("peer_calls_first", [False, True])
def test_a_call_passes_both_ways_with_the_one_rule_of_doctor(row: Row, ours: Nft, peer_calls_first: bool) -> None:
    row.nft(BARE)
    (finding,) = drops(doctor(row))
    row.run("router", finding.commands[0])
    with called(row) as call:
        speak_both_ways(row, call, peer_first=peer_calls_first)
        flow = tracked_call(row)
    assert flow.is_expected
    assert flow.is_answered
    assert {flow.original.destination_key, flow.reply.destination_key} == {PEER_CALL, call.translated}


def test_a_call_is_remembered_for_half_an_hour(row: Row, ours: Nft) -> None:
    """The helper means to give it five hours, and the GRE tracker takes that back."""
    with entered(row.name("router")):
        sysctls.enable()
    with called(row) as call:
        speak_both_ways(row, call)
        speak_both_ways(row, call)
        left = tracked_call(row).timeout_s
    assert Limits().pptp_call_idle_s - 10 < left <= Limits().pptp_call_idle_s


def test_a_call_is_forgotten_at_its_limit_and_not_before(row: Row, ours: Nft) -> None:
    """Set by the code that sets `pptp_call_idle_s`, to less."""
    row.run("router", f"sysctl -qw {sysctls.PPTP_CALL_IDLE}=1")
    with entered(row.name("router")):
        sysctls.enable({sysctls.PPTP_CALL_IDLE: 2})
    with called(row) as call:
        speak_both_ways(row, call)
        speak_both_ways(row, call)
        began = time.monotonic()
        assert tracked_call(row).is_answered

        def is_gone() -> bool:
            with entered(row.name("router")):
                return not list(tracked_flows([Interest(IpProtocol.GRE)]))

        until(is_gone, "the call is forgotten")
    assert 1.9 < time.monotonic() - began < 3


def test_three_fragments_of_a_call_pass_in_every_order_both_ways(row: Row, ours: Nft) -> None:
    with called(row) as call:
        for sender, source, destination, call_id, receiver in (
            (row.raw("host"), HOST, PEER, PEER_CALL, call.peer_gre),
            (row.raw("peer"), PEER, ROUTER_OUTSIDE, call.translated, call.host_gre),
        ):
            for number, order in enumerate(permutations(range(3)), start=1):
                data = bytes(3000) + source.encode() + bytes([number])
                whole = IP(src=source, dst=destination, id=number, proto=GRE) / Raw(gre(call_id, data))
                pieces = fragments_of(whole, 1200)
                for at in order:
                    sender.sendto(pieces[at], (destination, 0))
                assert receiver.recv(4096)[20:].endswith(data), order
