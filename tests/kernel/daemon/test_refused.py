"""What a daemon cannot start with: it says why in a sentence, changes nothing, and ends with 1."""

from pathlib import Path

import pytest

from tests.kernel.bpf_plane.net import Network
from tests.kernel.daemon.conftest import MakeDaemon
from tests.kernel.daemon.net import batch, pins, programs, settings, tables
from tests.kernel.daemon.process import BOTH, INSIDES, Daemon


def refusal(daemon: Daemon, *options: str, user: int | None = None) -> str:
    """Run a daemon that is refused, and return the one line that it says."""
    daemon.run(*options, user=user)
    assert daemon.wait() == 1, daemon.said()
    [line] = daemon.said().splitlines()
    assert line.startswith("throughwayd: ")
    return line


def test_second_daemon_of_one_gateway_is_refused(make_daemon: MakeDaemon) -> None:
    first = make_daemon().up()
    line = refusal(make_daemon(), *BOTH)
    assert "a daemon already runs for gateway default" in line
    assert "throughway down --gateway default" in line
    assert first.status().outside == "out0"


@pytest.mark.parametrize("outside", ["out0", "out1"])
def test_second_gateway_in_one_namespace_is_refused(
    outside: str, make_daemon: MakeDaemon, net: Network, run_folder: Path
) -> None:
    """It would replace the rules of the first, whatever its outside interface is; the first one is named."""
    batch(net.router, "link add out1 type veth peer name out1b", "link set out1 up")
    first = make_daemon("office").up()
    there = sorted(run_folder.iterdir())
    line = refusal(make_daemon("home"), *INSIDES, "--outside", outside)
    assert "gateway office already works in this network namespace" in line
    assert "throughway down --gateway office" in line
    assert sorted(run_folder.iterdir()) == there
    assert len(pins(net)) == 1
    assert first.status().attached_by
    assert first.terminate() == 0


def test_gateway_that_was_killed_is_in_nobodys_way(make_daemon: MakeDaemon, net: Network) -> None:
    killed = make_daemon("office").up()
    killed.kill()
    second = make_daemon("home").up()
    assert second.terminate() == 0
    assert (tables(net), programs(net), pins(net)) == ([], 0, [])


@pytest.mark.parametrize(
    ("options", "key", "missing"),
    [
        ((*INSIDES, "--outside", "ppp7"), "--outside", "ppp7"),
        (("--inside", "in0", "--inside", "in9", "--outside", "out0"), "--inside", "in9"),
    ],
)
def test_missing_interface_names_those_that_exist(
    options: tuple[str, ...], key: str, missing: str, daemon: Daemon, net: Network
) -> None:
    line = refusal(daemon, *options)
    assert f"{key}: {missing} does not exist" in line
    assert "in0, in1, out0" in line
    assert (tables(net), programs(net), pins(net)) == ([], 0, [])
    assert set(settings(net).values()) == {"0"}


def test_other_users_are_told_that_it_needs_root(daemon: Daemon) -> None:
    assert "needs root" in refusal(daemon, *BOTH, user=65534)
