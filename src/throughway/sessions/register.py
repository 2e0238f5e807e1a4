"""The register of sessions: facts in, sessions and what is to be told out. Bounded, for each device and in total."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import islice
from typing import Any, Final, TypeVar

from throughway.core.ids import Host, Peer
from throughway.core.reasons import Reason
from throughway.sessions.courses import course_of
from throughway.sessions.diagnoses import Diagnosis, Surroundings, diagnose
from throughway.sessions.facts import (
    Admitted,
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
    address_name,
    device_name,
)
from throughway.sessions.session import Session
from throughway.sessions.steps import Taken

_K = TypeVar("_K")
_V = TypeVar("_V")

SESSIONS_MAX: Final = 16384
"""Sessions in total, ended ones included; the one that was quiet for longest makes room."""

SESSIONS_PER_DEVICE_MAX: Final = 256
"""The same of one device, so that it can fill only its own share."""

ENDED_SHOWN_S: Final = 300.0
"""For how long an ended session is shown: long enough to read what was wrong with it."""

IDLE_S: Final = 900.0
"""A session of which nothing was heard for so long has ended, whatever the kernel still holds."""

SETTLED_S: Final = 20.0
"""A session of which no fact came for so long is judged no more until one does: no signature waits longer."""

JUDGED_MAX: Final = 1000
"""Sessions that are judged at a time: some 20 milliseconds, once a second."""

RIVALS_MAX: Final = 64
"""Sessions with the same peer that are looked at beside one that stopped."""

_SAMPLE: Final = 8
"""Sessions of which the quietest makes room: the first ones, which then go to the end. To look at all is too dear."""

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
    base: str
    """The session's ID without the number that tells it from those before it."""
    diagnosis: Diagnosis | None = None
    diagnosed_at: float = 0.0
    """Since when it is so, of the diagnosis."""
    ended_at: float | None = None
    cause: str = ""
    """Why it ended, for people."""


