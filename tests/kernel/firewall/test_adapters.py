"""The adapters that read and set the kernel: links, settings, connections, nftables' answers."""

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.kernel.firewall.net import HOST, LIMIT_S, PEER, Row, entered, until
from throughway.core.errors import KernelRefused, SettingsRejected
from throughway.core.ids import IpProtocol
from throughway.core.tracked import TrackedTuple
from throughway.dataplane import links, sysctls
from throughway.dataplane.conntrack import Interest, tracked_flows
from throughway.dataplane.ctlookup import BATCH, Lookup
from throughway.dataplane.links import Link
from throughway.dataplane.nft import Nft
from throughway.diagnose import offload


def test_an_interface_is_found_with_its_header_size_and_primary_address(row: Row) -> None:
    row.run("router", "ip addr add 203.0.113.77/24 dev wan0")
    row.run("router", "ip tuntap add tun0 mode tun && ip addr add 10.9.0.1 peer 10.9.0.2 dev tun0")
    with entered(row.name("router")):
        wan0, tun0 = (asyncio.run(links.look_up(name)) for name in ("wan0", "tun0"))
        index = socket.if_nametoindex("wan0")
    assert (wan0.interface.index, wan0.interface.link_header_size) == (index, 14)
    assert (wan0.mtu, wan0.is_up, wan0.has_carrier, str(wan0.address)) == (1500, True, True, "203.0.113.1")
    assert (tun0.interface.link_header_size, tun0.is_up, str(tun0.address)) == (0, False, "10.9.0.1")


def test_all_addresses_that_may_be_sent_from_are_found_the_primary_one_first(row: Row) -> None:
    row.run("router", "ip addr add 203.0.113.77/24 dev wan0 && ip addr add 198.51.100.7/32 dev wan0")
    row.run("router", "ip addr add 203.0.113.78/24 dev wan0 preferred_lft 0")
    row.run("router", "ip addr add 169.254.3.4/16 scope link dev wan0 && ip addr add 127.3.4.5/8 scope host dev wan0")
    with entered(row.name("router")):
        wan0 = asyncio.run(links.look_up("wan0"))
    assert [str(wan0.address)] == ["203.0.113.1"]
    assert set(map(str, wan0.addresses)) == {"203.0.113.1", "203.0.113.77", "198.51.100.7"}


def test_an_unknown_interface_is_rejected_with_those_that_exist(row: Row) -> None:
    with entered(row.name("router")), pytest.raises(SettingsRejected, match=r"eth7 does not exist.*lan0.*wan0"):
        asyncio.run(links.look_up("eth7"))


def test_default_routes_are_found_by_their_interface(row: Row) -> None:
    row.run("router", f"ip route add default via {PEER}")
    with entered(row.name("router")):
        found = asyncio.run(links.default_route_interfaces())
        assert found == {socket.if_nametoindex("wan0")}


def test_changes_of_an_interface_are_told_one_by_one(row: Row) -> None:
    async def story() -> None:
        states = links.watch("wan0")
        first = await _next(states)
        assert first is not None
        assert str(first.address) == "203.0.113.1"
        for command, is_told in (
            ("ip addr del 203.0.113.1/24 dev wan0", lambda link: link.address is None),
            ("ip addr add 203.0.113.5/24 dev wan0", lambda link: str(link.address) == "203.0.113.5"),
            ("ip link set wan0 mtu 1400", lambda link: link.mtu == 1400),
            ("ip link del wan0", lambda link: link is None),
            (
                "ip link add wan0 type veth peer name gone",
                lambda link: link and link.interface.index != first.interface.index,
            ),
        ):
            row.run("router", command)
            while not is_told(await _next(states)):
                pass
        await states.aclose()

    with entered(row.name("router")):
        asyncio.run(story())


async def _next(states: AsyncGenerator[Link | None, None]) -> Link | None:
    return await asyncio.wait_for(anext(states), LIMIT_S)


