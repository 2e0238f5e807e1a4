"""One session: the flows of one VPN use, what was seen of them, and the steps that this proves."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from throughway.core.events import IkeExchange
from throughway.core.ids import ROUTER, Host, IpProtocol, Peer
from throughway.sessions.courses import Course, course_of
from throughway.sessions.facts import (
    NAMES_MAX,
    NOTHING,
    Answered,
    Counted,
    Detected,
    FlowName,
    Negotiated,
    Refused,
    SwitchedOff,
    Traffic,
)
from throughway.sessions.steps import Step, Taken, Walk

FLOWS_MAX: Final = 32
"""Flows of one session that are remembered; a device that changes its port at every attempt has no more to tell."""

EXCHANGES_MAX: Final = 16
"""IKE exchanges of one session that are remembered; retransmissions are of the latest ones."""

QUIET_S: Final = 10.0
"""A flow that was quiet for so long and then speaks in vain is asked whether somebody upstream has forgotten it."""

PPTP: Final = "pptp"

LARGE_BYTES: Final = 1200
"""Packets of this size and more are the first that a narrow link does not pass: no path is required to carry more
than 576 (RFC 791 section 3.1), and tunnels of 1,280 are common."""

KEEPALIVE_BYTES: Final = 80
"""Packets of this size and less want no answer in a tunnel that had some: the keepalive of NAT traversal has 29 bytes
with its headers (RFC 3948 section 2.3), WireGuard's 60, OpenVPN's 68, and an acknowledgement of TCP 40 to 64. What
passes through a tunnel makes larger ones."""


@dataclass(slots=True)
class Talk:
    """One IKE exchange, as its messages passed. `asked` counts the device's since the peer's last one."""

    exchange: IkeExchange
    began_at: float
    last_at: float
    asked: int = 0
    largest: int = 0
    """Bytes of the largest of those."""
    answers: int = 0

    @property
    def is_in_vain(self) -> bool:
        """Whether the device asked since the peer's last message."""
        return self.asked > 0


@dataclass(slots=True)
class Flow:
    """One flow of a session."""

    name: FlowName
    first_at: float
    protocol: str = ""
    """The ID of what it was detected as; empty before."""
    confidence: float = 0.0
    evidence: str = ""
    to_peer: Traffic = NOTHING
    to_inside: Traffic = NOTHING
    translated_to: str = ""
    control_to_peer: int = 0
    control_to_inside: int = 0
    """Packets of its own negotiation that share the flow with data: IKE on UDP 4500."""
    unanswered: Traffic = NOTHING
    """What the device sent since the peer's last packet, at the latest reading."""
    unanswered_since: float | None = None
    quiet_before_s: float = 0.0
    """For how long nothing had passed when the device began to speak in vain; 0 where it was never answered."""
    heard_at: float | None = None
    """When a reading first had an answer."""
    is_gone: bool = False
    is_tracked: bool = False
    """Whether the kernel's connection tracking carries it."""

    @property
    def is_in_vain(self) -> bool:
        """Whether the device spoke since the peer's last packet."""
        return self.unanswered.packets > 0

    @property
    def lacks_large(self) -> bool:
        """Whether what the device sent in vain are large packets."""
        return self.unanswered.bytes >= max(1, self.unanswered.packets) * LARGE_BYTES

    def read(self, counted: Counted, now: float) -> None:
        """Take a reading of the counters, and note what has gone unanswered."""
        sent, came = counted.to_peer, counted.to_inside
        answers, answer_bytes = came.packets - self.to_inside.packets, came.bytes - self.to_inside.bytes
        # Where large packets are lost, the peer's keepalives come through.
        has_answer = answers > 0 and not (self.lacks_large and answer_bytes <= answers * KEEPALIVE_BYTES)
        more, more_bytes = sent.packets - self.to_peer.packets, sent.bytes - self.to_peer.bytes
        if has_answer:
            self.unanswered, self.unanswered_since, self.quiet_before_s = NOTHING, None, 0.0
        elif more > 0 and (not came.packets or more_bytes > more * KEEPALIVE_BYTES):
            if self.unanswered_since is None:
                self.unanswered_since = now
                times = [at for at in (self.to_peer.last_at, self.to_inside.last_at) if at is not None]
                self.quiet_before_s = now - max(times) if came.packets and times else 0.0
            self.unanswered = Traffic(
                self.unanswered.packets + more,
                self.unanswered.bytes + more_bytes,
                sent.last_at,
            )
        if came.packets and self.heard_at is None:
            self.heard_at = now
        self.to_peer, self.to_inside, self.is_tracked = sent, came, counted.is_tracked
        self.translated_to = counted.translated_to or self.translated_to


