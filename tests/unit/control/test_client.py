"""The faces' end of the control socket: what it says when things go wrong."""

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.control.serving import ESP, LIMIT_S, STATUS, Gateway, serving
from tests.unit.control.test_server import Ticker
from throughway.control.client import ControlClient, choose_gateway
from throughway.control.errors import (
    AccessDenied,
    ControlError,
    DaemonAbsent,
    DaemonMisbehaved,
    DaemonSilent,
    RequestRefused,
)
from throughway.control.paths import GatewayNameRejected, gateways_here, socket_path


@pytest.fixture(autouse=True)
def runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THROUGHWAY_RUNTIME_DIRECTORY", str(tmp_path))
    return tmp_path


def test_status_is_what_the_daemon_says() -> None:
    with serving(socket_path("default")), ControlClient.of_gateway("default") as client:
        assert client.status() == replace(STATUS, sessions=1)


def test_sessions_are_walked_page_by_page() -> None:
    rows = tuple(replace(ESP, id=str(number)) for number in range(7))
    gateway = Gateway(rows)
    gateway.page = 3
    with serving(socket_path("default"), gateway=gateway), ControlClient.of_gateway("default") as client:
        assert tuple(client.sessions()) == rows


def test_down_returns_when_the_socket_is_gone() -> None:
    with serving(socket_path("default")) as gateway, ControlClient.of_gateway("default") as client:
        client.down(keep=True)
        assert not socket_path("default").exists()
        assert gateway.asked_to_keep is True


def test_down_does_not_wait_for_ever() -> None:
    async def promise(_: dict[str, object]) -> object:
        return {}

    with (
        serving(socket_path("default"), {"down": promise}),
        ControlClient.of_gateway("default") as client,
        pytest.raises(DaemonSilent, match=r"promised to stop and did not within 0\.1 s"),
    ):
        client.down(wait_s=0.1)


def test_a_stream_is_yielded_item_by_item() -> None:
    with serving(socket_path("default"), Ticker(end=3).methods()), ControlClient.of_gateway("default") as client:
        assert list(client.stream("ticks")) == [0, 1, 2]
        assert list(client.stream("ticks")) == [0, 1, 2]


def test_no_daemon_names_the_command_that_starts_one() -> None:
    with pytest.raises(DaemonAbsent) as caught:
        ControlClient.of_gateway("lab")
    assert caught.value.message == "no daemon runs for gateway lab"
    assert caught.value.remedy == "start it with `throughway up --inside IF --outside IF --gateway lab`"


def test_no_daemon_names_the_gateways_that_run_here() -> None:
    with serving(socket_path("office")), pytest.raises(DaemonAbsent) as caught:
        ControlClient.of_gateway("default")
    assert caught.value.remedy == (
        "start it with `throughway up --inside IF --outside IF`; gateways that run here: office"
    )


def test_a_socket_that_a_killed_daemon_left_is_no_daemon() -> None:
    _leave_a_socket("default")
    with pytest.raises(DaemonAbsent, match="no daemon runs for gateway default any more"):
        ControlClient.of_gateway("default")


def test_the_only_gateway_is_meant_when_none_is_named() -> None:
    assert choose_gateway() == "default"
    with serving(socket_path("office")):
        assert choose_gateway() == "office"
        assert choose_gateway("lab") == "lab"
        _leave_a_socket("killed")
        assert gateways_here() == ["killed", "office"]
        assert choose_gateway() == "office"
        with serving(socket_path("attic")), pytest.raises(DaemonAbsent) as caught:
            choose_gateway()
    assert caught.value.message == "2 gateways run here: attic, office"
    assert "--gateway" in caught.value.remedy


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-x", "x" * 64, "ä", "a\n"])
def test_a_gateway_name_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(GatewayNameRejected):
        socket_path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_connect_is_told_to_use_sudo(runtime_directory: Path) -> None:
    for folder in (runtime_directory, *runtime_directory.parents[:2]):
        folder.chmod(0o755)
    with serving(socket_path("default")), _as_nobody(), pytest.raises(AccessDenied, match="use sudo"):
        ControlClient.of_gateway("default")


@contextmanager
def _as_nobody() -> Iterator[None]:
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def test_what_the_daemon_refuses_is_raised_with_its_words() -> None:
    with (
        serving(socket_path("default")),
        ControlClient.of_gateway("default") as client,
        pytest.raises(RequestRefused) as caught,
    ):
        client.request("fly")
    assert (caught.value.code, caught.value.remedy) == (
        "method",
        "its methods are down, events, session, sessions, status",
    )


def _frame(document: object) -> bytes:
    body = json.dumps(document).encode()
    return struct.pack("!I", len(body)) + body


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (b"", DaemonSilent, "hung up"),
        (b"\x00\x00", DaemonSilent, "hung up"),
        (b"HTTP/1.1 400 Bad Request", DaemonMisbehaved, "bytes and the limit is"),
        (_frame([1]), DaemonMisbehaved, "not an object"),
        (_frame({"v": 1, "id": 9, "result": {}}), DaemonMisbehaved, "what was not asked"),
        (_frame({"v": 1, "id": 1}), DaemonMisbehaved, "no result"),
        (_frame({"v": 1, "id": 1, "result": []}), DaemonMisbehaved, "status must be an object"),
        (_frame({"v": 2, "id": 1, "result": {}}), RequestRefused, "speaks version 1 .* the other 2"),
        (
            _frame({"v": 1, "id": None, "error": {"code": "busy", "message": "32 clients"}}),
            RequestRefused,
            "32 clients",
        ),
    ],
)
def test_what_is_no_answer_of_ours_is_named(reply: bytes, error: type[ControlError], words: str) -> None:
    path = socket_path("default")
    with _replying(path, reply), ControlClient(path, "default") as client, pytest.raises(error, match=words):
        client.status()


def test_a_daemon_that_says_nothing_is_given_up() -> None:
    path = socket_path("default")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with ControlClient(path, "default", answer_s=0.05) as client, pytest.raises(DaemonSilent, match="not answer"):
            client.status()


@contextmanager
def _replying(path: Path, reply: bytes) -> Iterator[None]:
    def answer() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(1 << 16)
            client.sendall(reply)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join(LIMIT_S)


def _leave_a_socket(gateway: str) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(socket_path(gateway)))
