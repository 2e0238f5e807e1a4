"""The daemon's end of the control socket, over a real one."""

import asyncio
import json
import os
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.control.serving import LIMIT_S, serving
from throughway.control.client import ControlClient
from throughway.control.connection import ControlLimits
from throughway.control.errors import RequestRefused
from throughway.control.frames import REQUEST_BYTES_MAX
from throughway.control.server import ControlServer, Method, Params, Stream
from throughway.core.errors import SettingsRejected

STATUS_REQUEST = {"v": 1, "id": 1, "method": "status", "params": {}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "default.sock"


class Wire:
    """A client that knows only bytes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT_S)
        self.socket.connect(str(path))

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *documents: dict[str, object]) -> None:
        bodies = [json.dumps(document).encode() for document in documents]
        with suppress(BrokenPipeError):
            # A daemon that refuses a client says so and hangs up, perhaps before we spoke.
            self.socket.sendall(b"".join(struct.pack("!I", len(body)) + body for body in bodies))

    def receive(self) -> dict[str, Any]:
        (size,) = struct.unpack("!I", self._read(4))
        document: dict[str, Any] = json.loads(self._read(size))
        return document

    def is_hung_up(self) -> bool:
        """Whether the daemon says no more. An end with bytes of ours unread is a reset (unix(7))."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, f"hung up after {data!r}"
            data += part
        return data


def test_requests_are_answered_in_order_on_one_connection(path: Path) -> None:
    with serving(path), Wire(path) as wire:
        wire.send(*({**STATUS_REQUEST, "id": number} for number in range(1, 9)))
        answers = [wire.receive() for _ in range(8)]
    assert [answer["id"] for answer in answers] == list(range(1, 9))
    assert all(answer["v"] == 1 and answer["result"]["gateway"] == "default" for answer in answers)


def test_a_client_that_closes_its_side_still_gets_its_answers(path: Path) -> None:
    with serving(path), Wire(path) as wire:
        wire.send(STATUS_REQUEST, {**STATUS_REQUEST, "id": 2})
        wire.socket.shutdown(socket.SHUT_WR)
        assert [wire.receive()["id"], wire.receive()["id"]] == [1, 2]
        assert wire.is_hung_up()


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        ({"v": 2, "id": 1, "method": "status"}, "version", "speaks version 1 of the control protocol, the other 2"),
        ({"v": 1, "id": 1, "method": "stat\x1b[2Jus"}, "method", "no method 'stat\\x1b[2Jus'"),
        ({"v": 1, "id": 1, "method": "status", "params": {"all": 1}}, "params", "takes nothing, and not 'all'"),
        ({"v": 1, "id": 1, "method": "sessions", "params": {"limit": 0}}, "params", "limit must be from 1 to 500"),
        ({"v": 1, "id": 1, "method": "sessions", "params": {"after": "\ud800"}}, "params", "no cursor"),
        ({"v": 1, "id": 1, "method": 3}, "malformed", "method must be a string"),
    ],
)
def test_what_cannot_be_answered_is_refused_and_the_conversation_goes_on(
    path: Path, request_: dict[str, object], code: str, words: str
) -> None:
    with serving(path), Wire(path) as wire:
        wire.send(request_)
        refused = wire.receive()
        assert refused["id"] == 1
        assert refused["error"]["code"] == code
        assert words in refused["error"]["message"]
        assert refused["error"]["remedy"]
        wire.send(STATUS_REQUEST)
        assert "result" in wire.receive()


def test_a_frame_beyond_the_limit_is_refused_and_ends_the_conversation(path: Path) -> None:
    with serving(path), Wire(path) as wire:
        wire.socket.sendall(struct.pack("!I", REQUEST_BYTES_MAX + 1) + b"x" * 100)
        refused = wire.receive()
        assert (refused["id"], refused["error"]["code"]) == (None, "too-large")
        assert wire.is_hung_up()


def test_the_largest_frame_is_read(path: Path) -> None:
    with serving(path), Wire(path) as wire:
        body = json.dumps(STATUS_REQUEST).encode().ljust(REQUEST_BYTES_MAX)
        wire.socket.sendall(struct.pack("!I", len(body)) + body)
        assert "result" in wire.receive()


def test_a_frame_that_does_not_come_whole_is_refused(path: Path) -> None:
    with serving(path, limits=ControlLimits(request_s=0.05)), Wire(path) as wire:
        wire.socket.sendall(struct.pack("!I", 10) + b"{")
        assert wire.receive()["error"]["code"] == "timeout"
        assert wire.is_hung_up()


