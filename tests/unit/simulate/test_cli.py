"""`throughway simulate` as people and programs run it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.simulate.test_run import KEYS

LIMIT_S = 60.0
COMMANDS = Path(__file__).parents[3] / "docs" / "commands.md"


def run(*arguments: str, hash_seed: str = "0") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "throughway", "simulate", "--hosts", "6", "--minutes", "1", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )


def test_one_policy_prints_one_object() -> None:
    done = run("--policy", "fifo", "--json", "--loss", "2", "--seed", "5")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert set(document) >= KEYS
    assert (document["policy"], document["seed"], document["loss_percent"]) == ("fifo", 5, 2.0)
    assert "baselines" not in document


def test_all_policies_stand_beside_throughway() -> None:
    document = json.loads(run("--json").stdout)
    assert document["policy"] == "throughway"
    assert [baseline["policy"] for baseline in document["baselines"]] == ["fifo", "serialise", "one-per-peer"]
    assert {baseline["sa_pairs"] for baseline in document["baselines"]} == {document["sa_pairs"]}


def test_the_numbers_do_not_depend_on_the_order_of_hashes() -> None:
    assert run("--json", hash_seed="1").stdout == run("--json", hash_seed="2").stdout


def test_people_get_a_table_that_fits_eighty_columns() -> None:
    done = run()
    assert done.returncode == 0
    head, *lines = done.stdout.splitlines()
    assert head.startswith("6 hosts, 1 peer, 1 minutes, 0 % loss, seed 1: ")
    assert " ".join(lines[0].split()) == "packets towards the inside throughway fifo serialise one-per-peer"
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("delivered to the owner") for line in lines)


@pytest.mark.parametrize("wrong", [("--hosts", "0"), ("--loss", "101"), ("--policy", "lifo")])
def test_what_makes_no_world_is_refused(wrong: tuple[str, str]) -> None:
    done = run(*wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert wrong[0] in done.stderr


def test_every_key_is_documented() -> None:
    document = json.loads(run("--json", "--policy", "throughway").stdout)
    section = COMMANDS.read_text().partition("## Simulate")[2]
    named = set(re.findall(r"`(\w+)`", section))
    assert set(document) | set(document["first_10_s"]) <= named
