"""Three native-ESP clients to one server: the bytes on both sides of the gateway, and what `sessions` says."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.captured import read_esp, unmatched
from throughway.control.schema import CarriedBy
from throughway.lab.addresses import INSIDE
from throughway.lab.gateway import GatewayKind, Throughway
from throughway.lab.progress import Progress
from throughway.lab.report import PINGS, Report
from throughway.lab.run import run_in
from throughway.lab.scenarios import VPNS
from throughway.lab.testbed import Testbed
from throughway.lab.vpns.ipsec import EspNative
from throughway.lab.waiting import holds_within

pytestmark = pytest.mark.scenario("esp-native")

CLIENTS = 3
MEMORY_MAX_BYTES = 80 << 20


@dataclass
class Ran:
    bed: Testbed
    report: Report

    @property
    def gateway(self) -> Throughway:
        assert isinstance(self.bed.gateway, Throughway)
        return self.bed.gateway


@pytest.fixture(scope="module")
def ran() -> Iterator[Ran]:
    with Testbed() as bed, Progress() as progress:
        yield Ran(bed, run_in(bed, VPNS["esp-native"], CLIENTS, GatewayKind.THROUGHWAY, progress))


def test_all_clients_reach_the_server_and_no_inside_address_gets_out(ran: Ran) -> None:
    assert ran.report.passed, ran.report
    assert ran.bed.topology.leaked() == 0


def test_forwarded_esp_differs_in_addresses_ttl_and_header_checksum_alone(ran: Ran) -> None:
    """What the gateway forwards is compared byte for byte with what it got, in both directions."""
    shared = ran.bed.topology.router_outside
    inside, outside = ran.bed.folder / "inside.pcap", ran.bed.folder / "outside.pcap"

    def lost() -> list[tuple[int, int]]:
        at_host, at_peer = read_esp(inside), read_esp(outside)
        to_peer = unmatched(
            [packet for packet in at_host if packet.source in INSIDE],
            [packet for packet in at_peer if packet.source == shared],
        )
        to_inside = unmatched(
            [packet for packet in at_peer if packet.destination == shared],
            [packet for packet in at_host if packet.destination in INSIDE],
        )
        return to_peer + to_inside

    assert holds_within(lambda: not lost(), 5), f"packets that went in and did not come out as they were: {lost()}"

    at_host, at_peer = read_esp(inside), read_esp(outside)
    # Nothing comes out that did not go in, and what comes out has one hop less and a right header.
    for sent, forwarded in ((at_host, at_peer), (at_peer, at_host)):
        before = {packet.spi_and_sequence: packet for packet in sent}
        assert set(before) == {packet.spi_and_sequence for packet in forwarded}
        assert all(packet.has_right_checksum for packet in forwarded)
    entered = {packet.spi_and_sequence: packet.ttl for packet in at_host if packet.source in INSIDE}
    entered |= {packet.spi_and_sequence: packet.ttl for packet in at_peer if packet.destination == shared}
    left = [packet for packet in at_peer if packet.source == shared]
    left += [packet for packet in at_host if packet.destination in INSIDE]
    assert [packet.ttl for packet in left] == [entered[packet.spi_and_sequence] - 1 for packet in left]
    assert {packet.destination for packet in at_peer if packet.source == shared} == {EspNative.SERVER}
    assert {packet.source for packet in at_host if packet.destination in INSIDE} == {EspNative.SERVER}
    # Every ping went through as ESP and was answered as ESP.
    assert len(left) >= 2 * CLIENTS * PINGS


def test_sessions_show_each_tunnel_whole(ran: Ran) -> None:
    for client in ran.report.clients:
        rows = [row for row in ran.gateway.sessions() if row.device == client.address and row.protocol == "esp"]
        assert len(rows) == 1
        tunnel = rows[0]
        assert tunnel.peer == str(EspNative.SERVER)
        assert len(tunnel.discriminators_to_peer) == 1
        assert len(tunnel.discriminators_to_inside) >= 1
        assert all(spi.startswith("0x") for spi in (*tunnel.discriminators_to_peer, *tunnel.discriminators_to_inside))
        assert tunnel.verdict in ("certain", "contested")
        assert min(tunnel.packets_to_peer, tunnel.packets_to_inside) >= PINGS
        assert min(tunnel.bytes_to_peer, tunnel.bytes_to_inside) >= PINGS * 84
        assert 0 <= tunnel.idle_s <= tunnel.age_s
        assert tunnel.carried_by is CarriedBy.BPF


def test_the_daemon_stays_small(ran: Ran) -> None:
    status = ran.gateway.status()
    assert 0 < status.memory_bytes < MEMORY_MAX_BYTES
    assert status.mappings >= 2 * CLIENTS