def test_a_connection_that_ends_inside_a_frame_is_told_so(path: Path) -> None:
    with serving(path), Wire(path) as wire:
        wire.socket.sendall(struct.pack("!I", 10) + b"{")
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.receive()["error"]["code"] == "malformed"


def test_a_silent_client_is_disconnected(path: Path) -> None:
    with serving(path, limits=ControlLimits(idle_s=0.05)), Wire(path) as wire:
        assert wire.is_hung_up()


def test_clients_beyond_the_bound_are_told_so_and_the_others_go_on(path: Path) -> None:
    with serving(path, limits=ControlLimits(clients_max=2)):
        with Wire(path) as first, Wire(path) as second:
            for wire in (first, second):
                wire.send(STATUS_REQUEST)
                wire.receive()
            with Wire(path) as third:
                assert third.receive()["error"]["code"] == "busy"
                assert third.is_hung_up()
            first.send(STATUS_REQUEST)
            assert "result" in first.receive()
        assert _is_true_within(LIMIT_S, lambda: _is_welcome(path))


def test_more_requests_than_may_wait_end_the_conversation(path: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    async def slow(_: Params) -> object:
        entered.set()
        await asyncio.to_thread(release.wait, LIMIT_S)
        return {}

    with serving(path, {"slow": slow}, ControlLimits(requests_waiting_max=2)), Wire(path) as wire:
        wire.send({"v": 1, "id": 1, "method": "slow"})
        assert entered.wait(LIMIT_S)
        wire.send(*({"v": 1, "id": number, "method": "slow"} for number in range(2, 6)))
        release.set()
        assert [wire.receive().get("id") for _ in range(4)] == [1, 2, 3, None]
        assert wire.is_hung_up()


def test_a_method_that_fails_is_an_error_of_ours_and_ends_nothing(path: Path) -> None:
    failures: list[Callable[[], object]] = [
        lambda: 1 // 0, lambda: open("/nonexistent"), lambda: float("nan"), object, lambda: "x" * (5 << 20)  # noqa: SIM115, PTH123
    ]  # fmt: skip

    async def fail(params: Params) -> object:
        which = params["which"]
        assert isinstance(which, int)
        return failures[which]()

    with serving(path, {"fail": fail}), Wire(path) as wire:
        wire.send(*({"v": 1, "id": which, "method": "fail", "params": {"which": which}} for which in range(5)))
        codes = [wire.receive()["error"]["code"] for _ in range(5)]
    assert codes == ["internal", "internal", "internal", "internal", "too-large"]


def test_a_method_that_hangs_is_given_up(path: Path) -> None:
    async def hang(_: Params) -> object:
        return await asyncio.Event().wait()

    with serving(path, {"hang": hang}, ControlLimits(method_s=0.05)), Wire(path) as wire:
        wire.send({"v": 1, "id": 1, "method": "hang"})
        assert wire.receive()["error"]["code"] == "timeout"


def test_the_answer_to_down_is_sent_before_the_daemon_stops(path: Path) -> None:
    with serving(path) as gateway, Wire(path) as wire:
        wire.send({"v": 1, "id": 1, "method": "down", "params": {"keep": True}})
        assert wire.receive() == {"v": 1, "id": 1, "result": {}}
        assert wire.is_hung_up()
        assert gateway.asked_to_keep is True


class Ticker:
    """A stream that counts, without end unless told, and knows when it was closed."""

    def __init__(self, end: int | None = None, item: str = "") -> None:
        self.end, self.item = end, item
        self.closed = threading.Event()

    def methods(self) -> dict[str, Method]:
        return {"ticks": Stream(self._ticks), "silence": Stream(self._silence)}

    async def _ticks(self, _: Params) -> AsyncIterator[object]:
        number = 0
        try:
            while number != self.end:
                yield self.item or number
                number += 1
                await asyncio.sleep(0)
        finally:
            self.closed.set()

    async def _silence(self, _: Params) -> AsyncIterator[object]:
        try:
            yield "the only one"
            await asyncio.Event().wait()
        finally:
            self.closed.set()


def test_a_stream_ends_with_its_iterator_and_the_conversation_goes_on(path: Path) -> None:
    with serving(path, Ticker(end=2).methods()), Wire(path) as wire:
        for number in (1, 2):
            wire.send({"v": 1, "id": number, "method": "ticks"})
            frames = [wire.receive() for _ in range(3)]
            assert [frame.get("item") for frame in frames] == [0, 1, None]
            assert frames[-1] == {"v": 1, "id": number, "end": True}


def test_a_silent_stream_is_closed_when_its_client_hangs_up(path: Path) -> None:
    ticker = Ticker()
    with serving(path, ticker.methods()):
        with Wire(path) as wire:
            wire.send({"v": 1, "id": 1, "method": "silence"})
            assert wire.receive()["item"] == "the only one"
        assert ticker.closed.wait(LIMIT_S)


def test_a_client_that_does_not_read_its_stream_is_disconnected(path: Path) -> None:
    ticker = Ticker(item="x" * 10_000)
    with serving(path, ticker.methods(), ControlLimits(send_s=0.05)), Wire(path) as wire:
        wire.send({"v": 1, "id": 1, "method": "ticks"})
        assert ticker.closed.wait(LIMIT_S)
        with pytest.raises((AssertionError, ConnectionResetError)):
            while True:
                wire.receive()


def test_serving_needs_no_claim_and_leaves_no_file(path: Path) -> None:
    async def status(params: Params) -> object:
        answered.set()
        return {}

    async def live() -> None:
        task = asyncio.create_task(ControlServer(path, {"status": status}).serve())
        async with asyncio.timeout(LIMIT_S):
            await asyncio.sleep(0)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(struct.pack("!I", len(body)) + body)
            await answered.wait()
        with pytest.raises(SettingsRejected, match="already runs for gateway default"):
            await ControlServer(path, {}).serve()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await reader.read() == b'\x00\x00\x00\x1a{"v":1,"id":1,"result":{}}'
        writer.close()

    answered = asyncio.Event()
    body = json.dumps(STATUS_REQUEST).encode()
    asyncio.run(live())
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("group", "further_groups", "is_allowed"), [(65534, [], False), (0, [], True), (65534, [12345, 0], True)]
)
def test_only_root_and_the_group_of_the_socket_may_enter(
    path: Path, group: int, further_groups: list[int], is_allowed: bool
) -> None:
    with serving(path):
        # Open to all in the file system, so that what is tested is what the daemon asks of the kernel.
        path.chmod(0o666)
        for folder in path.parents[:3]:
            folder.chmod(0o755)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgroups(further_groups)
            os.setgid(group)
            os.setuid(65534)
            try:
                with Wire(path) as wire:
                    wire.send(STATUS_REQUEST)
                    os.write(writing, wire.receive().get("error", {}).get("code", "allowed").encode())
            finally:
                os._exit(0)
        os.close(writing)
        heard = os.read(reading, 100).decode()
        os.close(reading)
        os.waitpid(child, 0)
    assert heard == ("allowed" if is_allowed else "forbidden")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("fuzz") / "default.sock"
    with serving(path, limits=ControlLimits(request_s=0.2, idle_s=0.2)):
        yield path


