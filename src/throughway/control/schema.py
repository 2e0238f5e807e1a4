"""The documents of the control socket: what the daemon answers and what its methods take.

Answers may grow: a reader ignores keys that it does not know. Params may not: an unknown one is
refused, so that a misspelt option never passes for one that was left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from throughway.control.reading import DocumentMismatch, Fields
from throughway.control.records import Record, refuse_negative
from throughway.control.session_schema import (
    PAGE_SESSIONS_MAX,
    CarriedBy,
    Session,
    SessionPage,
    SessionsQuery,
    Verdict,
)

__all__ = [
    "PAGE_SESSIONS_MAX",
    "AttachedBy",
    "CarriedBy",
    "DocumentMismatch",
    "DownQuery",
    "Finding",
    "Level",
    "Session",
    "SessionPage",
    "SessionsQuery",
    "Status",
    "StatusQuery",
    "Verdict",
]


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
class DownQuery(Record):
    """The params of `down`: with `keep`, rules, programs and mappings stay at work after the daemon."""

    keep: bool = False

    @classmethod
    def from_json(cls, document: object, where: str = "params") -> Self:
        """Read the params; each may be left out. Raises DocumentMismatch."""
        read = Fields(document, where)
        read.only("keep")
        return cls(keep=read.flag("keep") if read.has("keep") else False)
