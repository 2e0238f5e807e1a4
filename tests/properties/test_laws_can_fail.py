"""A control for each law: with a tracker that breaks it, its property fails."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from tests.properties import test_clear_text, test_kept_ike, test_law_4, test_law_7, test_laws, world
from tests.properties.world import HOSTS
from throughway.core.commands import Command, FanOut, InstallMapping, Refuse, Reinject, RemoveMapping
from throughway.core.events import (
    EspFromInside,
    EspUnclaimed,
    Event,
    HostDisowned,
    IkeMessageSeen,
    MappingsAdopted,
    PortlessFromInside,
    PortlessUnclaimed,
)
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import IpProtocol, Path, UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.core.limits import Limits
from throughway.core.tracker import Tracker
from throughway.core.verdicts import Certain


class FirstGuess(Tracker):
    """Gives a contested SPI to one candidate, as others do."""

    def handle(self, event: Event, now: float) -> list[Command]:
        commands = super().handle(event, now)
        return [InstallMapping(c.key, c.hosts[-1]) if isinstance(c, FanOut) else c for c in commands]


class EasilyShaken(Tracker):
    """Gives a copy of what is certain to whoever speaks next."""

    def handle(self, event: Event, now: float) -> list[Command]:
        commands = super().handle(event, now)
        if isinstance(event, IkeMessageSeen):
            for path, spi, verdict in self.bindings():
                if path.peer == event.peer and isinstance(verdict, Certain) and verdict.host != event.host:
                    key = FlowKey.to_inside(IpProtocol.ESP, path, spi)
                    commands.append(FanOut(key, (verdict.host, event.host)))
        return commands


class OpenDoor(Tracker):
    """Gives what nobody asked for to some host."""

    def handle(self, event: Event, now: float) -> list[Command]:
        commands = super().handle(event, now)
        refused = [c.key for c in commands if isinstance(c, Refuse) and isinstance(event, EspUnclaimed)]
        for key in refused:
            return [InstallMapping(key, HOSTS[0]), Reinject(key)]
        return commands


class Deaf(Tracker):
    """Hears no host that says that an SPI is not its own."""

    def handle(self, event: Event, now: float) -> list[Command]:
        return [] if isinstance(event, HostDisowned) else super().handle(event, now)


class OneAtATime(Tracker):
    """Ends a host's old tunnels when it sends with a new SPI."""

    def handle(self, event: Event, now: float) -> list[Command]:
        commands = super().handle(event, now)
        if isinstance(event, EspFromInside):
            for path, spi, verdict in self.bindings():
                if isinstance(verdict, Certain) and (verdict.host, path.peer) == (event.host, event.peer):
                    commands.append(RemoveMapping(FlowKey.to_inside(IpProtocol.ESP, path, spi)))
        return commands


class CountsTwice(Tracker):
    """Takes a retransmission for a new exchange."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._seen: Counter[IkeMessageSeen] = Counter()

    def handle(self, event: Event, now: float) -> list[Command]:
        if isinstance(event, IkeMessageSeen):
            self._seen[event] += 1
            event = replace(event, initiator_spi=event.initiator_spi + (self._seen[event] << 48))
        return super().handle(event, now)


class Hoarder(Tracker):
    """Keeps everything."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._hoard: list[Event] = []

    def handle(self, event: Event, now: float) -> list[Command]:
        self._hoard.append(event)
        return super().handle(event, now)


class Forgetful(Tracker):
    """Begins anew after a restart, and clears the tables."""

    def handle(self, event: Event, now: float) -> list[Command]:
        if isinstance(event, MappingsAdopted):
            return [RemoveMapping(flow.key) for flow in event.flows]
        return super().handle(event, now)


class Narrowing(Tracker):
    """Believes after a restart that who had copies are all that there are."""

    def handle(self, event: Event, now: float) -> list[Command]:
        if isinstance(event, MappingsAdopted):
            event = MappingsAdopted(tuple(flow for flow in event.flows if flow.key.direction is Direction.TO_INSIDE))
        return super().handle(event, now)


