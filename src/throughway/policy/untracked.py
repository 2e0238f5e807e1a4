"""What connection tracking never sees, because BPF translates it: what has no ports or keeps them, and ICMP errors
about that.

There are two places for it. Most is told by the IP header, which every fragment has, and leaves
tracking before its defragmentation (-400): BPF carries each fragment by itself, and the defragmentation
would hold back those that follow an untracked first one.

Three things are told only by what stands behind the IP header, in the first fragment alone: the version
of GRE, whose version 1 is PPTP's and has to stay tracked for the kernel's helper, the ports of UDP, and the packet
that an ICMP error quotes. These leave tracking when they are whole again, after the defragmentation and before
tracking itself (-200). So later fragments need no guess, in whatever order they come; the kernel
fragments such packets again on their way out, as large as they came.
"""

from collections.abc import Collection
from typing import Final

from throughway.core.discriminators import NOT_OURS
from throughway.core.ids import IpProtocol
from throughway.core.marks import Marks
from throughway.policy.kept import PortRules
from throughway.policy.own import FAMILY, INSIDE, IS_UNTRACKED, TABLE, base_chain, fib_type, rule
from throughway.policy.rules import (
    ACCEPT,
    NOTRACK,
    Command,
    Statement,
    behind_ip,
    bits,
    is_,
    is_not,
    meta,
    one_of,
    payload,
)

PRIORITY: Final = -450
PRIORITY_WHOLE: Final = -300

WITH_PORTS: Final = tuple(sorted({int(protocol) for protocol in NOT_OURS}))
"""Protocols that stay with the kernel whatever the packet is."""

TOLD_BY_HEADER: Final = tuple(sorted({*WITH_PORTS, int(IpProtocol.GRE)}))
"""Every other protocol than these is known by its number to be carried by BPF."""

ICMP_ERRORS: Final = ("destination-unreachable", "source-quench", "time-exceeded", "parameter-problem")
"""Messages that quote a packet which could not be delivered (RFC 792). A redirect does so too, but is for the sender's
own link, and no NAT passes it on."""

_GRE_VERSION: Final = 13, 3
"""The last three of GRE's first 16 bits (RFC 2784 section 2.1, RFC 2637 section 4.1)."""

_QUOTED_VERSION_AND_LENGTH: Final = 8 * 8, 8
_QUOTED_PROTOCOL: Final = (8 + 9) * 8, 8
_QUOTED_DESTINATION: Final = (8 + 16) * 8, 32
_QUOTED_GRE_VERSION: Final = (8 + 20) * 8 + 13, 3
"""The ICMP header is 8 bytes; behind it stands the quoted IP header (RFC 792), which has 20 bytes without options."""

_WITHOUT_OPTIONS, _LONGEST = 0x45, 0x4F
"""Version 4 and the header's length in units of four bytes (RFC 791 section 3.1)."""

ERROR_SIZE_MAX: Final = 576
"""Bytes of an ICMP error (RFC 1812 section 4.3.2.3). So BPF gets it in one piece, and can read it."""


_CHAINS: Final = "untracked", "untracked_whole"


def without_rules() -> list[Command]:
    """Empty the chains, in the transaction that fills them anew."""
    return [{"flush": {"chain": {"family": FAMILY, "table": TABLE, "name": name}}} for name in _CHAINS]


def untracked(outside: str, marks: Marks, ports: PortRules, unassisted: Collection[int] = ()) -> list[Command]:
    """Keep connection tracking away from what BPF carries or has translated.

    What hosts send to an address of the router itself is for its own stack, and multicast and broadcast
    go nowhere through a NAT. What the router sends itself passes output, not prerouting. Of ICMP errors
    only those leave tracking that BPF can read, since all others nobody would translate: they stay
    tracked, as invalid, and the guard drops them. What is `unassisted` stays with connection tracking as a whole.
    """
    early, late = _CHAINS
    told = sorted({*TOLD_BY_HEADER, *unassisted})
    from_hosts, elsewhere = is_(meta("iifname"), INSIDE), is_(fib_type("daddr"), "unicast")
    error: tuple[Statement, ...] = (
        from_hosts,
        is_(payload("icmp", "type"), one_of(ICMP_ERRORS)),
        is_(payload("ip", "length"), {"range": [0, ERROR_SIZE_MAX]}),
        is_not(behind_ip(*_QUOTED_DESTINATION), 0),
    )
    gre = [
        rule(
            late,
            "GRE but PPTP's",
            from_hosts,
            is_(payload("ip", "protocol"), int(IpProtocol.GRE)),
            is_(behind_ip(*_GRE_VERSION), 0),
            elsewhere,
            NOTRACK,
        ),
    ]
    errors_about_gre = [
        rule(
            late,
            "errors about GRE but PPTP's",
            *error,
            is_(behind_ip(*_QUOTED_PROTOCOL), int(IpProtocol.GRE)),
            is_(behind_ip(*_QUOTED_VERSION_AND_LENGTH), _WITHOUT_OPTIONS),
            is_(behind_ip(*_QUOTED_GRE_VERSION), 0),
            elsewhere,
            NOTRACK,
        ),
    ]
    has_gre = IpProtocol.GRE not in unassisted
    return [
        base_chain(early, "filter", "prerouting", PRIORITY),
        rule(
            early,
            "translated by BPF",
            is_not(bits(meta("mark"), marks.own), 0),
            is_(meta("iifname"), outside),
            NOTRACK,
            ACCEPT,
        ),
        rule(
            early,
            "without ports",
            from_hosts,
            is_not(payload("ip", "protocol"), one_of(told)),
            elsewhere,
            NOTRACK,
        ),
        base_chain(late, "filter", "prerouting", PRIORITY_WHOLE),
        rule(late, "is already", IS_UNTRACKED, ACCEPT),
        *(gre if has_gre else ()),
        rule(
            late,
            "errors about what has no ports",
            *error,
            is_not(behind_ip(*_QUOTED_PROTOCOL), one_of(told)),
            is_(behind_ip(*_QUOTED_VERSION_AND_LENGTH), {"range": [_WITHOUT_OPTIONS, _LONGEST]}),
            elsewhere,
            NOTRACK,
        ),
        *(errors_about_gre if has_gre else ()),
        *(
            rule(late, f"keeps its port, {name}", from_hosts, *datagrams, elsewhere, NOTRACK)
            for name, datagrams in ports.datagrams()
        ),
        *(
            rule(late, f"errors about what keeps its port, {name}", *error, *about, elsewhere, NOTRACK)
            for name, about in ports.errors()
        ),
    ]
