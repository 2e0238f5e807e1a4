"""Conversations about IKE whose port is kept: an initiator SPI has one host, and what nobody has goes to all."""

from ipaddress import IPv4Address

import pytest

from tests.unit.core.playbook import Playbook
from throughway.core.commands import (
    FanOut,
    InstallMapping,
    Record,
    Refuse,
    Reinject,
    RemoveMapping,
    TranslatePort,
)
from throughway.core.events import (
    AdoptedFlow,
    CountersRead,
    EspFromInside,
    FlowCount,
    IkeExchange,
    IkeMessageSeen,
    MappingsAdopted,
    PortlessFromInside,
    PortlessUnclaimed,
    PortsRemembered,
    TimerExpired,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import ROUTER, Host, IpProtocol, Path, Peer, Spi, UdpPort
from throughway.core.kept_ports import NAMES_MAX, PortSetting
from throughway.core.limits import Limits
from throughway.core.reasons import Reason

ALICE, BOB, CAROL = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11, 12))
PEER = Peer(IPv4Address("203.0.113.9"))
PATH = Path(PEER, 0)
UDP, PORT = IpProtocol.UDP, UdpPort.IKE
LIMITS = Limits()


def out(host: Host, spi: int) -> FlowKey:
    return FlowKey.to_peer(UDP, host, PEER, spi, PORT)


def back(spi: int) -> FlowKey:
    return FlowKey.to_inside(UDP, PATH, spi, PORT)


def sends(host: Host, spi: int) -> PortlessFromInside:
    return PortlessFromInside(host, PEER, UDP, spi, port=PORT)


def comes(spi: int) -> PortlessUnclaimed:
    return PortlessUnclaimed(PATH, UDP, spi, PORT)


def ike(host: Host, spi: int, directions: str) -> list[IkeMessageSeen]:
    """Messages that pass: ">" from the host and "<" from the peer, the first one without an answer."""
    return [
        IkeMessageSeen(host, PEER, spi, IkeExchange.INITIAL, 0, way == ">", False, is_first=not at)
        for at, way in enumerate(directions)
    ]


@pytest.fixture
def play() -> Playbook:
    """A gateway that keeps port 500 with every peer."""
    return Playbook(ports={PORT: PortSetting.KEEP})


def has_sa(play: Playbook, host: Host, spi: int) -> None:
    """Let a host begin an IKE SA and be answered."""
    said, heard = ike(host, spi, "><")
    play >> said >> sends(host, spi) << InstallMapping(back(spi), host) << InstallMapping(out(host, spi), host)
    play << Reinject(out(host, spi))
    play >> heard


def test_what_a_host_sends_is_its_own_both_ways(play: Playbook) -> None:
    has_sa(play, ALICE, 0xA)
    has_sa(play, BOB, 0xB)
    assert play.mappings == {
        out(ALICE, 0xA): (ALICE,),
        back(0xA): (ALICE,),
        out(BOB, 0xB): (BOB,),
        back(0xB): (BOB,),
    }
    assert play.tracker.mapping_count == 4
    rows = {row.host: (row.protocol, row.port, row.to_peer) for row in play.tracker.tunnels()}
    assert rows == {ALICE: (UDP, PORT, (0xA,)), BOB: (UDP, PORT, (0xB,))}


def test_a_second_host_with_the_same_spi_is_refused(play: Playbook) -> None:
    has_sa(play, ALICE, 0xA)
    play >> sends(BOB, 0xA) << Refuse(out(BOB, 0xA), Reason.DISCRIMINATOR_TAKEN)
    (refusal,) = play.tracker.refusals()
    assert (refusal.host, refusal.owner, refusal.port) == (BOB, ALICE, PORT)


