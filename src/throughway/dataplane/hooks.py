"""Where the programs go, and how a place is written as the name of a pin."""

import ctypes
from dataclasses import dataclass
from typing import Final, Self

from throughway.core.ports import Interface
from throughway.dataplane.libbpf_calls import checked, library

PROGRAMS: Final = ("inside_ingress", "inside_egress", "outside_egress", "outside_ingress")
"""All programs that are attached, in the order of attaching: nothing may be held before what releases it is there."""

_PREFIX: Final = "link"


@dataclass(frozen=True, slots=True)
class Hook:
    """One program on one interface."""

    program: str
    ifindex: int

    @property
    def is_ingress(self) -> bool:
        """Whether the program sees what comes in, rather than what goes out."""
        return self.program.endswith("_ingress")

    @property
    def pin(self) -> str:
        """The name of its link's pin."""
        return f"{_PREFIX}-{self.program}-{self.ifindex}"

    @classmethod
    def from_pin(cls, name: str) -> Self | None:
        """Read the name of a pin; None for pins that are no links."""
        prefix, _, rest = name.partition("-")
        program, _, ifindex = rest.partition("-")
        if prefix != _PREFIX or program not in PROGRAMS or not ifindex.isdigit():
            return None
        return cls(program, int(ifindex))


def wanted_hooks(outside: Interface, insides: tuple[Interface, ...]) -> list[Hook]:
    """List the hooks of a gateway in the order of attaching."""
    return [
        Hook(program, interface.index)
        for program in PROGRAMS
        for interface in (insides if program.startswith("inside_") else (outside,))
    ]


class _LinkInfo(ctypes.Structure):
    """The head of `struct bpf_link_info` of <linux/bpf.h>, as it is for tcx links."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("ifindex", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
    )


def link_target(descriptor: int) -> int:
    """Tell the index of the interface that a tcx link is on: 0 once the interface is gone."""
    info = _LinkInfo()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    checked("BPF link", library().bpf_obj_get_info_by_fd(descriptor, ctypes.byref(info), ctypes.byref(size)))
    return int(info.ifindex)
