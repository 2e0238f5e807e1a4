"""What the tests on BPF in the kernel share: what they need, and the two ways to attach."""

import os
from pathlib import Path

import pytest

from throughway.dataplane.adopt import OBJECT
from throughway.dataplane.attach import AttachMode

NEED_BPF = tuple(Path(__file__).parent / name for name in ("bpf_plane", "daemon"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = ""
    if os.geteuid() != 0:
        reason = "needs root: network namespaces and BPF"
    elif not OBJECT.exists():
        reason = "needs the BPF object: run script/build-bpf"
    if reason:
        for item in items:
            if item.path.parent in NEED_BPF:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(params=["tcx", pytest.param("clsact", marks=pytest.mark.full)])
def mode(request: pytest.FixtureRequest) -> AttachMode:
    """How programs are attached; with clsact, for older kernels, whatever does not name it is tried with --full."""
    chosen: AttachMode = request.param
    return chosen