class LastComer(Tracker):
    """Gives a flow to whoever asks for it last."""

    def handle(self, event: Event, now: float) -> list[Command]:
        commands = super().handle(event, now)
        if isinstance(event, PortlessFromInside) and any(isinstance(command, Refuse) for command in commands):
            key = FlowKey.to_peer(event.protocol, event.host, event.peer, event.discriminator)
            back = FlowKey.to_inside(event.protocol, Path(event.peer), event.discriminator)
            return [InstallMapping(back, event.host), InstallMapping(key, event.host), Reinject(key)]
        return commands


class Impatient(Tracker):
    """Lets nobody wait for the answer to another host's session."""

    def __init__(self, limits: Limits, ports: Mapping[UdpPort, PortSetting] | None = None) -> None:
        super().__init__(replace(limits, l2tpv3_turn_s=0.01, l2tpv3_answer_s=0.01), ports)


class Guesses(Tracker):
    """Gives IKE that no host has begun to some host."""

    def handle(self, event: Event, now: float) -> list[Command]:
        commands = super().handle(event, now)
        if isinstance(event, PortlessUnclaimed) and isinstance(commands[-1], Refuse):
            return [InstallMapping(commands[-1].key, HOSTS[0]), Reinject(commands[-1].key)]
        return commands


class Stateless(Tracker):
    """Knows nothing of clear text after a restart."""

    def handle(self, event: Event, now: float) -> list[Command]:
        if isinstance(event, MappingsAdopted):
            event = MappingsAdopted(tuple(flow for flow in event.flows if flow.key.protocol == IpProtocol.ESP))
        return super().handle(event, now)


Law = Callable[..., None]

CONTROLS: list[tuple[Law, tuple[SearchStrategy[Any], ...], type[Tracker]]] = [
    (test_laws.test_law_1_a_packet_reaches_its_owner_if_that_is_a_candidate, test_laws.LAW_1, FirstGuess),
    (test_laws.test_law_2_after_a_certain_verdict_no_other_host_receives_the_spi, test_laws.LAW_2, EasilyShaken),
    (test_laws.test_law_3_a_host_that_never_exchanged_anything_receives_nothing, test_laws.LAW_3, OpenDoor),
    (test_law_4.test_law_4_the_owner_is_the_same_for_every_order_of_the_evidence, test_law_4.LAW_4, Deaf),
    (test_laws.test_law_5_a_rekey_never_interrupts, test_laws.LAW_5, OneAtATime),
    (test_laws.test_law_6_handling_the_same_event_twice_changes_nothing, test_laws.LAW_6, CountsTwice),
    (test_law_7.test_law_7_state_is_bounded_and_an_attacker_fills_only_its_own_share, test_law_7.LAW_7, Hoarder),
    (test_laws.test_law_8_after_a_restart_no_packet_of_a_known_tunnel_goes_elsewhere, test_laws.LAW_8, Forgetful),
    (test_laws.test_law_8_a_restart_rules_out_no_host_that_sends, test_laws.LAW_8_CONTESTS, Narrowing),
    (test_clear_text.test_law_2_clear_text_has_one_owner_until_it_is_given_up, test_clear_text.LAW_2, LastComer),
    (
        test_clear_text.test_law_2_what_a_peer_answers_within_a_turn_comes_to_nobody_else,
        test_clear_text.LAW_2_ANSWERS,
        Impatient,
    ),
    (
        test_clear_text.test_law_8_after_a_restart_clear_text_stays_with_its_owner,
        test_clear_text.LAW_8,
        Stateless,
    ),
    (
        test_kept_ike.test_law_3_ike_comes_to_nobody_who_has_no_ike_sa_with_its_peer,
        (test_kept_ike.HISTORIES,),
        Guesses,
    ),
]

generate_only = settings(
    max_examples=500,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(("law", "drawn", "broken"), CONTROLS, ids=[broken.__name__ for *_, broken in CONTROLS])
def test_law_fails_with_a_tracker_that_breaks_it(
    law: Law, drawn: tuple[SearchStrategy[Any], ...], broken: type[Tracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "Tracker", broken)
    monkeypatch.setattr(test_law_4, "Tracker", broken)
    body = law.hypothesis.inner_test  # type: ignore[attr-defined]
    with pytest.raises((AssertionError, KeyError)):
        generate_only(given(*drawn)(body))()
