"""The first packets of flows, as the kernel copies them: says which are wanted, reads them, and says what is decided.

bpf/heads.h has the other half. Nothing of it is pinned: while no daemon reads, the ring is full or the filters are
gone, and a new daemon begins with empty tables.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from throughway.core.limits import Limits
from throughway.dataplane import head_abi
from throughway.dataplane.head_abi import HeadCount, HeadState
from throughway.dataplane.libbpf_maps import BpfMap
from throughway.dataplane.ring import Ring
from throughway.detect.prefilters import Prefilters

TABLES: Final = ("head_rules", "head_flows", "head_tls", "head_budgets", "head_counts", "head_copies", "heads_seen")

_ZERO: Final = struct.pack("=I", 0)
_GENERATIONS: Final = 1 << 16


class Heads:
    """One gateway's heads. Flows are named by the bytes of their `struct head_key`, which `head_abi` reads."""

    def __init__(self, maps: Mapping[str, BpfMap], limits: Limits) -> None:
        """Take over the tables of a loaded object; nothing is copied before `use`."""
        self._rules: Final = maps["head_rules"]
        self._flows: Final = maps["head_flows"]
        self._counts: Final = maps["head_counts"]
        self._limits: Final = limits
        self._ring: Final = Ring(maps["heads_seen"].fd, maps["heads_seen"].max_entries)
        self._generation = 0

    def use(self, prefilters: Prefilters) -> None:
        """Have the kernel copy what these let through; with none, nothing. Flows of UDP are looked at anew."""
        self._generation = (self._generation + 1) % _GENERATIONS
        packed = head_abi.pack_rules(
            prefilters.all,
            generation=self._generation,
            size_max=prefilters.payload_bytes,
            per_host=self._limits.heads_per_host_rate,
            per_peer=self._limits.heads_per_peer_rate,
        )
        self._rules.update(_ZERO, packed)

    def fileno(self) -> int:
        """Give the descriptor that becomes readable when there is a head."""
        return self._ring.fileno()

    def read(self, limit: int) -> list[bytes]:
        """Take out at most so many heads, oldest first: each a `struct head` and the payload behind it."""
        return self._ring.read(limit)

    def finish(self, keys: Iterable[bytes]) -> None:
        """Copy nothing more of these flows, which are decided."""
        value = head_abi.pack_flow(HeadState.DONE, self._generation)
        self._flows.update_batch(dict.fromkeys(keys, value))

    def forget(self, key: bytes) -> None:
        """Look at a flow of UDP anew from its next packet on; one of TCP from its next SYN on."""
        self._flows.delete(key)

    def counts(self) -> dict[HeadCount, int]:
        """Read how many heads were copied, and how many were not and why."""
        totals: dict[HeadCount, int] = {}
        for what in HeadCount:
            value = self._counts.lookup(struct.pack("=I", what)) or b""
            totals[what] = sum(struct.unpack(f"={len(value) // 8}Q", value))
        return totals

    def close(self) -> None:
        """Have nothing copied any more, also by programs that stay at work."""
        self.use(Prefilters())
        self._ring.close()
