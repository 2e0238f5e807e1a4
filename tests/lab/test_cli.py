"""`throughway lab` as people and programs call it."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from throughway.lab.cli import app
from throughway.lab.leftovers import labs_here
from throughway.lab.scenarios import LIVE, SCENARIOS
from throughway.lab.testbed import ROOT, identity, is_alive


def left_over() -> list[str]:
    """Name the labs here that no other process still runs."""
    return [prefix for prefix in labs_here() if not is_of_another(ROOT / prefix / "owner")]


def is_of_another(file: Path) -> bool:
    try:
        owner = file.read_text()
    except FileNotFoundError:
        return False
    return is_alive(owner) and owner != identity(os.getpid())


@pytest.mark.scenario("wireguard")
def test_run_prints_one_json_document_and_exits_0_when_it_passed() -> None:
    result = CliRunner().invoke(app, ["run", "wireguard", "--gateway", "masquerade", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert list(document) == ["scenario", "gateway", "clients", "detected", "passed"]
    assert (document["scenario"], document["gateway"], document["passed"]) == ("wireguard", "masquerade", True)
    assert [client["name"] for client in document["clients"]] == ["wireguard1", "wireguard2"]
    assert document["detected"] == {"wireguard1": ["wireguard"], "wireguard2": ["wireguard"]}
    for client in document["clients"]:
        assert list(client) == ["name", "address", "tunnel_up", "pings_sent", "pings_received", "first_reply_s"]
        assert (client["tunnel_up"], client["pings_sent"], client["pings_received"]) == (True, 10, 10)
    assert left_over() == []


@pytest.mark.scenario(*LIVE)
def test_up_once_prints_every_tunnel_and_leaves_nothing() -> None:
    result = CliRunner().invoke(app, ["up", "--once"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    rows = [line for line in result.stdout.splitlines() if "10.77.0." in line]
    assert len(rows) == sum(SCENARIOS[name].clients for name in LIVE)
    assert all(" up " in row for row in rows)
    assert len([row for row in rows if "esp" in row and "0x" in row]) >= SCENARIOS["esp-native"].clients
    assert left_over() == []


def test_a_scenario_that_is_none_is_named_with_those_that_are() -> None:
    result = CliRunner().invoke(app, ["run", "carrier-pigeon"])
    assert result.exit_code == 2
    assert "there is none with the name carrier-pigeon; `throughway lab list` names all" in result.output


def test_too_many_clients_are_refused_with_the_limit() -> None:
    result = CliRunner().invoke(app, ["run", "wireguard", "--clients", "9"])
    assert result.exit_code == 2
    assert "--clients: wireguard can have 1 to 8 clients, not 9" in result.output


def test_the_list_has_every_scenario() -> None:
    result = CliRunner().invoke(app, ["list", "--json"])
    assert result.exit_code == 0
    assert [row["name"] for row in json.loads(result.stdout)] == list(SCENARIOS)


@pytest.mark.scenario("wireguard")
def test_a_transfer_is_told_for_each_client() -> None:
    argv = ["run", "wireguard", "--gateway", "masquerade", "--transfer", "2MB", "--json"]
    result = CliRunner().invoke(app, argv)
    assert result.exit_code == 0, result.output
    clients = json.loads(result.stdout)["clients"]
    whole = {"bytes_to_peer": 2_000_000, "bytes_to_inside": 2_000_000, "intact": True}
    assert [client["transfer"] for client in clients] == [whole, whole]
    assert "sending 2 MB each way through 2 tunnels: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "SCENARIO: name one of `throughway lab list`, or say --all"),
        (["run", "wireguard", "--all"], "SCENARIO: it does not go with --all, which runs all"),
        (["run", "--all", "--clients", "2"], "--clients: it does not go with --all, which runs all"),
        (["run", "--all", "--gateway", "masquerade"], "--gateway: it does not go with --all, which runs all"),
        (["run", "wireguard", "--transfer", "much"], "--transfer: 'much' is no size; write for example 10MB, or 500k"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.scenario(*SCENARIOS)
def test_all_scenarios_pass_and_masquerade_fails_what_it_cannot_do() -> None:
    result = CliRunner().invoke(app, ["run", "--all", "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert [row["scenario"] for row in document["scenarios"]] == list(SCENARIOS)
    for row in document["scenarios"]:
        assert row["throughway"]["passed"], row
        assert not (row["masquerade_fails"] and row["masquerade"]["passed"]), row
    assert left_over() == []