def test_what_the_peer_begins_goes_to_all_with_an_ike_sa_until_one_of_them_answers(play: Playbook) -> None:
    has_sa(play, ALICE, 0xA)
    has_sa(play, BOB, 0xB)
    play >> ike(CAROL, 0xC, ">")[0]
    play >> comes(0xF) << FanOut(back(0xF), (ALICE, BOB)) << Reinject(back(0xF))
    play >> comes(0xF) << FanOut(back(0xF), (ALICE, BOB)) << Reinject(back(0xF))
    before = play.tracker.mapping_count
    play >> sends(BOB, 0xF) << InstallMapping(back(0xF), BOB) << InstallMapping(out(BOB, 0xF), BOB)
    play << Reinject(out(BOB, 0xF))
    play.finish()
    assert play.mappings[back(0xF)] == (BOB,)
    assert play.tracker.mapping_count == before + 1 == len(play.mappings)
    play >> sends(ALICE, 0xF) << Refuse(out(ALICE, 0xF), Reason.DISCRIMINATOR_TAKEN)


def test_the_only_host_with_an_ike_sa_gets_it_and_still_gives_way_to_who_answers(play: Playbook) -> None:
    has_sa(play, ALICE, 0xA)
    play >> comes(0xF) << InstallMapping(back(0xF), ALICE) << Reinject(back(0xF))
    play >> sends(BOB, 0xF) << RemoveMapping(back(0xF)) << InstallMapping(back(0xF), BOB)
    play << InstallMapping(out(BOB, 0xF), BOB) << Reinject(out(BOB, 0xF))
    play.finish()
    assert play.tracker.mapping_count == len(play.mappings)


def test_nobody_gets_ike_who_has_no_sa_with_the_peer(play: Playbook) -> None:
    play >> comes(0xF) << Refuse(back(0xF), Reason.NO_CANDIDATE, "peer.unknown")
    play >> ike(ALICE, 0xA, ">")[0]
    play >> comes(0xF) << Refuse(back(0xF), Reason.NO_CANDIDATE)


def test_what_a_host_began_before_its_port_was_kept_goes_on(play: Playbook) -> None:
    for message in ike(ALICE, 0xA, "><"):
        play >> message
    play >> comes(0xA) << InstallMapping(back(0xA), ALICE) << Reinject(back(0xA))
    play >> sends(ALICE, 0xA) << InstallMapping(back(0xA), ALICE) << InstallMapping(out(ALICE, 0xA), ALICE)
    play << Reinject(out(ALICE, 0xA))
    play.finish()
    assert play.tracker.mapping_count == 2


def test_who_sends_has_what_another_host_was_given_and_never_sent(play: Playbook) -> None:
    """Alice had the SPI by her word, before her port was kept; now Bob sends it."""
    for message in ike(ALICE, 0xA, "><"):
        play >> message
    play >> comes(0xA) << InstallMapping(back(0xA), ALICE) << Reinject(back(0xA))
    play.finish()
    assert play.tracker.mapping_count == 1
    play >> sends(BOB, 0xA) << RemoveMapping(back(0xA)) << InstallMapping(back(0xA), BOB)
    play << InstallMapping(out(BOB, 0xA), BOB) << Reinject(out(BOB, 0xA))
    play.finish()
    assert play.mappings == {back(0xA): (BOB,), out(BOB, 0xA): (BOB,)}
    assert play.tracker.mapping_count == 2


def test_who_sends_has_what_an_earlier_run_gave_to_another_host(play: Playbook) -> None:
    play >> MappingsAdopted((AdoptedFlow(back(0xA), (ALICE,), FlowCount(back(0xA), 1, 100, 99_999.0)),))
    play >> sends(BOB, 0xA) << RemoveMapping(back(0xA)) << InstallMapping(back(0xA), BOB)
    play << InstallMapping(out(BOB, 0xA), BOB) << Reinject(out(BOB, 0xA))
    play.finish()
    assert play.tracker.mapping_count == 2


def test_what_a_host_was_given_and_never_sent_falls_idle_too(play: Playbook) -> None:
    for message in ike(ALICE, 0xA, "><"):
        play >> message
    play >> comes(0xA)
    play.now += LIMITS.kept_port_idle_s + LIMITS.sweep_every_s
    play >> TimerExpired() << RemoveMapping(back(0xA))
    play.finish()
    assert play.tracker.mapping_count == 0


