"""The daemon's end of the control socket: who may ask, and how much.

One task accepts; each client has one task, which answers its requests in order, and under it one
that reads them ahead, so that a client that hangs up is noticed while a stream is silent. All that
a client can make the daemon keep is bounded by ControlLimits; the bytes of a client never end more
than its own connection.
"""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import structlog

from throughway.control import frames
from throughway.control.claim import claimed_socket, group_of_socket
from throughway.control.connection import Connection, ControlLimits
from throughway.control.errors import ErrorCode, RequestRefused

Params: TypeAlias = dict[str, object]

Query: TypeAlias = Callable[[Params], Awaitable[object]]
"""A method with one answer: JSON, or a document of `schema`."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A method with many answers, each an item; it ends with its iterator or when the client hangs up."""

    items: Callable[[Params], AsyncIterator[object]]


Method: TypeAlias = Query | Stream
"""Raises RequestRefused or `schema.DocumentMismatch` where the client is to blame."""

_PEER_CREDENTIALS: Final = struct.Struct("3i")
_PEER_GROUPS: Final = 59
"""SO_PEERGROUPS of the kernel's asm-generic/socket.h, since Linux 4.13; Python has no name for it."""
_PEER_GROUPS_BYTES_MAX: Final = 1024

_ACCEPT_AGAIN_S: Final = 0.2

log = structlog.get_logger()


class ControlServer:
    """Answer the clients of one gateway's socket.

    `methods` maps names to what answers them. Start-up order matters to the daemon: `claimed` is
    the moment at which a second daemon is refused, so it comes before the kernel is touched, and
    its end, which removes the socket, comes after all else is undone.
    """

    def __init__(self, path: Path, methods: Mapping[str, Method], limits: ControlLimits | None = None) -> None:
        self._path = path
        self._methods = dict(methods)
        self._limits = limits or ControlLimits()
        self._listener: socket.socket | None = None
        self._clients = 0
        self._group = -1

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the socket for the time of the block; clients that come before `serve` wait.

        Raises SettingsRejected when a living daemon has the name of this gateway.
        """
        with claimed_socket(self._path) as listener:
            self._listener = listener
            self._group = group_of_socket()
            try:
                yield
            finally:
                self._listener = None

    async def serve(self) -> None:
        """Answer until cancelled. Claims the socket for that time unless `claimed` does so already."""
        if self._listener is None:
            with self.claimed():
                return await self.serve()
        listener = self._listener
        try:
            async with asyncio.TaskGroup() as clients:
                while True:
                    await _readable(listener)
                    client = await self._accept(listener)
                    if client is not None and self._may_enter(client):
                        self._converse_in(clients, client)
        finally:
            # From here on clients are told at once that nobody answers, even while `claimed` goes on.
            listener.close()

    async def _accept(self, listener: socket.socket) -> socket.socket | None:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return None
        except OSError as problem:
            # Out of descriptors or memory: the clients wait in the backlog meanwhile.
            log.warning("control.accept_failed", errno=errno.errorcode.get(problem.errno or 0, problem.errno))
            await asyncio.sleep(_ACCEPT_AGAIN_S)
            return None
        client.setblocking(False)
        return client

    def _may_enter(self, client: socket.socket) -> bool:
        refused = None
        if not _is_allowed(client, self._group):
            refused = RequestRefused(
                ErrorCode.FORBIDDEN, "only root and the group of the socket may speak to the daemon", "use sudo"
            )
        elif self._clients >= self._limits.clients_max:
            refused = RequestRefused(
                ErrorCode.BUSY, f"{self._clients} clients speak to the daemon already", "close one and try again"
            )
        if refused is None:
            return True
        log.info("control.client_refused", code=refused.code)
        try:
            client.send(frames.encode(frames.refusal(None, refused), frames.ANSWER_BYTES_MAX))
        except OSError:
            log.debug("control.refusal_unread", code=refused.code)
        client.close()
        return False

    def _converse_in(self, clients: asyncio.TaskGroup, client: socket.socket) -> None:
        def forget(_: asyncio.Task[None]) -> None:
            # Also after a conversation that was cancelled before it began, whose socket nobody else closes.
            client.close()
            self._clients -= 1

        self._clients += 1
        clients.create_task(self._converse(client), name="control.client").add_done_callback(forget)

    async def _converse(self, client: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(sock=client)
            await Connection(reader, writer, self._answer, self._limits).run()
        except Exception:
            log.exception("control.client_failed")

    def _answer(self, request: frames.Request) -> Awaitable[object] | AsyncIterator[object]:
        method = self._methods.get(request.method)
        if method is None:
            raise RequestRefused(
                ErrorCode.METHOD,
                f"the daemon has no method {frames.quoted(request.method)}",
                f"its methods are {', '.join(sorted(self._methods))}",
            )
        return method.items(request.params) if isinstance(method, Stream) else method(request.params)


async def _readable(listener: socket.socket) -> None:
    # Not sock_accept, which loses the client that it accepted when it is cancelled in that moment.
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(listener, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(listener)


def _is_allowed(client: socket.socket, group: int) -> bool:
    """Whether the other end is root, this process's own user, or a member of the group (unix(7), SO_PEERCRED)."""
    try:
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        _, user, primary_group = _PEER_CREDENTIALS.unpack(credentials)
        if user in (0, os.geteuid()) or primary_group == group:
            return True
        groups = client.getsockopt(socket.SOL_SOCKET, _PEER_GROUPS, _PEER_GROUPS_BYTES_MAX)
    except OSError:
        return False
    return group in struct.unpack(f"{len(groups) // 4}I", groups)
