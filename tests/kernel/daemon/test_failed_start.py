"""A step of the start fails: the cause is said, and all that was done by then is undone."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from tests.kernel.bpf_plane.net import Network, run
from tests.kernel.daemon.conftest import MakeDaemon
from tests.kernel.daemon.net import ALICE, Ends, pins, programs, settings, tables, wait_for
from tests.kernel.daemon.process import BOTH, SOURCE, Daemon

OURS = "inet throughway"
READ_ONLY_SETTINGS = ("unshare", "--mount", "sh", "-c")


@contextlib.contextmanager
def table_of_somebody_else(net: Network) -> Iterator[None]:
    """A table of our name that belongs to another process for as long as that lives: nobody else may change it."""
    with subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{net.router}", "nft", "--interactive"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdin is not None
        owner.stdin.write(f"add table {OURS} {{ flags owner; }}\n")
        owner.stdin.flush()
        try:
            wait_for("the table is there", lambda: any(OURS in line for line in tables(net)))
            yield
        finally:
            owner.kill()


def assert_refused(daemon: Daemon, *words: str) -> None:
    assert daemon.wait() == 1, daemon.said()
    assert any(line.startswith("throughwayd: ") for line in daemon.said().splitlines()), daemon.said()
    assert "Traceback" not in daemon.said()
    for word in words:
        assert word in daemon.said()


def assert_nothing_done(net: Network, run_folder: Path) -> None:
    assert programs(net) == 0
    assert pins(net) == []
    assert set(settings(net).values()) == {"0"}
    assert list(run_folder.iterdir()) == []


def test_programs_that_do_not_load(make_daemon: MakeDaemon, net: Network, run_folder: Path, tmp_path: Path) -> None:
    """An object file that was cut short."""
    shutil.copytree(SOURCE / "throughway", tmp_path / "src" / "throughway", ignore=shutil.ignore_patterns("*.pyc"))
    program = tmp_path / "src" / "throughway" / "dataplane" / "objects" / "throughway.bpf.o"
    program.write_bytes(program.read_bytes()[:4096])
    daemon = make_daemon(source=tmp_path / "src")
    daemon.run(*BOTH)
    assert_refused(daemon, "throughway.bpf.o")
    assert_nothing_done(net, run_folder)
    assert tables(net) == []


def test_rules_that_are_refused(daemon: Daemon, net: Network, run_folder: Path) -> None:
    """Somebody else owns a table of our name."""
    with table_of_somebody_else(net):
        daemon.run(*BOTH)
        assert_refused(daemon, "nftables transaction", "nft list tables")
        assert daemon.said().count("Operation not permitted") == 1
        assert_nothing_done(net, run_folder)
        assert any(OURS in line for line in tables(net))


def test_settings_that_cannot_be_written(daemon: Daemon, net: Network, run_folder: Path) -> None:
    """/proc/sys is read-only, as in a container."""
    script = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    daemon.run(*BOTH, before=(*READ_ONLY_SETTINGS, script, "sh"))
    assert_refused(daemon, "sysctl net.ipv4.ip_forward=1", "Read-only file system", "sysctl -w")
    assert_nothing_done(net, run_folder)
    assert tables(net) == []


@pytest.mark.parametrize("interface", ["in0", "out0"])
def test_programs_that_cannot_be_attached(interface: str, daemon: Daemon, net: Network, run_folder: Path) -> None:
    """Somebody else's filter has our place: on the first interface, and on the last with programs on the others."""
    inode = Path(f"/run/netns/{net.router}").stat().st_ino
    handle = crc32(f"{inode}-out0".encode()) | 1
    side = "ingress"
    run("tc", "-n", net.router, "qdisc", "add", "dev", interface, "clsact")
    run(
        *("tc", "-n", net.router, "filter", "add", "dev", interface, side, "pref", "7", "handle", hex(handle)),
        *("bpf", "bytecode", "1,6 0 0 4294967295,", "flowid", "1:1"),
    )
    daemon.run(*BOTH, "--attach", "clsact")
    assert_refused(daemon, "tc filter of interface", "belongs to somebody else")
    assert programs(net) == 1, "the qdisc that is not ours stays"
    assert hex(handle) in run("tc", "-n", net.router, "filter", "show", "dev", interface, side)
    run("tc", "-n", net.router, "qdisc", "del", "dev", interface, "clsact")
    assert_nothing_done(net, run_folder)
    assert tables(net) == []


def test_failed_start_leaves_the_tunnels_of_an_earlier_run_at_work(
    make_daemon: MakeDaemon, net: Network, ends: Ends
) -> None:
    """After a kill a start that fails is no reason to cut what goes on without a daemon."""
    first = make_daemon().up()
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 4))
    first.kill()
    run("nsenter", f"--net=/run/netns/{net.router}", "nft", "delete", "table", *OURS.split())
    with table_of_somebody_else(net):
        second = make_daemon()
        second.run(*BOTH)
        assert_refused(second, "nftables transaction")
        ends.both_ways(ALICE, 0x1001, 0x2001, range(4, 8))
    third = make_daemon().up()
    assert third.sessions()[str(ALICE)].packets_to_inside == 7
