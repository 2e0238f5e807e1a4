"""Our one nftables table, `inet throughway`, as libnftables reads it.

What each base chain is for, in the order in which a forwarded packet meets them:

    prerouting  -450 untracked       conntrack never sees what BPF translates, as far as every fragment
                                     tells it (policy/untracked.py).
    prerouting  -300 untracked_whole the same for what only whole packets tell.
    prerouting  -110 hairpin         notes which of the router's addresses a host speaks to.
    forward     -150 adjust          MSS clamping to the route; the kernel's PPTP helper.
    forward     -150 timers          how long conntrack remembers flows of VPNs (policy/timers.py).
    forward      -10 mark_carried    the CARRIED bit on what passthrough carries, so that somebody
                                     else's policy-drop table needs one rule for all of it.
    forward        0 guard           the filter between outside and inside (policy/guard.py).
    postrouting   99 paths           which outside address IKE, NAT-T, L2TP and PPTP get, where there is more
                                     than one to choose (policy/paths.py, a transaction of its own).
    postrouting  100 translate       masquerade, and hairpin (policy/translate.py).
    postrouting  110 leaving         holds back what no NAT has translated.

The chains speak only of packets between an inside and the outside interface, and of hairpin between
inside hosts: the router's own traffic, loopback and other interfaces pass as if we were not here.
Re-injected packets enter below netfilter, on a packet socket, so nothing is needed in output.
"""

import json
from dataclasses import dataclass, field
from typing import Final

from throughway.core.errors import SettingsRejected
from throughway.core.limits import Limits
from throughway.core.marks import Marks
from throughway.policy.guard import ATTACHED, guard, leaving
from throughway.policy.kept import PortRules
from throughway.policy.own import FAMILY, IS_IPV4, TABLE, add, base_chain, chain, rule, to_inside, to_outside
from throughway.policy.rules import (
    Command,
    bits,
    conntrack,
    has,
    is_,
    is_not,
    jump,
    meta,
    one_of,
    payload,
    replace,
)
from throughway.policy.timers import CARRIED_UDP_PORTS, PPTP_PORT, timers
from throughway.policy.translate import translate
from throughway.policy.untracked import WITH_PORTS, untracked

MARK_PRIORITY: Final = -10
"""Behind mangle chains (-150), which may rewrite the whole mark, and before filter chains (0)."""

