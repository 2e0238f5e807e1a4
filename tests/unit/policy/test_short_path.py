"""Who keeps packets from going around netfilter."""

import pytest

from throughway.policy.ruleset import RulesetSettings, build
from throughway.policy.short_path import who_looks


def chains(*found: tuple[str, str, str, str, str]) -> dict[str, object]:
    """List chains by family, table, name, type and hook; an empty hook is a chain that others jump to."""
    entries: list[dict[str, object]] = [{"metainfo": {"json_schema_version": 1}}]
    for family, table, name, kind, hook in found:
        base = {"type": kind, "hook": hook, "prio": 0, "policy": "accept"} if hook else {}
        entries.append({"chain": {"family": family, "table": table, "name": name, **base}})
    return {"nftables": entries}


def test_our_own_table_does_not() -> None:
    ours = build(RulesetSettings(insides=("lan0",), outside="wan0"))
    listed = [next(iter(command.values())) for command in ours.commands if "add" in command]
    assert who_looks({"nftables": [entry for entry in listed if "chain" in entry]}, ()) is None


@pytest.mark.parametrize("hook", ["prerouting", "forward", "postrouting", "ingress", "egress"])
@pytest.mark.parametrize("family", ["ip", "inet", "netdev"])
def test_a_chain_on_the_way_does(family: str, hook: str) -> None:
    assert who_looks(chains((family, "filter", "theirs", "filter", hook)), ()) == f"{family} filter theirs"


@pytest.mark.parametrize(
    "elsewhere",
    [
        ("inet", "filter", "INPUT", "filter", "input"),
        ("ip", "filter", "OUTPUT", "filter", "output"),
        ("ip", "nat", "POSTROUTING", "nat", "postrouting"),
        ("ip6", "filter", "FORWARD", "filter", "forward"),
        ("bridge", "filter", "FORWARD", "filter", "forward"),
        ("inet", "filter", "jumped-to", "", ""),
    ],
)
def test_what_no_carried_packet_meets_does_not(elsewhere: tuple[str, str, str, str, str]) -> None:
    assert who_looks(chains(elsewhere), ("nat",)) is None


def test_a_table_of_another_family_with_our_name_is_not_ours() -> None:
    assert who_looks(chains(("ip", "throughway", "c", "filter", "forward")), ()) == "ip throughway c"


def test_legacy_tables_do() -> None:
    assert who_looks(chains(), ("nat", "mangle", "filter")) == "iptables-legacy filter"