def test_settings_are_turned_on_once_and_put_back_unless_somebody_changed_them(row: Row) -> None:
    with entered(row.name("router")):
        changed = sysctls.enable()
        assert [change.name for change in changed] == [
            sysctls.CONNTRACK_ACCOUNTING,
            sysctls.CONNTRACK_TIMESTAMP,
            sysctls.PPTP_CALL_IDLE,
        ]
        assert sysctls.enable() == ()
        (sysctls.ROOT / "net/netfilter/nf_conntrack_timestamp").write_text("0")
        sysctls.restore(changed)
        assert {name: sysctls.read(name) for name in sysctls.NEEDED} == {
            sysctls.IP_FORWARD: "1",
            sysctls.CONNTRACK_ACCOUNTING: "0",
            sysctls.CONNTRACK_TIMESTAMP: "0",
            sysctls.PPTP_CALL_IDLE: "180",
        }


def test_a_setting_that_is_more_than_needed_stays(row: Row) -> None:
    with entered(row.name("router")):
        (sysctls.ROOT / "net/netfilter/nf_conntrack_gre_timeout_stream").write_text("18000")
        assert sysctls.PPTP_CALL_IDLE not in [change.name for change in sysctls.enable()]
        assert sysctls.read(sysctls.PPTP_CALL_IDLE) == "18000"


def test_a_setting_that_does_not_exist_undoes_the_others(row: Row) -> None:
    with entered(row.name("router")):
        with pytest.raises(KernelRefused, match="no_such_thing"):
            sysctls.enable({sysctls.CONNTRACK_ACCOUNTING: 1, "net.netfilter.no_such_thing": 1})
        assert sysctls.read(sysctls.CONNTRACK_ACCOUNTING) == "0"


def test_connections_of_interest_alone_are_read_and_bounded(row: Row, ours: Nft) -> None:
    host = row.udp("host", HOST, 4000)
    for port in (500, *range(20000, 20100)):
        host.sendto(b"x", (PEER, port))
    host.sendto(b"x", (PEER, 4500))
    row.run("host", f"ping -c 1 -W 2 {PEER}")
    row.open("router", socket.AF_INET, socket.SOCK_RAW, 97).sendto(b"EtherIP", (PEER, 0))
    with entered(row.name("router")):
        ike = list(tracked_flows([Interest(IpProtocol.UDP, 500)]))
        udp = list(tracked_flows([Interest(IpProtocol.UDP)], per_interest_max=7))
        of_two_ports = list(tracked_flows([Interest(IpProtocol.UDP, 500), Interest(IpProtocol.UDP, 4500)]))
        without_ports = list(tracked_flows([Interest(IpProtocol.ICMP), Interest(97)]))  # type: ignore[arg-type]
    assert [(str(f.original.source), f.original.destination_key) for f in ike] == [(HOST, 500)]
    assert (ike[0].is_answered, ike[0].helper, ike[0].sent, ike[0].age_s) == (False, "", None, None)
    assert 290 < ike[0].timeout_s <= 300
    assert len(udp) == 7
    assert sorted((f.protocol, str(f.original.source)) for f in without_ports) == [(1, HOST), (97, "203.0.113.1")]
    assert sorted(f.original.destination_key for f in of_two_ports) == [500, 4500]


def test_single_flows_are_found_by_their_name_in_either_direction(row: Row, ours: Nft) -> None:
    """More than one batch, with some that are not there among them; the answers keep the order of the questions."""
    host, peer = row.udp("host", HOST, 4000), row.udp("peer", PEER, 20000)
    ports = range(20000, 20000 + 2 * BATCH)
    for port in ports[::2]:
        host.sendto(b"x", (PEER, port))
    _, seen_as = peer.recvfrom(64)
    source, destination = IPv4Address(HOST), IPv4Address(PEER)
    with entered(row.name("router")), closing(Lookup()) as lookup:
        names = [(int(IpProtocol.UDP), TrackedTuple(source, destination, 4000, port)) for port in ports]
        found = lookup.find(names)
        answers = TrackedTuple(destination, IPv4Address(seen_as[0]), 20000, seen_as[1])
        (turned,) = lookup.find([(int(IpProtocol.UDP), answers)])
        assert lookup.find([]) == []
    assert [flow is not None for flow in found] == [port % 2 == 0 for port in ports]
    assert [flow.original.destination_key for flow in found if flow] == list(ports[::2])
    assert found[0] is not None
    assert turned is not None
    assert (turned.original, turned.reply) == (found[0].original, found[0].reply)


