"""The promise of doctor: it names the table that drops, and the command it gives mends that, as it stands."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from tests.kernel.firewall.net import HOST, PEER, ROUTER_OUTSIDE, Row, arrives, entered, is_dropped
from tests.kernel.firewall.test_ruleset import STAND_IN
from throughway.core.findings import Finding, Level
from throughway.dataplane.nft import Nft
from throughway.diagnose.doctor import examine
from throughway.policy.foreign import DROPS_CARRIED

BARE = "table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }"
USUAL = """
table inet filter {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        iifname lan0 oifname wan0 accept
    }
}
"""
LATER = "table ip strict { chain through { type filter hook forward priority 10; ip protocol esp reject; }; }"

Send = Callable[[], object]
Crossing = tuple[Send, socket.socket, bytes]


def crossings(row: Row) -> dict[str, Crossing]:
    """The four ways in which a tunnel needs the router."""
    host, peer = row.udp("host", HOST, 500), row.udp("peer", PEER, 500)
    esp_host, esp_peer = row.esp("host"), row.esp("peer")
    return {
        "IKE to outside": (lambda: host.sendto(b"IKE out", (PEER, 500)), peer, b"IKE out"),
        "IKE from outside": (lambda: peer.sendto(b"IKE in", (ROUTER_OUTSIDE, 500)), host, b"IKE in"),
        "ESP to outside": (lambda: esp_host.sendto(b"\x00\x00\x10\x01out", (PEER, 0)), esp_peer, b"\x10\x01out"),
        "ESP from outside": (
            lambda: esp_peer.sendto(b"\x00\x00\x20\x02in", (ROUTER_OUTSIDE, 0)),
            esp_host,
            b"\x20\x02in",
        ),
    }


def doctor(row: Row) -> list[Finding]:
    with entered(row.name("router")):
        return asyncio.run(examine(["lan0"], "wan0"))


def drops(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.code == DROPS_CARRIED]


@pytest.mark.parametrize(
    ("foreign", "table", "chain", "dropped"),
    [
        # Without its first message no exchange begins, so the answer is nothing that conntrack knows.
        pytest.param(
            BARE, "inet filter", "forward", ("IKE to outside", "ESP to outside", "ESP from outside"), id="bare"
        ),
        pytest.param(USUAL, "inet filter", "forward", ("ESP from outside",), id="usual"),
        pytest.param(LATER, "ip strict", "through", ("ESP to outside", "ESP from outside"), id="later"),
    ],
)
def test_the_command_as_given_lets_the_tunnel_pass(
    row: Row, ours: Nft, foreign: str, table: str, chain: str, dropped: tuple[str, ...]
) -> None:
    row.nft(STAND_IN + foreign)
    ways = crossings(row)
    for name in dropped:
        assert is_dropped(row, *ways[name]), name

    (finding,) = drops(doctor(row))
    assert finding.level is Level.ERROR
    assert f"Table {table}, chain {chain} drops" in finding.what
    (command,) = finding.commands
    row.run("router", command)

    for name, way in ways.items():
        assert arrives(row, *way), name
    findings = doctor(row)
    assert drops(findings) == []
    assert not [f for f in findings if f.level is Level.ERROR]


def test_the_rule_is_found_behind_a_jump(row: Row, ours: Nft) -> None:
    row.nft(BARE)
    row.nft(
        "table inet filter { chain vpn { meta mark & 0x30000000 == { 0x10000000, 0x30000000 } accept; };"
        " chain forward { jump vpn; }; }"
    )
    assert drops(doctor(row)) == []


def test_a_rule_that_compares_the_whole_mark_loses_the_first_packet(row: Row, ours: Nft) -> None:
    row.nft(BARE)
    row.nft("add rule inet filter forward meta mark 0x10000000 accept")
    (finding,) = drops(doctor(row))
    assert finding.what.endswith(": re-injected ESP from outside.")


def test_our_own_table_is_no_finding_and_examining_changes_nothing(row: Row, ours: Nft) -> None:
    before = row.run("router", "nft --handle list ruleset")
    assert drops(doctor(row)) == []
    assert row.run("router", "nft --handle list ruleset") == before


def test_without_our_table_doctor_leaves_none_behind(row: Row, nft: Nft) -> None:
    doctor(row)
    assert nft.list_table("inet", "throughway") is None
