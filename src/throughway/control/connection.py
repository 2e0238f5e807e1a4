"""One client of the control socket, from its first byte to its last."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from throughway.control import frames
from throughway.control.errors import ErrorCode, RequestRefused
from throughway.control.reading import DocumentMismatch

Answer: TypeAlias = Awaitable[object] | AsyncIterator[object]
"""One result, or the items of a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlLimits:
    """Bounds of what clients can make the daemon keep and wait for. Times are in seconds."""

    clients_max: int = 32
    requests_waiting_max: int = 8
    """Unanswered requests of one client; one that sends more is disconnected."""

    request_s: float = 10.0
    """From the first byte of a request to its last."""

    idle_s: float = 600.0
    """Between an answer and the next request. A face that stays connected asks far more often."""

    method_s: float = 10.0
    """For one answer, or for ending a stream."""

    send_s: float = 10.0
    """For the client to take an answer, or one item of a stream."""

    close_s: float = 1.0
    """For the client to take the last answer, when the conversation or the daemon ends."""

    unsent_bytes_max: int = 64 << 10
    """What may wait in the daemon for the client to take before the next frame is made."""


class _Disconnect(Exception):
    """The conversation cannot go on; the client has been told, or does not listen."""


class Connection:
    """Answer the requests of one client in order, until it hangs up or breaks a rule."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Callable[[frames.Request], Answer],
        limits: ControlLimits,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._limits = limits
        self._waiting: asyncio.Queue[bytes | RequestRefused | None] = asyncio.Queue()
        self._hung_up = asyncio.Event()
        self._log = structlog.get_logger()
        writer.transport.set_write_buffer_limits(high=limits.unsent_bytes_max)

    async def run(self) -> None:
        """Converse to the end, and close. Raises nothing for any bytes that the client sends, or its vanishing."""
        reading = asyncio.create_task(self._read_ahead(), name="control.reader")
        try:
            await self._answer_in_order()
        except (_Disconnect, TimeoutError):
            # Not flushed: the client had its time, and what it did not take is dropped.
            self._writer.transport.abort()
        finally:
            reading.cancel()
            try:
                await asyncio.gather(reading, return_exceptions=True)
            finally:
                await self._close()

    async def _answer_in_order(self) -> None:
        while True:
            async with asyncio.timeout(self._limits.idle_s):
                received = await self._waiting.get()
            if received is None:
                return
            if isinstance(received, RequestRefused):
                await self._send(frames.refusal(None, received))
                return
            await self._answer_one(received)

    async def _read_ahead(self) -> None:
        """Queue the requests; then None when the client hung up, or the refusal that ends the conversation."""
        last: RequestRefused | None = None
        try:
            while (body := await self._read_request()) is not None:
                if self._waiting.qsize() >= self._limits.requests_waiting_max:
                    raise RequestRefused(
                        ErrorCode.BUSY,
                        f"more than {self._limits.requests_waiting_max} requests wait on this connection",
                        "read the answers before asking on",
                    )
                self._waiting.put_nowait(body)
        except RequestRefused as refused:
            last = refused
        except OSError:
            self._log.debug("control.client_lost")
        self._hung_up.set()
        self._waiting.put_nowait(last)

    async def _read_request(self) -> bytes | None:
        first = await self._reader.read(1)
        if not first:
            return None
        try:
            async with asyncio.timeout(self._limits.request_s):
                header = first + await self._reader.readexactly(frames.HEADER_BYTES - 1)
                return await self._reader.readexactly(frames.body_bytes(header, frames.REQUEST_BYTES_MAX))
        except TimeoutError:
            raise RequestRefused(ErrorCode.TIMEOUT, "the request did not come whole in time", "send it again") from None
        except asyncio.IncompleteReadError:
            raise frames.malformed("the connection ended inside a request") from None

    async def _answer_one(self, body: bytes) -> None:
        request_id: int | None = None
        try:
            document = frames.decode(body)
            request_id = frames.id_of(document)
            request = frames.Request.from_json(document)
            answer = self._answer(request)
            if isinstance(answer, AsyncIterator):
                return await self._send_stream(request.id, answer)
            return await self._send(frames.answer(request.id, await self._in_time(answer)))
        except _Disconnect:
            raise
        except RequestRefused as problem:
            refused = problem
        except DocumentMismatch as problem:
            refused = RequestRefused(ErrorCode.PARAMS, str(problem), "leave out what the method does not take")
        except Exception:
            self._log.exception("control.method_failed", id=request_id)
            refused = RequestRefused(ErrorCode.INTERNAL, "the daemon failed over this request", "its log says more")
        await self._send(frames.refusal(request_id, refused))

    async def _in_time(self, result: Awaitable[object]) -> object:
        # Not wait_for: the answer to `down` must be on its way before the task that stops us runs.
        try:
            async with asyncio.timeout(self._limits.method_s) as limit:
                return await result
        except TimeoutError:
            if not limit.expired():
                raise
            raise RequestRefused(ErrorCode.TIMEOUT, "the daemon found no answer in time", "try again") from None

    async def _send_stream(self, request_id: int, items: AsyncIterator[object]) -> None:
        hung_up = asyncio.create_task(self._hung_up.wait(), name="control.hang_up")
        coming: asyncio.Task[object] | None = None
        try:
            while True:
                coming = asyncio.create_task(_next_of(items), name="control.item")
                await asyncio.wait({coming, hung_up}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    return
                item = coming.result()
                if item is _END:
                    return await self._send(frames.stream_end(request_id))
                await self._send(frames.stream_item(request_id, item))
        finally:
            await self._end_stream(items, [task for task in (coming, hung_up) if task is not None])

    async def _end_stream(self, items: AsyncIterator[object], tasks: list[asyncio.Task[object]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        close = getattr(items, "aclose", None)
        if close is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.method_s):
                    await close()

    async def _send(self, document: Mapping[str, object]) -> None:
        frame = frames.encode(document, frames.ANSWER_BYTES_MAX)
        try:
            async with asyncio.timeout(self._limits.send_s):
                self._writer.write(frame)
                await self._writer.drain()
        except TimeoutError:
            self._log.info("control.client_too_slow")
            raise _Disconnect from None
        except OSError:
            raise _Disconnect from None

    async def _close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(self._limits.close_s):
                await self._writer.wait_closed()
        except OSError:
            # TimeoutError is one too: what the client did not take by now is dropped.
            self._writer.transport.abort()


_END = object()


async def _next_of(items: AsyncIterator[object]) -> object:
    try:
        return await anext(items)
    except StopAsyncIteration:
        return _END
