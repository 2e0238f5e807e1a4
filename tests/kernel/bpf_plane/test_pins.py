"""The folders of pins: whose they are, and when they may go."""

import fcntl
import os
from pathlib import Path

import pytest

from tests.kernel.bpf_plane.conftest import Gateway
from tests.kernel.bpf_plane.net import Network, inside, network, wait_for
from tests.kernel.bpf_plane.watch import pins
from throughway.core.errors import SettingsRejected
from throughway.dataplane.pins import GatewayFolder, is_attached, mount_bpffs, remove_stale


def test_a_second_daemon_on_the_same_interface_is_refused(gateway: Gateway) -> None:
    """Two would take each other's packets."""
    gateway.up()
    other = Gateway(gateway.net, gateway.bpffs)
    with pytest.raises(SettingsRejected, match="another daemon"):
        other.up()
    assert len(gateway.plane.filenos()) == 2


def test_the_folder_of_a_vanished_namespace_is_removed_and_no_other(gateway: Gateway, bpffs: Path) -> None:
    """What a namespace left goes when it is gone; what somebody holds, or nobody knows, stays."""
    with network() as other_net:
        other = Gateway(other_net, bpffs)
        other.up(attach="tcx")
        [stale] = (bpffs / "throughway").iterdir()
        other.close(keep=True)
        gateway.up()
        ours = set(pins(bpffs)) - {each for each in pins(bpffs) if each.startswith(stale.name)}
        foreign = bpffs / "throughway" / "notes"
        foreign.mkdir()
        assert remove_stale(bpffs) == []
    descriptor = os.open(stale, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    link = next(stale.glob("link-*"))
    wait_for("the kernel takes the namespace down", lambda: not is_attached(link))
    assert remove_stale(bpffs) == []
    os.close(descriptor)
    wait_for("removed", lambda: remove_stale(bpffs) == [stale.name])
    assert not stale.exists()
    assert foreign.exists()
    assert ours <= set(pins(bpffs))


def test_tables_of_a_vanished_namespace_with_our_inode_number_are_not_ours(net: Network, bpffs: Path) -> None:
    """The number may be used again, the cookie is not."""
    with inside(net.router):
        folder = GatewayFolder.open(bpffs, "eth0.7")
        [cookie] = folder.names()
        folder.forget(cookie)
        folder.note("namespace-99999999")
        folder.note("qdisc-3")
        folder.close()
        again = GatewayFolder.open(bpffs, "eth0.7")
    assert again.names() == [cookie]
    again.remove()
    assert pins(bpffs) == []


def test_a_bpf_file_system_is_mounted_once(bpffs: Path) -> None:
    """A second time finds it and does nothing."""
    (bpffs / "note").mkdir()
    mount_bpffs(bpffs)
    assert (bpffs / "note").exists()
