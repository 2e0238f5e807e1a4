"""A real control server in a thread of its own, with fixed answers, for the tests of its clients."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from throughway.control.connection import ControlLimits
from throughway.control.errors import ErrorCode, RequestRefused
from throughway.control.event_schema import EventsQuery
from throughway.control.schema import (
    AttachedBy,
    CarriedBy,
    DownQuery,
    Finding,
    Level,
    Session,
    SessionPage,
    SessionsQuery,
    Status,
    StatusQuery,
    Verdict,
)
from throughway.control.server import ControlServer, Method, Params
from throughway.control.session_schema import PAGE_SESSIONS_MAX, Diagnosis, SessionFlow, SessionQuery, StepTaken
from throughway.service.happenings import Happenings

LIMIT_S = 10.0

STATUS = Status(
    version="0.1.0",
    gateway="default",
    pid=4242,
    uptime_s=93784.5,
    inside=("lan0",),
    outside="wan0",
    outside_address="192.0.2.2",
    attached_by=AttachedBy.TCX,
    path="short",
    heads={"copied": 1234, "ring-full": 0, "over-budget": 5},
    detected={"ike": 2, "wireguard": 17},
    memory_bytes=44 << 20,
    mappings=6,
    pending=0,
    sessions=3,
    adopted=0,
    reasons={"TRANSLATED_TO_INSIDE": 1190, "NO_CANDIDATE": 2, "MALFORMED": 0},
    findings=(
        Finding(
            code="firewall.drops-carried",
            level=Level.WARNING,
            what="table ip filter drops what is forwarded",
            remedy="Add this rule.",
            commands=("nft insert rule ip filter FORWARD meta mark & 0x10000000 != 0 accept",),
        ),
    ),
)

ESP = Session(
    id="ipsec-10.77.0.11-203.0.113.20",
    device="10.77.0.11",
    protocol="esp",
    peer="203.0.113.20",
    discriminators_to_peer=("0x1234abcd",),
    discriminators_to_inside=("0x9f00aa11",),
    verdict=Verdict.CERTAIN,
    candidates=1,
    packets_to_peer=1204,
    bytes_to_peer=1_258_291,
    packets_to_inside=1190,
    bytes_to_inside=1_153_434,
    age_s=182.0,
    idle_s=0.4,
    carried_by=CarriedBy.BPF,
    family="ipsec",
    protocols=("esp",),
    step="carrying data",
)

STOPPED = replace(
    ESP,
    verdict=Verdict.WAITING,
    idle_s=0.4,
    address="192.0.2.2",
    protocols=("ike", "esp"),
    step="started",
    steps=(
        StepTaken(
            step="started", at="2026-11-22T17:09:28.456Z", ago_s=9.0, evidence="first packet to 203.0.113.20, UDP 500"
        ),
    ),
    diagnosis=Diagnosis(
        code="ipsec.one-way",
        fact="4 packets of ESP went to 203.0.113.20 and none came back.",
        remedy="Switch on NAT traversal.",
        at="2026-11-22T17:09:41.001Z",
        ago_s=1.0,
    ),
    flows=(
        SessionFlow(
            protocol="esp",
            ip_protocol=50,
            source_port=0,
            destination_port=0,
            discriminators_to_peer=("0x1234abcd",),
            discriminators_to_inside=(),
            verdict=Verdict.WAITING,
            candidates=1,
            packets_to_peer=4,
            bytes_to_peer=400,
            packets_to_inside=0,
            bytes_to_inside=0,
            age_s=9.0,
            idle_s=1.0,
            carried_by=CarriedBy.BPF,
            evidence="ESP, SPI 0x1234abcd, IP protocol 50",
            confidence=0.99,
        ),
    ),
)


class Gateway:
    """What a daemon would answer; tests set the fields and look at `asked_to_keep`."""

    def __init__(self, sessions: tuple[Session, ...] = (ESP,), status: Status = STATUS) -> None:
        self.sessions = sessions
        self.status = status
        self.page = PAGE_SESSIONS_MAX
        self.happenings = Happenings("0a1b2c3d")
        self.asked_to_keep: bool | None = None
        self.stopping = asyncio.Event()

    def methods(self) -> dict[str, Method]:
        """Return the methods of the contract."""
        return {
            "status": self._status,
            "sessions": self._sessions,
            "session": self._session,
            "events": self._events,
            "down": self._down,
        }

    async def _status(self, params: Params) -> object:
        StatusQuery.from_json(params)
        return replace(self.status, sessions=len(self.sessions))

    async def _sessions(self, params: Params) -> object:
        query = SessionsQuery.from_json(params)
        try:
            start = int(query.after or 0)
        except ValueError:
            raise RequestRefused(ErrorCode.PARAMS, "params.after is no cursor of ours", "begin anew") from None
        stop = start + min(query.limit, self.page)
        return SessionPage(sessions=self.sessions[start:stop], next=str(stop) if stop < len(self.sessions) else None)

    async def _session(self, params: Params) -> object:
        wanted = SessionQuery.from_json(params).id
        found = [session for session in self.sessions if session.id == wanted]
        if not found:
            raise RequestRefused(ErrorCode.PARAMS, f"there is no session {wanted!a}", "list them")
        return found[0]

    async def _events(self, params: Params) -> object:
        return self.happenings.page(EventsQuery.from_json(params))

    async def _down(self, params: Params) -> object:
        self.asked_to_keep = DownQuery.from_json(params).keep
        self.stopping.set()
        return {}


@contextmanager
def serving(
    path: Path,
    methods: Mapping[str, Method] | None = None,
    limits: ControlLimits | None = None,
    gateway: Gateway | None = None,
) -> Iterator[Gateway]:
    """Serve on the path for the time of the block, or until the gateway is asked to stop."""
    gateway = gateway or Gateway()
    server = ControlServer(path, methods or gateway.methods(), limits)
    ready = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def live() -> None:
        loops.append(asyncio.get_running_loop())
        with server.claimed():
            task = asyncio.create_task(server.serve())
            ready.set()
            await gateway.stopping.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    try:
        assert ready.wait(LIMIT_S)
        yield gateway
    finally:
        with suppress(RuntimeError):
            # Closed already where the gateway was asked to stop.
            loops[0].call_soon_threadsafe(gateway.stopping.set)
        thread.join(LIMIT_S)
        assert not thread.is_alive()
