"""The faces' end of the control socket: small, synchronous, and clear about what went wrong.

    with ControlClient.of_gateway(choose_gateway(named)) as daemon:
        for session in daemon.sessions():
            ...

One client is one connection and asks one thing at a time.
"""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from throughway.control import frames
from throughway.control.errors import (
    AccessDenied,
    ControlError,
    DaemonAbsent,
    DaemonMisbehaved,
    DaemonSilent,
    RequestRefused,
)
from throughway.control.event_schema import EventPage, EventsQuery
from throughway.control.paths import GATEWAY_DEFAULT, gateways_here, socket_path
from throughway.control.reading import DocumentMismatch
from throughway.control.schema import DownQuery, Status
from throughway.control.session_schema import Session, SessionPage, SessionQuery, SessionsQuery

ANSWER_S: Final = 15.0
"""Longer than the daemon gives itself for an answer, so that its own words come first."""

DOWN_S: Final = 30.0
"""For the daemon to undo what it did, from its promise to the end of its socket."""

_POLL_S: Final = 0.05


def choose_gateway(named: str | None = None) -> str:
    """Return the gateway that is meant: the one named, else the only one here.

    Raises DaemonAbsent when there is none, or when there are several and none was named.
    """
    if named:
        return named
    here = gateways_here()
    if len(here) > 1:
        # Sockets of daemons that were killed do not count while another one lives.
        here = [gateway for gateway in here if _is_alive(gateway)] or here
    if len(here) > 1:
        raise DaemonAbsent(
            f"{len(here)} gateways run here: {', '.join(here)}", "name one with `--gateway`, or in THROUGHWAY_GATEWAY"
        )
    return here[0] if here else GATEWAY_DEFAULT


