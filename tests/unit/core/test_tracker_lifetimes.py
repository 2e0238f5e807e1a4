"""Conversations about time and size: idle tunnels, adoption after a restart, another address, limits."""

from ipaddress import IPv4Address

from tests.unit.core.playbook import Playbook, ikev2_start, to_inside, to_peer
from throughway.core.commands import FanOut, InstallMapping, Refuse, Reinject, RemoveMapping
from throughway.core.events import (
    AdoptedFlow,
    CountersRead,
    EspFromInside,
    EspUnclaimed,
    FlowCount,
    MappingsAdopted,
    OutsideAddressesChanged,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.reasons import Reason

ALICE, BOB, CAROL = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11, 12))
PEER, OTHER_PEER = (Peer(IPv4Address(f"203.0.113.{n}")) for n in (9, 10))
OUT_A, OUT_B = Spi(0xA0000001), Spi(0xB0000001)
IN_1, IN_2 = Spi(0x11111111), Spi(0x22222222)
LIMITS = Limits()


def counters(play: Playbook, last_packet_at: float, *keys: FlowKey) -> CountersRead:
    """Read the counters of what is installed: all as of one moment, but those named `keys`, which are in use now."""
    return CountersRead(
        tuple(FlowCount(key, 1, 100, play.now if key in keys else last_packet_at) for key in play.mappings)
    )


def start_tunnel(play: Playbook) -> float:
    """Let Alice send and receive; return when."""
    play >> EspFromInside(ALICE, PEER, OUT_A, 1)
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    assert len(play.mappings) == 2
    return play.now


def test_tunnel_that_is_idle_both_ways_is_forgotten(play: Playbook) -> None:
    began_at = start_tunnel(play)
    play.wait_until(began_at + LIMITS.esp_idle_s - 1, lambda: counters(play, began_at))
    assert len(play.mappings) == 2
    play.wait_until(began_at + LIMITS.esp_idle_s + 2 * LIMITS.sweep_every_s, lambda: counters(play, began_at))
    assert play.mappings == {}


def test_tunnel_in_use_is_kept(play: Playbook) -> None:
    began_at = start_tunnel(play)
    keys = tuple(play.mappings)
    play.wait_until(began_at + 3 * LIMITS.candidate_idle_s, lambda: counters(play, began_at, *keys))
    assert set(play.mappings) == set(keys)


def test_host_is_still_a_candidate_when_its_idle_mapping_is_gone(play: Playbook) -> None:
    """The security association outlives the mapping: its next packet is unknown, and is given out again."""
    began_at = start_tunnel(play)
    play.wait_until(began_at + 2 * LIMITS.esp_idle_s, lambda: counters(play, began_at))
    assert play.mappings == {}
    key = to_inside(PEER, IN_1)
    play >> EspUnclaimed(Path(PEER), IN_1, 40) << InstallMapping(key, ALICE) << Reinject(key)


def test_host_that_was_silent_for_long_is_a_candidate_no_more(play: Playbook) -> None:
    began_at = start_tunnel(play)
    play.wait_until(began_at + LIMITS.candidate_idle_s + LIMITS.esp_idle_s, lambda: counters(play, began_at))
    play >> EspUnclaimed(Path(PEER), IN_2, 1) << Refuse(to_inside(PEER, IN_2), Reason.NO_CANDIDATE)
    assert play.mappings == {}


def adopted(key: FlowKey, *hosts: Host, last_packet_at: float = 99_999.0) -> AdoptedFlow:
    return AdoptedFlow(key, hosts, FlowCount(key, 10, 1000, last_packet_at))


def test_adopted_mappings_are_believed_and_left_alone(play: Playbook) -> None:
    flows = (
        adopted(to_peer(ALICE, PEER, OUT_A), ALICE),
        adopted(to_inside(PEER, IN_1), ALICE),
        adopted(to_inside(PEER, IN_2), ALICE, BOB),
    )
    (play >> MappingsAdopted(flows)).nothing()
    assert play.candidates(PEER, IN_1) == {ALICE}
    assert play.candidates(PEER, IN_2) == {ALICE, BOB}


def test_adopted_contest_goes_on_for_the_next_spi(play: Playbook) -> None:
    """Both had exchanged something with the peer before the restart, or there had been no contest."""
    play >> MappingsAdopted((adopted(to_inside(PEER, IN_1), ALICE, BOB), adopted(to_peer(ALICE, PEER, OUT_A), ALICE)))
    key = to_inside(PEER, IN_2)
    play >> EspUnclaimed(Path(PEER), IN_2, 1) << FanOut(key, (ALICE, BOB)) << Reinject(key)


