"""What the lab is for: the gateway carries what a plain router loses."""

import pytest

from throughway.lab import leftovers
from throughway.lab.gateway import GatewayKind
from throughway.lab.progress import Progress
from throughway.lab.report import Report
from throughway.lab.run import run_scenario
from throughway.lab.scenarios import named


def forget(report: Report) -> None:
    """Remove the folder of a run that failed as it was meant to."""
    assert report.folder is not None
    leftovers.end(report.folder.name)
    assert not report.folder.exists()


def run(name: str, clients: int, kind: GatewayKind, quiet: Progress) -> Report:
    scenario, number = named(name, clients)
    report = run_scenario(scenario, number, kind, quiet)
    assert isinstance(report, Report)
    return report


@pytest.mark.parametrize(
    ("name", "clients"),
    [
        pytest.param("esp-native", 3, marks=pytest.mark.scenario("esp-native")),
        pytest.param("pptp", 2, marks=pytest.mark.scenario("pptp")),
        pytest.param("openvpn-udp", 2, marks=pytest.mark.scenario("openvpn-udp")),
        pytest.param("wireguard", 2, marks=pytest.mark.scenario("wireguard")),
    ],
)
def test_throughway_carries_every_client_to_one_server(name: str, clients: int, quiet: Progress) -> None:
    report = run(name, clients, GatewayKind.THROUGHWAY, quiet)
    assert report.passed, report
    assert [client.has_passed for client in report.clients] == [True] * clients
    assert not report.leaks


@pytest.mark.scenario("esp-native")
def test_plain_masquerade_carries_one_of_three_native_esp_clients(quiet: Progress) -> None:
    report = run("esp-native", 3, GatewayKind.MASQUERADE, quiet)
    assert not report.passed
    assert sum(client.tunnel_up for client in report.clients) == 1
    assert report.folder is not None
    assert (report.folder / "outside.pcap").stat().st_size > 0
    forget(report)


@pytest.mark.full
@pytest.mark.scenario("pptp")
def test_plain_masquerade_carries_no_pptp_client(quiet: Progress) -> None:
    report = run("pptp", 2, GatewayKind.MASQUERADE, quiet)
    assert not report.passed
    assert [client.tunnel_up for client in report.clients] == [False, False]
    assert [client.first_reply_s for client in report.clients] == [None, None]
    forget(report)


@pytest.mark.full
@pytest.mark.scenario("esp-native")
def test_eight_native_esp_clients_reach_one_server(quiet: Progress) -> None:
    report = run("esp-native", 8, GatewayKind.THROUGHWAY, quiet)
    assert report.passed, report
    assert len(report.clients) == 8
