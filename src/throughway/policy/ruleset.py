"""Our one nftables table, `inet throughway`, as libnftables reads it.

What each base chain is for, in the order in which a forwarded packet meets them:

    prerouting  -450 untracked       conntrack never sees what BPF translates, as far as every fragment
                                     tells it (policy/untracked.py).
    prerouting  -300 untracked_whole the same for what only whole packets tell.
    prerouting  -110 hairpin         notes which of the router's addresses a host speaks to; new flows only.
    forward      -10 forward         what is switched off ends (policy/switches.py); what BPF carries is let
                                     through; all else goes on to
                       going_out     MSS, the PPTP helper, timers (policy/timers.py), the CARRIED bit, the filter
                       coming_in     MSS, the CARRIED bit, the filter (policy/guard.py)
    postrouting   99 paths           which outside address IKE, NAT-T, L2TP and PPTP get, where there is more
                                     than one to choose (policy/paths.py, a transaction of its own).
    postrouting  100 translate       masquerade, and hairpin (policy/translate.py).
    postrouting  110 leaving         holds back what no NAT has translated.

There are few base chains, and the first rule of each lets go of what it is not about: what a packet costs here is the
chains and the interface names that are compared, and with one chain for each task a carried packet took
three times as long as with masquerade (docs/bench.md). The CARRIED bit is for others: somebody else's policy-drop
table needs one rule for all that passthrough carries.

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
from throughway.policy import switches
from throughway.policy.guard import ATTACHED, guard_in, guard_out, leaving
from throughway.policy.kept import PortRules
from throughway.policy.own import (
    FAMILY,
    IS_IPV4,
    IS_UNTRACKED,
    TABLE,
    add,
    base_chain,
    chain,
    rule,
    to_inside,
    to_outside,
)
from throughway.policy.rules import (
    ACCEPT,
    Command,
    bits,
    conntrack,
    goto,
    has,
    is_,
    is_not,
    jump,
    meta,
    one_of,
    payload,
    replace,
)
from throughway.policy.switches import SwitchRules
from throughway.policy.timers import CARRIED_UDP_PORTS, PPTP_PORT, TIMERS, timers
from throughway.policy.translate import translate
from throughway.policy.untracked import WITH_PORTS, untracked, without_rules

MARK_PRIORITY: Final = -10
"""Behind mangle chains (-150), which may rewrite the whole mark, and before filter chains (0)."""

_MARK: Final = "set_carried"

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
    switches: SwitchRules = field(default_factory=SwitchRules)

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
            add("set", name="inside", type="ifname", size=len(settings.insides), elem=sorted(settings.insides)),
            add("set", name=ATTACHED, type="iface_index"),
            *_attached(settings.attached),
            add("ct helper", name="pptp", type="pptp", protocol="tcp", l3proto="ip"),
            *settings.ports.sets(),
            *switches.objects(),
            *switches.fill(outside, settings.switches),
            *untracked(outside, marks, settings.ports, settings.switches.unassisted),
            *_forward(settings),
            *translate(outside),
            *leaving(outside),
        )
    )


def switch(settings: RulesetSettings) -> Ruleset:
    """Have the table that is there follow the switches, at once and with nothing let through in between."""
    rules, outside = settings.switches, settings.outside
    return Ruleset(
        (
            *switches.empty(),
            *switches.fill(outside, rules),
            *without_rules(),
            *untracked(outside, settings.marks, settings.ports, rules.unassisted),
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
    return build(settings).to_json(), timers(limits or Limits())


def _forward(settings: RulesetSettings) -> list[Command]:
    """Decide about what passes between inside and outside.

    The first rules are for what BPF carries, the busiest traffic, and end the chain: to the inside it has its
    address and the bit already, to the outside it is untracked and gets the bit. No rule below is about it.
    """
    base, out, into = "forward", "going_out", "coming_in"
    outside, marks = settings.outside, settings.marks
    is_carried = is_not(bits(meta("mark"), marks.carried), 0)
    is_portless = is_not(payload("ip", "protocol"), one_of(WITH_PORTS))
    set_bit = replace(meta("mark"), {"|": [meta("mark"), marks.carried]})
    return [
        *(chain(name) for name in (_MARK, TIMERS, out, into)),
        rule(_MARK, "", set_bit),
        *_clamp(out, "MSS out"),
        switches.use_helper(out),
        rule(out, "", has(conntrack("state"), "new"), jump(TIMERS)),
        *_mark(out, "out", "original", "dport", ["related", "untracked"]),
        *guard_out(out),
        *_clamp(into, "MSS in"),
        *_mark(into, "in", "reply", "sport", "related"),
        *guard_in(into, ipv6_ipsec=settings.ipv6_ipsec),
        base_chain(base, "filter", "forward", MARK_PRIORITY),
        rule(base, "", jump(switches.SWITCHES)),
        rule(base, "carried in", is_carried, is_(meta("iifname"), outside), IS_IPV4, ACCEPT),
        rule(base, "carried out", IS_UNTRACKED, *to_outside(outside), is_portless, set_bit, ACCEPT),
        *(
            rule(base, f"keeps its port, {name}", IS_UNTRACKED, *to_outside(outside), *datagrams, set_bit, ACCEPT)
            for name, datagrams in settings.ports.datagrams()
        ),
        rule(base, "", *to_outside(outside), goto(out)),
        rule(base, "", *to_inside(outside), goto(into)),
    ]


def _clamp(at: str, comment: str) -> list[Command]:
    """Clamp the MSS of connections through the outside to the routes of both directions.

    `rt mtu` takes the smaller one of the routes to the destination and back to the source, and nft
    never raises an MSS.
    """
    first_segments = is_(bits(payload("tcp", "flags"), ["syn", "rst"]), "syn")
    clamp = replace({"tcp option": {"name": "maxseg", "field": "size"}}, {"rt": {"key": "mtu"}})
    return [rule(at, comment, first_segments, clamp)]


def _mark(at: str, word: str, direction: str, port: str, error: str | list[str]) -> list[Command]:
    """Set the CARRIED bit, and no other, on what a foreign filter has to let through of what the kernel tracks.

    What comes from outside is marked only as the answer to what a host began, as a call that the
    PPTP helper expects, or as an ICMP error about a known flow (RFC 5508 section 4.2 wants those
    delivered). An answer comes from the port that the host spoke to, or conntrack does not know it;
    `ct original proto-dst` would say the same, but nft prints it so that it cannot be read again.

    What leaves untracked is for BPF to translate, which takes the bit away again. So an ICMP packet
    that has the bit there, and not our address, is one that only BPF can keep from leaving.
    """
    began_inside = IS_IPV4, is_(conntrack("direction"), direction)
    udp = is_(payload("udp", port), one_of(CARRIED_UDP_PORTS))
    gre = is_(payload("ip", "protocol"), "gre"), has(conntrack("status"), "expected")
    is_icmp = is_(payload("ip", "protocol"), "icmp")
    return [
        rule(at, f"IKE, NAT-T, L2TP {word}", *began_inside, udp, jump(_MARK)),
        rule(at, f"PPTP control {word}", *began_inside, is_(payload("tcp", port), PPTP_PORT), jump(_MARK)),
        rule(at, f"PPTP calls {word}", *gre, jump(_MARK)),
        rule(at, f"ICMP errors {word}", is_icmp, has(conntrack("state"), error), jump(_MARK)),
    ]
