"""BPF objects, programs and links, by libbpf 1.x through ctypes.

Nothing here knows what the maps mean (abi.py does) or when to attach what (bpf.py does). libbpf.so.1
serves also for what is newer than it is: a tcx link is a plain BPF_LINK_CREATE with an attach type of
kernel 6.6.
"""

import ctypes
import errno
import os
from collections.abc import Iterator, Mapping
from ctypes import byref, c_void_p
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from throughway.core.errors import KernelRefused
from throughway.dataplane.libbpf_calls import TestRunOptions, checked, library, log
from throughway.dataplane.libbpf_maps import BpfMap

TCX_INGRESS: Final = 46
TCX_EGRESS: Final = 47
"""Attach types of <linux/bpf.h> since 6.6; libbpf 1.1 has no names for them."""

_LIVE_FRAMES: Final = 2
"""BPF_F_TEST_XDP_LIVE_FRAMES of <linux/bpf.h>."""

_NEEDS_CAPABILITIES: Final = "It needs CAP_BPF and CAP_NET_ADMIN (root has them, a container often has not)."
_NEEDS_BUILD: Final = "Build it with script/build-bpf."


class BpfObject:
    """A loaded object file: its maps and the descriptors of its programs, by name.

    Maps and programs live until `close`, and beyond it only where they are pinned or attached.
    """

    def __init__(self, handle: int) -> None:
        """Take over an object that libbpf has loaded; `load` makes one from a file."""
        self._handle = handle
        lib = library()
        self.maps: Final = {lib.bpf_map__name(each).decode(): BpfMap(lib.bpf_map__fd(each)) for each in _maps(handle)}
        self.programs: Final = {
            lib.bpf_program__name(each).decode(): int(lib.bpf_program__fd(each)) for each in _programs(handle)
        }

    @classmethod
    def load(
        cls, path: Path, *, sizes: Mapping[str, int] | None = None, reuse: Mapping[str, int] | None = None
    ) -> Self:
        """Load the object file into the kernel.

        `sizes` gives maps other numbers of entries than the file does, `reuse` puts descriptors of
        existing maps in the place of new ones. A name that the file does not have is a ValueError.
        KernelRefused carries the last lines of the verifier's log.
        """
        lib = library()
        log.clear()
        handle = lib.bpf_object__open_file(os.fsencode(path), None)
        if not handle:
            number = ctypes.get_errno()
            raise KernelRefused(str(path), number, os.strerror(number), _NEEDS_BUILD if number == errno.ENOENT else "")
        try:
            _prepare(handle, dict(sizes or {}), dict(reuse or {}))
            answer = lib.bpf_object__load(handle)
            if answer < 0:
                said = log.tail() or os.strerror(-answer)
                raise KernelRefused(path.name, -answer, said, _NEEDS_CAPABILITIES if answer == -errno.EPERM else "")
            return cls(handle)
        except BaseException:
            lib.bpf_object__close(handle)
            raise

    def close(self) -> None:
        """Give all descriptors of the object back. Its maps and programs may not be used after this."""
        if self._handle:
            library().bpf_object__close(self._handle)
            self._handle = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _prepare(handle: int, sizes: dict[str, int], reuse: dict[str, int]) -> None:
    """Set what must be set between open and load."""
    lib = library()
    for each in _maps(handle):
        name = lib.bpf_map__name(each).decode()
        if name in reuse:
            checked(f"reuse of map {name}", lib.bpf_map__reuse_fd(each, reuse.pop(name)))
            sizes.pop(name, None)
        elif name in sizes:
            checked(f"size of map {name}", lib.bpf_map__set_max_entries(each, sizes.pop(name)))
    if sizes or reuse:
        raise ValueError(f"the object has no maps of these names: {', '.join(sorted({*sizes, *reuse}))}")


def _maps(handle: int) -> Iterator[c_void_p]:
    each = library().bpf_object__next_map(handle, None)
    while each:
        yield c_void_p(each)
        each = library().bpf_object__next_map(handle, each)


