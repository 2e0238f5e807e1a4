"""Every time limit at its limit: a millisecond before, things are as they were, and a millisecond after, they are not.

Those of the data plane and of the kernel are measured elsewhere; the last test tells where, so that none is forgotten.
"""

import pathlib
from collections.abc import Callable
from dataclasses import fields, replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from tests.unit.core.playbook import Playbook, ike, ikev2_start, to_inside, to_peer
from throughway.core import discriminators
from throughway.core.commands import WakeAt
from throughway.core.events import (
    AhFromInside,
    CountersRead,
    EspFromInside,
    EspUnclaimed,
    FlowCount,
    HostDisowned,
    IkeExchange,
    PortlessFromInside,
    PortlessUnclaimed,
    RefusalKind,
    TimerExpired,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Path, Peer, Spi
from throughway.core.limits import Limits

ALICE, BOB = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11))
PEER = Peer(IPv4Address("203.0.113.9"))
OUT, IN = Spi(0xA0000001), Spi(0x11111111)
GRE, L2TPV3, IPIP, ETHERIP = 47, 115, 4, 97
MOMENT_S = 0.001
LIMITS = Limits()
TESTS = pathlib.Path(__file__).parents[2]

Begin = Callable[[Playbook], object]
IsStillSo = Callable[[Playbook], bool]


def esp_out(play: Playbook) -> None:
    play >> EspFromInside(ALICE, PEER, OUT, 1)


def esp_in(play: Playbook) -> None:
    for message in ikev2_start(ALICE, PEER, 0xA):
        play >> message
    play >> EspUnclaimed(Path(PEER), IN, 1)


def sends(protocol: int, name: int = 0) -> Begin:
    return lambda play: play >> PortlessFromInside(ALICE, PEER, protocol, name)


def l2tpv3(play: Playbook) -> None:
    play >> PortlessFromInside(ALICE, PEER, L2TPV3, 0xA1) >> PortlessUnclaimed(Path(PEER), L2TPV3, 0xA2)


def refused(play: Playbook) -> None:
    play >> AhFromInside(ALICE, PEER)


def agreed(play: Playbook) -> None:
    for message in ikev2_start(ALICE, PEER, 0xA):
        play >> message


def agreed_by_both_one_unanswered(play: Playbook) -> None:
    for message in (*ikev2_start(BOB, PEER, 0xB), *ike(ALICE, PEER, 0xA, IkeExchange.INITIAL, 0, "><")):
        play >> message
    for message in ike(ALICE, PEER, 0xA, IkeExchange.FIRST_CHILD, 1, ">"):
        play >> message


def met_in_the_middle(play: Playbook) -> None:
    for message in (*ike(ALICE, PEER, 0xA, IkeExchange.INFORMATIONAL, 7, "><"), *ikev2_start(BOB, PEER, 0xB)):
        play >> message


def contested(play: Playbook) -> None:
    for message in (*ikev2_start(ALICE, PEER, 0xA), *ikev2_start(BOB, PEER, 0xB)):
        play >> message
    play >> EspUnclaimed(Path(PEER), IN, 1)


def only_sends(play: Playbook) -> None:
    esp_in(play)
    for message in ikev2_start(BOB, PEER, 0xB):
        play >> message
    play >> EspFromInside(BOB, PEER, OUT, 1)


def waits_for_its_turn(play: Playbook) -> None:
    play >> PortlessFromInside(ALICE, PEER, L2TPV3, 0xA1) >> PortlessFromInside(BOB, PEER, L2TPV3, 0xB1)


def waits_for_late_answers(play: Playbook) -> None:
    play >> PortlessFromInside(ALICE, PEER, L2TPV3, 0xA1)
    play.now += LIMITS.l2tpv3_turn_s
    play >> PortlessFromInside(BOB, PEER, L2TPV3, 0xB1)


def has_turn(play: Playbook) -> bool:
    play >> TimerExpired()
    return FlowKey.to_peer(L2TPV3, ALICE, PEER, 0xA1) in play.mappings


def is_mapped(play: Playbook) -> bool:
    play >> TimerExpired()
    assert play.tracker.mapping_count == len(play.mappings)
    return bool(play.mappings)


def is_shown(play: Playbook) -> bool:
    play >> TimerExpired()
    return bool(play.tracker.refusals())


def next_is_for(*hosts: Host) -> IsStillSo:
    def ask(play: Playbook) -> bool:
        play >> TimerExpired() >> EspUnclaimed(Path(PEER), IN, 1)
        return play.candidates(PEER, IN) == set(hosts)

    return ask


def is_not_believed(play: Playbook) -> bool:
    play >> HostDisowned(ALICE, PEER, IN, RefusalKind.PROTOCOL_UNREACHABLE)
    return play.candidates(PEER, IN) == {ALICE, BOB}


