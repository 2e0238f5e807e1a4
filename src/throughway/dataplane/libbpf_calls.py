"""The C functions of libbpf 1.x that we call, and what they say when they refuse.

Only libbpf.py and libbpf_maps.py use this. No compiler and no header is needed at run time, and no
number of a system call: those differ between machines, the names of libbpf.so.1 do not.
"""

import ctypes
import errno
import os
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Final

from throughway.core.errors import KernelRefused

_LOG_SIZE: Final = 1 << 20
_LOG_TAIL_LINES: Final = 24


class TestRunOptions(ctypes.Structure):
    """`struct bpf_test_run_opts` of <bpf/bpf.h>; the sizes at its head make it extensible."""

    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_char_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_char_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


class MapInfo(ctypes.Structure):
    """The head of `struct bpf_map_info` of <linux/bpf.h>; the kernel fills as much as there is room for."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * 16),
    )


_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

_SIGNATURES: Final[dict[str, tuple[object, tuple[object, ...]]]] = {
    "libbpf_set_print": (c_void_p, (_PRINT,)),
    "libbpf_num_possible_cpus": (c_int, ()),
    "bpf_object__open_file": (c_void_p, (c_char_p, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__next_map": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_map__name": (c_char_p, (c_void_p,)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__reuse_fd": (c_int, (c_void_p, c_int)),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_map_lookup_elem_flags": (c_int, (c_int, c_char_p, c_void_p, c_uint64)),
    "bpf_map_update_elem": (c_int, (c_int, c_char_p, c_char_p, c_uint64)),
    "bpf_map_delete_elem": (c_int, (c_int, c_char_p)),
    "bpf_map_get_next_key": (c_int, (c_int, c_char_p, c_void_p)),
    "bpf_map_lookup_batch": (c_int, (c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p)),
    "bpf_map_update_batch": (c_int, (c_int, c_char_p, c_char_p, POINTER(c_uint32), c_void_p)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, POINTER(c_uint32))),
    "bpf_obj_pin": (c_int, (c_int, c_char_p)),
    "bpf_obj_get": (c_int, (c_char_p,)),
    "bpf_link_create": (c_int, (c_int, c_int, c_int, c_void_p)),
    "bpf_prog_query": (c_int, (c_int, c_int, c_uint32, c_void_p, c_void_p, c_void_p)),
    "bpf_link_update": (c_int, (c_int, c_int, c_void_p)),
    "bpf_link_detach": (c_int, (c_int,)),
    "bpf_prog_test_run_opts": (c_int, (c_int, POINTER(TestRunOptions))),
}


class _Log:
    """What libbpf and the verifier have to say, kept instead of printed, since the last `clear`."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._vsnprintf = ctypes.CDLL(None).vsnprintf
        self._vsnprintf.argtypes = (c_void_p, c_size_t, c_char_p, c_void_p)
        self.callback = _PRINT(self._keep)

    def _keep(self, level: int, template: bytes, arguments: int) -> int:
        """Format one message. A va_list argument is a pointer on all machines that we run on."""
        if level == 0:
            text = ctypes.create_string_buffer(_LOG_SIZE)
            self._vsnprintf(text, _LOG_SIZE, template, arguments)
            self._text.append(text.value.decode(errors="replace"))
        return 0

    def clear(self) -> None:
        self._text.clear()

    def tail(self) -> str:
        """Return the last lines: the verifier puts its complaint and its reason at the end."""
        return "\n".join("".join(self._text).splitlines()[-_LOG_TAIL_LINES:])


log: Final = _Log()


@cache
def library() -> ctypes.CDLL:
    """Load libbpf once. An absent library is the installation's fault and said so."""
    try:
        found = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise KernelRefused("libbpf.so.1", errno.ENOENT, str(error), "Install libbpf (Debian: libbpf1).") from error
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(found, name)
        function.restype = result
        function.argtypes = arguments
    found.libbpf_set_print(log.callback)
    return found


def checked(what: str, answer: int) -> int:
    """Pass on a result that is not negative; else raise what the kernel said about `what`."""
    if answer < 0:
        raise KernelRefused(what, -answer, os.strerror(-answer))
    return answer


def possible_cpus() -> int:
    """Count the CPUs that this kernel could ever have: so many values a per-CPU map gives."""
    return checked("possible CPUs", int(library().libbpf_num_possible_cpus()))
