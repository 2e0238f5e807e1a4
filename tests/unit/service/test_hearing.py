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
    L2tpControl,
    L2tpControlSeen,
    PortlessFromInside,
    PortlessUnclaimed,
    RefusalKind,
)
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, Path, Peer, Spi
from throughway.core.ports import AhObserved, ControlObserved, Disowned, Punted
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
