"""Findings about the kernel and the programs that are installed. Functions named judge_ are pure."""

import ctypes
import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from throughway.core.errors import KernelRefused
from throughway.core.findings import Finding, Level
from throughway.dataplane import nft

KERNEL_MIN: Final = (5, 10)
"""Ring buffers and filters for conntrack dumps came with 5.8; 5.10 is the first kernel with long support after it."""

TCX_KERNEL: Final = (6, 6)
"""The first kernel with tcx links; older ones get clsact filters."""

LIBRARIES: Final[Mapping[str, str]] = {nft.SONAME: nft.PACKAGE, "libbpf.so.1": "libbpf1"}
"""What is loaded at run time, and the Debian package that brings it."""

CAPABILITIES: Final[Mapping[str, int]] = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_BPF": 39}
"""What the daemon needs (linux/capability.h)."""

_CAP_SYS_ADMIN: Final = 21
_PROGRAM_TYPE_SCHED_CLS: Final = 3
_MAP_TYPE_RINGBUF: Final = 27
_BPFFS: Final = Path("/sys/fs/bpf")
_BTF: Final = Path("/sys/kernel/btf/vmlinux")


def findings() -> Iterator[Finding]:
    """Examine the machine; nothing is changed."""
    yield judge_kernel(platform.release())
    yield judge_capabilities(_effective_capabilities())
    versions = {soname: library_version(soname) for soname in LIBRARIES}
    yield from judge_libraries(versions)
    if versions["libbpf.so.1"] is not None:
        yield judge_bpf(_probe_bpf())
    yield judge_btf(has_btf=_BTF.exists())
    yield judge_bpffs(Path("/proc/self/mounts").read_text())
    yield judge_xfrm(has_xfrm=Path("/proc/thread-self/net/xfrm_stat").exists())


def judge_kernel(release: str) -> Finding:
    """Judge a kernel by its release, such as 6.1.0-18-amd64."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    version = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if version < KERNEL_MIN:
        return Finding(
            "kernel.version",
            Level.ERROR,
            f"The kernel is {release}; Throughway needs {KERNEL_MIN[0]}.{KERNEL_MIN[1]} or newer.",
            "Install a newer kernel and restart.",
            ("apt-get install --yes linux-image-$(dpkg --print-architecture)",),
        )
    attach = "tcx links" if version >= TCX_KERNEL else "clsact filters, since tcx came with 6.6"
    return Finding("kernel.version", Level.OK, f"The kernel is {release}: programs are attached by {attach}.")


def judge_capabilities(effective: int) -> Finding:
    """Judge the effective capability bits of this process; CAP_SYS_ADMIN includes CAP_BPF."""
    missing = [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]
    if effective >> _CAP_SYS_ADMIN & 1:
        missing = [name for name in missing if name != "CAP_BPF"]
    if missing:
        return Finding(
            "kernel.capabilities",
            Level.ERROR,
            f"This user lacks {', '.join(missing)}, so neither the daemon nor all of these checks can work.",
            "Run as root.",
        )
    return Finding("kernel.capabilities", Level.OK, "This user may administer the network and load BPF programs.")


def judge_libraries(versions: Mapping[str, str | None]) -> Iterator[Finding]:
    """Judge the shared libraries by soname; None for one that is not installed."""
    for soname, version in versions.items():
        if version is not None:
            yield Finding("packages.libraries", Level.OK, f"{soname} is installed, version {version}.")
    missing = [soname for soname, version in versions.items() if version is None]
    if missing:
        packages = " ".join(LIBRARIES[soname] for soname in missing)
        yield Finding(
            "packages.libraries",
            Level.ERROR,
            f"{' and '.join(missing)} cannot be loaded.",
            "Install the packages.",
            (f"apt-get install --yes {packages}",),
        )


def judge_bpf(answers: Mapping[str, int]) -> Finding:
    """Judge what libbpf's probes answered by feature: 1 supported, 0 not, else a negative errno."""
    refused = {name: answer for name, answer in answers.items() if answer != 1}
    if not refused:
        return Finding("kernel.bpf", Level.OK, "The kernel loads TC programs and has ring buffers.")
    words = ", ".join(f"{name} ({os.strerror(-a) if a < 0 else 'not supported'})" for name, a in refused.items())
    if any(answer < 0 for answer in refused.values()):
        remedy = "Run as root, and outside of containers that filter the bpf system call."
    else:
        remedy = "Use a kernel with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_BPF, such as Debian's own."
    return Finding("kernel.bpf", Level.ERROR, f"The kernel refuses BPF: {words}.", remedy)