def test_adopted_tunnel_is_not_shaken_by_a_newcomer(play: Playbook) -> None:
    play >> MappingsAdopted((adopted(to_inside(PEER, IN_1), ALICE), adopted(to_peer(ALICE, PEER, OUT_A), ALICE)))
    for message in ikev2_start(BOB, PEER, 0xB0B):
        (play >> message).nothing()
    play >> EspUnclaimed(Path(PEER), IN_2, 1)
    assert play.candidates(PEER, IN_1) == {ALICE}
    assert BOB in play.candidates(PEER, IN_2)


def test_adopted_mapping_that_is_idle_is_forgotten(play: Playbook) -> None:
    last_packet_at = play.now - LIMITS.esp_idle_s + 1
    play >> MappingsAdopted((adopted(to_inside(PEER, IN_1), ALICE, last_packet_at=last_packet_at),))
    play.mappings[to_inside(PEER, IN_1)] = (ALICE,)
    play.wait_until(play.now + 2 * LIMITS.sweep_every_s, lambda: counters(play, last_packet_at))
    assert play.mappings == {}


def test_another_outside_address_does_not_change_who_owns_what(play: Playbook) -> None:
    """IKE takes the tunnel along (RFC 4555) or makes it anew: either way the hosts are the same."""
    start_tunnel(play)
    before = dict(play.mappings)
    play >> OutsideAddressesChanged((IPv4Address("198.51.100.1"),), (IPv4Address("198.51.100.2"),), (0,))
    play >> EspUnclaimed(Path(PEER), IN_1, 9)
    assert play.mappings == before


def small(**limits: int) -> Playbook:
    return Playbook(Limits(**limits))


def out_of(play: Playbook, host: Host) -> list[FlowKey]:
    return [key for key in play.mappings if key.host == host]


def test_one_host_has_a_bounded_number_of_spis_to_one_peer() -> None:
    play = small(spis_per_host_and_peer_max=4)
    for n in range(10):
        play >> EspFromInside(ALICE, PEER, Spi(0xA0000000 + n), 1)
    play >> EspFromInside(BOB, PEER, OUT_B, 1)
    assert 0 < len(out_of(play, ALICE)) <= 4
    assert len(out_of(play, BOB)) == 1


def test_one_peer_has_a_bounded_number_of_hosts() -> None:
    play = small(hosts_per_peer_max=3)
    for n in range(10, 20):
        play >> EspFromInside(Host(IPv4Address(f"192.168.2.{n}")), PEER, OUT_A, 1)
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    assert 0 < len(play.candidates(PEER, IN_1)) <= 3
    play >> EspFromInside(ALICE, OTHER_PEER, OUT_A, 1)
    assert len(out_of(play, ALICE)) == 1, "another peer has room of its own"


def test_copies_are_bounded() -> None:
    play = small(fan_out_max=4, fan_out_first_max=4)
    for n in range(10, 20):
        play >> EspFromInside(Host(IPv4Address(f"192.168.2.{n}")), PEER, OUT_A, 1)
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    assert len(play.mappings[to_inside(PEER, IN_1)]) == 4


def test_forged_spis_of_one_peer_are_bounded() -> None:
    play = small(spis_per_peer_max=8, uncredited_spis_per_peer_max=8)
    for host, spi in ((ALICE, OUT_A), (BOB, OUT_B)):
        play >> EspFromInside(host, PEER, spi, 1)
        play >> EspFromInside(host, OTHER_PEER, spi, 1)
    for n in range(100):
        play >> EspUnclaimed(Path(PEER), Spi(0x10000 + n), 1)
    assert len([key for key in play.mappings if key.peer == PEER and key.host not in (ALICE, BOB)]) <= 8
    play >> EspUnclaimed(Path(OTHER_PEER), IN_1, 1)
    assert play.candidates(OTHER_PEER, IN_1) == {ALICE, BOB}


