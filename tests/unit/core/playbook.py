"""Conversations with a tracker: what it is told, and what it answers.

    play >> EspFromInside(ALICE, PEER, Spi(0x1000), 1)
    play >> EspUnclaimed(Path(PEER), Spi(0xAAAA), 1) << InstallMapping(KEY, ALICE) << Reinject(KEY)

An event without `<<` may be answered by anything. With one `<<`, all that the tracker wants of the
data plane must be named; Record and WakeAt may go unnamed. Commands about one flow come in order; flows
come in any order, and so do the hosts of a FanOut. The cause of a Refuse and the fields of a Record may be left out.
`nothing()` stands for an answer without commands.
"""

from collections.abc import Callable, Mapping
from typing import Self

from throughway.core.commands import (
    Command,
    FanOut,
    ForgetPath,
    InstallMapping,
    KeepPort,
    Record,
    Refuse,
    Reinject,
    RememberPort,
    RemoveMapping,
    Trace,
    TranslatePort,
    Untrace,
    WakeAt,
)
from throughway.core.events import Event, IkeExchange, IkeMessageSeen, TimerExpired
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, Spi, UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.core.limits import Limits
from throughway.core.tracker import Tracker
from throughway.core.verdicts import Certain, Contested

_WAKES_MAX = 10_000


class Playbook:
    """Plays one conversation. `now` is the tracker's clock in seconds; a test moves it as it likes."""

    def __init__(self, limits: Limits | None = None, ports: Mapping[UdpPort, PortSetting] | None = None) -> None:
        self.tracker = Tracker(limits or Limits(), ports)
        self.now = 100_000.0  # Later than every limit, so that a moment is no length of time.
        self.answer: list[Command] = []
        self.mappings: dict[FlowKey, tuple[Host, ...]] = {}
        self.kept: set[tuple[Peer, UdpPort]] = set()
        """Where a port is kept by now."""
        self._unnamed: list[Command] = []
        self._is_named = False
        self._wakes: list[float] = []

    def __rshift__(self, event: Event) -> Self:
        """Tell the tracker an event."""
        self.finish()
        self.answer = self.tracker.handle(event, self.now)
        self._unnamed = list(self.answer)
        for command in self.answer:
            self._apply(command)
        return self

    def __lshift__(self, expected: Command) -> Self:
        """Expect a command in the answer to the last event."""
        self._is_named = True
        found = next((command for command in self._unnamed if _is_about_same(command, expected)), None)
        assert found is not None, f"{expected} is not in the rest of the answer, {self._unnamed}"
        assert _is_same(found, expected), f"expected {expected}, got {found}"
        self._unnamed.remove(found)
        return self

    def nothing(self) -> None:
        """Expect that the answer to the last event wants nothing of the data plane."""
        self._is_named = True
        self.finish()

    def finish(self) -> None:
        """Fail where a command of the last answer is left that no `<<` named."""
        if self._is_named:
            left = [command for command in self._unnamed if not isinstance(command, Record | WakeAt | Trace | Untrace)]
            assert left == [], f"unexpected: {left}"
        self._is_named = False
        self._unnamed = []

    def wait_until(self, at: float, on_wake: Callable[[], Event | None] = lambda: None) -> None:
        """Move the clock, with TimerExpired at every moment that was asked for; `on_wake` may tell counters first."""
        for _ in range(_WAKES_MAX):
            due = min(self._wakes, default=at + 1)
            if due > at:
                break
            self._wakes = [wake for wake in self._wakes if wake > due]
            self.now = max(self.now, due)
            news = on_wake()
            if news is not None:
                self >> news
            self >> TimerExpired()
        else:
            raise AssertionError("the tracker wants to be woken without end")
        self.now = at

    def answers_until(self, at: float) -> list[Command]:
        """Move the clock as `wait_until` does, and return all that the tracker wanted meanwhile."""
        answers: list[Command] = []
        self.answer = []

        def collect() -> None:
            answers.extend(self.answer)

        self.wait_until(at, collect)
        return answers + self.answer

    def candidates(self, peer: Peer, spi: Spi) -> set[Host]:
        """Return who gets what comes with the SPI: one host where the verdict is Certain."""
        match self.tracker.verdict(Path(peer), spi):
            case Certain(host):
                return {host}
            case Contested(hosts):
                assert len(set(hosts)) == len(hosts) >= 2
                return set(hosts)
            case _:
                return set()

    def _apply(self, command: Command) -> None:
        match command:
            case InstallMapping(key, host):
                self.mappings[key] = (host,)
            case FanOut(key, hosts):
                self.mappings[key] = hosts
            case RemoveMapping(key):
                self.mappings.pop(key, None)
            case WakeAt(at):
                self._wakes.append(at)
            case KeepPort(peer, port):
                self.kept.add((peer, port))
            case TranslatePort(peer, port):
                self.kept.discard((peer, port))
            case Reinject() | Refuse() | Trace() | Untrace() | Record() | RememberPort() | ForgetPath():
                pass