def gets_no_copies(play: Playbook) -> bool:
    moved = (to_peer(BOB, PEER, OUT), to_inside(PEER, IN))
    play >> CountersRead(tuple(FlowCount(key, 2, 0, play.now) for key in moved))
    return play.candidates(PEER, IN) == {ALICE}


def waits(play: Playbook) -> bool:
    play >> TimerExpired()
    return FlowKey.to_peer(L2TPV3, BOB, PEER, 0xB1) not in play.mappings


CASES: dict[str, tuple[str, Begin, IsStillSo]] = {
    "ESP to a peer": ("esp_idle_s", esp_out, is_mapped),
    "ESP from a peer": ("esp_idle_s", esp_in, is_mapped),
    "GRE with a key": ("gre_idle_s", sends(GRE, discriminators.of_gre(42)), is_mapped),
    "GRE without a key": ("gre_idle_s", sends(GRE), is_mapped),
    "L2TPv3, both ways": ("l2tpv3_idle_s", l2tpv3, is_mapped),
    "IP in IP": ("portless_idle_s", sends(IPIP), is_mapped),
    "EtherIP": ("portless_idle_s", sends(ETHERIP), is_mapped),
    "a refusal": ("refusal_shown_s", refused, is_shown),
    "a candidate": ("candidate_idle_s", agreed, next_is_for(ALICE)),
    "an unanswered exchange": ("exchange_unanswered_s", agreed_by_both_one_unanswered, next_is_for(ALICE, BOB)),
    "what was not seen": ("unseen_s", met_in_the_middle, next_is_for(ALICE, BOB)),
    "an ICMP error of a host": ("silence_s", contested, is_not_believed),
    "a host that only sends": ("one_way_s", only_sends, gets_no_copies),
    "a turn": ("l2tpv3_turn_s", waits_for_its_turn, has_turn),
    "late answers": ("l2tpv3_answer_s", waits_for_late_answers, waits),
}

ELSEWHERE = {
    "early_fragment_s": "unit/dataplane/test_fragments.py",
    "held_s": "kernel/bpf_plane/test_hold.py",
    "refused_s": "kernel/bpf_plane/test_hold.py",
    "l2tpv3_wait_s": "unit/core/test_l2tpv3.py",
    "port_unanswered_s": "unit/core/test_kept_ports.py",
    "port_trial_s": "unit/core/test_kept_ports.py",
    "port_pause_s": "unit/core/test_kept_ports.py",
    "kept_port_idle_s": "unit/core/test_kept_ike.py",
    "path_remembered_s": "kernel/firewall/test_paths.py",
    "counters_every_s": "kernel/daemon/test_timers.py",
    "traces_every_s": "kernel/daemon/test_answers.py",
    "trace_gap_s": "bpf/test_traces.py",
    "udp_idle_s": "kernel/firewall/test_timers.py",
    "pptp_control_idle_s": "kernel/firewall/test_timers.py",
    "pptp_call_idle_s": "kernel/firewall/test_pptp.py",
}
"""The tests that measure those which are not the tracker's, or which need more than one case."""


@pytest.mark.parametrize(("limit", "begin", "is_still_so"), CASES.values(), ids=CASES)
@pytest.mark.parametrize(("offset_s", "wanted"), [(-MOMENT_S, True), (MOMENT_S, False)], ids=["before", "after"])
def test_it_is_so_until_its_limit(
    play: Playbook, limit: str, begin: Begin, is_still_so: IsStillSo, offset_s: float, wanted: bool
) -> None:
    begin(play)
    play.now += getattr(LIMITS, limit) + offset_s
    assert is_still_so(play) is wanted


@pytest.mark.parametrize("limit", ["esp_idle_s", "gre_idle_s", "l2tpv3_idle_s", "portless_idle_s"])
def test_the_limit_is_the_settings_and_no_other(limit: str) -> None:
    """A shortened one ends its own protocol's mappings, and those of no other."""
    shortened: dict[str, Any] = {limit: 40.0}
    for of, begin, is_still_so in CASES.values():
        if is_still_so is not is_mapped or begin is esp_in:
            continue
        play = Playbook(replace(LIMITS, **shortened))
        begin(play)
        play.now += 40.0 + MOMENT_S
        assert is_mapped(play) is (of != limit)


def test_idle_is_looked_for_as_often_as_the_limit_says(play: Playbook) -> None:
    esp_out(play)
    assert WakeAt(play.now + LIMITS.sweep_every_s) in play.answer
    play.now += LIMITS.sweep_every_s
    play >> TimerExpired()
    assert WakeAt(play.now + LIMITS.sweep_every_s) in play.answer


def test_every_time_limit_is_measured_somewhere() -> None:
    here = {limit for limit, _, _ in CASES.values()} | {"sweep_every_s"}
    assert here | set(ELSEWHERE) == {field.name for field in fields(Limits) if field.name.endswith("_s")}
    assert {name for name, file in ELSEWHERE.items() if name not in (TESTS / file).read_text()} == set()