def judge_btf(*, has_btf: bool) -> Finding:
    """Say whether the kernel describes its types. Our objects bring all that they need."""
    word = "has" if has_btf else "has no"
    return Finding("kernel.btf", Level.OK, f"The kernel {word} BTF of its own; Throughway works with and without.")


def judge_bpffs(mounts: str) -> Finding:
    """Judge the text of /proc/self/mounts."""
    if any(fields[1:3] == [str(_BPFFS), "bpf"] for fields in map(str.split, mounts.splitlines())):
        return Finding("kernel.bpffs", Level.OK, f"A BPF file system is mounted at {_BPFFS}.")
    return Finding(
        "kernel.bpffs",
        Level.WARNING,
        f"No BPF file system is mounted at {_BPFFS}; the daemon mounts one when it may.",
        "Mount it.",
        (f"mount -t bpf bpffs {_BPFFS}",),
    )


def judge_xfrm(*, has_xfrm: bool) -> Finding:
    """Say whether the router could run IPsec itself; passthrough does not need that."""
    word = "can" if has_xfrm else "cannot"
    return Finding(
        "kernel.xfrm", Level.OK, f"The kernel {word} run IPsec of its own (XFRM); passthrough works either way."
    )


def library_version(soname: str) -> str | None:
    """Load a library and tell the version in the name of its file; None where it is not installed."""
    try:
        ctypes.CDLL(soname)
    except OSError:
        return None
    stem = soname.partition(".so")[0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        name = Path(line.split()[-1]).name
        if name.startswith(f"{stem}.so."):
            return name.removeprefix(f"{stem}.so.")
    return soname.rpartition(".")[2]


def _effective_capabilities() -> int:
    status = Path("/proc/thread-self/status").read_text()
    line = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(line[1], 16) if line else 0


def _probe_bpf() -> dict[str, int]:
    """Ask libbpf to make one object of each kind that we need, and throw it away."""
    library = ctypes.CDLL("libbpf.so.1")
    answers = {}
    for name, function, kind in (
        ("TC programs", "libbpf_probe_bpf_prog_type", _PROGRAM_TYPE_SCHED_CLS),
        ("ring buffers", "libbpf_probe_bpf_map_type", _MAP_TYPE_RINGBUF),
    ):
        probe = getattr(library, function)
        probe.restype, probe.argtypes = ctypes.c_int, [ctypes.c_int, ctypes.c_void_p]
        answers[name] = probe(kind, None)
    return answers


def judge_transaction(refusal: KernelRefused | None) -> Finding:
    """Judge what the kernel said to our whole ruleset in a check that changes nothing."""
    if refusal is None:
        return Finding(
            "kernel.nftables", Level.OK, "The kernel takes our nftables rules: NAT, the PPTP helper, MSS clamping."
        )
    return Finding(
        "kernel.nftables",
        Level.ERROR,
        f"The kernel refuses our nftables rules: {refusal}.",
        "Use a kernel with nf_tables, nf_nat, nft_fib_inet, nft_masq and nf_nat_pptp, such as Debian's own.",
        ("modprobe --all nf_tables nft_fib_inet nft_masq nf_nat_pptp",),
    )
