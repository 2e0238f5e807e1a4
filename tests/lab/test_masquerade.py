"""What plain masquerade cannot do, and why: without ports it knows one host for each server and protocol."""

import pytest

from throughway.lab.gateway import GatewayKind
from throughway.lab.progress import Progress
from throughway.lab.report import Report
from throughway.lab.run import run_scenario
from throughway.lab.scenarios import VPNS

ONE_OF_TWO = ("gre-key", "l2tpv3", "esp-manual", "ikev2-native", "same-account", "router-vpnc", "keeps-500")


@pytest.mark.full
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.scenario(name)) for name in ONE_OF_TWO])
def test_plain_masquerade_carries_one_of_two_without_ports(name: str, quiet: Progress) -> None:
    report = run_scenario(VPNS[name], 2, GatewayKind.MASQUERADE, quiet, is_kept=False)
    assert isinstance(report, Report)
    assert not report.passed
    assert sum(client.tunnel_up for client in report.clients) == 1
    assert VPNS[name].masquerade_fails


@pytest.mark.full
@pytest.mark.parametrize("name", [pytest.param("l2tpv3", marks=pytest.mark.scenario("l2tpv3"))])
def test_one_client_without_ports_is_carried_by_any_router(name: str, quiet: Progress) -> None:
    """So it is the second client that fails there, and not the peers of the lab."""
    assert run_scenario(VPNS[name], 1, GatewayKind.MASQUERADE, quiet).passed