hostile = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@hostile
@given(st.binary(max_size=300))
def test_no_bytes_of_one_client_end_the_service_for_others(fuzzed: Path, data: bytes) -> None:
    _hurt(fuzzed, data)
    assert _answers_again(fuzzed)


@hostile
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "v": st.sampled_from([1, 2, None]),
                "id": st.integers() | st.text(max_size=3),
                "method": st.sampled_from(["status", "sessions"]) | st.text(max_size=5),
                "params": st.dictionaries(st.sampled_from(["after", "limit", "keep"]), st.integers() | st.text()),
            },
        ),
        max_size=8,
    )
)
def test_no_requests_of_one_client_end_the_service_for_others(fuzzed: Path, documents: list[dict[str, object]]) -> None:
    bodies = [json.dumps(document).encode() for document in documents]
    _hurt(fuzzed, b"".join(struct.pack("!I", len(body)) + body for body in bodies))
    assert _answers_again(fuzzed)


def _hurt(path: Path, data: bytes) -> None:
    with Wire(path) as wire:
        try:
            wire.socket.sendall(data)
            wire.socket.shutdown(socket.SHUT_WR)
            while wire.socket.recv(1 << 16):
                pass
        except (BrokenPipeError, ConnectionResetError):
            return


def _answers_again(path: Path) -> bool:
    with ControlClient(path, "default") as client:
        return client.status().gateway == "default"


def _is_welcome(path: Path) -> bool:
    try:
        return _answers_again(path)
    except RequestRefused as refused:
        assert refused.code == "busy"
        return False


def _is_true_within(limit_s: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if condition():
            return True
    return False