def test_a_tunnel_in_use_that_nothing_announced_outlives_a_flood() -> None:
    """Two readings of the counters showed it in use. A flood has each of its SPIs once, and all of them later."""
    play = small(uncredited_spis_per_peer_max=8)
    play >> EspFromInside(ALICE, PEER, OUT_A, 200_000) >> EspUnclaimed(Path(PEER), IN_1, 200_000)
    key = to_inside(PEER, IN_1)
    for _ in range(2):
        play.now += LIMITS.counters_every_s
        play >> counters(play, play.now - LIMITS.counters_every_s, key)
    for n in range(100):
        play.now += 0.001
        play >> EspUnclaimed(Path(PEER), Spi(0x10000 + n), 5000)
    assert play.candidates(PEER, IN_1) == {ALICE}
    assert len([key for key in play.mappings if key.host != ALICE]) == 8
    play.now += LIMITS.counters_every_s
    play >> counters(play, play.now, *play.mappings)
    play >> EspUnclaimed(Path(PEER), IN_2, 5000)
    assert play.candidates(PEER, IN_1) == {ALICE}, "what moved in one reading alone may be a flood's"


def test_a_tunnel_that_began_just_before_a_flood_outlives_it() -> None:
    """No reading has shown it in use yet. What makes room is of the flood, before the readings and after them."""
    play = small(uncredited_spis_per_peer_max=8)
    play >> EspFromInside(ALICE, PEER, OUT_A, 200_000) >> EspUnclaimed(Path(PEER), IN_1, 200_000)
    key = to_inside(PEER, IN_1)
    for n in range(1000):
        play.now += 0.01
        play >> EspUnclaimed(Path(PEER), Spi(0x10000 + n), 5000)
        if n % 200 == 199:
            play >> counters(play, 0.0, key, to_inside(PEER, Spi(0x10000 + n)))
        assert play.candidates(PEER, IN_1) == {ALICE}, n
    assert len([key for key in play.mappings if key.host != ALICE]) == 8


def test_a_tunnel_that_began_between_two_floods_outlives_the_second() -> None:
    """Nothing of the first has been idle for three readings: its newest make room, not the tunnel after them."""
    play = small(uncredited_spis_per_peer_max=8)
    play >> EspFromInside(ALICE, PEER, OUT_A, 200_000)
    for n in range(20):
        play.now += 0.01
        play >> EspUnclaimed(Path(PEER), Spi(0x10000 + n), 5000)
    play.now += 0.5
    play >> EspUnclaimed(Path(PEER), IN_1, 200_000)
    play.now += 0.1
    for n in range(100):
        play.now += 0.01
        play >> EspUnclaimed(Path(PEER), Spi(0x20000 + n), 5000)
        assert play.candidates(PEER, IN_1) == {ALICE}, n


def test_what_three_readings_show_to_be_idle_makes_room_for_a_newcomer() -> None:
    """Until then a newcomer has the place of the one before it."""
    play = small(uncredited_spis_per_peer_max=4)
    play >> EspFromInside(ALICE, PEER, OUT_A, 200_000)
    spis = [Spi(0x10000 + n) for n in range(8)]

    def left() -> list[int]:
        return [spis.index(Spi(key.discriminator)) for key in play.mappings if key.host != ALICE]

    for spi in spis[:6]:
        play >> EspUnclaimed(Path(PEER), spi, 5000)
    assert left() == [0, 1, 2, 5]
    began = play.now
    for _ in range(3):
        play.now += LIMITS.counters_every_s
        play >> counters(play, began, to_peer(ALICE, PEER, OUT_A))
    for spi in spis[6:]:
        play >> EspUnclaimed(Path(PEER), spi, 5000)
    assert left() == [2, 5, 6, 7]


def test_a_flood_of_contested_spis_is_bounded_and_leaves_the_negotiated_ones() -> None:
    """Two hosts met in the middle of their conversations may own anything, so every SPI is contested by both."""
    play = small(contested_spis_per_peer_max=8, uncredited_spis_per_peer_max=8)
    for host, spi in ((ALICE, OUT_A), (BOB, OUT_B)):
        play >> EspFromInside(host, PEER, spi, 1)
    play >> EspUnclaimed(Path(PEER), IN_1, 1)
    for n in range(100):
        play >> EspUnclaimed(Path(PEER), Spi(0x10000 + n), 1)
    assert len([key for key in play.mappings if key.host not in (ALICE, BOB)]) <= 16
    assert play.candidates(PEER, IN_1) == {ALICE, BOB}


def test_mappings_are_bounded_in_total() -> None:
    play = small(mappings_max=16)
    for n in range(1, 100):
        play >> EspFromInside(ALICE, Peer(IPv4Address(f"203.0.113.{n}")), OUT_A, 1)
        assert len(play.mappings) <= 16
    refused = [command for command in play.answer if isinstance(command, Refuse | RemoveMapping)]
    assert refused, "what does not fit is refused, or what is idle makes room"
