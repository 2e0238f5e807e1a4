"""Findings about other tables: what in them would drop or bend what passthrough carries.

An accept in our table does not override a drop in another one: every base chain at a hook has to
let a packet pass. So each foreign forward chain is walked with each kind of packet that we carry.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any, Final

from throughway.core.findings import Finding, Level
from throughway.core.marks import Marks
from throughway.policy.carried import carried_packets
from throughway.policy.judging import End, Verdict, judge
from throughway.policy.matching import Packet, holds
from throughway.policy.own import FAMILY, TABLE
from throughway.policy.remedies import let_carried_through
from throughway.policy.ruleset import MARK_PRIORITY
from throughway.policy.tables import Chain, Rule, Table, read_tables
from throughway.policy.timers import PPTP_PORT

DROPS_CARRIED: Final = "firewall.drops-carried"
MAY_DROP_CARRIED: Final = "firewall.may-drop-carried"
FORWARD_FREE: Final = "firewall.forward-free"
FOREIGN_NAT: Final = "firewall.foreign-nat"
DUPLICATE_HELPER: Final = "firewall.duplicate-helper"
FLOW_OFFLOAD: Final = "firewall.flow-offload"
LEGACY_TABLES: Final = "firewall.iptables-legacy"

_IPV4_FAMILIES: Final = ("ip", "inet")


def findings_for(
    ruleset: Mapping[str, Any],
    marks: Marks,
    insides: Sequence[str],
    outside: str,
    *,
    outside_address: IPv4Address | None = None,
) -> list[Finding]:
    """Judge a listing of all tables (libnftables JSON), as it is with our table or without it.

    With no drop found, one finding of level ok says so.
    """
    tables = [t for t in read_tables(ruleset) if (t.family, t.name) != (FAMILY, TABLE)]
    found = [
        *(f for t in tables for f in _dropping_chains(t, marks, insides, outside)),
        *(f for t in tables for f in _foreign_nat(t, insides, outside, outside_address)),
        *(f for t in tables for f in _duplicate_helpers(t)),
        *(f for t in tables for f in _offloads(t, insides, outside)),
    ]
    if not any(f.code in (DROPS_CARRIED, MAY_DROP_CARRIED) for f in found):
        found.insert(0, Finding(FORWARD_FREE, Level.OK, "No other nftables table drops what passthrough carries."))
    return found


def legacy_finding(table_names: Sequence[str], marks: Marks, forward_rules: str | None) -> Finding | None:
    """Word what is to be said of iptables-legacy tables, which nft does not list; None when they let all through.

    `forward_rules` is what `iptables-legacy --list-rules FORWARD` prints, or None without that tool.
    Its rules are not walked: a mark rule in front is what satisfies.
    """
    if "filter" not in table_names:
        return None
    policy, *rules = (forward_rules or "-P FORWARD unknown").splitlines()
    bit = f"--mark {marks.carried:#x}/{marks.carried:#x} -j ACCEPT"
    if bit in (rules or [""])[0] or (policy.endswith("ACCEPT") and not rules):
        return None
    drops = policy.endswith("DROP") and not rules
    remedy = let_carried_through(Table("ip", "filter"), Chain("FORWARD"), marks, (), "", is_legacy=True)
    return Finding(
        LEGACY_TABLES,
        Level.ERROR if drops else Level.WARNING,
        "iptables-legacy has a filter table, which nft does not show; its FORWARD chain "
        f"{'drops' if drops else 'may drop'} what passthrough carries.",
        remedy.text,
        remedy.commands,
    )


def _dropping_chains(table: Table, marks: Marks, insides: Sequence[str], outside: str) -> Iterator[Finding]:
    if table.family not in _IPV4_FAMILIES:
        return
    for chain in table.base_chains("forward"):
        dropped: list[tuple[Packet, Verdict]] = []
        for inside in insides:
            for packet in carried_packets(marks, inside, outside, are_marked=chain.priority > MARK_PRIORITY):
                verdict = judge(table, chain, packet)
                if verdict.end is End.DROPPED:
                    dropped.append((packet, verdict))
        if dropped:
            yield _drop_finding(table, chain, dropped, marks, insides, outside)


def _drop_finding(
    table: Table,
    chain: Chain,
    dropped: Sequence[tuple[Packet, Verdict]],
    marks: Marks,
    insides: Sequence[str],
    outside: str,
) -> Finding:
    """Say which chain drops what, and where in it; only what is certain, if anything is."""
    certain = [(packet, verdict) for packet, verdict in dropped if verdict.is_certain]
    named = certain or dropped
    all_kinds = {packet.name for packet in carried_packets(marks, "", "", are_marked=True)}
    kinds = list(dict.fromkeys(packet.name for packet, _ in named))
    listed = "all of it" if set(kinds) == all_kinds else ", ".join(kinds)
    places = ", ".join(dict.fromkeys(_place(verdict, chain) for _, verdict in named))
    remedy = let_carried_through(table, chain, marks, insides, outside)
    return Finding(
        DROPS_CARRIED if certain else MAY_DROP_CARRIED,
        Level.ERROR if certain else Level.WARNING,
        f"Table {table.family} {table.name}, chain {chain.name} {'drops' if certain else 'may drop'} "
        f"what passthrough carries ({places}): {listed}.",
        remedy.text,
        remedy.commands,
    )


def _place(verdict: Verdict, chain: Chain) -> str:
    if not verdict.handle:
        return "by its policy"
    inner = "" if verdict.chain == chain.name else f" of chain {verdict.chain}"
    return f"by the rule with handle {verdict.handle}{inner}"


def _foreign_nat(
    table: Table, insides: Sequence[str], outside: str, outside_address: IPv4Address | None
) -> Iterator[Finding]:
    """Report source NAT on what leaves by the outside. To another address it splits IKE from its ESP."""
    if table.family not in _IPV4_FAMILIES:
        return
    for chain in table.base_chains("postrouting"):
        rules = [
            (how, rule)
            for rule in _reachable_rules(table, chain)
            if (how := _source_nat(table, rule, insides, outside))
        ]
        for how in dict.fromkeys(how for how, _ in rules):
            where = f"Table {table.family} {table.name}, chain {chain.name}"
            if how == "masquerade" or how == str(outside_address):
                yield Finding(
                    FOREIGN_NAT,
                    Level.OK,
                    f"{where} translates what leaves by {outside} too. That does no harm: whichever comes first wins.",
                )
            else:
                yield Finding(
                    FOREIGN_NAT,
                    Level.WARNING,
                    f"{where} translates what leaves by {outside} to {how}, so that IKE may leave from another "
                    "address than its ESP, and peers refuse that.",
                    f"Let it translate to the first address of {outside}, or masquerade.",
                )


def _reachable_rules(table: Table, chain: Chain) -> Iterator[Rule]:
    """Yield the rules of a chain and of those that it jumps to, each chain once."""
    waiting, seen = [chain.name], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in table.chains:
            continue
        seen.add(name)
        for rule in table.chains[name].rules:
            yield rule
            waiting += [s[k]["target"] for s in rule.statements for k in ("jump", "goto") if k in s]


def _source_nat(table: Table, rule: Rule, insides: Sequence[str], outside: str) -> str:
    """Tell what address a rule translates our packets to, in words; empty where it does not concern them."""
    for inside in insides:
        packet = Packet("", inside, outside, "udp", "new", None, "original", 500, 500)
        if any(holds(s["match"], packet, table.elements) is False for s in rule.statements if "match" in s):
            continue
        for statement in rule.statements:
            match statement:
                case {"masquerade": _} | {"xt": {"type": "target", "name": "MASQUERADE"}}:
                    return "masquerade"
                case {"snat": {"addr": str(address)}}:
                    return address
                case {"snat": _} | {"xt": {"type": "target", "name": "SNAT"}}:
                    return "an address of its own"
    return ""


def _duplicate_helpers(table: Table) -> Iterator[Finding]:
    if "pptp" in table.helpers and table.family in _IPV4_FAMILIES:
        yield Finding(
            DUPLICATE_HELPER,
            Level.OK,
            f"Table {table.family} {table.name} has a PPTP helper too. That does no harm: "
            "the first one assigned stays.",
        )


def _offloads(table: Table, insides: Sequence[str], outside: str) -> Iterator[Finding]:
    """Report flow tables on our interfaces. In software they keep our hooks; in hardware they pass by them."""
    for flowtable in table.flowtables:
        devices = flowtable.get("dev", [])
        if not {outside, *insides} & set([devices] if isinstance(devices, str) else devices):
            continue
        where = f"Table {table.family} {table.name} has the flow table {flowtable['name']}"
        flags = flowtable.get("flags", [])
        if "offload" not in flags:
            yield Finding(
                FLOW_OFFLOAD,
                Level.OK,
                f"{where} in software. That does no harm.",
            )
            continue
        yield Finding(
            FLOW_OFFLOAD,
            Level.WARNING,
            f"{where} in hardware: what it carries is not seen here, so that IKE goes unobserved and idle tunnels "
            "look dead.",
            "Let its rule leave out UDP 500, 1701 and 4500 and TCP 1723, for example: "
            f"tcp dport != {PPTP_PORT} flow add @{flowtable['name']}",
        )
