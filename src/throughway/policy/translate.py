"""Source NAT of what connection tracking carries."""

from typing import Final

from throughway.policy.own import INSIDE, IS_IPV4, add, base_chain, fib_type, rule, to_outside
from throughway.policy.rules import (
    MASQUERADE,
    Command,
    conntrack,
    has,
    is_,
    is_not,
    meta,
    payload,
    source_nat,
    update,
)

HAIRPIN_PRIORITY: Final = -110
"""Behind connection tracking (-200), before destination NAT (-100)."""

_ADDRESSES: Final = "other_addresses"
_ADDRESSES_MAX: Final = 256
_ADDRESS_S: Final = 60
"""How long an address is remembered. Source NAT asks for it when the same packet leaves."""


def translate(outside: str) -> list[Command]:
    """Masquerade what hosts send, and hairpin what they send to each other by an address of the outside.

    The router's own packets have the outside address already. Untracked packets have no connection and
    never come here.
    """
    chain = "translate"
    return [
        base_chain(chain, "nat", "postrouting", 100),
        rule(chain, "", *to_outside(outside), IS_IPV4, MASQUERADE),
        *_hairpin(chain),
    ]


def _hairpin(chain: str) -> list[Command]:
    """Give a host that uses somebody's port forwarding from inside the address that it spoke to (RFC 4787 REQ-9).

    Without that the answer would go to it directly, from an address that it never spoke to. Which addresses
    this concerns is noted before the destination is translated: those of the router, save that of
    the interface by which the packet came. Other redirections of the operator keep their sources. A chain of
    type nat sees new flows only, and costs all others nothing.
    """
    note = "hairpin"
    addresses = f"@{_ADDRESSES}"
    return [
        add(
            "set",
            name=_ADDRESSES,
            type="ipv4_addr",
            flags=["timeout"],
            timeout=_ADDRESS_S,
            size=_ADDRESSES_MAX,
        ),
        base_chain(note, "nat", "prerouting", HAIRPIN_PRIORITY),
        rule(
            note,
            "",
            is_(meta("iifname"), INSIDE),
            IS_IPV4,
            is_(fib_type("daddr"), "local"),
            is_not(fib_type("daddr", "iif"), "local"),
            update(addresses, payload("ip", "daddr")),
        ),
        rule(
            chain,
            "hairpin",
            is_(meta("iifname"), INSIDE),
            is_(meta("oifname"), INSIDE),
            has(conntrack("status"), "dnat"),
            is_(conntrack("ip daddr", "original"), addresses),
            source_nat(conntrack("ip daddr", "original")),
        ),
    ]