IFNAME_SIZE_MAX: Final = 15
"""Longest interface name in bytes (IFNAMSIZ of linux/if.h, less the closing zero)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesetSettings:
    """Which interfaces the table stands between, by name, the mark bits it uses, and what it lets in."""

    insides: tuple[str, ...]
    outside: str
    marks: Marks = field(default_factory=Marks)
    ipv6_ipsec: bool = True
    """Whether IPsec over IPv6 reaches inside hosts unasked (RFC 6092 section 3.2.4)."""
    attached: int | None = None
    """The index of the outside interface where it has the programs already, from an earlier run."""
    ports: PortRules = field(default_factory=PortRules)

    def __post_init__(self) -> None:
        """Refuse names that no interface can have; the operator gave them."""
        if not self.insides:
            raise SettingsRejected("inside.interface", "name at least one inside interface")
        for key, name in (("outside.interface", self.outside), *(("inside.interface", n) for n in self.insides)):
            if not 0 < len(name.encode()) <= IFNAME_SIZE_MAX or any(c in '/*"' or c.isspace() for c in name):
                raise SettingsRejected(key, f"{name!r} is no interface name; `ip -brief link` lists them")
        if len(set(self.insides)) != len(self.insides):
            raise SettingsRejected("inside.interface", "an interface is named twice")
        if self.outside in self.insides:
            raise SettingsRejected("outside.interface", f"{self.outside} is named as inside too; it can be only one")


@dataclass(frozen=True, slots=True)
class Ruleset:
    """One transaction: all of its commands are carried out, or none."""

    commands: tuple[Command, ...]

    def to_json(self, *, indent: int | None = None) -> str:
        """Write the transaction as libnftables reads it."""
        document = {"nftables": [{"metainfo": {"json_schema_version": 1}}, *self.commands]}
        return json.dumps(document, indent=indent)


def remove() -> Ruleset:
    """Take our table away, and nothing else. It is no error when there is none."""
    table = {"table": {"family": FAMILY, "name": TABLE}}
    return Ruleset(({"add": table}, {"delete": table}))


def update(*commands: Command) -> Ruleset:
    """Make one transaction of commands about the table that is there."""
    return Ruleset(commands)


def build(settings: RulesetSettings) -> Ruleset:
    """Create our table, or replace the one of an earlier run; all but its timers."""
    outside, marks = settings.outside, settings.marks
    return Ruleset(
        (
            *remove().commands,
            add("table"),
            add("set", name="inside", type="ifname", elem=sorted(settings.insides)),
            add("set", name=ATTACHED, type="iface_index"),
            *_attached(settings.attached),
            add("ct helper", name="pptp", type="pptp", protocol="tcp", l3proto="ip"),
            *settings.ports.sets(),
            *untracked(outside, marks, settings.ports),
            *_adjust(outside),
            *_mark_carried(outside, marks, settings.ports),
            *guard(outside, marks, settings.ports, ipv6_ipsec=settings.ipv6_ipsec),
            *translate(outside),
            *leaving(outside),
        )
    )


def attached(index: int | None) -> Ruleset:
    """Note on which outside interface the programs are now; None for none."""
    return Ruleset(({"flush": {"set": {"family": FAMILY, "table": TABLE, "name": ATTACHED}}}, *_attached(index)))


def _attached(index: int | None) -> list[Command]:
    return [] if index is None else [add("element", name=ATTACHED, elem=[index])]


def transactions(settings: RulesetSettings, limits: Limits | None = None) -> tuple[str, ...]:
    """Write all that makes our table, or replaces it, as transactions in the order in which they are carried out.

    The last one is of timers alone: while it is missing, everything passes, with the kernel's own.
    """
    return build(settings).to_json(), timers(settings.insides, settings.outside, limits or Limits())


def _adjust(outside: str) -> list[Command]:
    """Clamp the MSS of connections through the outside to the routes of both directions, and assign the PPTP helper.

    `rt mtu` takes the smaller one of the routes to the destination and back to the source, and nft
    never raises an MSS. Helpers are assigned explicitly: the automatic assignment left the kernel.
    """
    adjust = "adjust"
    first_segments = is_(bits(payload("tcp", "flags"), ["syn", "rst"]), "syn")
    clamp = replace({"tcp option": {"name": "maxseg", "field": "size"}}, {"rt": {"key": "mtu"}})
    return [
        base_chain(adjust, "filter", "forward", -150),
        rule(adjust, "MSS out", *to_outside(outside), first_segments, clamp),
        rule(adjust, "MSS in", *to_inside(outside), first_segments, clamp),
        rule(
            adjust,
            "PPTP call IDs",
            *to_outside(outside),
            IS_IPV4,
            is_(payload("tcp", "dport"), PPTP_PORT),
            {"ct helper": "pptp"},
        ),
    ]


def _mark_carried(outside: str, marks: Marks, ports: PortRules) -> list[Command]:
    """Set the CARRIED bit, and no other, on what a foreign filter has to let through.

    What comes from outside is marked only as the answer to what a host began, as a call that the
    PPTP helper expects, or as an ICMP error about a known flow (RFC 5508 section 4.2 wants those
    delivered). An answer comes from the port that the host spoke to, or conntrack does not know it;
    `ct original proto-dst` would say the same, but nft prints it so that it cannot be read again.

    What leaves untracked is for BPF to translate, which takes the bit away again. So an ICMP packet
    that has the bit there, and not our address, is one that only BPF can keep from leaving.
    """
    base, mark = "mark_carried", "set_carried"
    gre = is_(payload("ip", "protocol"), "gre"), has(conntrack("status"), "expected")
    is_icmp = is_(payload("ip", "protocol"), "icmp")
    is_untracked = has(conntrack("state"), "untracked")
    without_ports = is_not(payload("ip", "protocol"), one_of(WITH_PORTS))
    rules = [rule(base, "without ports", *to_outside(outside), is_untracked, without_ports, jump(mark))]
    rules += [
        rule(base, f"keeps its port, {name}", *to_outside(outside), is_untracked, *datagrams, jump(mark))
        for name, datagrams in ports.datagrams()
    ]
    for word, path, direction, port, error in (
        ("out", to_outside(outside), "original", "dport", ["related", "untracked"]),
        ("in", to_inside(outside), "reply", "sport", "related"),
    ):
        began_inside = (*path, IS_IPV4, is_(conntrack("direction"), direction))
        udp = is_(payload("udp", port), one_of(CARRIED_UDP_PORTS))
        rules += [
            rule(base, f"IKE, NAT-T, L2TP {word}", *began_inside, udp, jump(mark)),
            rule(base, f"PPTP control {word}", *began_inside, is_(payload("tcp", port), PPTP_PORT), jump(mark)),
            rule(base, f"PPTP calls {word}", *path, *gre, jump(mark)),
            rule(base, f"ICMP errors {word}", *path, is_icmp, has(conntrack("state"), error), jump(mark)),
        ]
    return [
        chain(mark),
        rule(mark, "", replace(meta("mark"), {"|": [meta("mark"), marks.carried]})),
        base_chain(base, "filter", "forward", MARK_PRIORITY),
        *rules,
    ]
