"""The documents of the control socket: what the daemon answers and what its methods take.

Answers may grow: a reader ignores keys that it does not know. Params may not: an unknown one is
refused, so that a misspelt option never passes for one that was left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

from throughway.control.reading import DocumentMismatch, Fields
from throughway.control.records import Record, refuse_negative

PAGE_SESSIONS_MAX: Final = 1000
"""Sessions in one answer at most; a thousand full rows are below a megabyte."""

CURSOR_CHARACTERS_MAX: Final = 256


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


class AttachedBy(StrEnum):
    """How the programs hang on their interfaces."""

    TCX = "tcx"
    CLSACT = "clsact"


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Record):
    """One use of a VPN as a person sees it: a device, a peer and a protocol.

    Discriminators are text, as people write them: "0x1234abcd" for an SPI, "udp 51820" for a port,
    "call 128" for a PPTP call, "key 0x2a" for GRE. The newest comes first. Ages are in seconds.
    `reason` is a sentence for people, and empty where nothing was refused. `address` is ours that the
    peer sees, and empty where there is none.
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

    def __post_init__(self) -> None:
        """Refuse counts and times below zero."""
        refuse_negative(self)

    @classmethod
    def from_json(cls, document: object, where: str = "session") -> Self:
        """Read a session. Raises DocumentMismatch."""
        read = Fields(document, where)
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
class Finding(Record):
    """Something that the daemon noticed about the router, and what to do about it.

    `code` is a stable name for programs. `commands` are shell lines that carry out the remedy.
    """

    code: str
    level: Level
    what: str
    remedy: str = ""
    commands: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, document: object, where: str = "finding") -> Self:
        """Read a finding. Raises DocumentMismatch."""
        read = Fields(document, where)
        return cls(
            code=read.text("code"),
            level=read.choice("level", Level),
            what=read.text("what"),
            remedy=read.text("remedy"),
            commands=read.texts("commands"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Record):
    """The gateway at a glance.

    `reasons` counts packets by the name of their reason, those that were carried before those that
    were dropped. `outside_address` is the primary one of `outside_addresses`. `adopted` counts the mappings
    taken over from an earlier run. `ike_port` and `l2tp_port` say whether devices keep these ports (auto, keep,
    translate), `ports_kept` with which peers that was learned. `path` is how known packets go, `short`, or `long` with
    the reason behind it. `heads` counts first packets of flows by what became of them: `copied` to be recognised, or
    lost as `ring-full` or `over-budget`; `detected` counts the flows that were recognised by them, by protocol.
    """

    version: str
    gateway: str
    pid: int
    uptime_s: float
    inside: tuple[str, ...]
    outside: str
    outside_address: str | None
    attached_by: AttachedBy
    memory_bytes: int
    mappings: int
    pending: int
    sessions: int
    adopted: int
    reasons: Mapping[str, int]
    findings: tuple[Finding, ...]
    outside_addresses: tuple[str, ...] = ()
    ike_port: str = "auto"
    l2tp_port: str = "auto"
    ports_kept: tuple[str, ...] = ()
    path: str = ""
    heads: Mapping[str, int] = field(default_factory=dict)
    detected: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse counts and times below zero."""
        refuse_negative(self)

    @classmethod
    def from_json(cls, document: object, where: str = "status") -> Self:
        """Read a status. Raises DocumentMismatch."""
        read = Fields(document, where)
        findings = read.items("findings")
        return cls(
            version=read.text("version"),
            gateway=read.text("gateway"),
            pid=read.integer("pid"),
            uptime_s=read.number("uptime_s"),
            inside=read.texts("inside"),
            outside=read.text("outside"),
            outside_address=read.text_or_none("outside_address"),
            attached_by=read.choice("attached_by", AttachedBy),
            memory_bytes=read.integer("memory_bytes"),
            mappings=read.integer("mappings"),
            pending=read.integer("pending"),
            sessions=read.integer("sessions"),
            adopted=read.integer("adopted"),
            reasons=read.integers("reasons"),
            findings=tuple(Finding.from_json(one, f"{where}.findings[{at}]") for at, one in enumerate(findings)),
            outside_addresses=read.texts("outside_addresses") if read.has("outside_addresses") else (),
            ike_port=read.text("ike_port") if read.has("ike_port") else "auto",
            l2tp_port=read.text("l2tp_port") if read.has("l2tp_port") else "auto",
            ports_kept=read.texts("ports_kept") if read.has("ports_kept") else (),
            path=read.text("path") if read.has("path") else "",
            heads=read.integers("heads") if read.has("heads") else {},
            detected=read.integers("detected") if read.has("detected") else {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusQuery(Record):
    """The params of `status`: none."""

    @classmethod
    def from_json(cls, document: object, where: str = "params") -> Self:
        """Read the params. Raises DocumentMismatch."""
        Fields(document, where).only()
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsQuery(Record):
    """The params of `sessions`: at most `limit` rows, those that follow the cursor `after`."""

    after: str | None = None
    limit: int = PAGE_SESSIONS_MAX

    def __post_init__(self) -> None:
        """Refuse pages that are empty or beyond the bound."""
        if not 1 <= self.limit <= PAGE_SESSIONS_MAX:
            raise DocumentMismatch("params.limit", f"must be from 1 to {PAGE_SESSIONS_MAX}")
        if self.after is not None and len(self.after) > CURSOR_CHARACTERS_MAX:
            raise DocumentMismatch("params.after", "is not a cursor that an earlier page gave")

    @classmethod
    def from_json(cls, document: object, where: str = "params") -> Self:
        """Read the params; each may be left out. Raises DocumentMismatch."""
        read = Fields(document, where)
        read.only("after", "limit")
        return cls(
            after=read.text_or_none("after") if read.has("after") else None,
            limit=read.integer("limit") if read.has("limit") else PAGE_SESSIONS_MAX,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DownQuery(Record):
    """The params of `down`: with `keep`, rules, programs and mappings stay at work after the daemon."""

    keep: bool = False

    @classmethod
    def from_json(cls, document: object, where: str = "params") -> Self:
        """Read the params; each may be left out. Raises DocumentMismatch."""
        read = Fields(document, where)
        read.only("keep")
        return cls(keep=read.flag("keep") if read.has("keep") else False)
