"""The register of sessions: facts in, sessions and what is to be told out. Bounded, for each device and in total."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final, TypeVar

from throughway.core.ids import Host, Peer
from throughway.sessions.courses import course_of
from throughway.sessions.diagnoses import Diagnosis, Surroundings, diagnose
from throughway.sessions.facts import (
    Answered,
    Counted,
    Detected,
    Fact,
    FlowGone,
    FlowName,
    Negotiated,
    OutsideAddresses,
    Refused,
    SwitchedOff,
)
from throughway.sessions.session import Session
from throughway.sessions.steps import Taken

_K = TypeVar("_K")

SESSIONS_MAX: Final = 16384
"""Sessions in total, ended ones included; the one that was quiet for longest makes room."""

SESSIONS_PER_DEVICE_MAX: Final = 256
"""The same of one device, so that it can fill only its own share."""

ENDED_SHOWN_S: Final = 300.0
"""For how long an ended session is shown: long enough to read what was wrong with it."""

IDLE_S: Final = 900.0
"""A session of which nothing was heard for so long has ended, whatever the kernel still holds."""

IPSEC: Final = "ipsec"


@dataclass(frozen=True, slots=True)
class Told:
    """Something happened to a session: an event with a name and its fields, for the log and for people."""

    name: str
    session: str
    fields: dict[str, object]


@dataclass(slots=True)
class Entry:
    """A session as the register holds it."""

    session: Session
    diagnosis: Diagnosis | None = None
    ended_at: float | None = None
    cause: str = ""
    """Why it ended, for people."""


class Register:
    """Joins flows to sessions and follows them. Not thread safe; `now` must never go back."""

    def __init__(self) -> None:
        self._entries: Final[dict[str, Entry]] = {}
        self._of_device: Final[dict[Host, dict[str, None]]] = {}
        self._of_flow: Final[dict[FlowName, str]] = {}
        self._at_peer: Final[dict[tuple[Peer, str], dict[str, None]]] = {}
        self._outside: tuple[IPv4Address, ...] = ()
        self._on: Final[dict[type, Callable[[Any, float], list[Told]]]] = {
            Detected: self._on_detected,
            Counted: self._on_counted,
            Negotiated: self._on_negotiated,
            Answered: self._on_answered,
            Refused: self._on_refused,
            SwitchedOff: self._on_switched_off,
            FlowGone: self._on_flow_gone,
            OutsideAddresses: self._on_outside_addresses,
        }

    def handle(self, fact: Fact, now: float) -> list[Told]:
        """Take one fact, and return what is to be told."""
        return self._on[type(fact)](fact, now)

    def entries(self) -> Iterator[Entry]:
        """All sessions that are shown, in the order in which they began."""
        yield from self._entries.values()

    def find(self, session_id: str) -> Entry | None:
        """Return a session by its ID."""
        return self._entries.get(session_id)

    def knows(self, flow: FlowName) -> bool:
        """Whether a flow belongs to a session, so that its counters are wanted."""
        return flow in self._of_flow

    # Facts

    def _on_detected(self, fact: Detected, now: float) -> list[Told]:
        entry, told = self._entry(fact.flow, fact.family, now)
        return told + _steps(entry, entry.session.on_detected(fact, now))

    def _on_counted(self, fact: Counted, now: float) -> list[Told]:
        entry = self._known(fact.flow)
        return _steps(entry, entry.session.on_counted(fact, now)) if entry else []

    def _on_negotiated(self, fact: Negotiated, now: float) -> list[Told]:
        entry = self._open(_id(fact.device, fact.peer, IPSEC, None))
        return _steps(entry, entry.session.on_negotiated(fact, now)) if entry else []

    def _on_answered(self, fact: Answered, now: float) -> list[Told]:
        entry = self._known(fact.flow)
        return _steps(entry, entry.session.on_answered(fact, now)) if entry else []

    def _on_refused(self, fact: Refused, now: float) -> list[Told]:
        entry, told = self._entry(fact.flow, fact.family, now)
        entry.session.refused, entry.session.refused_at = fact, now
        entry.session.last_at = now
        return told + self._judge(entry, now)

    def _on_switched_off(self, fact: SwitchedOff, now: float) -> list[Told]:
        entry, told = self._entry(fact.flow, fact.family, now)
        entry.session.switched_off = fact
        return told + self._judge(entry, now)

    def _on_flow_gone(self, fact: FlowGone, now: float) -> list[Told]:
        entry = self._known(fact.flow)
        if entry is None or entry.ended_at is not None:
            return []
        flows = entry.session.flows
        if fact.flow in flows:
            flows[fact.flow].is_gone = True
        return self._end(entry, fact.cause, now) if all(flow.is_gone for flow in flows.values()) else []

    def _on_outside_addresses(self, fact: OutsideAddresses, now: float) -> list[Told]:
        self._outside = fact.addresses
        return []

    # Time

    def judge(self, now: float) -> list[Told]:
        """Look at every session: what is wrong with it, whether it has ended, and what need be shown no longer."""
        told: list[Told] = []
        for entry in list(self._entries.values()):
            if entry.ended_at is not None:
                if now - entry.ended_at >= ENDED_SHOWN_S:
                    self._drop(entry)
                continue
            told += self._judge(entry, now)
            if now - _heard_at(entry.session) >= IDLE_S:
                told += self._end(entry, f"idle for {IDLE_S:.0f} s", now)
        return told

    def _judge(self, entry: Entry, now: float) -> list[Told]:
        session = entry.session
        at_peer = self._at_peer.get((session.peer, session.family), {})
        rivals = [self._entries[other].session for other in at_peer if other != session.id]
        found = diagnose(session, Surroundings(self._outside, rivals), now)
        if found == entry.diagnosis:
            return []
        is_new = found is not None and (entry.diagnosis is None or entry.diagnosis.code != found.code)
        is_over = found is None
        entry.diagnosis = found
        if is_new and found is not None:
            return [_told("session.stopped", entry, code=found.code, fact=found.fact, remedy=found.remedy)]
        return [_told("session.recovered", entry)] if is_over else []

    # Sessions

    def _entry(self, flow: FlowName, family: str, now: float) -> tuple[Entry, list[Told]]:
        """The session of a flow, begun where there is none."""
        known = self._known(flow)
        if known is not None and known.ended_at is None:
            return known, []
        port = flow.source if course_of(family).has_port_each else None
        base = _id(flow.device, flow.peer, family, port)
        entry = self._open(base)
        told: list[Told] = []
        if entry is None:
            entry = self._begin(base, flow, family, now)
            told.append(_told("session.started", entry, device=str(flow.device), peer=str(flow.peer), family=family))
        self._of_flow[flow] = entry.session.id
        return entry, told

    def _known(self, flow: FlowName) -> Entry | None:
        known = self._of_flow.get(flow)
        return self._entries.get(known) if known is not None else None

    def _open(self, base: str) -> Entry | None:
        """The session of this name that has not ended."""
        latest = base
        number = 2
        while f"{base}.{number}" in self._entries:
            latest = f"{base}.{number}"
            number += 1
        entry = self._entries.get(latest)
        return entry if entry is not None and entry.ended_at is None else None

    def _begin(self, base: str, flow: FlowName, family: str, now: float) -> Entry:
        name, number = base, 2
        while name in self._entries:
            name, number = f"{base}.{number}", number + 1
        own = self._of_device.setdefault(flow.device, {})
        if len(own) >= SESSIONS_PER_DEVICE_MAX:
            self._drop(min((self._entries[one] for one in own), key=_room_order))
        elif len(self._entries) >= SESSIONS_MAX:
            self._drop(min(self._entries.values(), key=_room_order))
        session = Session(name, flow.device, flow.peer, family, first_at=now, last_at=now)
        entry = self._entries[name] = Entry(session)
        self._of_device.setdefault(flow.device, {})[name] = None
        self._at_peer.setdefault((flow.peer, family), {})[name] = None
        return entry

    def _end(self, entry: Entry, cause: str, now: float) -> list[Told]:
        entry.ended_at, entry.cause = now, cause
        return [_told("session.ended", entry, cause=cause)]

    def _drop(self, entry: Entry) -> None:
        session = entry.session
        del self._entries[session.id]
        _forget(self._of_device, session.device, session.id)
        _forget(self._at_peer, (session.peer, session.family), session.id)
        for name in session.flows:
            if self._of_flow.get(name) == session.id:
                del self._of_flow[name]


def _forget(index: dict[_K, dict[str, None]], key: _K, session_id: str) -> None:
    del index[key][session_id]
    if not index[key]:
        del index[key]


def _room_order(entry: Entry) -> tuple[bool, float]:
    """Ended ones make room first, then those that were quiet for longest."""
    return entry.ended_at is None, entry.session.last_at


def _heard_at(session: Session) -> float:
    """When anything of the session last moved."""
    times = [
        at for flow in session.flows.values() for at in (flow.to_peer.last_at, flow.to_inside.last_at) if at is not None
    ]
    talks = [talk.last_at for talk in session.talks.values()]
    return max([session.first_at, session.refused_at, *times, *talks])


def _id(device: Host, peer: Peer, family: str, port: int | None) -> str:
    base = f"{family}-{device}-{peer}"
    return base if port is None else f"{base}-{port}"


def _steps(entry: Entry, fresh: list[Taken]) -> list[Told]:
    return [
        _told("session.step", entry, step=taken.step.words, evidence=taken.evidence, at_s=round(taken.at, 3))
        for taken in fresh
    ]


def _told(name: str, entry: Entry, **fields: object) -> Told:
    return Told(name, entry.session.id, fields)