class Register:
    """Joins flows to sessions and follows them. Not thread safe; `now` must never go back."""

    def __init__(self) -> None:
        self._entries: Final[dict[str, Entry]] = {}
        self._latest: Final[dict[str, str]] = {}
        """The session that began last of those that differ by their number alone; no other one of them is open."""
        self._of_device: Final[dict[Host, dict[str, None]]] = {}
        self._of_flow: Final[dict[FlowName, str]] = {}
        self._at_peer: Final[dict[tuple[Peer, str], dict[str, None]]] = {}
        self._watched: Final[dict[str, float]] = {}
        """Sessions that may be in trouble, and when the latest fact of each came."""
        self._outside: tuple[IPv4Address, ...] = ()
        self._on: Final[dict[type, Callable[[Any, float], list[Told]]]] = {
            Detected: self._on_detected,
            Counted: self._on_counted,
            Negotiated: self._on_negotiated,
            Answered: self._on_answered,
            Refused: self._on_refused,
            Admitted: self._on_admitted,
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

    def of_flow(self, flow: FlowName) -> Entry | None:
        """Return the session that a flow belongs to, or belonged to last."""
        known = self._of_flow.get(flow)
        return self._entries.get(known) if known is not None else None

    def follows(self, flow: FlowName) -> bool:
        """Whether a flow that has not gone belongs to a session that has not ended: then it need not be told again."""
        return bool(self.protocol_of(flow))

    def protocol_of(self, flow: FlowName) -> str:
        """Return what such a flow was detected as; empty where there is none."""
        entry = self.of_flow(flow)
        known = entry.session.flows.get(flow) if entry is not None and entry.ended_at is None else None
        return known.protocol if known is not None and not known.is_gone else ""

    def has_no_room_for(self, flow: FlowName) -> bool:
        """Whether a flow was refused because the gateway was full."""
        entry = self.of_flow(flow)
        refused = entry.session.refused if entry is not None else None
        return refused is not None and refused.flow == flow and refused.reason is Reason.REFUSED

    @property
    def open_count(self) -> int:
        """How many sessions have not ended."""
        return sum(entry.ended_at is None for entry in self._entries.values())

    def has_room_for(self, device: Host) -> bool:
        """Whether a new session of a device would push out no other one."""
        return len(self._entries) < SESSIONS_MAX and len(self._of_device.get(device, ())) < SESSIONS_PER_DEVICE_MAX

    # Facts

    def _on_detected(self, fact: Detected, now: float) -> list[Told]:
        entry, told = self._entry(fact.flow, fact.family, now)
        return told + self._moved(entry, entry.session.on_detected(fact, now), now)

    def _on_counted(self, fact: Counted, now: float) -> list[Told]:
        entry = self.of_flow(fact.flow)
        if entry is None:
            return []
        told: list[Told] = []
        if entry.ended_at is not None:
            entry, told = self._resumed(entry, fact, now)
        return told + self._moved(entry, entry.session.on_counted(fact, now), now) if entry else []

    def _resumed(self, entry: Entry, fact: Counted, now: float) -> tuple[Entry | None, list[Told]]:
        """Begin anew what was idle for so long that it passed for ended, where it moves again."""
        flow = entry.session.flows.get(fact.flow)
        if flow is None or (fact.to_peer.packets, fact.to_inside.packets) == (
            flow.to_peer.packets,
            flow.to_inside.packets,
        ):
            return None, []
        again = Detected(fact.flow, flow.protocol, entry.session.family, flow.confidence, flow.evidence)
        told = self._on_detected(again, now)
        return self.of_flow(fact.flow), told

    def _on_negotiated(self, fact: Negotiated, now: float) -> list[Told]:
        entry = self._open(_id(fact.device, fact.peer, IPSEC, None))
        return self._moved(entry, entry.session.on_negotiated(fact, now), now) if entry else []

    def _on_answered(self, fact: Answered, now: float) -> list[Told]:
        entry = self.of_flow(fact.flow)
        return self._moved(entry, entry.session.on_answered(fact, now), now) if entry else []

    def _on_refused(self, fact: Refused, now: float) -> list[Told]:
        entry, told = self._entry(fact.flow, fact.family, now)
        entry.session.refused, entry.session.refused_at = fact, now
        told += self._moved(entry, entry.session.on_asked(fact.flow, now), now)
        return told + self._judge(entry, now)

    def _on_admitted(self, fact: Admitted, now: float) -> list[Told]:
        entry = self.of_flow(fact.flow)
        if entry is None or entry.ended_at is not None:
            return []
        session = entry.session
        if session.refused is not None and session.refused.flow == fact.flow:
            session.refused = None
        if session.switched_off is not None and session.switched_off.flow == fact.flow:
            session.switched_off = None
            if session.is_gone:
                return self._end(entry, "it was switched off", now)
        return self._judge(entry, now)

    def _on_switched_off(self, fact: SwitchedOff, now: float) -> list[Told]:
        entry, told = self._entry(fact.flow, fact.family, now)
        entry.session.switched_off = fact
        told += self._moved(entry, entry.session.on_asked(fact.flow, now), now)
        return told + self._judge(entry, now)

    def _on_flow_gone(self, fact: FlowGone, now: float) -> list[Told]:
        entry = self.of_flow(fact.flow)
        if entry is None or entry.ended_at is not None:
            return []
        flows = entry.session.flows
        if fact.flow in flows:
            flows[fact.flow].is_gone = True
        # What is blocked is shown as that for as long as the device tries.
        is_over = entry.session.is_gone and entry.session.switched_off is None
        return self._end(entry, fact.cause, now) if is_over else []

    def _on_outside_addresses(self, fact: OutsideAddresses, now: float) -> list[Told]:
        self._outside = fact.addresses
        self._watched.update((name, now) for name, entry in self._entries.items() if entry.ended_at is None)
        return []

    # Time

    def judge(self, now: float) -> list[Told]:
        """Say what is wrong with sessions, which of them have ended, and forget what need be shown no longer.

        The table of diagnoses is asked about those alone that may be in trouble and of which a fact came lately, and
        about so many of them in turn that it stays cheap.
        """
        told: list[Told] = []
        for name in list(islice(self._watched, JUDGED_MAX)):
            stirred_at = self._watched.pop(name)
            entry = self._entries[name]
            if entry.ended_at is not None:
                continue
            told += self._judge(entry, now)
            if now - stirred_at < SETTLED_S and (entry.diagnosis or entry.session.is_suspect):
                self._watched[name] = stirred_at
        for entry in list(self._entries.values()):
            if entry.ended_at is not None:
                if now - entry.ended_at >= ENDED_SHOWN_S:
                    self._drop(entry)
            elif now - entry.session.last_at >= IDLE_S:
                told += self._end(entry, f"idle for {IDLE_S:.0f} s", now)
        return told

    def _moved(self, entry: Entry, fresh: list[Taken], now: float) -> list[Told]:
        """Have the session judged soon, if it may be in trouble, and tell of the steps that it took."""
        if entry.diagnosis is not None or entry.session.is_suspect:
            self._watched[entry.session.id] = now
        return [
            _told(
                "session.step",
                entry,
                step=taken.step.words,
                evidence=taken.evidence,
                after_s=round(taken.at - entry.session.first_at, 3),
            )
            for taken in fresh
        ]

    def _judge(self, entry: Entry, now: float) -> list[Told]:
        session = entry.session
        at_peer = self._at_peer.get((session.peer, session.family), {})
        others = islice((other for other in at_peer if other != session.id), RIVALS_MAX)
        rivals = [self._entries[other].session for other in others]
        found = diagnose(session, Surroundings(self._outside, rivals), now)
        if found == entry.diagnosis:
            return []
        is_new = found is not None and (entry.diagnosis is None or entry.diagnosis.code != found.code)
        is_over = found is None
        entry.diagnosis = found
        if is_new and found is not None:
            entry.diagnosed_at = now
            return [_told("session.stopped", entry, code=found.code, fact=found.fact, remedy=found.remedy)]
        return [_told("session.recovered", entry)] if is_over else []

    # Sessions

    def _entry(self, flow: FlowName, family: str, now: float) -> tuple[Entry, list[Told]]:
        """The session of a flow, begun where there is none, with the flow in it."""
        entry = self.of_flow(flow)
        told: list[Told] = []
        if entry is None or entry.ended_at is not None:
            port = flow.source if course_of(family).has_port_each else None
            base = _id(flow.device, flow.peer, family, port)
            entry = self._open(base)
            if entry is None:
                entry = self._begin(base, flow, family, now)
                device = device_name(flow.device)
                told.append(_told("session.started", entry, device=device, peer=address_name(flow.peer), family=family))
        session = entry.session
        if flow not in session.flows and (oldest := session.make_room()) is not None:
            del self._of_flow[oldest]
        session.flow(flow, now)
        self._of_flow[flow] = session.id
        return entry, told

    def _open(self, base: str) -> Entry | None:
        """The session of this name that has not ended."""
        entry = self._entries.get(self._latest.get(base, ""))
        return entry if entry is not None and entry.ended_at is None else None

    def _begin(self, base: str, flow: FlowName, family: str, now: float) -> Entry:
        name, number = base, 2
        while name in self._entries:
            name, number = f"{base}.{number}", number + 1
        own = self._of_device.get(flow.device, {})
        if len(own) >= SESSIONS_PER_DEVICE_MAX:
            self._drop(self._quietest(own))
        elif len(self._entries) >= SESSIONS_MAX:
            self._drop(self._quietest(self._entries))
        session = Session(name, flow.device, flow.peer, family, first_at=now, last_at=now)
        entry = self._entries[name] = Entry(session, base)
        self._latest[base] = name
        self._of_device.setdefault(flow.device, {})[name] = None
        self._at_peer.setdefault((flow.peer, family), {})[name] = None
        return entry

    def _quietest(self, names: dict[str, _V]) -> Entry:
        """Choose who makes room: of the first few, an ended one, else the one that was quiet for longest."""
        first = [self._entries[name] for name in islice(names, _SAMPLE)]
        chosen = min(first, key=_room_order)
        for entry in first:
            names[entry.session.id] = names.pop(entry.session.id)
        return chosen

    def _end(self, entry: Entry, cause: str, now: float) -> list[Told]:
        entry.ended_at, entry.cause = now, cause
        return [_told("session.ended", entry, cause=cause)]

    def _drop(self, entry: Entry) -> None:
        session = entry.session
        del self._entries[session.id]
        self._watched.pop(session.id, None)
        if self._latest.get(entry.base) == session.id:
            del self._latest[entry.base]
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


def _id(device: Host, peer: Peer, family: str, port: int | None) -> str:
    base = f"{family}-{device_name(device)}-{address_name(peer)}"
    return base if port is None else f"{base}-{port}"


def _told(name: str, entry: Entry, **fields: object) -> Told:
    return Told(name, entry.session.id, fields)
