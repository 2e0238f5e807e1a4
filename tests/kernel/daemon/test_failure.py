"""A fault that nobody foresaw: the daemon says so and ends, known tunnels go on, and the next start adopts them."""

import shutil
from pathlib import Path

import pytest

from tests.kernel.bpf_plane.net import Network
from tests.kernel.daemon.conftest import MakeDaemon
from tests.kernel.daemon.net import (
    ALICE,
    BOB,
    IKE_PORT,
    PEER,
    SA_INIT,
    Ends,
    ike_message,
    pins,
    programs,
    tables,
    wait_for,
)
from tests.kernel.daemon.process import BOTH, SOURCE

PLANTED = "raise RuntimeError('planted')"


def plant(folder: Path, file: str, line: str) -> Path:
    """Copy the product with one line of it replaced by a fault."""
    shutil.copytree(SOURCE / "throughway", folder / "throughway", ignore=shutil.ignore_patterns("*.pyc"))
    path = folder / "throughway" / file
    text = path.read_text()
    assert text.count(line) == 1
    path.write_text(text.replace(line, PLANTED))
    return folder


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("service/hearing.py", "header = ike.parse(report.message)"),
        ("service/daemon.py", "self._teller.tell_kept_back()"),
    ],
    ids=["while packets are read", "in a task"],
)
def test_tunnels_go_on_behind_a_daemon_that_failed(
    file: str, line: str, make_daemon: MakeDaemon, net: Network, ends: Ends, run_folder: Path, tmp_path: Path
) -> None:
    first = make_daemon().up()
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 4))
    assert first.down(keep=True) == 0

    failing = make_daemon(source=plant(tmp_path / "src", file, line))
    failing.run(*BOTH)

    def has_ended() -> bool:
        ends.ike[BOB].socket.sendto(ike_message(0xB1, SA_INIT, 0), (str(PEER), IKE_PORT))
        return failing.process is not None and failing.process.poll() is not None

    wait_for("the daemon ends", has_ended)
    assert failing.wait() == 1
    assert len(failing.lines("daemon.failed")) == 1
    assert failing.says("RuntimeError: planted")
    assert "kept=True" in failing.lines("gateway.stopped")[0]
    assert [file.name for file in run_folder.iterdir()] == ["default.restore.json"]
    ends.both_ways(ALICE, 0x1001, 0x2001, range(4, 8))

    third = make_daemon().up()
    assert third.sessions()[str(ALICE)].packets_to_peer == 7
    assert third.terminate() == 0
    assert (tables(net), programs(net), pins(net), list(run_folder.iterdir())) == ([], 0, [], [])
