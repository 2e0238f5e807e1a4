"""Transfers: sizes as people write them, what the program says, and the program itself over loopback."""

import socket
import struct
import subprocess
import sys
import threading
from hashlib import sha256

import pytest

from throughway.core.errors import SettingsRejected
from throughway.lab.transfer import PROGRAM, Transfer, found, size_of

SIZE = 300_000


@pytest.mark.parametrize(
    ("text", "size"),
    [("500", 500), ("500k", 500_000), ("10MB", 10_000_000), ("10 MB", 10_000_000), ("4MiB", 4 << 20), ("1GB", 10**9)],
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "10TB", "MB", "1.5MB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SettingsRejected) as refused:
        size_of(text)
    assert refused.value.key == "--transfer"


def test_the_last_line_counts() -> None:
    assert found("moved 10 0\nmoved 20 5\n") == Transfer(20, 5, intact=False)
    assert found("moved 10 0\nended 20 20 intact\n") == Transfer(20, 20, intact=True)
    assert found("failed timed out\nended 20 7 damaged\n") == Transfer(20, 7, intact=False)
    assert found("no such file\n") == Transfer(0, 0, intact=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def connect(port: int) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-S", str(PROGRAM), "connect", "127.0.0.1", str(port), str(SIZE), "127.0.0.1"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_all_that_went_both_ways_is_compared() -> None:
    port = free_port()
    argv = [sys.executable, "-I", "-S", str(PROGRAM), "serve", str(port)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        done = connect(port)
        server.kill()
    assert done.returncode == 0
    assert found(done.stdout) == Transfer(SIZE, SIZE, intact=True)


@pytest.mark.parametrize("fault", ["digest", "content", "short"])
def test_what_came_damaged_or_short_is_not_intact(fault: str) -> None:
    """The peer here takes all, and answers with one fault."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=answer_wrongly, args=(listener, fault))
        answering.start()
        done = connect(listener.getsockname()[1])
        answering.join()
    assert done.returncode == 1
    told = found(done.stdout)
    assert not told.intact
    assert told.bytes_to_peer == SIZE
    assert told.bytes_to_inside == (SIZE // 2 if fault == "short" else SIZE)


def answer_wrongly(listener: socket.socket, fault: str) -> None:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as got:
        (size,) = struct.unpack("!Q", got.read(8))
        digest = sha256(got.read(size)).digest()
        connection.sendall(bytes(32) if fault == "digest" else digest)
        content = bytes(size)
        if fault == "short":
            connection.sendall(content[: size // 2])
            return
        connection.sendall(content)
        connection.sendall(bytes(32) if fault == "content" else sha256(content).digest())


def test_nobody_there_is_told_at_once() -> None:
    done = connect(free_port())
    assert done.returncode == 1
    assert found(done.stdout) == Transfer(0, 0, intact=False)
