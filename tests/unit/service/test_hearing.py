"""What the data plane reports, as events of the core."""

from ipaddress import IPv4Address
from struct import pack

import pytest

from throughway.core import discriminators
from throughway.core.events import (
    AhFromInside,
    EspFromInside,
    EspUnclaimed,
    HostDisowned,
    IkeMessageSeen,
    L2tpControl,
    L2tpControlSeen,
    PortlessFromInside,
    PortlessUnclaimed,
    RefusalKind,
)
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, Path, Peer, Spi
from throughway.core.ports import AhObserved, ControlObserved, Disowned, IkeObserved, Punted
from throughway.service.hearing import event_of

ALICE = Host(IPv4Address("192.168.1.10"))
PEER = Peer(IPv4Address("203.0.113.9"))
GRE, ESP, L2TPV3 = 47, 50, 115
KEY = discriminators.of_gre(42)


def ip(protocol: int, payload: bytes) -> bytes:
    return pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0, PEER.packed, PEER.packed) + payload


@pytest.mark.parametrize(
    ("key", "payload", "event"),
    [
        (FlowKey.to_inside(ESP, Path(PEER), 7), pack("!II", 7, 3), EspUnclaimed(Path(PEER), Spi(7), 3)),
        (FlowKey.to_peer(ESP, ALICE, PEER, 7), pack("!II", 7, 3), EspFromInside(ALICE, PEER, Spi(7), 3)),
        (FlowKey.to_inside(ESP, Path(PEER), 7), b"short", None),
        (FlowKey.to_inside(GRE, Path(PEER), KEY), b"", PortlessUnclaimed(Path(PEER), GRE, KEY)),
        (FlowKey.to_peer(L2TPV3, ALICE, PEER, 9), b"", PortlessFromInside(ALICE, PEER, L2TPV3, 9)),
        (FlowKey.to_peer(94, ALICE, PEER, 0), b"", PortlessFromInside(ALICE, PEER, 94, 0)),
        (FlowKey.to_peer(17, ALICE, PEER, 0), b"", None),
        (FlowKey.to_peer(17, ALICE, PEER, 7, 500), b"", PortlessFromInside(ALICE, PEER, 17, 7, port=500)),
        (FlowKey.to_inside(17, Path(PEER, 0), 7, 1701), b"", PortlessUnclaimed(Path(PEER, 0), 17, 7, 1701)),
    ],
)
def test_questions(key: FlowKey, payload: bytes, event: object) -> None:
    assert event_of(Punted(key, ip(key.protocol, payload), is_copy=False)) == event


def test_control_messages() -> None:
    message = pack("!HHIHH", 0xC803, 22, 5, 0, 0) + pack("!HHHI", 0x800A, 0, 61, 0xC0FFEE)
    seen = event_of(ControlObserved(ALICE, PEER, Direction.TO_PEER, L2TPV3, message))
    assert seen == L2tpControlSeen(ALICE, PEER, True, L2tpControl(5, assigned_connection_id=0xC0FFEE))
    assert event_of(ControlObserved(ALICE, PEER, Direction.TO_INSIDE, L2TPV3, message[:9])) is None
    assert event_of(ControlObserved(ALICE, PEER, Direction.TO_INSIDE, GRE, message)) is None


@pytest.mark.parametrize(
    ("exchange", "responder_spi", "is_first"), [(34, 0, True), (4, 0, True), (34, 9, False), (37, 0, False)]
)
def test_a_first_message_of_ike_knows_of_no_answer(exchange: int, responder_spi: int, is_first: bool) -> None:
    version = 0x10 if exchange == 4 else 0x20
    message = pack("!QQBBBBII", 5, responder_spi, 33, version, exchange, 8, 0, 28)
    seen = event_of(IkeObserved(ALICE, PEER, Direction.TO_PEER, False, message, host_port=4711))
    assert isinstance(seen, IkeMessageSeen)
    assert (seen.initiator_spi, seen.is_first, seen.host_port) == (5, is_first, 4711)


def test_control_messages_over_udp() -> None:
    message = pack("!6H", 0xC802, 20, 0, 0, 0, 0) + pack("!4H", 0x8008, 0, 9, 0xCAFE)
    seen = event_of(ControlObserved(ALICE, PEER, Direction.TO_INSIDE, 17, message, host_port=1701))
    wanted = L2tpControl(0, assigned_connection_id=0xCAFE, version=2)
    assert seen == L2tpControlSeen(ALICE, PEER, False, wanted, port=1701, host_port=1701)
    assert event_of(ControlObserved(ALICE, PEER, Direction.TO_INSIDE, 17, b"\0\2", host_port=1701)) is None


def test_ah() -> None:
    assert event_of(AhObserved(ALICE, PEER)) == AhFromInside(ALICE, PEER)


@pytest.mark.parametrize(
    ("protocol", "code", "event"),
    [
        (ESP, 2, HostDisowned(ALICE, PEER, Spi(7), RefusalKind.PROTOCOL_UNREACHABLE)),
        (ESP, 3, HostDisowned(ALICE, PEER, Spi(7), RefusalKind.PORT_UNREACHABLE)),
        (ESP, 4, None),
        (GRE, 2, None),
    ],
)
def test_what_a_host_disowns(protocol: int, code: int, event: object) -> None:
    assert event_of(Disowned(ALICE, PEER, protocol, 7, code)) == event
