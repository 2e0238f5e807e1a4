"""A PPTP call through the kernel's helper, message by message (RFC 2637), with a strict foreign table in the way."""

import socket
import struct

import pytest

from tests.kernel.firewall.net import HOST, PEER, ROUTER_OUTSIDE, Row, arrives, entered
from tests.kernel.firewall.test_doctor import BARE, doctor, drops
from throughway.core.ids import IpProtocol
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


@pytest.mark.parametrize("peer_calls_first", [False, True])
def test_a_call_passes_both_ways_with_the_one_rule_of_doctor(row: Row, ours: Nft, peer_calls_first: bool) -> None:
    row.nft(BARE)
    (finding,) = drops(doctor(row))
    row.run("router", finding.commands[0])
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
        ways = [
            (lambda: host_gre.sendto(gre(PEER_CALL, b"out"), (PEER, 0)), peer_gre, b"out"),
            (lambda: peer_gre.sendto(gre(translated, b"in"), (ROUTER_OUTSIDE, 0)), host_gre, b"in"),
        ]
        for way in reversed(ways) if peer_calls_first else ways:
            assert arrives(row, *way)
        with entered(row.name("router")):
            (call,) = tracked_flows([Interest(IpProtocol.GRE)])
    assert call.is_expected
    assert call.is_answered
    assert {call.original.destination_key, call.reply.destination_key} == {PEER_CALL, translated}