def to_inside(peer: Peer, spi: int) -> FlowKey:
    """Name what comes from the peer with the SPI."""
    return FlowKey.to_inside(IpProtocol.ESP, Path(peer), spi)


def to_peer(host: Host, peer: Peer, spi: int) -> FlowKey:
    """Name what the host sends to the peer with the SPI."""
    return FlowKey.to_peer(IpProtocol.ESP, host, peer, spi)


def ike(
    host: Host,
    peer: Peer,
    initiator_spi: int,
    exchange: IkeExchange,
    exchange_id: int,
    directions: str,
    *,
    floated: bool = False,
) -> list[IkeMessageSeen]:
    """List the messages of one exchange, "<" for each from the peer and ">" for each from the host."""
    return [
        IkeMessageSeen(host, peer, initiator_spi, exchange, exchange_id, from_host=way == ">", floated=floated)
        for way in directions
    ]


def ikev2_start(host: Host, peer: Peer, initiator_spi: int, auth_rounds: int = 1) -> list[IkeMessageSeen]:
    """List the messages that bring an IKEv2 SA and its first child SA (RFC 7296 section 1.2)."""
    messages = ike(host, peer, initiator_spi, IkeExchange.INITIAL, 0, "><")
    for message_id in range(1, auth_rounds + 1):
        messages += ike(host, peer, initiator_spi, IkeExchange.FIRST_CHILD, message_id, "><")
    return messages


def ikev2_child(host: Host, peer: Peer, initiator_spi: int, exchange_id: int) -> list[IkeMessageSeen]:
    """List the messages of one CREATE_CHILD_SA that the host began (RFC 7296 section 1.3)."""
    return ike(host, peer, initiator_spi, IkeExchange.CHILD, exchange_id, "><")


def _is_about_same(command: Command, expected: Command) -> bool:
    """Whether the command is the one to compare: the first about the same flow, or of the same name."""
    match command, expected:
        case Record(name), Record(expected_name):
            return name == expected_name
        case WakeAt(), WakeAt():
            return True
        case ForgetPath(), ForgetPath():
            return command == expected
        case (Record() | WakeAt() | Trace() | Untrace() | ForgetPath(), _) | (
            _,
            Record() | WakeAt() | Trace() | Untrace() | ForgetPath(),
        ):
            return False
        case (KeepPort() | TranslatePort() | RememberPort(), _) | (_, KeepPort() | TranslatePort() | RememberPort()):
            return type(command) is type(expected)
        case _:
            return command.key == expected.key


def _is_same(command: Command, expected: Command) -> bool:
    match command, expected:
        case FanOut(_, hosts), FanOut(_, expected_hosts):
            return len(hosts) == len(expected_hosts) and set(hosts) == set(expected_hosts)
        case Refuse(_, reason, cause), Refuse(_, expected_reason, expected_cause):
            return reason is expected_reason and expected_cause in ("", cause)
        case Record(_, fields), Record(_, expected_fields):
            return expected_fields in ({}, fields)
        case _:
            return command == expected
