"""nftables through libnftables, in the JSON grammar of libnftables-json(5), by ctypes.

One context is made and kept: a transaction costs some 65 microseconds then, and some 7 milliseconds
with a context of its own. The context opens its netlink socket when it is made, so it speaks for the
network namespace in which it was made, whatever the thread does later.
"""

import ctypes
import errno
import json
import os
import threading
from types import TracebackType
from typing import Any, Final, Self

from throughway.core.errors import InvariantBroken, KernelRefused

SONAME: Final = "libnftables.so.1"
"""Debian's package libnftables1. The functions below are the whole ABI that is used (nftables/libnftables.h)."""

PACKAGE: Final = "libnftables1"

_OUTPUT_HANDLE: Final = 1 << 3
_OUTPUT_JSON: Final = 1 << 4

_NOWHERE: Final = "internal:0:0-0: "
"""Where nft finds a fault in what it was given as JSON, which has no lines."""

ANSWER_SIZE_MAX: Final = 2000
"""How much of nft's words goes into an error, in characters."""


class Nft:
    """A libnftables context. Calls block for a transaction each; any thread may make them, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library = _load()
        self._context: int | None = self._library.nft_ctx_new(0)
        if not self._context:
            raise KernelRefused("nftables", errno.ENOMEM, "libnftables made no context")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_output_set_flags(self._context, _OUTPUT_JSON | _OUTPUT_HANDLE)

    def apply(self, transaction: str) -> None:
        """Carry out all commands of the text, of JSON or nft's own language, in one transaction, or none of them.

        Raises KernelRefused with nft's own words; nothing has changed then.
        """
        self._run(transaction, f"nftables transaction of {len(transaction)} bytes")

    def check(self, transaction: str) -> None:
        """Let nft and the kernel verify the transaction without carrying it out; raises as `apply` does."""
        self._run(transaction, "nftables check", dry_run=True)

    def ask(self, command: str) -> str:
        """Carry out one command of nft's own language and return its answer; raises as `apply` does."""
        return self._run(command, f"nft {command}")

    def list_ruleset(self) -> dict[str, Any]:
        """Read all tables of the network namespace, with handles, as the JSON document of nft."""
        return self._list("list ruleset")

    def list_chains(self) -> dict[str, Any]:
        """Read the chains of all tables without their rules, which is quick whatever is in them."""
        return self._list("list chains")

    def list_table(self, family: str, name: str) -> dict[str, Any] | None:
        """Read one table, or None where it does not exist."""
        return self._list_if_there(f"list table {family} {name}")

    def list_map(self, family: str, table: str, name: str) -> dict[str, Any] | None:
        """Read one map of a table with its elements, or None where it does not exist."""
        return self._list_if_there(f"list map {family} {table} {name}")

    def list_set(self, family: str, table: str, name: str) -> dict[str, Any] | None:
        """Read one set of a table with its elements, or None where it does not exist."""
        return self._list_if_there(f"list set {family} {table} {name}")

    def _list_if_there(self, command: str) -> dict[str, Any] | None:
        try:
            return self._list(command)
        except KernelRefused as refusal:
            if refusal.errno == errno.ENOENT:
                return None
            raise

    def close(self) -> None:
        """Give the context back. Closing twice is no error."""
        with self._lock:
            context, self._context = self._context, None
            if context:
                self._library.nft_ctx_free(context)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _list(self, command: str) -> dict[str, Any]:
        document = json.loads(self._run(command, f"nft {command}"))
        if not isinstance(document, dict) or "nftables" not in document:
            raise InvariantBroken(f"nft {command} answered without a ruleset")
        return document

    def _run(self, text: str, what: str, *, dry_run: bool = False) -> str:
        library = self._library
        with self._lock:
            if self._context is None:
                raise InvariantBroken(f"{what}: the nftables context is closed")
            library.nft_ctx_set_dry_run(self._context, dry_run)
            ctypes.set_errno(0)
            failed = library.nft_run_cmd_from_buffer(self._context, text.encode())
            number = ctypes.get_errno()
            # Both buffers are read each time, because reading is what empties them.
            output = (library.nft_ctx_get_output_buffer(self._context) or b"").decode(errors="replace")
            answer = (library.nft_ctx_get_error_buffer(self._context) or b"").decode(errors="replace")
        if failed:
            raise _refusal(what, number, answer.strip())
        return output


def _refusal(what: str, number: int, answer: str) -> KernelRefused:
    """Word an error. libnftables does not always leave an errno, but its first line names it."""
    first = answer.partition("\n")[0]
    by_words = next((n for n in (errno.EPERM, errno.ENOENT, errno.EBUSY, errno.EEXIST) if os.strerror(n) in first), 0)
    number = by_words or number or errno.EINVAL
    remedy = ""
    if number == errno.EPERM:
        remedy = "It needs CAP_NET_ADMIN, and a table that no other program owns; run as root, see nft list tables"
    return KernelRefused(what, number, _worded(answer)[:ANSWER_SIZE_MAX] or os.strerror(number), remedy)


def _worded(answer: str) -> str:
    """Say each thing once: of a transaction that is refused nft says the same about each of its commands."""
    said = (line.removeprefix(_NOWHERE) for line in answer.splitlines() if line.strip())
    return "\n".join(dict.fromkeys(said))


def _load() -> ctypes.CDLL:
    """Load the library and declare what is used of it; pointers would be cut to 32 bits otherwise."""
    try:
        library = ctypes.CDLL(SONAME, use_errno=True)
    except OSError as error:
        raise KernelRefused(SONAME, errno.ENOENT, str(error), f"Install it: apt-get install --yes {PACKAGE}") from error
    context, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "nft_ctx_new": (context, [ctypes.c_uint32]),
        "nft_ctx_free": (None, [context]),
        "nft_ctx_buffer_output": (ctypes.c_int, [context]),
        "nft_ctx_buffer_error": (ctypes.c_int, [context]),
        "nft_ctx_get_output_buffer": (text, [context]),
        "nft_ctx_get_error_buffer": (text, [context]),
        "nft_ctx_output_set_flags": (None, [context, number]),
        "nft_ctx_set_dry_run": (None, [context, ctypes.c_bool]),
        "nft_run_cmd_from_buffer": (ctypes.c_int, [context, text]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library