@dataclass(slots=True)
class Session:
    """The flows of one VPN use. What ended it, and what is wrong with it, the register says."""

    id: str
    device: Host
    peer: Peer
    family: str
    first_at: float
    last_at: float
    walk: Walk = field(default_factory=Walk)
    flows: dict[FlowName, Flow] = field(default_factory=dict)
    """Those that began first before the others."""
    talks: dict[tuple[int, IkeExchange, int], Talk] = field(default_factory=dict)
    """IKE exchanges by IKE SA, kind and number, the one that spoke last at the end."""
    refused: Refused | None = None
    refused_at: float = 0.0
    switched_off: SwitchedOff | None = None
    child_agreed_at: float | None = None
    """When an exchange that agrees on a child SA was last answered."""
    _in_vain: int = 0
    """How many flows and IKE exchanges the device speaks on without an answer."""

    @property
    def course(self) -> Course:
        """What this family does before it is established."""
        return course_of(self.family)

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that were detected, in the order in which they were."""
        return tuple(dict.fromkeys(flow.protocol for flow in self.flows.values() if flow.protocol))

    def flow(self, name: FlowName, now: float) -> Flow:
        """Find a flow of the session, or begin it; it goes on from now."""
        known = self.flows.get(name)
        if known is None:
            known = self.flows[name] = Flow(name, now)
        known.is_gone = False
        self.last_at = now
        return known

    def make_room(self) -> FlowName | None:
        """Forget a flow where there is no room for another one, and say which: one that is gone, else the oldest."""
        if len(self.flows) < FLOWS_MAX:
            return None
        chosen = next(iter(self.flows))
        for name, flow in self.flows.items():
            if flow.is_gone:
                chosen = name
                break
        self._in_vain -= self.flows.pop(chosen).is_in_vain
        return chosen

    # What is told of it

    def on_asked(self, name: FlowName, now: float) -> list[Taken]:
        """Take note that the device asked for a flow which it does not get."""
        flow = self.flow(name, now)
        return self.walk.show(Step.STARTED, flow.first_at, _begun(name.peer, name.protocol, name.destination))

    def on_detected(self, fact: Detected, now: float) -> list[Taken]:
        """Take what a flow was recognised as."""
        flow = self.flow(fact.flow, now)
        if fact.confidence >= flow.confidence:
            flow.protocol, flow.confidence, flow.evidence = fact.protocol, fact.confidence, fact.evidence
        started = self.walk.show(
            Step.STARTED, flow.first_at, _begun(fact.flow.peer, fact.flow.protocol, fact.flow.destination)
        )
        return started + self.walk.show(Step.DETECTED, now, fact.evidence)

    def on_counted(self, fact: Counted, now: float) -> list[Taken]:
        """Take a reading of a flow's counters."""
        flow = self.flow(fact.flow, now)
        was_in_vain = flow.is_in_vain
        flow.read(fact, now)
        self._in_vain += flow.is_in_vain - was_in_vain
        fresh: list[Taken] = []
        if self.walk.has(Step.CARRYING_DATA):
            return fresh
        sent_at = fact.to_peer.last_at if fact.to_peer.last_at is not None else now
        if fact.translated_to:
            fresh += self.walk.show(Step.TRANSLATED, min(sent_at, now), f"leaves as {fact.translated_to}")
        if fact.to_peer.packets:
            fresh += self.walk.show(Step.FORWARDED, sent_at, f"sent to {self.peer}")
        return fresh + self._judge_data(now)

    def on_negotiated(self, fact: Negotiated, now: float) -> list[Taken]:
        """Take note of an IKE message."""
        self.last_at = now
        flow = self.flows.get(fact.flow) if fact.flow is not None else None
        if flow is not None and fact.from_device:
            flow.control_to_peer += 1
        elif flow is not None:
            flow.control_to_inside += 1
        key = (fact.initiator_spi, fact.exchange, fact.exchange_id)
        talk = self.talks.pop(key, None) or Talk(fact.exchange, now, now)
        self.talks[key] = talk
        if len(self.talks) > EXCHANGES_MAX:
            self._in_vain -= self.talks.pop(next(iter(self.talks))).is_in_vain
        talk.last_at = now
        if fact.from_device and self.device == ROUTER:
            return []  # What the peer answers to the router itself nobody sees, so silence says nothing.
        self._in_vain += fact.from_device - talk.is_in_vain
        if fact.from_device:
            talk.asked += 1
            talk.largest = max(talk.largest, fact.size)
            return []
        talk.answers += 1
        talk.asked, talk.largest = 0, 0
        if fact.exchange not in (IkeExchange.FIRST_CHILD, IkeExchange.CHILD):
            return []
        self.child_agreed_at = now
        return self.walk.show(Step.ESTABLISHED, now, f"{self.peer} answered the exchange that agrees on the tunnel")

    def on_answered(self, fact: Answered, now: float) -> list[Taken]:
        """Take the peer's word that the tunnel is granted."""
        self.flow(fact.flow, now)
        return self.walk.show(Step.ESTABLISHED, now, fact.evidence)

    # What follows

    @property
    def is_suspect(self) -> bool:
        """Whether something may be wrong: asked and not answered, refused, or a call of PPTP that is not heard yet.

        What is not suspect needs no look at the table of diagnoses, which is far dearer than this.
        """
        if self.refused is not None or self.switched_off is not None:
            return True
        if self.family == PPTP and not self.walk.has(Step.CARRYING_DATA):
            return True
        return self._in_vain > 0

    @property
    def is_gone(self) -> bool:
        """Whether the kernel has forgotten all of its flows."""
        return all(flow.is_gone for flow in self.flows.values())

    def data_flows(self) -> list[Flow]:
        """The flows that carry data, if any does."""
        wanted = self.course.data
        return [flow for flow in self.flows.values() if not wanted or flow.protocol in wanted]

    def data_counts(self) -> tuple[int, int]:
        """How many packets of data have passed to the peer and to the inside."""
        flows = self.data_flows()
        to_peer = sum(max(0, flow.to_peer.packets - flow.control_to_peer) for flow in flows)
        to_inside = sum(max(0, flow.to_inside.packets - flow.control_to_inside) for flow in flows)
        return to_peer, to_inside

    def _judge_data(self, now: float) -> list[Taken]:
        to_peer, to_inside = self.data_counts()
        course, fresh = self.course, list[Taken]()
        is_answered = to_inside >= course.answers if course.answers else min(to_peer, to_inside) >= course.each_way
        if is_answered and to_inside:
            fresh += self.walk.show(Step.ESTABLISHED, now, f"{self.peer} answered in the tunnel")
        if min(to_peer, to_inside) >= course.each_way:
            words = f"{to_peer} packets out and {to_inside} in"
            fresh += self.walk.show(Step.CARRYING_DATA, now, words)
        return fresh


@lru_cache(maxsize=NAMES_MAX)
def _begun(peer: Peer, protocol: int, port: int) -> str:
    """Say what started a session; one string for all sessions of which it is true."""
    match protocol:
        case IpProtocol.TCP:
            return f"first packet to {peer}, TCP {port}"
        case IpProtocol.UDP:
            return f"first packet to {peer}, UDP {port}"
        case number:
            return f"first packet to {peer}, IP protocol {int(number)}"
