"""The documents about sessions: what the daemon answers to `sessions` and `session`.

A session is one use of a VPN as a person sees it, and has one flow or several. What is said of the session as a whole
has the same keys as what is said of each flow.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final, Self

from throughway.control.reading import Fields
from throughway.control.records import PageQuery, Record, refuse_negative

PAGE_SESSIONS_MAX: Final = 500
"""Sessions in one answer at most. One takes some 2 kilobytes, and 8 with all flows that it may have."""


class Verdict(StrEnum):
    """How sure we are whose tunnel it is."""

    CERTAIN = "certain"
    CONTESTED = "contested"
    WAITING = "waiting"
    """The host sends and nothing has come back."""
    TRACKED = "tracked"
    """The kernel's connection tracking holds it."""
    REFUSED = "refused"
    """The host may not have it; the session's `reason` says why, and what to do."""


class CarriedBy(StrEnum):
    """Which part of the kernel forwards the packets."""

    BPF = "bpf"
    CONNTRACK = "conntrack"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTaken(Record):
    """A step of a session: its name, when it was taken, by the wall clock and before now, and what showed it."""

    step: str
    at: str
    ago_s: float
    evidence: str

    @classmethod
    def from_json(cls, document: object, where: str = "step") -> Self:
        """Read a step. Raises DocumentMismatch."""
        read = Fields(document, where)
        return cls(
            step=read.text("step"), at=read.text("at"), ago_s=read.number("ago_s"), evidence=read.text("evidence")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis(Record):
    """Why a session stopped. `code` is a stable name (docs/diagnoses.md); the fact and the remedy are sentences."""

    code: str
    fact: str
    remedy: str
    at: str
    ago_s: float

    @classmethod
    def from_json(cls, document: object, where: str = "diagnosis") -> Self:
        """Read a diagnosis. Raises DocumentMismatch."""
        read = Fields(document, where)
        return cls(
            code=read.text("code"),
            fact=read.text("fact"),
            remedy=read.text("remedy"),
            at=read.text("at"),
            ago_s=read.number("ago_s"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFlow(Record):
    """One flow of a session. Ports are 0 where the IP protocol has none; the other keys are those of a session."""

    protocol: str
    ip_protocol: int
    source_port: int
    destination_port: int
    discriminators_to_peer: tuple[str, ...]
    discriminators_to_inside: tuple[str, ...]
    verdict: Verdict
    candidates: int
    packets_to_peer: int
    bytes_to_peer: int
    packets_to_inside: int
    bytes_to_inside: int
    age_s: float
    idle_s: float
    carried_by: CarriedBy
    reason: str = ""
    address: str = ""
    evidence: str = ""
    confidence: float = 0.0
    is_gone: bool = False

    def __post_init__(self) -> None:
        """Refuse counts and times below zero."""
        refuse_negative(self)

    @classmethod
    def from_json(cls, document: object, where: str = "flow") -> Self:
        """Read a flow. Raises DocumentMismatch."""
        read = Fields(document, where)
        return cls(
            protocol=read.text("protocol"),
            ip_protocol=read.integer("ip_protocol"),
            source_port=read.integer("source_port"),
            destination_port=read.integer("destination_port"),
            discriminators_to_peer=read.texts("discriminators_to_peer"),
            discriminators_to_inside=read.texts("discriminators_to_inside"),
            verdict=read.choice("verdict", Verdict),
            candidates=read.integer("candidates"),
            packets_to_peer=read.integer("packets_to_peer"),
            bytes_to_peer=read.integer("bytes_to_peer"),
            packets_to_inside=read.integer("packets_to_inside"),
            bytes_to_inside=read.integer("bytes_to_inside"),
            age_s=read.number("age_s"),
            idle_s=read.number("idle_s"),
            carried_by=read.choice("carried_by", CarriedBy),
            reason=read.text("reason"),
            address=read.text("address"),
            evidence=read.text("evidence"),
            confidence=read.number("confidence"),
            is_gone=read.flag("is_gone"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Record):
    """One use of a VPN as a person sees it: a device, a peer and the flows between them.

    `protocol` is the one that carries the data, or the first that was seen; `protocols` are all. Discriminators are
    those of that protocol, as text, as people write them: "0x1234abcd" for an SPI, "udp 51820" for a port, "call 128"
    for a PPTP call, "key 0x2a" for GRE. Packets and bytes are of all flows together. The newest comes first. Ages are
    in seconds. `reason` is a sentence for people, and empty where nothing was refused. `address` is ours that the peer
    sees, and empty where there is none. `step` is the last of `steps`; `ended` says why the session ended, and is
    empty while it goes on.
    """

    id: str
    device: str
    protocol: str
    peer: str
    discriminators_to_peer: tuple[str, ...]
    discriminators_to_inside: tuple[str, ...]
    verdict: Verdict
    candidates: int
    packets_to_peer: int
    bytes_to_peer: int
    packets_to_inside: int
    bytes_to_inside: int
    age_s: float
    idle_s: float
    carried_by: CarriedBy
    reason: str = ""
    address: str = ""
    family: str = ""
    protocols: tuple[str, ...] = ()
    step: str = ""
    steps: tuple[StepTaken, ...] = ()
    diagnosis: Diagnosis | None = None
    ended: str = ""
    ended_at: str = ""
    ended_ago_s: float = 0.0
    flows: tuple[SessionFlow, ...] = ()

    def __post_init__(self) -> None:
        """Refuse counts and times below zero."""
        refuse_negative(self)

    @classmethod
    def from_json(cls, document: object, where: str = "session") -> Self:
        """Read a session. Raises DocumentMismatch."""
        read = Fields(document, where)
        steps = read.items("steps") if read.has("steps") else []
        flows = read.items("flows") if read.has("flows") else []
        diagnosis = read.value_or_none("diagnosis")
        return cls(
            id=read.text("id"),
            device=read.text("device"),
            protocol=read.text("protocol"),
            peer=read.text("peer"),
            discriminators_to_peer=read.texts("discriminators_to_peer"),
            discriminators_to_inside=read.texts("discriminators_to_inside"),
            verdict=read.choice("verdict", Verdict),
            candidates=read.integer("candidates"),
            packets_to_peer=read.integer("packets_to_peer"),
            bytes_to_peer=read.integer("bytes_to_peer"),
            packets_to_inside=read.integer("packets_to_inside"),
            bytes_to_inside=read.integer("bytes_to_inside"),
            age_s=read.number("age_s"),
            idle_s=read.number("idle_s"),
            carried_by=read.choice("carried_by", CarriedBy),
            reason=read.text("reason") if read.has("reason") else "",
            address=read.text("address") if read.has("address") else "",
            family=read.text("family") if read.has("family") else "",
            protocols=read.texts("protocols") if read.has("protocols") else (),
            step=read.text("step") if read.has("step") else "",
            steps=tuple(StepTaken.from_json(one, f"{where}.steps[{at}]") for at, one in enumerate(steps)),
            diagnosis=None if diagnosis is None else Diagnosis.from_json(diagnosis, f"{where}.diagnosis"),
            ended=read.text("ended") if read.has("ended") else "",
            ended_at=read.text("ended_at") if read.has("ended_at") else "",
            ended_ago_s=read.number("ended_ago_s") if read.has("ended_ago_s") else 0.0,
            flows=tuple(SessionFlow.from_json(one, f"{where}.flows[{at}]") for at, one in enumerate(flows)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPage(Record):
    """Some sessions, and the cursor by which to ask for those that follow; None after the last."""

    sessions: tuple[Session, ...]
    next: str | None

    @classmethod
    def from_json(cls, document: object, where: str = "page") -> Self:
        """Read a page. Raises DocumentMismatch."""
        read = Fields(document, where)
        rows = read.items("sessions")
        return cls(
            sessions=tuple(Session.from_json(row, f"{where}.sessions[{at}]") for at, row in enumerate(rows)),
            next=read.text_or_none("next"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsQuery(PageQuery):
    """The params of `sessions`. Pages after the first are of the same reading, for as long as a reader needs to ask."""

    MOST: ClassVar[int] = PAGE_SESSIONS_MAX

    limit: int = PAGE_SESSIONS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionQuery(Record):
    """The params of `session`: the ID of one."""

    id: str

    @classmethod
    def from_json(cls, document: object, where: str = "params") -> Self:
        """Read the params. Raises DocumentMismatch."""
        read = Fields(document, where)
        read.only("id")
        return cls(id=read.text("id"))
