"""The rules of switches with real packets, both ways; BPF is not there, and a table of nft stands in for it."""

import socket
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address

import pytest

from tests.kernel.firewall.conftest import SETTINGS
from tests.kernel.firewall.net import HOST, HOST6, PEER, PEER6, ROUTER_OUTSIDE, Row, arrives, entered, is_dropped
from tests.kernel.firewall.test_ruleset import STAND_IN
from throughway.core.blocking import At, Blocking
from throughway.core.ids import IpProtocol
from throughway.dataplane import conntrack, sysctls
from throughway.dataplane.nft import Nft
from throughway.policy.ruleset import switch
from throughway.policy.switches import SwitchRules

DEVICE, SERVER = ip_address(HOST), ip_address(PEER)
ELSE = ip_address("192.0.2.77")
ESP = int(IpProtocol.ESP)


def apply(nft: Nft, rules: SwitchRules) -> None:
    nft.apply(switch(replace(SETTINGS, switches=rules)).to_json())


@pytest.mark.parametrize(
    ("everywhere", "at", "is_blocked"),
    [
        (True, {}, True),
        (False, {}, False),
        (False, {(DEVICE, None): True}, True),
        (False, {(ELSE, None): True}, False),
        (False, {(None, SERVER): True}, True),
        (False, {(None, ELSE): True}, False),
        (True, {(DEVICE, None): False}, False),
        (True, {(None, SERVER): False}, False),
        (True, {(DEVICE, None): False, (None, SERVER): True}, False),
        (False, {(DEVICE, None): False, (None, SERVER): True, (DEVICE, SERVER): True}, True),
        (True, {(DEVICE, SERVER): False}, False),
    ],
)
def test_the_most_specific_rule_decides_both_ways(
    row: Row, ours: Nft, everywhere: bool, at: Mapping[At, bool], is_blocked: bool
) -> None:
    row.nft(STAND_IN)
    host, peer = row.esp("host"), row.esp("peer")
    blocking = Blocking(ESP, everywhere, at)
    assert blocking.blocks(DEVICE, SERVER) is is_blocked
    apply(ours, SwitchRules([blocking]))
    passes = is_dropped if is_blocked else arrives
    assert passes(row, lambda: host.sendto(b"\x00\x00\x10\x01 out", (PEER, 0)), peer, b" out")
    assert passes(row, lambda: peer.sendto(b"\x00\x00\x20\x02 in", (ROUTER_OUTSIDE, 0)), host, b" in")
    apply(ours, SwitchRules())
    assert arrives(row, lambda: host.sendto(b"\x00\x00\x10\x01 again", (PEER, 0)), peer, b" again")


@pytest.mark.parametrize("is_off", [True, False])
def test_over_ipv6_a_protocol_is_blocked_by_its_number(row: Row, ours: Nft, is_off: bool) -> None:
    host = row.open("host", socket.AF_INET6, socket.SOCK_RAW, ESP)
    peer = row.open("peer", socket.AF_INET6, socket.SOCK_RAW, ESP)
    at: dict[At, bool] = {} if is_off else {(ip_address(HOST6), None): False}
    apply(ours, SwitchRules([Blocking(ESP, True, at)]))
    passes = is_dropped if is_off else arrives
    assert passes(row, lambda: host.sendto(b"\x00\x00\x10\x01 out", (PEER6, 0)), peer, b" out")
    assert passes(row, lambda: peer.sendto(b"\x00\x00\x10\x01 in", (HOST6, 0)), host, b" in")


@pytest.mark.parametrize(
    ("everywhere", "at", "helper"),
    [
        (False, {}, "pptp"),
        (True, {}, ""),
        (False, {(DEVICE, None): True}, ""),
        (True, {(DEVICE, SERVER): False}, "pptp"),
        (False, {(ELSE, None): True}, "pptp"),
    ],
)
def test_pptp_goes_without_the_helper_where_it_is_unassisted(
    row: Row, ours: Nft, everywhere: bool, at: Mapping[At, bool], helper: str
) -> None:
    with entered(row.name("router")):
        sysctls.enable()
    without = Blocking(IpProtocol.GRE, everywhere, at, is_pptp=True)
    apply(ours, SwitchRules(without_helper=without))
    server = row.open("peer", socket.AF_INET, socket.SOCK_STREAM, bind=(PEER, 1723))
    server.listen()
    client = row.open("host", socket.AF_INET, socket.SOCK_STREAM, bind=(HOST, 4001))
    client.connect((PEER, 1723))
    with server.accept()[0], entered(row.name("router")):
        (flow,) = conntrack.tracked_flows([conntrack.Interest(IpProtocol.TCP, 1723)])
    assert flow.helper == helper