def test_closed_connection_is_told_from_an_open_one(row: Row, ours: Nft) -> None:
    server = row.open("peer", socket.AF_INET, socket.SOCK_STREAM)
    server.bind((PEER, 1723))
    server.listen()
    client = row.open("host", socket.AF_INET, socket.SOCK_STREAM)
    client.connect((PEER, 1723))
    port = client.getsockname()[1]
    name = (int(IpProtocol.TCP), TrackedTuple(IPv4Address(HOST), IPv4Address(PEER), port, 1723))
    with entered(row.name("router")), closing(Lookup()) as lookup:
        (established,) = lookup.find([name])
        accepted, _ = server.accept()
        client.close()
        accepted.close()
        until(lambda: all(flow and flow.is_closed for flow in lookup.find([name])), "both have said goodbye")
    assert established is not None
    assert not established.is_closed


def test_nft_says_what_it_refuses_and_goes_on_working(row: Row, nft: Nft) -> None:
    with pytest.raises(KernelRefused, match="No such file or directory") as refused:
        nft.apply("add rule inet nowhere through accept")
    assert refused.value.errno == errno.ENOENT
    with pytest.raises(KernelRefused, match="syntax error"):
        nft.apply("add rule ) of nft")
    assert nft.list_table("inet", "nowhere") is None
    nft.apply("add table inet somewhere")
    assert nft.list_table("inet", "somewhere") is not None


def test_a_check_is_made_by_the_kernel_and_changes_nothing(row: Row, nft: Nft) -> None:
    good = {"nftables": [{"add": {"table": {"family": "inet", "name": "t"}}}]}
    nft.check(json.dumps(good))
    assert nft.list_table("inet", "t") is None
    with pytest.raises(KernelRefused):
        nft.check("add rule inet nowhere through accept")


def test_a_thousand_transactions_keep_one_context_small(row: Row, nft: Nft) -> None:
    def resident_kib() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    nft.apply("add table inet t; add set inet t s { type inet_service; }")
    before = resident_kib()
    for number in range(1000):
        nft.apply(f"add element inet t s {{ {number} }}")
    assert resident_kib() - before < 4096


def test_features_of_a_card_are_read_by_the_kernels_names(row: Row) -> None:
    with entered(row.name("router")):
        assert "rx-checksum" in asyncio.run(offload.active_features("wan0"))
        (finding,) = asyncio.run(offload.findings(["wan0"]))
    assert finding.code == "offload.tc"


def test_the_command_exits_with_1_exactly_when_there_are_errors(row: Row, ours: Nft) -> None:
    program = "import typer; from throughway.diagnose.cli import doctor; typer.run(doctor)"
    call = [sys.executable, "-c", program, "--inside", "lan0", "--outside", "wan0", "--json"]
    with entered(row.name("router")):
        good = subprocess.run(call, capture_output=True, text=True, check=False, timeout=30)
        row.nft("table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }")
        bad = subprocess.run(call, capture_output=True, text=True, check=False, timeout=30)
        wrong = subprocess.run([*call, "--inside", "a b"], capture_output=True, text=True, check=False, timeout=30)
    assert (good.returncode, json.loads(good.stdout)["passed"]) == (0, True), good.stdout
    assert (bad.returncode, json.loads(bad.stdout)["passed"]) == (1, False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
