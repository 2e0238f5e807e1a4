"""The sessions that people are told of: what the register knows, with what the tracker knows of their tunnels."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from throughway.control.reading import DocumentMismatch
from throughway.control.session_schema import (
    CarriedBy,
    Diagnosis,
    Session,
    SessionFlow,
    SessionPage,
    SessionsQuery,
    StepTaken,
    Verdict,
)
from throughway.core import discriminators
from throughway.core.addresses import Slots
from throughway.core.ids import Host, IpProtocol, Peer, UdpPort
from throughway.core.tracker import Tracker
from throughway.core.tunnels import Refusal, Tunnels
from throughway.service.noticing import Noticing, why
from throughway.sessions.facts import device_name
from throughway.sessions.register import Entry
from throughway.sessions.session import Flow

PAGE_FLOWS_MAX: Final = 3000
"""Flows in one answer at most, which makes it two megabytes."""

_Ends = tuple[Host, Peer, int, int]
"""A device, a peer, an IP protocol, and the UDP port where it is kept."""


class Rows:
    """What is known beside the register, looked up by the ends of a flow, at one moment."""

    def __init__(self, tracker: Tracker, noticing: Noticing, slots: Slots, now: float) -> None:
        """Look at the tracker once for all sessions. `now` is monotonic; the wall clock is read here."""
        self._tunnels: dict[_Ends, list[Tunnels]] = {}
        for one in tracker.tunnels():
            self._tunnels.setdefault((one.host, one.peer, one.protocol, one.port), []).append(one)
        self._refusals: dict[_Ends, list[Refusal]] = {}
        for refusal in tracker.refusals():
            ends = (refusal.host, refusal.peer, refusal.protocol, refusal.port)
            self._refusals.setdefault(ends, []).append(refusal)
        self._noticing: Final = noticing
        self._slots: Final = slots
        self._now: Final = now
        self._wall: Final = datetime.now(UTC)

    def row(self, entry: Entry) -> Session:
        """Tell all that is known of one session."""
        session = entry.session
        flows = [self._flow(flow) for flow in session.flows.values() if flow.protocol]
        for ends in dict.fromkeys(_ends(flow) for flow in session.flows.values()):
            flows += [self._refused(refusal) for refusal in self._refusals.get(ends, ())]
        main = max(flows, key=lambda flow: _weight(flow, session.course.data), default=None)
        diagnosis, refused = entry.diagnosis, session.refused
        has_flow = any(flow.verdict is not Verdict.REFUSED for flow in flows)
        return Session(
            id=session.id,
            device=device_name(session.device),
            protocol=main.protocol if main else session.family,
            peer=str(session.peer),
            discriminators_to_peer=main.discriminators_to_peer if main else (),
            discriminators_to_inside=main.discriminators_to_inside if main else (),
            verdict=Verdict.REFUSED if not has_flow else main.verdict if main else Verdict.WAITING,
            candidates=main.candidates if main else 1,
            packets_to_peer=sum(flow.packets_to_peer for flow in flows),
            bytes_to_peer=sum(flow.bytes_to_peer for flow in flows),
            packets_to_inside=sum(flow.packets_to_inside for flow in flows),
            bytes_to_inside=sum(flow.bytes_to_inside for flow in flows),
            age_s=self._ago(session.first_at),
            idle_s=min((flow.idle_s for flow in flows), default=self._ago(session.last_at)),
            carried_by=main.carried_by if main else CarriedBy.CONNTRACK,
            reason=refused.why if refused is not None else "",
            address=main.address if main else "",
            family=session.family,
            protocols=session.protocols or tuple(dict.fromkeys(flow.protocol for flow in flows)),
            step=session.walk.words,
            steps=tuple(
                StepTaken(step=one.step.words, at=self._clock(one.at), ago_s=self._ago(one.at), evidence=one.evidence)
                for one in session.walk.taken
            ),
            diagnosis=None
            if diagnosis is None
            else Diagnosis(
                code=diagnosis.code,
                fact=diagnosis.fact,
                remedy=diagnosis.remedy,
                at=self._clock(entry.diagnosed_at),
                ago_s=self._ago(entry.diagnosed_at),
            ),
            ended=entry.cause if entry.ended_at is not None else "",
            ended_at=self._clock(entry.ended_at) if entry.ended_at is not None else "",
            ended_ago_s=self._ago(entry.ended_at) if entry.ended_at is not None else 0.0,
            flows=tuple(flows),
        )

    def _flow(self, flow: Flow) -> SessionFlow:
        tunnels = [] if flow.is_tracked else self._tunnels.get(_ends(flow), [])
        name, protocol = flow.name, flow.name.protocol
        seen_as, number = _seen_as(flow.translated_to)
        if tunnels or not (flow.is_tracked or name.source):
            to_peer = [words for one in tunnels for words in _words(protocol, one.to_peer, one.port)]
            to_inside = [
                words for one in tunnels for words in _words(protocol, one.to_inside + one.contested, one.port)
            ]
            ours = [self._slots[one.slot] for one in tunnels if one.slot < len(self._slots)]
            seen_as = ", ".join(dict.fromkeys(str(address) for address in ours if address)) or seen_as
            carried_by = CarriedBy.BPF
        else:
            what = _PORT_WORDS.get(protocol, "")
            to_peer = [f"{what} {name.destination}"] if what else []
            to_inside = [f"{what} {number}"] if what and number else []
            carried_by = CarriedBy.CONNTRACK
        times = [at for at in (flow.to_peer.last_at, flow.to_inside.last_at) if at is not None]
        began_at = min([flow.first_at, *(one.first_at for one in tunnels)])
        return SessionFlow(
            protocol=flow.protocol,
            ip_protocol=protocol,
            source_port=name.source if protocol != IpProtocol.GRE else 0,
            destination_port=name.destination if protocol != IpProtocol.GRE else 0,
            discriminators_to_peer=tuple(to_peer),
            discriminators_to_inside=tuple(to_inside),
            verdict=_verdict(flow, tunnels),
            candidates=max((one.rivals for one in tunnels), default=1),
            packets_to_peer=flow.to_peer.packets,
            bytes_to_peer=flow.to_peer.bytes,
            packets_to_inside=flow.to_inside.packets,
            bytes_to_inside=flow.to_inside.bytes,
            age_s=self._ago(began_at),
            # The kernel's time of a packet is that of its last clock tick, which may be before the flow was known.
            idle_s=self._ago(max([began_at, *times])),
            carried_by=carried_by,
            address=seen_as,
            evidence=flow.evidence,
            confidence=flow.confidence,
            is_gone=flow.is_gone,
        )

    def _refused(self, refusal: Refusal) -> SessionFlow:
        words = _words(refusal.protocol, [refusal.discriminator], refusal.port)
        # What a host assigns to itself names what would come to it; everything else names what it sends.
        is_assigned = refusal.protocol == IpProtocol.L2TPV3 or refusal.port == UdpPort.L2TP
        return SessionFlow(
            protocol=self._noticing.named(refusal.protocol, refusal.port, refusal.discriminator)[0],
            ip_protocol=refusal.protocol,
            source_port=refusal.port,
            destination_port=refusal.port,
            discriminators_to_peer=() if is_assigned else words,
            discriminators_to_inside=words if is_assigned else (),
            verdict=Verdict.REFUSED,
            candidates=1,
            packets_to_peer=0,
            bytes_to_peer=0,
            packets_to_inside=0,
            bytes_to_inside=0,
            age_s=self._ago(refusal.first_at),
            idle_s=self._ago(refusal.last_at),
            carried_by=CarriedBy.BPF,
            reason=why(refusal),
        )

    def _ago(self, at: float) -> float:
        return max(0.0, self._now - at)

    def _clock(self, at: float) -> str:
        """Write a monotonic time by the wall clock, as it is now."""
        when = self._wall - timedelta(seconds=self._now - at)
        return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_PORT_WORDS: Final[Mapping[int, str]] = {IpProtocol.UDP: "udp", IpProtocol.TCP: "tcp", IpProtocol.GRE: "call"}


def page(
    entries: Iterable[Entry],
    row: Callable[[Entry], Session],
    query: SessionsQuery,
    flows_max: int = PAGE_FLOWS_MAX,
) -> SessionPage:
    """Make the rows of one page, those that began last first. The cursor is where a page ended, so none is lost."""
    ordered = sorted(entries, key=_place)
    if query.after is not None:
        ordered = ordered[bisect_right(ordered, _read_cursor(query.after), key=_place) :]
    cut: list[Session] = []
    flows = 0
    for entry in ordered[: query.limit]:
        flows += len(entry.session.flows)
        if cut and flows > flows_max:
            break
        cut.append(row(entry))
    more = len(cut) < len(ordered)
    return SessionPage(sessions=tuple(cut), next=_cursor(ordered[len(cut) - 1]) if more and cut else None)


def _place(entry: Entry) -> tuple[float, str]:
    return -entry.session.first_at, entry.session.id


def _cursor(entry: Entry) -> str:
    return f"{entry.session.first_at!r} {entry.session.id}"


def _read_cursor(cursor: str) -> tuple[float, str]:
    first_at, _, name = cursor.partition(" ")
    try:
        return -float(first_at), name
    except ValueError:
        raise DocumentMismatch("params.after", "is not a cursor that an earlier page gave") from None


def _weight(flow: SessionFlow, data: frozenset[str]) -> tuple[bool, bool, bool, int]:
    """What the session is about: a flow of data before one that negotiates, then the one that carried most."""
    is_data = not data or flow.protocol in data
    packets = flow.packets_to_peer + flow.packets_to_inside
    return flow.verdict is not Verdict.REFUSED, is_data, not flow.is_gone, packets


def _verdict(flow: Flow, tunnels: Sequence[Tunnels]) -> Verdict:
    """Say how sure we are. Where the owner is known before anything comes back, the first answer ends the waiting."""
    if any(one.contested for one in tunnels):
        return Verdict.CONTESTED
    if flow.is_tracked:
        return Verdict.TRACKED if flow.to_inside.packets else Verdict.WAITING
    has_answer = flow.to_inside.packets or (
        flow.name.protocol == IpProtocol.ESP and any(one.to_inside for one in tunnels)
    )
    return Verdict.CERTAIN if has_answer else Verdict.WAITING


def _ends(flow: Flow) -> _Ends:
    """The key of a flow among tunnels: a port counts where both ends keep it."""
    name = flow.name
    port = name.source if name.source == name.destination and name.protocol == IpProtocol.UDP else 0
    return name.device, name.peer, name.protocol, port


def _words(protocol: int, names: Iterable[int], port: int) -> tuple[str, ...]:
    return tuple(words for name in names if (words := discriminators.words_of(protocol, name, port)))


def _seen_as(translated_to: str) -> tuple[str, str]:
    """Split what the peer sees into our address and the port or call ID."""
    address, _, rest = translated_to.partition(" ")
    return address, rest.rpartition(" ")[2]
