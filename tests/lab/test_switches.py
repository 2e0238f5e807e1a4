"""Five real VPNs at once, each switched off and on: it stops, its device is told, and nobody else loses a packet."""

import pytest

from throughway.lab.checked import CheckReport
from throughway.lab.gateway import GatewayKind
from throughway.lab.progress import Progress
from throughway.lab.run import run_scenario
from throughway.lab.scenarios import SWITCHES
from throughway.lab.switching import FAMILIES


@pytest.mark.full
@pytest.mark.timeout(400)
@pytest.mark.scenario("switches")
def test_each_of_five_stops_when_it_is_switched_off_and_comes_back(quiet: Progress) -> None:
    report = run_scenario(SWITCHES, 1, GatewayKind.THROUGHWAY, quiet)
    assert isinstance(report, CheckReport)
    assert report.passed, report.failure()
    assert set(FAMILIES) == {"wireguard", "openvpn", "ipsec", "l2tp", "pptp"}
    assert len(report.checks) == 1 + 4 * len(FAMILIES)