def test_what_was_offered_to_all_is_its_hosts_once_that_is_known(play: Playbook) -> None:
    """Bob's message with the SPI passed elsewhere."""
    has_sa(play, ALICE, 0xA)
    has_sa(play, BOB, 0xB)
    play >> comes(0xF) << FanOut(back(0xF), (ALICE, BOB)) << Reinject(back(0xF))
    play >> ike(BOB, 0xF, ">")[0]
    play >> comes(0xF) << RemoveMapping(back(0xF)) << InstallMapping(back(0xF), BOB) << Reinject(back(0xF))
    play.finish()
    assert play.mappings[back(0xF)] == (BOB,)
    assert play.tracker.mapping_count == len(play.mappings) == 5


def test_what_was_offered_to_a_host_that_is_forgotten_is_asked_about_again() -> None:
    play = Playbook(Limits(peers_per_host_max=1, fan_out_max=2), {PORT: PortSetting.KEEP})
    for at, host in enumerate((ALICE, BOB)):
        play.now += 1
        has_sa(play, host, 0xA + at)
    play >> comes(0xF)
    play.now += 1
    has_sa(play, CAROL, 0xC)
    play >> comes(0xE) << FanOut(back(0xE), (BOB, CAROL)) << Reinject(back(0xE))
    play >> EspFromInside(ALICE, Peer(IPv4Address("203.0.113.10")), Spi(0x1000), 1)
    assert {command.key for command in play.answer if isinstance(command, RemoveMapping)} == {
        back(0xF),
        back(0xA),
        out(ALICE, 0xA),
    }
    assert set(play.mappings) >= {back(0xE), back(0xB), back(0xC)}
    assert play.tracker.mapping_count == len(play.mappings)
    play >> comes(0xF) << FanOut(back(0xF), (BOB, CAROL)) << Reinject(back(0xF))


def test_what_was_offered_goes_to_the_same_hosts_again(play: Playbook) -> None:
    has_sa(play, ALICE, 0xA)
    has_sa(play, BOB, 0xB)
    play >> comes(0xF)
    has_sa(play, CAROL, 0xC)
    play >> comes(0xF) << FanOut(back(0xF), (ALICE, BOB)) << Reinject(back(0xF))
    play.finish()


def test_what_was_offered_and_falls_idle_is_forgotten_with_the_rest(play: Playbook) -> None:
    has_sa(play, ALICE, 0xA)
    play >> comes(0xE) >> comes(0xF)
    play.now += LIMITS.kept_port_idle_s + LIMITS.sweep_every_s
    play >> TimerExpired()
    for key in (back(0xA), out(ALICE, 0xA), back(0xE), back(0xF)):
        play << RemoveMapping(key)
    play.finish()
    assert play.tracker.mapping_count == 0


def test_of_what_was_offered_the_least_recently_used_makes_room() -> None:
    play = Playbook(Limits(uncredited_spis_per_peer_max=2), {PORT: PortSetting.KEEP})
    has_sa(play, ALICE, 0xA)
    for spi in (0x101, 0x102):
        play.now += 1
        play >> comes(spi)
    play.now += 1
    (play >> CountersRead((FlowCount(back(0x101), 2, 200, play.now),))).nothing()
    (play >> CountersRead((FlowCount(back(0x101), 2, 200, play.now - 9),))).nothing()
    play >> comes(0x103) << RemoveMapping(back(0x102)) << InstallMapping(back(0x103), ALICE) << Reinject(back(0x103))
    play.finish()


