"""Which peers need hosts to keep a UDP port, and how that is learned.

IKE begins on port 500 at both ends, L2TP on 1701. The kernel gives the port to the first host that speaks to a peer
and another one to those that follow, and most servers answer to that. Some answer to the standard port only, or
to nothing that comes from another one. Keeping the port for everybody is no way out: to a server that knows a
device by its address and port, two devices of one account are one that begins again (ADR 0011).

    translated --a host gets the answer to another one--------------> kept, and remembered
        |   \\---a host is not answered, and another one is----> on trial --an answer to it--> kept, and remembered
        |                                                          |
        +<--for an hour--- not answered either, or no answer in time

What is counted are messages of a host that knows of no answer yet: the first of a negotiation, and its repetitions.
Only what hosts send from the standard port counts, since no other could be kept.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from throughway.core.bounds import Bounds
from throughway.core.commands import Command, KeepPort, Record, RememberPort, TranslatePort
from throughway.core.ids import ROUTER, Host, Path, Peer, UdpPort

NAMES_MAX: Final = 16
"""Negotiations of one host and peer that are known by name, the latest ones."""


class PortSetting(StrEnum):
    """What the operator wants of a port."""

    AUTO = "auto"
    """Translated, and kept with peers that turn out to need it."""
    KEEP = "keep"
    TRANSLATE = "translate"


@dataclass(slots=True)
class Talk:
    """What one host has said and heard. `names` tell its own negotiations from those of others, the latest last."""

    last_seen_at: float
    names: dict[int, None] = field(default_factory=dict)
    unanswered: int = 0
    unanswered_since: float = 0.0
    answered_at: float | None = None


@dataclass(slots=True)
class _Trial:
    """The port is kept to see whether this helps a host."""

    host: Host
    until: float


@dataclass(slots=True)
class _AtPeer:
    talks: dict[Host, Talk] = field(default_factory=dict)


class KeptPorts:
    """Decides for each peer and port. Times are monotonic seconds."""

    def __init__(self, bounds: Bounds, settings: Mapping[UdpPort, PortSetting]) -> None:
        self._bounds: Final = bounds
        self._limits: Final = bounds.limits
        self._settings: Final = {port: settings.get(port, PortSetting.AUTO) for port in UdpPort}
        self._peers: Final[dict[tuple[Peer, UdpPort], _AtPeer]] = {}
        self._kept: Final[dict[tuple[Peer, UdpPort], _Trial | None]] = {}
        """Those that were learned, the oldest first, with the trial that they are on."""
        self._paused: Final[dict[tuple[Peer, UdpPort], float]] = {}
        """Until when keeping the port is not tried again."""
        self._left: frozenset[UdpPort] = frozenset()
        """Ports that are unassisted: the kernel translates them, as it would without us."""

    def is_kept(self, peer: Peer, port: UdpPort) -> bool:
        """Whether hosts keep the port with this peer."""
        setting = self._settings[port]
        return setting is PortSetting.KEEP or (setting is PortSetting.AUTO and (peer, port) in self._kept)

    def learned(self) -> list[tuple[Peer, UdpPort]]:
        """Return where a port is kept because that was learned."""
        return list(self._kept)

    def owner(self, path: Path, port: UdpPort, name: int) -> Host | None:
        """Say which host on a path, by its own word, uses a name; the one that spoke last of several."""
        talks = self._talks_at(path, port)
        own = [host for host, talk in talks.items() if name in talk.names]
        return max(own, key=lambda host: talks[host].last_seen_at, default=None)

    def answered(self, path: Path, port: UdpPort) -> Iterator[tuple[float, Host]]:
        """The hosts on a path whose negotiations were answered, and when they were last seen."""
        return ((talk.last_seen_at, host) for host, talk in self._talks_at(path, port).items() if talk.answered_at)

    def _talks_at(self, path: Path, port: UdpPort) -> dict[Host, Talk]:
        hosts = self._bounds.addresses.hosts_at(path)
        return {host: talk for host, talk in self._talks(path.peer, port).items() if host in hosts}

    def _talks(self, peer: Peer, port: UdpPort) -> dict[Host, Talk]:
        state = self._peers.get((peer, port))
        return state.talks if state else {}

    # Learning

    def leave(self, ports: Collection[UdpPort]) -> list[Command]:
        """Learn of these ports no more, and keep them no longer where that was learned; of all others again.

        What the operator has set by name stays: `keep` keeps.
        """
        self._left = frozenset(ports)
        learned = [at for at in self._kept if at[1] in self._left]
        return [command for at in learned for command in self._translate(*at, "unassisted")]

    def remember(self, peer: Peer, port: UdpPort) -> list[Command]:
        """Keep what an earlier run has learned."""
        if not self._may_learn(port) or len(self._kept) >= self._limits.kept_ports_max:
            return []
        self._kept[peer, port] = None
        return [KeepPort(peer, port)]

    def recall(self, path: Path, port: UdpPort, host: Host, now: float) -> None:
        """Note that a host was answered in an earlier run."""
        if self._bounds.meet(host, path, port.name, now):
            state = self._peers.setdefault((path.peer, port), _AtPeer())
            state.talks.setdefault(host, Talk(now)).answered_at = now

    def hear(
        self, path: Path, port: UdpPort, host: Host, name: int, now: float, *, from_host: bool, is_first: bool
    ) -> list[Command]:
        """Take note of a message between the standard ports of a host and a peer, by the path of the host.

        `name` tells the negotiation; `is_first`: its sender knows of no answer.
        """
        peer = path.peer
        if self._settings[port] is PortSetting.TRANSLATE or not self._bounds.meet(host, path, port.name, now):
            return []
        state = self._peers.setdefault((peer, port), _AtPeer())
        talk = state.talks.setdefault(host, Talk(now))
        talk.last_seen_at = now
        if from_host:
            return self._hear_host(state, (peer, port), host, talk, name, now, is_first=is_first)
        if name in talk.names:
            return self._answer(peer, port, host, talk, now)
        others = [other for other, known in state.talks.items() if name in known.names]
        if others and not self.is_kept(peer, port) and self._may_try(peer, port, now):
            return self._keep(peer, port, others[0], "answered-to-standard-port", None)
        return []

    def _hear_host(
        self,
        state: _AtPeer,
        at: tuple[Peer, UdpPort],
        host: Host,
        talk: Talk,
        name: int,
        now: float,
        *,
        is_first: bool,
    ) -> list[Command]:
        talk.names.pop(name, None)
        talk.names[name] = None
        if len(talk.names) > NAMES_MAX:
            del talk.names[next(iter(talk.names))]
        if not is_first:
            # It was answered once. When it was last is seen of hosts; of the router only what it sends is.
            talk.unanswered = 0
            return self._answer(*at, host, talk, now) if host == ROUTER else []
        if not talk.unanswered:
            talk.unanswered_since = now
        talk.unanswered += 1
        is_long = now - talk.unanswered_since >= self._limits.port_unanswered_s
        if talk.unanswered <= self._limits.port_repetitions or not is_long:
            return []
        if self.is_kept(*at):
            return self._give_up_trial(*at, now)
        lately = now - self._limits.udp_idle_s
        is_other_answered = any(
            other.answered_at is not None and other.answered_at >= lately
            for known, other in state.talks.items()
            if known != host
        )
        if not is_other_answered or not self._may_try(*at, now):
            return []
        return self._keep(*at, host, "unanswered", _Trial(host, now + self._limits.port_trial_s))

    def _answer(self, peer: Peer, port: UdpPort, host: Host, talk: Talk, now: float) -> list[Command]:
        """Note that the host was answered, which ends a trial well if it was for this host."""
        talk.answered_at = now
        talk.unanswered = 0
        trial = self._kept.get((peer, port))
        if trial is None or trial.host != host:
            return []
        self._kept[peer, port] = None
        return [RememberPort(peer, port)]

    def _may_try(self, peer: Peer, port: UdpPort, now: float) -> bool:
        return self._may_learn(port) and now >= self._paused.get((peer, port), now)

    def _may_learn(self, port: UdpPort) -> bool:
        return self._settings[port] is PortSetting.AUTO and port not in self._left

    def _keep(self, peer: Peer, port: UdpPort, host: Host, why: str, trial: _Trial | None) -> list[Command]:
        commands: list[Command] = []
        if len(self._kept) >= self._limits.kept_ports_max:
            commands += self._translate(*next(iter(self._kept)), "limit")
        self._kept[peer, port] = trial
        for talk in self._talks(peer, port).values():
            talk.unanswered = 0
        commands.append(KeepPort(peer, port))
        if trial is None:
            commands.append(RememberPort(peer, port))
        return [*commands, _record("port.kept", peer, port, host=str(host), why=why)]

    def _give_up_trial(self, peer: Peer, port: UdpPort, now: float) -> list[Command]:
        """Translate the port again where keeping it was a trial, and try that no more for a while."""
        if self._kept.get((peer, port)) is None:
            return []
        self._paused[peer, port] = now + self._limits.port_pause_s
        return self._translate(peer, port, "unanswered-too")

    def _translate(self, peer: Peer, port: UdpPort, why: str) -> list[Command]:
        del self._kept[peer, port]
        for talk in self._talks(peer, port).values():
            talk.unanswered = 0
        return [TranslatePort(peer, port), _record("port.translated", peer, port, why=why)]

    # Forgetting

    def forget(self, host: Host, peer: Peer) -> None:
        """Forget what a host has said to a peer. Unknown ones are no error."""
        for port in UdpPort:
            self._forget(host, peer, port)

    def _forget(self, host: Host, peer: Peer, port: UdpPort) -> None:
        state = self._peers.get((peer, port))
        if state is not None and host in state.talks:
            del state.talks[host]
            for path in self._bounds.addresses.paths(host, peer):
                self._bounds.release(host, path, port.name)
            if not state.talks:
                del self._peers[peer, port]

    def sweep(self, now: float) -> list[Command]:
        """Forget hosts that are silent, and end trials that nobody was answered in."""
        before = now - self._limits.candidate_idle_s
        for (peer, port), state in list(self._peers.items()):
            for host in [host for host, talk in state.talks.items() if talk.last_seen_at < before]:
                self._forget(host, peer, port)
        for at in [at for at, until in self._paused.items() if until <= now]:
            del self._paused[at]
        overdue = [at for at, trial in self._kept.items() if trial is not None and now >= trial.until]
        return [command for at in overdue for command in self._give_up_trial(*at, now)]


def _record(name: str, peer: Peer, port: UdpPort, **fields: object) -> Record:
    return Record(name, {"peer": str(peer), "port": int(port), **fields})
