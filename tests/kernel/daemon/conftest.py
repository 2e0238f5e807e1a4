"""Fixtures: the network, its ends, and daemons that do not outlive their test."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.bpf_plane.net import Network
from tests.kernel.daemon.net import Ends, network
from tests.kernel.daemon.process import SOURCE, Daemon
from throughway.control.paths import RUNTIME_DIRECTORY_VARIABLE, STATE_DIRECTORY_VARIABLE


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as built:
        yield built


@pytest.fixture
def ends(net: Network) -> Iterator[Ends]:
    with contextlib.closing(Ends(net)) as made:
        yield made


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the daemons of this test have their sockets and notes, and in `state` what they remember."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setenv(RUNTIME_DIRECTORY_VARIABLE, str(folder))
    monkeypatch.setenv(STATE_DIRECTORY_VARIABLE, str(folder / "state"))
    return folder


MakeDaemon = Callable[..., Daemon]


@pytest.fixture
def make_daemon(net: Network, run_folder: Path, tmp_path: Path) -> Iterator[MakeDaemon]:
    """Makes daemons that are ended with the test; each has its log."""
    made: list[Daemon] = []

    def make(gateway: str = "default", source: Path = SOURCE) -> Daemon:
        daemon = Daemon(net, tmp_path / f"{len(made)}.log", gateway, source)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.kill()


@pytest.fixture
def daemon(make_daemon: MakeDaemon) -> Daemon:
    return make_daemon()
