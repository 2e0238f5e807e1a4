"""Look up single flows in the kernel's connection tracking, by what names them: some ten microseconds for each.

Reading the whole table instead costs by its size, whether or not anybody wants to know what is in it.
"""

import os
import time
from collections.abc import Iterable, Sequence
from errno import ENOENT
from itertools import islice
from typing import Final

from throughway.core.errors import KernelRefused
from throughway.core.tracked import TrackedFlow, TrackedTuple
from throughway.dataplane import conntrack
from throughway.dataplane import ctnetlink as nl
from throughway.dataplane.ctnetlink import attribute

BATCH: Final = 32
"""Flows that are asked for before the kernel's answers are read; so many answers find room in a socket."""


class Lookup:
    """A socket to connection tracking. To be closed."""

    def __init__(self) -> None:
        self._kernel: Final = nl.open_socket()

    def close(self) -> None:
        """End it."""
        self._kernel.close()

    def find(self, wanted: Iterable[tuple[int, TrackedTuple]]) -> list[TrackedFlow | None]:
        """Return the flow of each protocol and tuple, in either direction; None for what is not tracked.

        Raises KernelRefused; the socket is of no more use then.
        """
        left = iter(wanted)
        found: list[TrackedFlow | None] = []
        while batch := list(islice(left, BATCH)):
            found += self._batch(batch)
        return found

    def _batch(self, wanted: Sequence[tuple[int, TrackedTuple]]) -> list[TrackedFlow | None]:
        now_ns = time.time_ns()
        requests = (nl.message(nl.CONNTRACK_GET, nl.REQUEST_ONE, _name(*one)) for one in wanted)
        self._kernel.send(b"".join(requests))
        found: list[TrackedFlow | None] = []
        while len(found) < len(wanted):
            for kind, content in nl.received(self._kernel, "conntrack look-up"):
                if kind != nl.MESSAGE_ERROR:
                    found.append(conntrack.parse(content[nl.FAMILY.size :], now_ns))
                elif (number := nl.error_number(content)) == ENOENT:
                    found.append(None)
                else:
                    raise KernelRefused("conntrack look-up", number, os.strerror(number), "It needs CAP_NET_ADMIN")
        return found


def _name(protocol: int, one: TrackedTuple) -> bytes:
    addresses = attribute(nl.IP_SOURCE, one.source.packed) + attribute(nl.IP_DESTINATION, one.destination.packed)
    numbers = attribute(nl.PROTOCOL_NUMBER, bytes([protocol]))
    numbers += attribute(nl.PROTOCOL_SOURCE, one.source_key.to_bytes(2, "big"))
    numbers += attribute(nl.PROTOCOL_DESTINATION, one.destination_key.to_bytes(2, "big"))
    return attribute(
        nl.TUPLE_ORIGINAL | nl.NESTED,
        attribute(nl.TUPLE_IP | nl.NESTED, addresses) + attribute(nl.TUPLE_PROTOCOL | nl.NESTED, numbers),
    )