def _programs(handle: int) -> Iterator[c_void_p]:
    each = library().bpf_object__next_program(handle, None)
    while each:
        yield c_void_p(each)
        each = library().bpf_object__next_program(handle, each)


@dataclass(frozen=True, slots=True)
class TestRun:
    """What a program made of a packet: its return value, the packet, and the context (struct __sk_buff) after it."""

    __test__ = False

    verdict: int
    packet: bytes
    context: bytes


def test_run(program_fd: int, packet: bytes, context: bytes = b"", repeat: int = 1) -> TestRun:
    """Run a program on a packet, which begins with 14 bytes of Ethernet header (BPF_PROG_TEST_RUN).

    With `repeat` the program runs again on what it made of the packet; the last result counts.
    `context` is a struct __sk_buff with mark, ifindex and so on, or nothing. KernelRefused with EINVAL
    says that the kernel will not make an skb of this packet or context.
    """
    out = ctypes.create_string_buffer(len(packet) + 256)
    context_out = ctypes.create_string_buffer(len(context)) if context else None
    options = TestRunOptions(
        sz=ctypes.sizeof(TestRunOptions),
        data_in=packet,
        data_size_in=len(packet),
        data_out=ctypes.addressof(out),
        data_size_out=len(out),
        ctx_in=context or None,
        ctx_size_in=len(context),
        ctx_out=ctypes.addressof(context_out) if context_out is not None else None,
        ctx_size_out=len(context),
        repeat=repeat,
    )
    checked("test run of a BPF program", library().bpf_prog_test_run_opts(program_fd, byref(options)))
    after = context_out.raw if context_out is not None else b""
    return TestRun(int(options.retval), out.raw[: options.data_size_out], after)


test_run.__test__ = False  # type: ignore[attr-defined]


def run_live(program_fd: int, frame: bytes, count: int, batch: int) -> int:
    """Run an XDP program on so many live frames, which go where it sends them (kernel 5.18).

    They begin as the frame given, or as what an earlier run made of the same memory. Each batch has gone its whole
    way before the next begins, as far as it went on this processor. Returns the average time for one in nanoseconds,
    without the preparations and without the time in which others had the processor.
    """
    options = TestRunOptions(
        sz=ctypes.sizeof(TestRunOptions),
        data_in=frame,
        data_size_in=len(frame),
        repeat=count,
        flags=_LIVE_FRAMES,
        batch_size=batch,
    )
    checked("live frames", library().bpf_prog_test_run_opts(program_fd, byref(options)))
    return int(options.duration)


def link_create(program_fd: int, ifindex: int, attach_type: int) -> int:
    """Attach a program to an interface of this network namespace and return the link's descriptor.

    The program stays attached until the descriptor closes, unless the link is pinned. KernelRefused with
    EINVAL on kernels before 6.6, which have no tcx.
    """
    return checked(
        f"tcx link on interface {ifindex}", int(library().bpf_link_create(program_fd, ifindex, attach_type, None))
    )


def link_update(link_fd: int, program_fd: int) -> None:
    """Put another program in the place of the link's own, without a packet in between seeing neither."""
    checked("update of a BPF link", library().bpf_link_update(link_fd, program_fd, None))


def link_detach(link_fd: int) -> None:
    """Take the program off its interface though the link is still open or pinned."""
    checked("detaching a BPF link", library().bpf_link_detach(link_fd))


def obj_pin(fd: int, path: Path) -> None:
    """Give a map, program or link a name in a BPF file system, where it outlives this process."""
    checked(f"pin {path}", library().bpf_obj_pin(fd, os.fsencode(path)))


def obj_get(path: Path) -> int:
    """Open what is pinned at the path and return a descriptor, which is the caller's to close."""
    return checked(f"pin {path}", int(library().bpf_obj_get(os.fsencode(path))))


def map_get(path: Path) -> BpfMap:
    """Open the map that is pinned at the path; `close` gives its descriptor back."""
    return BpfMap(obj_get(path))