def test_ike_and_other_protocols_of_a_host_are_held_apart(play: Playbook) -> None:
    """GRE falls idle earlier; the host is still known by its IKE, and so is its path."""
    has_sa(play, ALICE, 0xA)
    play >> PortlessFromInside(ALICE, PEER, 47, 0)
    gre = FlowKey.to_inside(47, PATH, 0)
    play.now += LIMITS.gre_idle_s + LIMITS.sweep_every_s
    play >> CountersRead((FlowCount(out(ALICE, 0xA), 2, 200, play.now),))
    play >> TimerExpired()
    assert gre not in play.mappings
    assert play.tracker.addresses.paths(ALICE, PEER) == [PATH]
    play.now += 1
    play >> sends(ALICE, 0xB) << InstallMapping(back(0xB), ALICE) << InstallMapping(out(ALICE, 0xB), ALICE)
    play << Reinject(out(ALICE, 0xB))


def test_what_a_host_has_is_told_in_words_and_is_not_shown_as_refused(play: Playbook) -> None:
    fields: dict[str, object] = {
        "protocol": "ike",
        "peer": str(PEER),
        "host": str(ALICE),
        "discriminator": "0x000000000000000a",
    }
    play >> sends(ALICE, 0xA)
    assert Record("flow.installed", fields) in play.answer
    play.now += LIMITS.kept_port_idle_s
    play >> sends(BOB, 0xA) << Refuse(out(BOB, 0xA), Reason.DISCRIMINATOR_TAKEN, "discriminator.taken")
    assert len(play.tracker.refusals()) == 1
    play.now += 1
    play >> sends(BOB, 0xA)
    assert play.mappings[back(0xA)] == (BOB,)
    assert play.tracker.refusals() == []


def test_of_two_hosts_that_named_an_spi_the_one_that_spoke_last_has_it(play: Playbook) -> None:
    for host in (BOB, ALICE):
        play.now += 1
        play >> ike(host, 0xA, ">")[0]
    play >> comes(0xA) << InstallMapping(back(0xA), ALICE) << Reinject(back(0xA))


def test_the_latest_negotiations_of_a_host_are_known_by_name(play: Playbook) -> None:
    """One that is said again is a late one."""
    for spi in (*range(1, NAMES_MAX + 1), 1, NAMES_MAX + 1):
        play >> ike(ALICE, spi, ">")[0]
    for spi in (1, *range(3, NAMES_MAX + 2)):
        play >> comes(spi) << InstallMapping(back(spi), ALICE) << Reinject(back(spi))
    play >> comes(2) << Refuse(back(2), Reason.NO_CANDIDATE, "peer.unknown")


def test_what_comes_again_goes_to_its_host_again(play: Playbook) -> None:
    has_sa(play, ALICE, 0xA)
    play >> comes(0xA) << InstallMapping(back(0xA), ALICE) << Reinject(back(0xA))
    play.finish()
    assert play.tracker.mapping_count == 2


def test_hosts_of_an_earlier_run_are_forgotten_when_they_are_idle(play: Playbook) -> None:
    play >> MappingsAdopted((AdoptedFlow(back(0xA), (ALICE,), FlowCount(back(0xA), 1, 100, 99_999.0)),))
    play >> ike(BOB, 0xB, ">")[0]
    play.now += LIMITS.kept_port_idle_s + LIMITS.sweep_every_s
    play >> TimerExpired() << RemoveMapping(back(0xA))
    play.finish()
    assert play.tracker.addresses.hosts_at(PATH) == []


def test_a_host_that_is_forgotten_leaves_the_others_what_they_said() -> None:
    play = Playbook(Limits(peers_per_host_max=1), {PORT: PortSetting.KEEP})
    has_sa(play, ALICE, 0xA)
    has_sa(play, BOB, 0xB)
    play >> EspFromInside(ALICE, Peer(IPv4Address("203.0.113.10")), Spi(0x1000), 1)
    play >> comes(0xF)
    assert play.mappings[back(0xF)] == (BOB,)


