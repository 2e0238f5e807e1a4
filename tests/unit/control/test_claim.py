"""Who owns the name of a gateway."""

import multiprocessing
import os
import socket
import stat
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from throughway.control.claim import claimed_socket
from throughway.core.errors import SettingsRejected


def test_the_socket_is_there_for_the_time_of_the_claim_and_nothing_after(tmp_path: Path) -> None:
    path = tmp_path / "run" / "default.sock"
    with claimed_socket(path):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert list(path.parent.iterdir()) == []


def test_a_second_daemon_is_refused_and_the_first_keeps_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "default.sock"
    with claimed_socket(path):
        inode = path.stat().st_ino
        with pytest.raises(SettingsRejected, match="already runs for gateway default"), claimed_socket(path):
            pass
        assert path.stat().st_ino == inode
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_what_a_killed_daemon_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "default.sock"
    ours, theirs = multiprocessing.Pipe()
    killed = multiprocessing.get_context("fork").Process(target=_claim_until_killed, args=(path, theirs))
    killed.start()
    assert ours.poll(10)
    killed.kill()
    killed.join(10)
    assert path.exists()
    with claimed_socket(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert list(tmp_path.iterdir()) == []


def test_a_socket_that_somebody_answers_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "default.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(SettingsRejected, match="already runs"), claimed_socket(path):
            pass
        assert path.exists()
    assert not path.with_name("default.sock.lock").exists()


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "default.sock"
    path.write_text("mine")
    with pytest.raises(SettingsRejected, match="is no socket"), claimed_socket(path):
        pass
    assert path.read_text() == "mine"


def _claim_until_killed(path: Path, ready: Connection) -> None:
    with claimed_socket(path):
        ready.send(True)
        os.read(os.pipe()[0], 1)
