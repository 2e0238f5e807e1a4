"""The judgements about the network."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from throughway.core.findings import Level
from throughway.core.ports import Interface
from throughway.dataplane.links import Link
from throughway.diagnose import network, offload

GOOD = Link(Interface("wan0", 2, 14), mtu=1500, is_up=True, has_carrier=True, addresses=(IPv4Address("198.51.100.7"),))


@pytest.mark.parametrize(
    ("address", "level", "word"),
    [
        ("198.51.100.7", Level.OK, "public"),
        ("100.64.0.1", Level.WARNING, "carrier-grade"),
        ("100.127.255.254", Level.WARNING, "carrier-grade"),
        ("100.128.0.1", Level.OK, "public"),
        ("192.168.1.2", Level.WARNING, "another router"),
        ("172.31.0.1", Level.WARNING, "another router"),
        ("172.32.0.1", Level.OK, "public"),
        ("192.0.0.2", Level.WARNING, "another router"),
        (None, Level.ERROR, "no IPv4 address"),
    ],
)
def test_a_private_outside_address_means_double_nat(address: str | None, level: Level, word: str) -> None:
    finding = network.judge_outside_address("wan0", IPv4Address(address) if address else None)
    assert finding.level is level
    assert word in finding.what


@pytest.mark.parametrize(
    ("count", "most", "level"),
    [
        (0, 1000, Level.OK),
        (799, 1000, Level.OK),
        (800, 1000, Level.WARNING),
        (980, 1000, Level.ERROR),
        (None, None, Level.OK),
    ],
)
def test_a_full_connection_table_is_told_before_it_is_full(count: int | None, most: int | None, level: Level) -> None:
    finding = network.judge_conntrack(count, most)
    assert finding.level is level
    assert finding.commands == (() if level is Level.OK else ("sysctl -w net.netfilter.nf_conntrack_max=2000",))


@pytest.mark.parametrize(
    ("mode", "is_default", "level"),
    [(0, False, Level.OK), (2, False, Level.OK), (1, True, Level.OK), (1, False, Level.ERROR)],
)
def test_strict_reverse_path_filtering_needs_the_default_route(mode: int, is_default: bool, level: Level) -> None:
    (finding,) = network.judge_reverse_path("wan0.7", mode, is_default=is_default)
    assert finding.level is level
    assert finding.commands == (() if level is Level.OK else ("sysctl -w net/ipv4/conf/wan0.7/rp_filter=2",))


def test_forwarding_that_is_off_is_only_a_warning() -> None:
    assert network.judge_forwarding("1").level is Level.OK
    assert network.judge_forwarding("0").level is Level.WARNING


@pytest.mark.parametrize(
    ("link", "code", "level"),
    [
        (GOOD, "links.mtu", Level.OK),
        (replace(GOOD, is_up=False), "links.up", Level.ERROR),
        (replace(GOOD, has_carrier=False), "links.up", Level.ERROR),
        (replace(GOOD, mtu=1279), "links.mtu", Level.WARNING),
        (replace(GOOD, addresses=()), "outside.address", Level.ERROR),
    ],
)
def test_links_are_judged_one_fact_at_a_time(link: Link, code: str, level: Level) -> None:
    findings = {finding.code: finding.level for finding in network.judge_link(link, is_outside=True)}
    assert findings[code] is level
    assert {found for c, found in findings.items() if c != code} <= {Level.OK}


def test_an_inside_interface_needs_no_address() -> None:
    findings = network.judge_link(replace(GOOD, addresses=()), is_outside=False)
    assert all(finding.level is Level.OK for finding in findings)


def test_offload_in_the_card_is_a_warning() -> None:
    (off,) = offload.judge_features("wan0", frozenset({"rx-checksum"}))
    (on,) = offload.judge_features("wan0", frozenset({"hw-tc-offload", "rx-ntuple-filter"}))
    assert (off.level, on.level) == (Level.OK, Level.WARNING)
    assert on.commands == ("ethtool -K wan0 hw-tc-offload off",)
    assert "ntuple" in on.what
