"""Credits of exchanges that replaced an IKE SA, where the new IKE SA has nothing to say."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook, ike, ikev2_child, ikev2_start, to_inside, to_peer
from throughway.core.events import CountersRead, EspFromInside, EspUnclaimed, FlowCount, IkeExchange, IkeMessageSeen
from throughway.core.ids import Host, Path, Peer, Spi

PEER = Peer(IPv4Address("203.0.113.9"))
ALICE, BOB = (Host(IPv4Address("192.168.1.10") + n) for n in range(2))
IKE_A, IKE_B, NEW_IKE_A = 0xA, 0xB, 0xAA
OUT, IN, NEW = Spi(0x1000), Spi(0x2000), Spi(0x3000)
DELETE = IkeExchange.INFORMATIONAL


def tell(play: Playbook, *events: object) -> None:
    for event in events:
        play >> event  # type: ignore[operator]


def carry(play: Playbook, seconds: float, *spis: tuple[Spi, Spi]) -> None:
    """Let Alice's tunnels carry packets both ways."""
    for _ in range(int(seconds / 2)):
        play.now += 2.0
        keys = [key for out, into in spis or [(OUT, IN)] for key in (to_peer(ALICE, PEER, out), to_inside(PEER, into))]
        play >> CountersRead(tuple(FlowCount(key, int(play.now), 0, play.now) for key in keys))


def begin(play: Playbook) -> None:
    """Let Alice have one tunnel in use."""
    tell(play, *ikev2_start(ALICE, PEER, IKE_A), EspFromInside(ALICE, PEER, OUT, 1), EspUnclaimed(Path(PEER), IN, 1))
    carry(play, 60)


def replace(play: Playbook, exchange_id: int = 7, directions: str = "><") -> None:
    """Let an exchange replace Alice's IKE SA, and the delete follow."""
    tell(play, *ike(ALICE, PEER, IKE_A, IkeExchange.CHILD, exchange_id, "><"))
    tell(play, *ike(ALICE, PEER, IKE_A, DELETE, exchange_id + 1, directions))


def is_candidate(play: Playbook) -> bool:
    """Whether Alice may own the SPI of Bob, who starts now."""
    tell(play, *ikev2_start(BOB, PEER, IKE_B), EspUnclaimed(Path(PEER), NEW, 1))
    return ALICE in play.candidates(PEER, NEW)


@pytest.mark.parametrize("exchange_id", [7, 7 | 1 << 32], ids=["host", "peer"])
def test_the_credit_of_an_ike_sa_that_was_replaced_and_deleted_is_taken_back(play: Playbook, exchange_id: int) -> None:
    begin(play)
    replace(play, exchange_id)
    carry(play, 14)
    assert not is_candidate(play)


def test_it_is_taken_back_once_when_the_new_ike_sa_speaks_later(play: Playbook) -> None:
    begin(play)
    replace(play)
    carry(play, 14)
    tell(play, *ikev2_child(ALICE, PEER, NEW_IKE_A, 0))
    carry(play, 14)
    tell(play, *ike(ALICE, PEER, NEW_IKE_A, DELETE, 9, "><"))
    assert is_candidate(play), "the exchange in the new IKE SA may have brought a child SA"


def test_it_is_left_until_the_tunnel_has_gone_on_for_long_enough(play: Playbook) -> None:
    begin(play)
    replace(play)
    carry(play, 8)
    assert is_candidate(play)


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        (ike(ALICE, PEER, IKE_A, IkeExchange.CHILD, 7, "><"), "nothing was deleted"),
        (
            ike(ALICE, PEER, IKE_A, IkeExchange.CHILD, 7, "><") + ike(ALICE, PEER, IKE_A, DELETE, 9, "><"),
            "the delete is the next request of the same end",
        ),
        (
            ike(ALICE, PEER, IKE_A, IkeExchange.CHILD, 7, "><") + ike(ALICE, PEER, IKE_A, DELETE, 8, ">"),
            "the delete was not answered",
        ),
        (
            [
                m
                for n, kind in ((7, IkeExchange.CHILD), (8, DELETE), (9, DELETE))
                for m in ike(ALICE, PEER, IKE_A, kind, n, "><")
            ],
            "a delete is the last request",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_additional_child_sa_keeps_its_credit(play: Playbook, messages: list[IkeMessageSeen], why: str) -> None:
    begin(play)
    tell(play, *messages)
    carry(play, 30)
    assert is_candidate(play), why


def test_a_child_sa_that_replaced_an_idle_one_keeps_its_credit(play: Playbook) -> None:
    """Alice has two tunnels, of which one was used and has been silent since. It is rekeyed and deleted."""
    begin(play)
    tell(play, *ikev2_child(ALICE, PEER, IKE_A, 2))
    tell(play, EspFromInside(ALICE, PEER, Spi(0x1001), 1), EspUnclaimed(Path(PEER), Spi(0x2001), 1))
    carry(play, 60)
    replace(play)
    carry(play, 30)
    assert is_candidate(play)


def test_a_tunnel_that_is_silent_tells_nothing(play: Playbook) -> None:
    begin(play)
    replace(play)
    play.now += 30
    carry(play, 2, (Spi(0x1009), Spi(0x2009)))
    assert is_candidate(play)


def test_an_spi_that_is_contested_meanwhile_may_be_the_new_one(play: Playbook) -> None:
    begin(play)
    tell(play, *ikev2_start(BOB, PEER, IKE_B))
    replace(play)
    play >> EspUnclaimed(Path(PEER), NEW, 1)
    carry(play, 30)
    assert play.candidates(PEER, NEW) == {ALICE, BOB}


def test_what_was_taken_back_wrongly_is_mended_by_the_first_packet_of_the_host(play: Playbook) -> None:
    begin(play)
    replace(play)
    carry(play, 14)
    play >> EspFromInside(ALICE, PEER, Spi(0x1001), 1)
    assert is_candidate(play)
