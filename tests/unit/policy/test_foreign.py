"""What is said of other people's rules. That the kernel agrees is tested in tests/kernel/firewall/test_doctor.py."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from tests.unit.policy.listings import (
    ACCEPT,
    COUNTER,
    DROP,
    chain,
    forward,
    jump,
    listing,
    masked_mark,
    meta,
    payload,
    state,
    xt,
)
from throughway.core.findings import Finding, Level
from throughway.core.marks import Marks
from throughway.policy import foreign

MARK = 0x10000000
COMMAND = "nft insert rule inet filter forward meta mark and 0x10000000 == 0x10000000 accept"
USUAL = ([state("established", "related"), ACCEPT], [meta("iifname", "lan0"), meta("oifname", "wan0"), ACCEPT])


def judged(objects: list[Any], **more: Any) -> list[Finding]:
    return foreign.findings_for(listing(*objects), Marks(), ["lan0", "lan1"], "wan0", **more)


def drops(objects: list[Any]) -> list[Finding]:
    return [f for f in judged(objects) if f.code in (foreign.DROPS_CARRIED, foreign.MAY_DROP_CARRIED)]


def test_without_other_tables_the_one_finding_is_ok() -> None:
    (finding,) = judged([])
    assert (finding.code, finding.level) == (foreign.FORWARD_FREE, Level.OK)


def test_a_bare_policy_drop_is_named_with_one_command() -> None:
    (finding,) = drops(forward())
    assert finding.level is Level.ERROR
    assert finding.what == "Table inet filter, chain forward drops what passthrough carries (by its policy): all of it."
    assert finding.commands == (COMMAND,)


def test_the_usual_accepts_leave_only_what_bpf_carries_from_outside_dropped() -> None:
    (finding,) = drops(forward(*USUAL, [meta("iifname", "lan1"), ACCEPT]))
    assert finding.what.endswith(
        ": ESP from outside, GRE from outside, L2TPv3 from outside, re-injected ESP from outside."
    )


@pytest.mark.parametrize(
    "rule",
    [
        [masked_mark(MARK, MARK), ACCEPT],
        [masked_mark(MARK, 0, "!="), COUNTER, ACCEPT],
        [masked_mark(0x30000000, 0, "!="), ACCEPT],
        [meta("mark", {"set": [MARK, 0x30000000]}), ACCEPT],
        [meta("mark", {"range": [MARK, 0x3FFFFFFF]}), ACCEPT],
        [xt("match", "comment"), masked_mark(MARK, MARK), ACCEPT],
    ],
)
def test_a_rule_for_our_mark_before_the_drop_satisfies(rule: list[Any]) -> None:
    assert drops(forward(rule)) == []
    assert drops(forward(rule, [DROP], policy="accept")) == []


def test_a_rule_for_our_mark_behind_the_drop_does_not() -> None:
    (finding,) = drops(forward([DROP], [masked_mark(MARK, MARK), ACCEPT]))
    assert "by the rule with handle 10" in finding.what


def test_a_rule_for_the_whole_mark_misses_the_packets_that_are_put_back() -> None:
    (finding,) = drops(forward([meta("mark", MARK), ACCEPT]))
    assert finding.what.endswith(": re-injected ESP from outside.")


def test_a_rule_that_rewrites_the_mark_before_takes_it_away() -> None:
    mark = {"meta": {"key": "mark"}}
    (finding,) = drops(forward([{"mangle": {"key": mark, "value": 7}}], [masked_mark(MARK, MARK), ACCEPT]))
    assert finding.level is Level.ERROR
    kept = {"mangle": {"key": mark, "value": {"|": [mark, 7]}}}
    assert drops(forward([kept], [masked_mark(MARK, MARK), ACCEPT])) == []


def test_jumps_verdict_maps_and_sets_are_followed() -> None:
    key = {"concat": [{"meta": {"key": "iifname"}}, {"meta": {"key": "oifname"}}]}
    there, back = {"concat": ["lan*", "wan0"]}, {"concat": ["wan0", "lan*"]}
    table = [
        *forward([{"vmap": {"key": key, "data": {"set": [[there, ACCEPT], [back, jump("in")]]}}}]),
        *chain("in", [meta("mark", "@ours"), ACCEPT], [state("established", "related"), ACCEPT], [{"return": None}]),
        {"set": {"family": "inet", "table": "filter", "name": "ours", "type": "mark", "elem": [MARK, 0x30000000]}},
    ]
    assert drops(table) == []


def test_a_drop_in_a_jumped_chain_is_named_there() -> None:
    (finding,) = drops(
        [*forward([jump("strict")], policy="accept"), *chain("strict", [payload("ip", "protocol", "esp"), DROP])]
    )
    assert "by the rule with handle 10 of chain strict" in finding.what
    assert finding.commands == (COMMAND,)


def test_rules_of_other_ports_interfaces_and_families_are_none_of_ours() -> None:
    assert drops(forward([payload("tcp", "dport", 25), DROP], [meta("iifname", "guest"), DROP], policy="accept")) == []
    assert drops(forward([payload("ip6", "nexthdr", "esp"), DROP], policy="accept")) == []
    assert drops(forward(table="ip6 filter")) == []
    assert drops(forward(table="inet throughway")) == []


def test_a_block_list_is_the_operators_wish() -> None:
    assert drops(forward([payload("ip", "saddr", "@blocked"), DROP], policy="accept")) == []


def test_an_accept_that_may_apply_makes_the_drop_a_warning() -> None:
    network = {"prefix": {"addr": "10.0.0.0", "len": 8}}
    (finding,) = drops(forward([payload("ip", "daddr", network), ACCEPT], [payload("ip", "saddr", network), ACCEPT]))
    assert (finding.code, finding.level) == (foreign.MAY_DROP_CARRIED, Level.WARNING)
    assert finding.commands == (COMMAND,)


def test_a_chain_before_our_mark_needs_more_than_the_mark() -> None:
    (finding,) = drops(forward(prio=-150))
    assert "before Throughway marks packets at -10" in finding.remedy
    assert len(finding.commands) == 4


def test_docker_gets_its_rule_in_the_chain_for_users() -> None:
    table = [
        *chain(
            "FORWARD",
            [COUNTER, jump("DOCKER-USER")],
            table="ip filter",
            hook="forward",
            type="filter",
            policy="drop",
            prio=0,
        ),
        *chain("DOCKER-USER", [COUNTER, {"return": None}], table="ip filter"),
    ]
    (finding,) = drops(table)
    assert finding.commands == ("iptables -I DOCKER-USER 1 -m mark --mark 0x10000000/0x10000000 -j ACCEPT",)


def test_ufw_gets_its_rule_in_the_file_that_it_loads() -> None:
    table = [
        *chain(
            "FORWARD",
            [jump("ufw-before-forward")],
            table="ip filter",
            hook="forward",
            type="filter",
            policy="drop",
            prio=0,
        ),
        *chain("ufw-before-forward", [xt("match", "conntrack"), COUNTER, ACCEPT], table="ip filter"),
    ]
    (finding,) = drops(table)
    assert finding.level is Level.ERROR
    (command,) = finding.commands
    assert command.startswith(
        "sed -i '/^# End required lines/a -A ufw-before-forward -m mark --mark 0x10000000/0x10000000"
    )
    assert command.endswith("/etc/ufw/before.rules && ufw reload")


def test_firewalld_gets_a_rule_for_now_and_a_policy_that_stays() -> None:
    table = [
        *chain(
            "filter_FORWARD",
            [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, ACCEPT],
            [{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}],
            table="inet firewalld",
            hook="forward",
            type="filter",
            policy="accept",
            prio=10,
        )
    ]
    (finding,) = drops(table)
    now, lasting = finding.commands
    assert now == "nft insert rule inet firewalld filter_FORWARD meta mark and 0x10000000 == 0x10000000 accept"
    assert '--add-rich-rule \'rule family="ipv4" protocol value="esp" accept\'' in lasting


def test_plain_iptables_gets_an_iptables_rule() -> None:
    (finding,) = drops(chain("FORWARD", table="ip filter", hook="forward", type="filter", policy="drop", prio=0))
    assert finding.commands == ("iptables -I FORWARD 1 -m mark --mark 0x10000000/0x10000000 -j ACCEPT",)


@pytest.mark.parametrize(
    ("statement", "level"),
    [
        ({"masquerade": None}, Level.OK),
        (xt("target", "MASQUERADE"), Level.OK),
        ({"snat": {"addr": "203.0.113.1"}}, Level.OK),
        ({"snat": {"addr": "203.0.113.2"}}, Level.WARNING),
        (xt("target", "SNAT"), Level.WARNING),
    ],
)
def test_source_nat_on_the_outside_is_reported_and_warned_of_where_it_splits_ike_from_esp(
    statement: dict[str, Any], level: Level
) -> None:
    table = chain(
        "post", [meta("oifname", "wan0"), statement], table="ip nat", hook="postrouting", type="nat", prio=100
    )
    findings = judged(table, outside_address=IPv4Address("203.0.113.1"))
    assert [f.level for f in findings if f.code == foreign.FOREIGN_NAT] == [level]
    elsewhere = chain(
        "post", [meta("oifname", "vpn0"), statement], table="ip nat", hook="postrouting", type="nat", prio=100
    )
    assert [f.code for f in judged(elsewhere)] == [foreign.FORWARD_FREE]


def test_a_second_pptp_helper_is_reported() -> None:
    helper = {"ct helper": {"family": "ip", "table": "raw", "name": "x", "type": "pptp", "protocol": "tcp"}}
    assert foreign.DUPLICATE_HELPER in [f.code for f in judged([helper])]


@pytest.mark.parametrize(("flags", "level"), [({}, Level.OK), ({"flags": ["offload"]}, Level.WARNING)])
def test_flow_tables_on_our_interfaces_are_reported(flags: dict[str, Any], level: Level) -> None:
    flowtable = {"family": "inet", "table": "fw4", "name": "ft", "hook": "ingress", "prio": 0, **flags}
    findings = judged([{"flowtable": {**flowtable, "dev": ["lan0", "wan0"]}}])
    assert [f.level for f in findings if f.code == foreign.FLOW_OFFLOAD] == [level]
    assert foreign.FLOW_OFFLOAD not in [f.code for f in judged([{"flowtable": {**flowtable, "dev": "eth9"}}])]


@pytest.mark.parametrize(
    ("names", "rules", "level"),
    [
        ((), None, None),
        (("nat",), None, None),
        (("filter",), "-P FORWARD ACCEPT\n", None),
        (("filter",), "-P FORWARD DROP\n-A FORWARD -m mark --mark 0x10000000/0x10000000 -j ACCEPT\n", None),
        (("filter",), "-P FORWARD DROP\n", Level.ERROR),
        (("filter",), "-P FORWARD ACCEPT\n-A FORWARD -j strict\n", Level.WARNING),
        (("filter",), None, Level.WARNING),
    ],
)
def test_iptables_legacy_is_judged_by_its_own_listing(
    names: tuple[str, ...], rules: str | None, level: Level | None
) -> None:
    finding = foreign.legacy_finding(names, Marks(), rules)
    assert (finding.level if finding else None) is level
    if finding:
        assert finding.commands == ("iptables-legacy -I FORWARD 1 -m mark --mark 0x10000000/0x10000000 -j ACCEPT",)
