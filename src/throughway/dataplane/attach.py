"""Keeps the programs on the interfaces that they are wanted on, by tcx links or tc filters."""

import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from throughway.core.errors import KernelRefused
from throughway.dataplane.clsact import ClsactHooks
from throughway.dataplane.hooks import Hook
from throughway.dataplane.pins import GatewayFolder
from throughway.dataplane.tcx import TcxHooks

AttachMode: TypeAlias = Literal["auto", "tcx", "clsact"]


class _Hooks(Protocol):
    """One way to attach."""

    @property
    def mode(self) -> str: ...

    def attached(self) -> Iterator[Hook]: ...

    def is_attached(self, hook: Hook) -> bool: ...

    def has_others(self, ifindex: int) -> bool: ...

    def attach(self, hook: Hook, program: int) -> None: ...

    def detach(self, hook: Hook) -> None: ...


class Attachments:
    """Attaches and detaches the programs of one gateway."""

    def __init__(self, folder: GatewayFolder, mode: AttachMode) -> None:
        self._tcx: _Hooks = TcxHooks(folder)
        self._clsact: _Hooks = ClsactHooks(folder)
        self._asked = mode
        self.mode: str = mode
        """How programs are attached: `tcx` or `clsact` after the first `bring_to`."""

    def bring_to(self, wanted: Sequence[Hook], programs: Mapping[str, int]) -> None:
        """Have exactly these hooks, in this order, with these programs (descriptors by name).

        What is attached already gets the new program in one step. What is not wanted goes last, and so does what
        an earlier run attached the other way. For that moment packets pass both programs; the second one takes a
        translated packet for the router's own and lets it go on. A gap would let inside addresses out. (The kernel
        itself stops an interface for some milliseconds while it adds or removes a clsact qdisc.)
        """
        hooks = self._attach_all(wanted, programs)
        self.mode = hooks.mode
        for each in (self._tcx, self._clsact):
            for hook in list(each.attached()):
                if each is not hooks or hook not in wanted:
                    each.detach(hook)

    def missing(self, wanted: Sequence[Hook]) -> list[Hook]:
        """List the hooks that have no program of ours, as one on an interface that was made anew, in the same order."""
        return [hook for hook in wanted if not (self._tcx.is_attached(hook) or self._clsact.is_attached(hook))]

    def has_others(self, ifindex: int) -> bool:
        """Tell whether somebody else's filter or program looks at what comes in by an interface."""
        return self._tcx.has_others(ifindex) or self._clsact.has_others(ifindex)

    def detach_all(self) -> None:
        """Take all programs of this gateway off, those that hold packets first."""
        for each in (self._tcx, self._clsact):
            for hook in sorted(each.attached(), key=lambda hook: hook.program, reverse=True):
                each.detach(hook)

    def _attach_all(self, wanted: Sequence[Hook], programs: Mapping[str, int]) -> _Hooks:
        hooks = self._clsact if self._asked == "clsact" else self._tcx
        for hook in wanted:
            try:
                hooks.attach(hook, programs[hook.program])
            except KernelRefused as refused:
                # A kernel before 6.6 does not know the attach type.
                if (
                    self._asked != "auto"
                    or hooks is self._clsact
                    or refused.errno not in (errno.EINVAL, errno.EOPNOTSUPP)
                ):
                    raise
                hooks = self._clsact
                hooks.attach(hook, programs[hook.program])
        return hooks
