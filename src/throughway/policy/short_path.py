"""Whether packets may go around netfilter: only while nobody but us looks at them there. Pure.

The rules themselves are not read. A chain at one of these hooks may count, log or drop by anything, so its being
there is enough for the long way.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from throughway.policy.own import FAMILY, TABLE
from throughway.policy.tables import read_tables

_FAMILIES: Final = ("ip", "inet", "netdev")
_HOOKS: Final = ("prerouting", "forward", "postrouting", "ingress", "egress")
"""Where a forwarded IPv4 packet passes between our two programs. Bridges look before and after."""

_NAT: Final = "nat"
"""Chains of this type, and the legacy table, see only what connection tracking follows: nothing that is carried."""


def who_looks(chains: Mapping[str, Any], legacy_tables: Iterable[str]) -> str | None:
    """Name somebody else's chain or legacy table that looks at forwarded packets; None when there is none.

    `chains` is nft's listing of all chains, `legacy_tables` are the names of the tables of iptables-legacy.
    """
    for table in read_tables(chains):
        if table.family not in _FAMILIES or (table.family, table.name) == (FAMILY, TABLE):
            continue
        for chain in table.chains.values():
            if chain.hook in _HOOKS and chain.kind != _NAT:
                return f"{table.family} {table.name} {chain.name}"
    return next((f"iptables-legacy {name}" for name in sorted(legacy_tables) if name != _NAT), None)