def test_the_router_is_a_candidate_like_any_host(play: Playbook) -> None:
    has_sa(play, ALICE, 0xA)
    for message in ike(ROUTER, 0xB, ">>"):
        play >> message
    play >> sends(ROUTER, 0xB)
    play >> comes(0xF) << FanOut(back(0xF), (ALICE, ROUTER)) << Reinject(back(0xF))


def test_idle_flows_are_forgotten_and_counted(play: Playbook) -> None:
    has_sa(play, ALICE, 0xA)
    has_sa(play, BOB, 0xB)
    play >> comes(0xF)

    def told() -> CountersRead:
        used = (back(0xF), out(ALICE, 0xA))
        return CountersRead(tuple(FlowCount(key, 1, 100, play.now if key in used else 0) for key in play.mappings))

    play.wait_until(play.now + LIMITS.kept_port_idle_s + 2 * LIMITS.sweep_every_s, told)
    assert set(play.mappings) == {out(ALICE, 0xA), back(0xA), back(0xF)}
    assert play.tracker.mapping_count == 3


def test_unknown_spis_of_one_peer_push_out_each_other_alone() -> None:
    play = Playbook(Limits(uncredited_spis_per_peer_max=2), {PORT: PortSetting.KEEP})
    has_sa(play, ALICE, 0xA)
    for spi in range(0x100, 0x110):
        play.now += 1
        play >> comes(spi)
    assert set(play.mappings) == {out(ALICE, 0xA), back(0xA), back(0x10E), back(0x10F)}
    assert play.tracker.mapping_count == 4


def test_a_full_table_refuses(play: Playbook) -> None:
    play = Playbook(Limits(mappings_max=2), {PORT: PortSetting.KEEP})
    has_sa(play, ALICE, 0xA)
    play >> comes(0xF) << Refuse(back(0xF), Reason.REFUSED, "mappings.limit")
    play >> sends(BOB, 0xB) << Refuse(out(BOB, 0xB), Reason.REFUSED, "mappings.limit")
    assert play.tracker.mapping_count == 2


def test_more_hosts_than_may_get_copies_leaves_the_latest() -> None:
    play = Playbook(Limits(fan_out_max=2), {PORT: PortSetting.KEEP})
    for at, host in enumerate((ALICE, BOB, CAROL)):
        play.now += 1
        has_sa(play, host, 0xA + at)
    play >> comes(0xF) << FanOut(back(0xF), (BOB, CAROL)) << Reinject(back(0xF))


def test_after_a_restart_owners_stay_and_what_was_offered_is_asked_about_again(play: Playbook) -> None:
    has_sa(play, ALICE, 0xA)
    has_sa(play, BOB, 0xB)
    play >> comes(0xF)
    later = Playbook(ports={PORT: PortSetting.KEEP})
    has_sa(play, CAROL, 0xC)
    flows = tuple(
        AdoptedFlow(key, hosts, FlowCount(key, 0 if CAROL in hosts else 1, 100, 99_999.0))
        for key, hosts in play.mappings.items()
    )
    later >> MappingsAdopted(flows) << RemoveMapping(back(0xF))
    assert later.tracker.mapping_count == 6
    assert later.tracker.owner(back(0xA)) == ALICE
    later >> comes(0xF) << FanOut(back(0xF), (ALICE, BOB)) << Reinject(back(0xF))


def test_when_the_port_is_translated_again_no_flow_is_left() -> None:
    play = Playbook(Limits(kept_ports_max=1))
    play >> PortsRemembered(((PEER, PORT),))
    has_sa(play, ALICE, 0xA)
    has_sa(play, BOB, 0xB)
    play >> comes(0xF)
    other = Peer(IPv4Address("203.0.113.10"))
    for host, spi, from_host in ((ALICE, 1, True), (ALICE, 1, False), (BOB, 2, True), (ALICE, 2, False)):
        play >> IkeMessageSeen(host, other, spi, IkeExchange.INITIAL, 0, from_host, False, is_first=from_host)
    assert TranslatePort(PEER, PORT) in play.answer
    assert play.mappings == {}
    assert play.tracker.mapping_count == 0
