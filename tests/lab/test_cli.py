"""`throughway lab` as people and programs call it."""

import json
import os

import pytest
from typer.testing import CliRunner

from throughway.lab.cli import app
from throughway.lab.leftovers import labs_here
from throughway.lab.scenarios import LIVE, SCENARIOS
from throughway.lab.testbed import ROOT, is_alive


def left_behind(before: list[str]) -> list[str]:
    """Return the labs that came since, and are not those of another process that still runs."""
    return [lab for lab in labs_here() if lab not in before and not is_elsewhere(lab)]


def is_elsewhere(lab: str) -> bool:
    owner = ROOT / lab / "owner"
    text = owner.read_text() if owner.exists() else ""
    return is_alive(text) and text.partition(" ")[0] != str(os.getpid())


@pytest.mark.scenario("wireguard")
def test_run_prints_one_json_document_and_exits_0_when_it_passed() -> None:
    before = labs_here()
    result = CliRunner().invoke(app, ["run", "wireguard", "--clients", "2", "--gateway", "masquerade", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert list(document) == ["scenario", "gateway", "clients", "passed"]
    assert (document["scenario"], document["gateway"], document["passed"]) == ("wireguard", "masquerade", True)
    assert [client["name"] for client in document["clients"]] == ["wireguard1", "wireguard2"]
    for client in document["clients"]:
        assert list(client) == ["name", "address", "tunnel_up", "pings_sent", "pings_received", "first_reply_s"]
        assert (client["tunnel_up"], client["pings_sent"], client["pings_received"]) == (True, 10, 10)
    assert not left_behind(before)


@pytest.mark.scenario(*LIVE)
def test_up_once_prints_every_tunnel_and_leaves_nothing() -> None:
    before = labs_here()
    result = CliRunner().invoke(app, ["up", "--once"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    rows = [line for line in result.stdout.splitlines() if "10.77.0." in line]
    assert len(rows) == sum(SCENARIOS[name].clients for name in LIVE)
    assert all(" up " in row for row in rows)
    assert len([row for row in rows if "esp" in row and "0x" in row]) >= SCENARIOS["esp-native"].clients
    assert not left_behind(before)


def test_a_scenario_that_is_none_is_named_with_those_that_are() -> None:
    result = CliRunner().invoke(app, ["run", "carrier-pigeon"])
    assert result.exit_code == 2
    assert "carrier-pigeon is none; there are: esp-native, pptp, openvpn-udp, wireguard" in result.output


def test_too_many_clients_are_refused_with_the_limit() -> None:
    result = CliRunner().invoke(app, ["run", "wireguard", "--clients", "9"])
    assert result.exit_code == 2
    assert "--clients: wireguard can have 1 to 8 clients, not 9" in result.output


def test_the_list_has_every_scenario() -> None:
    result = CliRunner().invoke(app, ["list", "--json"])
    assert result.exit_code == 0
    assert [row["name"] for row in json.loads(result.stdout)] == list(SCENARIOS)
