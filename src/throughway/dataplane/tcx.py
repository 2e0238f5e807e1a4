"""Attaches programs by pinned tcx links: kernel 6.6 and newer.

A link keeps its program on the interface for as long as somebody holds it; the pin does when the daemon is gone.
Its program can be replaced without a packet seeing neither. When the interface goes, the link stays and points
nowhere.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from typing import Final

from throughway.dataplane.hooks import Hook, link_target
from throughway.dataplane.libbpf import TCX_EGRESS, TCX_INGRESS, link_detach, link_update
from throughway.dataplane.libbpf_calls import checked, library
from throughway.dataplane.pins import GatewayFolder

_BPF_F_BEFORE: Final = 1 << 3
"""<linux/bpf.h>: without another program named, before all that are there."""


class _LinkOptions(ctypes.Structure):
    """The head of `struct bpf_link_create_opts` of <bpf/bpf.h>."""

    _fields_ = (("sz", ctypes.c_size_t), ("flags", ctypes.c_uint32), ("reserved", ctypes.c_uint32))


class TcxHooks:
    """The tcx links of one gateway, by their pins in its folder."""

    mode: Final = "tcx"

    def __init__(self, folder: GatewayFolder) -> None:
        self._folder = folder

    def attached(self) -> Iterator[Hook]:
        """Name the hooks that have a pinned link, also one whose interface is gone."""
        for name in self._folder.names():
            hook = Hook.from_pin(name)
            if hook is not None:
                yield hook

    def is_attached(self, hook: Hook) -> bool:
        """Tell whether the program is there, on an interface that exists."""
        pinned = self._folder.get(hook.pin)
        if pinned is None:
            return False
        try:
            return link_target(pinned) == hook.ifindex
        finally:
            os.close(pinned)

    def has_others(self, ifindex: int) -> bool:
        """Tell whether a program that is not ours looks at what comes in by an interface. Kernels without tcx: no."""
        ours = sum(hook.is_ingress and hook.ifindex == ifindex for hook in self.attached())
        count = ctypes.c_uint32()
        answer = library().bpf_prog_query(ifindex, TCX_INGRESS, 0, None, None, ctypes.byref(count))
        if answer in (-errno.EINVAL, -errno.EOPNOTSUPP):
            return False
        checked(f"tcx programs of interface {ifindex}", 0 if answer == -errno.ENOSPC else answer)
        return count.value > ours

    def attach(self, hook: Hook, program: int) -> None:
        """Put the program there: in place of the one of an earlier run, or before all others on the interface.

        The first program to say "pass" ends the run of a tcx chain, so a place behind others could be none at all.
        KernelRefused with EINVAL on kernels that have no tcx.
        """
        pinned = self._folder.get(hook.pin)
        if pinned is not None:
            try:
                if link_target(pinned) == hook.ifindex:
                    link_update(pinned, program)
                    return
            finally:
                os.close(pinned)
        options = _LinkOptions(sz=ctypes.sizeof(_LinkOptions), flags=_BPF_F_BEFORE)
        attach_type = TCX_INGRESS if hook.is_ingress else TCX_EGRESS
        link = checked(
            f"tcx link {hook.program} on interface {hook.ifindex}",
            int(library().bpf_link_create(program, hook.ifindex, attach_type, ctypes.byref(options))),
        )
        try:
            self._folder.pin(link, hook.pin)
        finally:
            os.close(link)

    def detach(self, hook: Hook) -> None:
        """Take the program off, and its pin away. What is gone already is no error.

        Without the explicit detaching the kernel would do it some time after the last holder let go.
        """
        pinned = self._folder.get(hook.pin)
        if pinned is not None:
            try:
                link_detach(pinned)
            finally:
                os.close(pinned)
        self._folder.unpin(hook.pin)
