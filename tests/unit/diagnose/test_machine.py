"""The judgements about the machine, by what the readers may hand them."""

import errno

import pytest

from throughway.core.errors import KernelRefused
from throughway.core.findings import Level
from throughway.diagnose import machine


@pytest.mark.parametrize(
    ("release", "level", "word"),
    [
        ("6.6.1", Level.OK, "tcx"),
        ("6.18.44-generic", Level.OK, "tcx"),
        ("6.1.0-18-amd64", Level.OK, "clsact"),
        ("5.10.0", Level.OK, "clsact"),
        ("5.4.0-169-generic", Level.ERROR, "5.10 or newer"),
        ("unheard of", Level.ERROR, "5.10 or newer"),
    ],
)
def test_the_kernel_is_judged_by_its_release(release: str, level: Level, word: str) -> None:
    finding = machine.judge_kernel(release)
    assert finding.level is level
    assert word in finding.what


@pytest.mark.parametrize(
    ("effective", "missing"),
    [
        ((1 << 41) - 1, ""),
        (1 << 12 | 1 << 13 | 1 << 21, ""),
        (1 << 12 | 1 << 13 | 1 << 39, ""),
        (1 << 12, "CAP_NET_RAW, CAP_BPF"),
        (0, "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF"),
    ],
)
def test_missing_capabilities_are_named(effective: int, missing: str) -> None:
    finding = machine.judge_capabilities(effective)
    assert finding.level is (Level.ERROR if missing else Level.OK)
    assert missing in finding.what


def test_missing_libraries_come_with_one_line_for_apt() -> None:
    *_, finding = machine.judge_libraries({"libnftables.so.1": None, "libbpf.so.1": None})
    assert finding.commands == ("apt-get install --yes libnftables1 libbpf1",)
    (found,) = machine.judge_libraries({"libbpf.so.1": "1.1.2"})
    assert (found.level, found.what) == (Level.OK, "libbpf.so.1 is installed, version 1.1.2.")


def test_bpf_that_is_refused_and_bpf_that_is_absent_have_different_remedies() -> None:
    assert machine.judge_bpf({"TC programs": 1, "ring buffers": 1}).level is Level.OK
    refused = machine.judge_bpf({"TC programs": -errno.EPERM, "ring buffers": 1})
    absent = machine.judge_bpf({"TC programs": 0, "ring buffers": 1})
    assert "Operation not permitted" in refused.what
    assert "as root" in refused.remedy
    assert "CONFIG_BPF_SYSCALL" in absent.remedy


def test_the_bpf_file_system_is_found_among_the_mounts() -> None:
    mounts = "proc /proc proc rw 0 0\nbpffs /sys/fs/bpf bpf rw,mode=700 0 0\n"
    assert machine.judge_bpffs(mounts).level is Level.OK
    missing = machine.judge_bpffs("proc /proc proc rw 0 0\nnone /sys/fs/bpf tmpfs rw 0 0\n")
    assert missing.commands == ("mount -t bpf bpffs /sys/fs/bpf",)


def test_a_kernel_that_refuses_our_rules_is_quoted() -> None:
    finding = machine.judge_transaction(KernelRefused("nftables check", errno.ENOENT, "Error: No such file"))
    assert finding.level is Level.ERROR
    assert "Error: No such file" in finding.what
    assert machine.judge_transaction(None).level is Level.OK


def test_a_library_that_does_not_exist_has_no_version() -> None:
    assert machine.library_version("libthroughway-nowhere.so.1") is None


def test_what_is_the_same_either_way_is_no_warning() -> None:
    for has in (True, False):
        assert machine.judge_btf(has_btf=has).level is Level.OK
        assert machine.judge_xfrm(has_xfrm=has).level is Level.OK
