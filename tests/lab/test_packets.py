"""Packets of our own through the gateway: each scenario passes, and a plain router fails where it is said to."""

import pytest

from throughway.lab.checked import CheckReport
from throughway.lab.gateway import GatewayKind
from throughway.lab.packets import PACKET_SCENARIOS
from throughway.lab.progress import Progress
from throughway.lab.run import run_scenario
from throughway.lab.scenarios import named

SLOW = {"address-change", "two-addresses", "esp-rekey", "adoption"}
"""Those with ends in a guest."""

SLOW_WITH_MASQUERADE = SLOW | {"ipv6", "outside-returns", "router-own-vpn", "path-mtu", "tun-outside"}
"""Those, too, where most of the time is waited for what does not come, for a reason that another one shows."""

BY_PLAIN_MASQUERADE = {
    "inbound-first": "the first ESP packet from the peer arrives",
    "equal-ids": "10.77.0.12 gets all ESP with the SPI that both chose",
    "every-protocol": "a second device passes with protocol 50, whose tunnels have names",
    "fragments": "ESP of 10.77.0.12 in fragments to the peer",
    "icmp": "type 3 code 4 from outside",
    "path-mtu": "ESP of 10.77.0.12: it is told that packets are too large",
    "ipv6": "ESP that nobody asked for passes",
    "ipv6-closed": "ESP of the device passes",
    "tun-outside": "ESP of 10.77.0.12 passes to the peer",
    "outside-returns": "both tunnels go on through it with another index",
    "router-own-vpn": "ESP of 10.77.0.12 passes to the peer",
    "esp-rekey": "the tunnels are up",
    "adoption": "all tunnels carry again within 2 s",
    "flood": "both tunnels carry",
    "address-change": "vpnc2 recovers from another outside address",
    "two-addresses": "GRE with one key: 10.77.0.14 passes by its address",
}
"""What a plain Linux router fails at, by scenario."""


def parameters(names: list[str], slow: set[str]) -> list[object]:
    return [
        pytest.param(name, marks=[pytest.mark.scenario(name), *([pytest.mark.full] if name in slow else [])])
        for name in names
    ]


def run(name: str, kind: GatewayKind, quiet: Progress, until_fails: str = "") -> CheckReport:
    scenario, number = named(name)
    is_kept = kind is GatewayKind.THROUGHWAY
    report = run_scenario(scenario, number, kind, quiet, is_kept=is_kept, until_fails=until_fails)
    assert isinstance(report, CheckReport)
    return report


@pytest.mark.parametrize("name", parameters([scenario.name for scenario in PACKET_SCENARIOS], SLOW))
def test_throughway_does_all_that_the_scenario_asks(name: str, quiet: Progress) -> None:
    report = run(name, GatewayKind.THROUGHWAY, quiet)
    failed = [(check.what, check.found) for check in report.checks if not check.passed]
    assert failed == []
    assert report.passed, report


@pytest.mark.parametrize("name", parameters(list(BY_PLAIN_MASQUERADE), SLOW_WITH_MASQUERADE))
def test_plain_masquerade_fails_at_what_needs_passthrough(name: str, quiet: Progress) -> None:
    report = run(name, GatewayKind.MASQUERADE, quiet, until_fails=BY_PLAIN_MASQUERADE[name])
    assert not report.passed
    failed = {check.what for check in report.checks if not check.passed}
    assert BY_PLAIN_MASQUERADE[name] in failed


def test_every_scenario_that_masquerade_cannot_pass_is_shown_to_fail() -> None:
    assert {scenario.name for scenario in PACKET_SCENARIOS if scenario.masquerade_fails} == set(BY_PLAIN_MASQUERADE)
