"""Another table drops what is forwarded: the rule that helps is named, and it helps."""

import json
import subprocess
import sys
from typing import Any

import pytest

from throughway.lab.gateway import GatewayKind, Throughway
from throughway.lab.progress import Progress
from throughway.lab.run import ping_through, start, start_clients, wait_for_tunnels
from throughway.lab.scenarios import VPNS
from throughway.lab.testbed import Testbed
from throughway.lab.waiting import wait_until

HOUSE = """
table inet house {
    chain forward {
        type filter hook forward priority filter; policy drop;
    }
}
"""
CLIENTS = 2
BLOCKED_S = 4.0


def doctor(bed: Testbed) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["nsenter", f"--net={bed.router.path}", sys.executable, "-m", "throughway", "doctor", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,  # its status says whether it found something
    )
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return findings


def rule_for_house(findings: list[tuple[str, list[str]]]) -> str:
    """Return the one command of the finding that names the table; `findings` are facts with the lines that help."""
    found = [lines for what, lines in findings if "house" in what]
    assert len(found) == 1, findings
    commands = [line.strip() for line in found[0] if line.strip().startswith("nft ")]
    assert len(commands) == 1, found
    return commands[0]


@pytest.mark.full
@pytest.mark.scenario("esp-native")
def test_the_rule_that_doctor_and_up_name_lets_the_tunnels_pass(bed: Testbed, quiet: Progress) -> None:
    bed.router.command("nft", "-f", "-", script=HOUSE)
    peers = VPNS["esp-native"].peers(bed, CLIENTS)

    clients, replies = start(bed, peers, CLIENTS, GatewayKind.THROUGHWAY, quiet)
    gateway = bed.gateway
    assert isinstance(gateway, Throughway)
    assert not wait_for_tunnels(replies, BLOCKED_S)
    assert all(reply.reply_s is None for reply in replies)
    for client in clients:
        client.task.interrupt()
    wait_until(lambda: all(client.task.status() is not None for client in clients), 10, "the clients to end")

    by_up = rule_for_house([(one.what, list(one.commands)) for one in gateway.status().findings])
    by_doctor = rule_for_house([(one["what"], one["commands"]) for one in doctor(bed)])
    assert by_up == by_doctor
    bed.router.command("sh", "-c", by_up)

    again, replies = start_clients(peers, CLIENTS)
    assert wait_for_tunnels(replies, gateway.give_up_s)
    counts = ping_through(again)
    assert all(received == sent for sent, received in counts.values()), counts
    assert not [finding for finding in doctor(bed) if "house" in finding["what"] and finding["level"] != "ok"]
