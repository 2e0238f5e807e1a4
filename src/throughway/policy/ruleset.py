"""Our one nftables table, `inet throughway`, as libnftables JSON.

What each base chain is for, in the order in which a forwarded packet meets them:

    prerouting -450  untracked    conntrack never sees what BPF translates. Before its defragmentation
                                  (-400), which would hold back the fragments of untracked packets.
    forward    -150  adjust       MSS clamping to the route; the kernel's PPTP helper.
    forward     -10  mark_carried the CARRIED bit on what passthrough carries and the kernel tracks, so
                                  that somebody else's policy-drop table needs one rule for all of it.
    forward       0  guard        the filter between outside and inside.
    postrouting 100  translate    masquerade. Untracked packets have no connection and never come here,
                                  so it needs no exception for them.

The chains speak only of packets between an inside and the outside interface: the router's own
traffic, loopback, hairpin between inside networks and other interfaces pass as if we were not here.
Re-injected packets enter below netfilter, on a packet socket, so nothing is needed in output.
"""

import json
from dataclasses import dataclass, field
from typing import Final

from throughway.core.errors import SettingsRejected
from throughway.core.marks import Marks
from throughway.policy.rules import (
    ACCEPT,
    COUNT,
    DROP,
    MASQUERADE,
    NOTRACK,
    Command,
    Statement,
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

FAMILY: Final = "inet"
TABLE: Final = "throughway"

MARK_PRIORITY: Final = -10
"""Behind mangle chains (-150), which may rewrite the whole mark, and before filter chains (0)."""

PPTP_PORT: Final = 1723
"""The control connection (RFC 2637 section 3)."""

CARRIED_UDP_PORTS: Final = (500, 1701, 4500)
"""IKE (RFC 7296 section 2), L2TP (RFC 2661 section 8.1), and IKE and ESP in UDP (RFC 3948 section 2)."""

IFNAME_SIZE_MAX: Final = 15
"""Longest interface name in bytes (IFNAMSIZ of linux/if.h, less the closing zero)."""

ICMPV6_ERRORS: Final = ("destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem")
"""Errors must not be dropped in transit, whether a flow is known or not (RFC 4890 section 4.3.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesetSettings:
    """Which interfaces the table stands between, by name, and the mark bits it uses."""

    insides: tuple[str, ...]
    outside: str
    marks: Marks = field(default_factory=Marks)

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


def build(settings: RulesetSettings) -> Ruleset:
    """Create our table, or replace the one of an earlier run."""
    return Ruleset(
        (
            *remove().commands,
            _add("table"),
            _add("set", name="inside", type="ifname", elem=sorted(settings.insides)),
            _add("ct helper", name="pptp", type="pptp", protocol="tcp", l3proto="ip"),
            *_untracked(settings),
            *_adjust(settings),
            *_mark_carried(settings),
            *_guard(settings),
            *_translate(settings),
        )
    )


def _untracked(settings: RulesetSettings) -> list[Command]:
    """Keep conntrack away from ESP of hosts and from what BPF translated.

    ESP to an address of the router itself is its own IPsec and stays as it is. ESP of the router
    passes output, not prerouting.
    """
    chain = "untracked"
    return [
        _base_chain(chain, "filter", "prerouting", -450),
        _rule(
            chain,
            "translated by BPF",
            is_(meta("iifname"), settings.outside),
            is_not(bits(meta("mark"), settings.marks.own), 0),
            NOTRACK,
        ),
        _rule(
            chain,
            "ESP of hosts",
            is_(meta("iifname"), "@inside"),
            is_(payload("ip", "protocol"), "esp"),
            is_not({"fib": {"result": "type", "flags": ["daddr"]}}, "local"),
            NOTRACK,
        ),
    ]


def _adjust(settings: RulesetSettings) -> list[Command]:
    """Clamp the MSS of connections through the outside to the routes of both directions, and assign the PPTP helper.

    `rt mtu` takes the smaller one of the routes to the destination and back to the source, and nft
    never raises an MSS. Helpers are assigned explicitly: the automatic assignment left the kernel.
    """
    chain = "adjust"
    first_segments = is_(bits(payload("tcp", "flags"), ["syn", "rst"]), "syn")
    clamp = replace({"tcp option": {"name": "maxseg", "field": "size"}}, {"rt": {"key": "mtu"}})
    return [
        _base_chain(chain, "filter", "forward", -150),
        _rule(chain, "MSS out", *_to_outside(settings), first_segments, clamp),
        _rule(chain, "MSS in", *_to_inside(settings), first_segments, clamp),
        _rule(
            chain,
            "PPTP call IDs",
            *_to_outside(settings),
            is_(meta("nfproto"), "ipv4"),
            is_(payload("tcp", "dport"), PPTP_PORT),
            {"ct helper": "pptp"},
        ),
    ]


def _mark_carried(settings: RulesetSettings) -> list[Command]:
    """Set the CARRIED bit, and no other, on what a foreign filter has to let through.

    What comes from outside is marked only as the answer to what a host began, as a call that the
    PPTP helper expects, or as an ICMP error about a known flow (RFC 5508 section 4.2 wants those
    delivered). An answer comes from the port that the host spoke to, or conntrack does not know it;
    `ct original proto-dst` would say the same, but nft prints it so that it cannot be read again.
    """
    base, mark = "mark_carried", "set_carried"
    gre = is_(payload("ip", "protocol"), "gre"), has(conntrack("status"), "expected")
    errors = is_(payload("ip", "protocol"), "icmp"), has(conntrack("state"), "related")
    rules = [_rule(base, "ESP of hosts", *_to_outside(settings), is_(payload("ip", "protocol"), "esp"), jump(mark))]
    for word, path, direction, port in (
        ("out", _to_outside(settings), "original", "dport"),
        ("in", _to_inside(settings), "reply", "sport"),
    ):
        began_inside = (*path, is_(meta("nfproto"), "ipv4"), is_(conntrack("direction"), direction))
        udp = is_(payload("udp", port), one_of(CARRIED_UDP_PORTS))
        rules += [
            _rule(base, f"IKE, NAT-T, L2TP {word}", *began_inside, udp, jump(mark)),
            _rule(base, f"PPTP control {word}", *began_inside, is_(payload("tcp", port), PPTP_PORT), jump(mark)),
            _rule(base, f"PPTP calls {word}", *path, *gre, jump(mark)),
            _rule(base, f"ICMP errors {word}", *path, *errors, jump(mark)),
        ]
    return [
        _chain(mark),
        _rule(mark, "", replace(meta("mark"), {"|": [meta("mark"), settings.marks.carried]})),
        _base_chain(base, "filter", "forward", MARK_PRIORITY),
        *rules,
    ]


def _guard(settings: RulesetSettings) -> list[Command]:
    """Let in only what the inside asked for, and keep inside addresses from leaving.

    A host's ICMP error about an untracked packet is invalid to conntrack and would leave with the
    inside address: it is dropped, as is all else that masquerade cannot translate. Port forwarding
    that the operator set up in another table (dnat) is what the operator asked for.
    """
    chain = "guard"
    inbound = _to_inside(settings)
    return [
        _base_chain(chain, "filter", "forward", 0),
        _rule(
            chain,
            "would leave untranslated",
            *_to_outside(settings),
            is_(meta("nfproto"), "ipv4"),
            has(conntrack("state"), "invalid"),
            COUNT,
            DROP,
        ),
        _rule(
            chain,
            "carried",
            *inbound,
            is_(meta("nfproto"), "ipv4"),
            is_not(bits(meta("mark"), settings.marks.carried), 0),
            ACCEPT,
        ),
        _rule(chain, "answers", *inbound, has(conntrack("state"), ["established", "related"]), ACCEPT),
        _rule(chain, "port forwarding", *inbound, has(conntrack("status"), "dnat"), ACCEPT),
        _rule(chain, "errors", *inbound, is_(payload("icmpv6", "type"), one_of(ICMPV6_ERRORS)), ACCEPT),
        _rule(chain, "not asked for", *inbound, COUNT, DROP),
    ]


def _translate(settings: RulesetSettings) -> list[Command]:
    """Masquerade what hosts send. The router's own packets have the outside address already."""
    chain = "translate"
    return [
        _base_chain(chain, "nat", "postrouting", 100),
        _rule(chain, "", *_to_outside(settings), is_(meta("nfproto"), "ipv4"), MASQUERADE),
    ]


def _to_outside(settings: RulesetSettings) -> tuple[Statement, Statement]:
    return is_(meta("iifname"), "@inside"), is_(meta("oifname"), settings.outside)


def _to_inside(settings: RulesetSettings) -> tuple[Statement, Statement]:
    return is_(meta("iifname"), settings.outside), is_(meta("oifname"), "@inside")


def _add(kind: str, **attributes: object) -> Command:
    place = {"family": FAMILY, "name": TABLE} if kind == "table" else {"family": FAMILY, "table": TABLE}
    return {"add": {kind: {**place, **attributes}}}


def _chain(name: str) -> Command:
    return _add("chain", name=name)


def _base_chain(name: str, kind: str, hook: str, priority: int) -> Command:
    return _add("chain", name=name, type=kind, hook=hook, prio=priority, policy="accept")


def _rule(chain: str, comment: str, *statements: Statement) -> Command:
    extra = {"comment": comment} if comment else {}
    return _add("rule", chain=chain, expr=list(statements), **extra)
