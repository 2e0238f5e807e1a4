"""The filter between outside and inside: what comes in, and what may leave."""

from typing import Final

from throughway.core.discriminators import NOT_OURS
from throughway.core.ids import IpProtocol
from throughway.policy.own import IS_IPV4, IS_IPV6, IS_UNTRACKED, add, base_chain, rule, to_outside
from throughway.policy.rules import (
    ACCEPT,
    COUNT,
    DROP,
    Command,
    bits,
    conntrack,
    count_as,
    has,
    is_,
    meta,
    one_of,
    payload,
    reject,
)

AH_REFUSED: Final = "ah_refused"
"""The named counter of AH that hosts sent and that was refused."""

NEVER_UNTRACKED: Final = tuple(sorted(int(protocol) for protocol in NOT_OURS if protocol != IpProtocol.ICMP))
"""What only connection tracking can translate."""

ATTACHED: Final = "attached"
"""The set of the outside interfaces, by index, that have the programs which translate."""

PRIORITY_LEAVING: Final = 110
"""Behind source NAT (100), whoever does it."""

ICMPV6_ERRORS: Final = ("destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem")
"""Errors must not be dropped in transit, whether a flow is known or not (RFC 4890 section 4.3.1)."""

_IPV6_IPSEC: Final = (
    int(IpProtocol.ESP),
    int(IpProtocol.AH),
    139,  # Host Identity Protocol
)
"""What has to come in by default (RFC 6092 section 3.2.4), beside IKE."""

_IKE_PORT: Final = 500
"""The same section; no other port, since nothing between IPv6 hosts translates addresses."""


def guard_in(chain: str, *, ipv6_ipsec: bool) -> list[Command]:
    """Let in only what the inside asked for. What BPF carries does not come here.

    Port forwarding that the operator set up in another table (dnat) is what the operator asked for. With
    `ipv6_ipsec` IPsec and what announces its failures come in over IPv6 unasked, as RFC 6092 section 3.2.4
    wants it by default. Without it the state that a host began decides alone; connection tracking has one for
    each pair of addresses and protocol, which is what that section asks for.
    """
    return [
        rule(chain, "answers", has(conntrack("state"), ["established", "related"]), ACCEPT),
        rule(chain, "port forwarding", has(conntrack("status"), "dnat"), ACCEPT),
        *(_ipv6_ipsec(chain) if ipv6_ipsec else ()),
        rule(chain, "not asked for", COUNT, DROP),
    ]


def _ipv6_ipsec(chain: str) -> list[Command]:
    to_ike = is_(payload("udp", "dport"), _IKE_PORT)
    return [
        rule(chain, "IPv6 IPsec", IS_IPV6, is_(meta("l4proto"), one_of(_IPV6_IPSEC)), ACCEPT),
        rule(chain, "IPv6 IKE", IS_IPV6, to_ike, ACCEPT),
        rule(chain, "IPv6 errors", is_(payload("icmpv6", "type"), one_of(ICMPV6_ERRORS)), ACCEPT),
    ]


def guard_out(chain: str) -> list[Command]:
    """Let nothing out that nobody will translate, and tell a host that its AH cannot pass.

    AH authenticates both addresses (RFC 4302 section 3.3.3.1.1.1), so a NAT that carried it would only let
    its receiver discard it (RFC 3715 section 2.1); the host shall know, and at once. What has no ports, or keeps
    them, leaves untracked, and BPF translates or drops it; that does not come here.
    """
    is_never = is_(payload("ip", "protocol"), one_of(NEVER_UNTRACKED))
    return [
        add("counter", name=AH_REFUSED),
        rule(
            chain,
            "AH cannot pass a NAT",
            is_(payload("ip", "protocol"), int(IpProtocol.AH)),
            count_as(AH_REFUSED),
            reject("admin-prohibited"),
        ),
        rule(chain, "would leave untranslated", IS_IPV4, has(conntrack("state"), "invalid"), COUNT, DROP),
        rule(chain, "untracked by others", IS_UNTRACKED, is_never, COUNT, DROP),
    ]


def leaving(outside: str) -> list[Command]:
    """Keep back what source NAT has left alone: flows that were there before our rules were.

    Translation is decided by the first packet of a flow. What a host sends is translated at its source
    when the host began, and by the reverse of a port forwarding when somebody outside did. What is untracked
    is for BPF: an interface that is made anew (ppp0 at every redial) is up before the programs are on it.
    """
    leaving = "leaving"
    outbound = *to_outside(outside), IS_IPV4
    return [
        base_chain(leaving, "filter", "postrouting", PRIORITY_LEAVING),
        rule(leaving, "not for NAT", IS_UNTRACKED, is_(meta("oif"), f"@{ATTACHED}"), ACCEPT),
        rule(leaving, "no programs yet", *outbound, IS_UNTRACKED, COUNT, DROP),
        *(
            rule(
                leaving,
                f"{direction} left untranslated",
                *outbound,
                is_(conntrack("direction"), direction),
                is_(bits(conntrack("status"), status), 0),
                COUNT,
                DROP,
            )
            for direction, status in (("original", "snat"), ("reply", "dnat"))
        ),
    ]