class ControlClient:
    """One connection to the daemon of one gateway.

    Each method raises a ControlError that says what to do: AccessDenied and DaemonAbsent before the
    daemon is reached, RequestRefused for what it does not do, DaemonSilent and DaemonMisbehaved for
    the rest. After the last two the connection is of no more use.
    """

    def __init__(self, path: Path, gateway: str, answer_s: float = ANSWER_S) -> None:
        self._path = path
        self._gateway = gateway
        self._answer_s = answer_s
        self._last_id = 0
        self._socket = _connect(path, gateway, answer_s)

    @classmethod
    def of_gateway(cls, gateway: str, answer_s: float = ANSWER_S) -> Self:
        """Connect to the daemon of this gateway."""
        return cls(socket_path(gateway), gateway, answer_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def status(self) -> Status:
        """Ask how the gateway is."""
        with self._reading():
            return Status.from_json(self.request("status"))

    def sessions(self) -> Iterator[Session]:
        """Ask for all sessions, page by page; rows that come or go meanwhile may be missed or seen."""
        query = SessionsQuery()
        while True:
            with self._reading():
                page = SessionPage.from_json(self.request("sessions", _given(query.to_json())))
            yield from page.sessions
            if page.next is None:
                return
            if page.next == query.after:
                raise self._misbehaved("the pages do not end")
            query = SessionsQuery(after=page.next)

    def session(self, session_id: str) -> Session:
        """Ask for one session by its ID."""
        with self._reading():
            return Session.from_json(self.request("session", SessionQuery(id=session_id).to_json()))

    def events(self, after: str | None = None) -> EventPage:
        """Ask for events after a cursor, else from the oldest that the daemon has; at once, whether there is one."""
        with self._reading():
            return EventPage.from_json(self.request("events", _given(EventsQuery(after=after).to_json())))

    def down(self, keep: bool = False, wait_s: float = DOWN_S) -> None:
        """Stop the daemon, and return when its socket is gone, which is its last act.

        With `keep` it leaves rules, programs and mappings at work. Raises DaemonSilent when it is
        still there after `wait_s`.
        """
        before = _identity(self._path)
        self.request("down", DownQuery(keep=keep).to_json())
        deadline = time.monotonic() + wait_s
        while _identity(self._path) == before is not None:
            if time.monotonic() >= deadline:
                raise DaemonSilent(
                    f"the daemon of gateway {self._gateway} promised to stop and did not within {wait_s:g} s",
                    "look at its log",
                )
            time.sleep(_POLL_S)

    def request(self, method: str, params: Mapping[str, object] | None = None) -> object:
        """Ask for one answer and return it as it came, of JSON."""
        request_id = self._send(method, params)
        document = self._receive(request_id)
        if "result" not in document:
            raise self._misbehaved("its answer holds no result")
        return document["result"]

    def stream(self, method: str, params: Mapping[str, object] | None = None, wait_s: float = 60.0) -> Iterator[object]:
        """Ask for a stream and yield its items as they come; each may take up to `wait_s`.

        Who stops before the end closes the client: what is still coming would be taken for the next answer.
        """
        request_id = self._send(method, params)
        while True:
            document = self._receive(request_id, wait_s)
            if document.get("end") is True:
                return
            if "item" not in document:
                raise self._misbehaved("its stream holds what is no item")
            yield document["item"]

    def _send(self, method: str, params: Mapping[str, object] | None) -> int:
        self._last_id += 1
        request = frames.Request(self._last_id, method, dict(params or {}))
        frame = frames.encode(request.to_json(), frames.REQUEST_BYTES_MAX)
        self._socket.settimeout(self._answer_s)
        try:
            self._socket.sendall(frame)
        except TimeoutError:
            raise self._silent() from None
        except OSError:
            # A daemon that refuses the client says so before it hangs up, and what it said waits to be read.
            self._receive(self._last_id)
            raise self._hung_up() from None
        return self._last_id

    def _receive(self, request_id: int, wait_s: float | None = None) -> dict[str, object]:
        deadline = time.monotonic() + (self._answer_s if wait_s is None else wait_s)
        try:
            size = frames.body_bytes(self._read(frames.HEADER_BYTES, deadline), frames.ANSWER_BYTES_MAX)
            document = frames.decode(self._read(size, deadline))
        except TimeoutError:
            raise self._silent() from None
        except OSError:
            raise self._hung_up() from None
        except RequestRefused as problem:
            raise self._misbehaved(problem.message) from problem
        frames.check_version(document.get("v"))
        answered = frames.id_of(document)
        error = document.get("error")
        if isinstance(error, dict) and answered in (None, request_id):
            raise RequestRefused(*(str(error.get(key, "")) for key in ("code", "message", "remedy")))
        if answered != request_id:
            raise self._misbehaved("it answers what was not asked")
        return document

    def _read(self, size_bytes: int, deadline: float) -> bytes:
        parts: list[bytes] = []
        while size_bytes:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            part = self._socket.recv(min(size_bytes, 1 << 16))
            if not part:
                raise ConnectionResetError
            parts.append(part)
            size_bytes -= len(part)
        return b"".join(parts)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except DocumentMismatch as mismatch:
            raise self._misbehaved(str(mismatch)) from mismatch

    def _silent(self) -> DaemonSilent:
        return DaemonSilent(f"the daemon of gateway {self._gateway} does not answer", "look at its log")

    def _hung_up(self) -> DaemonSilent:
        return DaemonSilent(f"the daemon of gateway {self._gateway} hung up", "it may have been stopped; try again")

    def _misbehaved(self, problem: str) -> DaemonMisbehaved:
        return DaemonMisbehaved(
            f"what answers on {self._path} is not our daemon, or of another release: {problem}",
            "restart the daemon after an upgrade",
        )


def _connect(path: Path, gateway: str, wait_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    deadline = time.monotonic() + wait_s
    try:
        connection.setblocking(False)
        while True:
            try:
                connection.connect(str(path))
            except BlockingIOError:
                # The daemon's backlog is full (unix(7)): it lives and is busy.
                if time.monotonic() >= deadline:
                    raise DaemonSilent(f"the daemon of gateway {gateway} is too busy", "try again") from None
                time.sleep(_POLL_S)
            else:
                return connection
    except BaseException as problem:
        connection.close()
        if isinstance(problem, OSError):
            raise _unreachable(path, gateway, problem) from None
        raise


def _unreachable(path: Path, gateway: str, problem: OSError) -> ControlError:
    match problem:
        case PermissionError():
            return AccessDenied(
                f"you may not speak to the daemon of gateway {gateway}",
                f"use sudo, or become a member of the group that owns {path}",
            )
        case FileNotFoundError() | ConnectionRefusedError():
            is_left_over = isinstance(problem, ConnectionRefusedError)
            option = "" if gateway == GATEWAY_DEFAULT else f" --gateway {gateway}"
            others = [other for other in gateways_here() if other != gateway and _is_alive(other)]
            running = f"; gateways that run here: {', '.join(others)}" if others else ""
            return DaemonAbsent(
                f"no daemon runs for gateway {gateway}" + (" any more" if is_left_over else ""),
                f"start it with `throughway up --inside IF --outside IF{option}`{running}",
            )
        case _:
            return DaemonAbsent(f"{path} cannot be reached ({problem.strerror})", "look at what lies there")


def _is_alive(gateway: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(socket_path(gateway)))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
        return True


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


def _given(params: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in params.items() if value is not None}
