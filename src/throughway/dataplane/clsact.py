"""Attaches programs as tc filters in the clsact qdisc: kernels before 6.6, and wherever it is asked for.

A filter stays on its interface until it is removed or the interface goes. Ours are known by their handle, which
is made of the gateway's folder, and by the names of their programs; nothing else is ever replaced or removed. The
qdisc is removed only if we made it and no filter is left in it.
"""

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final
from zlib import crc32

from throughway.core.errors import KernelRefused
from throughway.dataplane.hooks import PROGRAMS, Hook
from throughway.dataplane.libbpf_calls import checked
from throughway.dataplane.pins import GatewayFolder

_INGRESS: Final = 1
_EGRESS: Final = 2
"""BPF_TC_INGRESS and BPF_TC_EGRESS of <bpf/libbpf.h>; both together mean the qdisc."""
_REPLACE: Final = 1
_PRIORITY: Final = 7
"""Before most filters of others, behind those that somebody put first on purpose."""
_NETLINK_TIMEOUT_S: Final = 2.0
_RTM_GETTFILTER: Final = 46
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_BPF_NAME: Final = 7
_PARENT: Final = {_INGRESS: 0xFFFFFFF2, _EGRESS: 0xFFFFFFF3}
"""The two chains of clsact, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS or _EGRESS) of <linux/pkt_sched.h>."""


class _TcHook(ctypes.Structure):
    """`struct bpf_tc_hook` of <bpf/libbpf.h>."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("attach_point", ctypes.c_uint32),
        ("parent", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


class _TcOptions(ctypes.Structure):
    """`struct bpf_tc_opts` of <bpf/libbpf.h>."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("prog_fd", ctypes.c_int),
        ("flags", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    hook, options = ctypes.POINTER(_TcHook), ctypes.POINTER(_TcOptions)
    library.bpf_tc_hook_create.argtypes = (hook,)
    library.bpf_tc_hook_destroy.argtypes = (hook,)
    library.bpf_tc_attach.argtypes = (hook, options)
    library.bpf_tc_detach.argtypes = (hook, options)
    return library


@dataclass(frozen=True, slots=True)
class _Filter:
    priority: int
    handle: int
    name: str


class ClsactHooks:
    """The tc filters of one gateway."""

    mode: Final = "clsact"

    def __init__(self, folder: GatewayFolder) -> None:
        self._folder = folder
        self._handle = crc32(folder.path.name.encode()) | 1

    def attached(self) -> Iterator[Hook]:
        """Name the hooks where a filter of ours is, on all interfaces of this namespace."""
        for ifindex, _ in socket.if_nameindex():
            for point in (_INGRESS, _EGRESS):
                yield from self._of_ours(ifindex, point)

    def is_attached(self, hook: Hook) -> bool:
        """Tell whether the program is there."""
        return hook in self._of_ours(hook.ifindex, _INGRESS if hook.is_ingress else _EGRESS)

    def _of_ours(self, ifindex: int, point: int) -> Iterator[Hook]:
        for each in _filters(ifindex, point):
            program = each.name.partition(":")[0]
            if each.handle == self._handle and each.priority == _PRIORITY and program in PROGRAMS:
                yield Hook(program, ifindex)

    def has_others(self, ifindex: int) -> bool:
        """Tell whether a filter that is not ours looks at what comes in by an interface."""
        return any(each.handle != self._handle or each.priority != _PRIORITY for each in _filters(ifindex, _INGRESS))

    def attach(self, hook: Hook, program: int) -> None:
        """Put the program there, in place of the one of an earlier run if there is one.

        KernelRefused with EEXIST when somebody else's filter has our handle.
        """
        point = _INGRESS if hook.is_ingress else _EGRESS
        answer = _library().bpf_tc_hook_create(ctypes.byref(_hook(hook.ifindex, _INGRESS | _EGRESS)))
        if answer == 0:
            self._folder.note(f"qdisc-{hook.ifindex}")
        elif answer != -errno.EEXIST:
            checked(f"clsact qdisc on interface {hook.ifindex}", answer)
        for each in _filters(hook.ifindex, point):
            is_taken = each.handle == self._handle and each.priority == _PRIORITY
            if is_taken and each.name.partition(":")[0] not in PROGRAMS:
                raise KernelRefused(
                    f"tc filter of interface {hook.ifindex}",
                    errno.EEXIST,
                    f"preference {_PRIORITY} handle {self._handle:#x} belongs to {each.name or 'somebody else'}",
                    "Remove that filter (tc filter show), or attach by tcx",
                )
        options = self._options(prog_fd=program, flags=_REPLACE)
        checked(
            f"tc filter {hook.program} on interface {hook.ifindex}",
            _library().bpf_tc_attach(ctypes.byref(_hook(hook.ifindex, point)), ctypes.byref(options)),
        )

    def detach(self, hook: Hook) -> None:
        """Take the filter off. The qdisc goes too if it is ours and empty. What is gone already is no error."""
        point = _INGRESS if hook.is_ingress else _EGRESS
        answer = _library().bpf_tc_detach(ctypes.byref(_hook(hook.ifindex, point)), ctypes.byref(self._options()))
        if answer not in (-errno.ENOENT, -errno.EINVAL, -errno.ENODEV):
            checked(f"tc filter {hook.program} of interface {hook.ifindex}", answer)
        if f"qdisc-{hook.ifindex}" not in self._folder.names():
            return
        if not any(_filters(hook.ifindex, each) for each in (_INGRESS, _EGRESS)):
            _library().bpf_tc_hook_destroy(ctypes.byref(_hook(hook.ifindex, _INGRESS | _EGRESS)))
            self._folder.forget(f"qdisc-{hook.ifindex}")

    def _options(self, prog_fd: int = 0, flags: int = 0) -> _TcOptions:
        return _TcOptions(
            sz=ctypes.sizeof(_TcOptions), prog_fd=prog_fd, flags=flags, handle=self._handle, priority=_PRIORITY
        )


def _hook(ifindex: int, point: int) -> _TcHook:
    return _TcHook(sz=ctypes.sizeof(_TcHook), ifindex=ifindex, attach_point=point)


def _filters(ifindex: int, point: int) -> list[_Filter]:
    """List the filters of one chain of an interface's clsact qdisc; none when there is no such qdisc."""
    header = struct.pack("=IHHII", 36, _RTM_GETTFILTER, _NLM_F_REQUEST_DUMP, 1, 0)
    request = header + struct.pack("=BxxxiIII", socket.AF_UNSPEC, ifindex, 0, _PARENT[point], 0)
    found: list[_Filter] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(_NETLINK_TIMEOUT_S)
        netlink.send(request)
        while True:
            data = netlink.recv(1 << 17)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    return found
                handle, _, info = struct.unpack_from("=III", data, 24)
                attributes = _attributes(data[36:length])
                # The kernel names a chain's head too, without a handle.
                if handle:
                    is_bpf = attributes.get(_TCA_KIND, b"").rstrip(b"\0") == b"bpf"
                    options = _attributes(attributes.get(_TCA_OPTIONS, b"")) if is_bpf else {}
                    name = options.get(_TCA_BPF_NAME, b"").rstrip(b"\0").decode(errors="replace")
                    found.append(_Filter(priority=info >> 16, handle=handle, name=name))
                data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    """Take apart netlink attributes: length, type, value, each padded to 4 bytes."""
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found
