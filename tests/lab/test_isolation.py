"""Nothing can leave the lab, and an inside address that leaves the router is seen."""

import json
from pathlib import Path

import pytest

from throughway.control.client import ControlClient
from throughway.control.protocols_schema import Position, Protocols
from throughway.lab.gateway import GatewayKind
from throughway.lab.namespace import command, named
from throughway.lab.place import run
from throughway.lab.testbed import Testbed
from throughway.switch_files import CONFIGURATION_DIRECTORY_VARIABLE


def interfaces(*namespace: str) -> set[str]:
    return {link["ifname"] for link in json.loads(command("ip", *namespace, "-j", "link", "show"))}


def test_no_interface_leads_out_of_the_namespaces() -> None:
    """A veth pair out of a namespace would have its other end here."""
    before = interfaces()
    with Testbed() as bed:
        bed.topology.device("device")
        bed.topology.device_tap()
        assert interfaces() == before
        assert interfaces("-n", bed.router.name) == {"lo", "lan0", "wan0"}
        assert interfaces("-n", bed.topology.provider.name) == {"lo", "cust0", "br0", "br1"}
    assert interfaces() == before


def test_the_provider_knows_no_way_to_the_inside(bed: Testbed) -> None:
    routes = bed.topology.provider.command("ip", "-4", "route", "show")
    assert "10.77." not in routes
    assert "default" not in routes


def test_a_private_source_is_dropped_by_the_provider_and_counted(bed: Testbed) -> None:
    """Without any gateway the router forwards a device's packets as they are: a leak."""
    device, _ = bed.topology.device("device")
    assert bed.topology.leaked() == 0
    assert run(device, "ping", "-c", "2", "-i", "0.2", "-W", "1", "198.51.100.1").status != 0
    assert bed.topology.leaked() == 2


def test_a_masqueraded_device_reaches_the_peers_network_without_a_leak(bed: Testbed) -> None:
    device, _ = bed.topology.device("device")
    bed.start_gateway(GatewayKind.MASQUERADE)
    assert run(device, "ping", "-c", "2", "-i", "0.2", "-W", "1", "198.51.100.1").status == 0
    assert bed.topology.leaked() == 0


def test_what_is_switched_off_on_this_machine_passes_in_the_lab(
    bed: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONFIGURATION_DIRECTORY_VARIABLE, str(tmp_path))
    (tmp_path / "protocols.toml").write_text('[switch]\nwireguard = "off"\n')
    bed.start_gateway(GatewayKind.THROUGHWAY)
    with ControlClient.of_gateway(bed.prefix) as client:
        found = Protocols.from_json(client.request("protocols"))
    assert {row.position for row in found.protocols} == {Position.ON}
    assert found.folder == str(bed.folder / "etc")


def test_ipv6_is_routed_between_the_inside_and_the_peers(bed: Testbed) -> None:
    device, _ = bed.topology.device("device")
    assert run(device, "ping", "-c", "1", "-W", "2", "2001:db8:113::1").status == 0


def test_all_namespaces_of_a_lab_have_its_prefix(bed: Testbed) -> None:
    bed.topology.device("device")
    assert named(f"{bed.prefix}-") == [f"{bed.prefix}-{name}" for name in ("device", "lan", "provider", "router")]
