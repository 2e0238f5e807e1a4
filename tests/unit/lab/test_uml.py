from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from throughway.lab.namespace import Namespace
from throughway.lab.topology import Tap
from throughway.lab.uml import mac, network_script

LAN = Namespace("tw0001-lan", Path("/lab/logs"))
TAPS = [
    Tap(LAN, "tap1", IPv4Interface("10.77.0.11/24"), IPv4Address("10.77.0.1")),
    Tap(LAN, "tap2", IPv4Interface("10.77.0.12/24"), IPv4Address("10.77.0.1")),
]


def test_hardware_addresses_are_local_and_differ_as_the_addresses_do() -> None:
    assert [mac(tap) for tap in TAPS] == ["02:00:0a:4d:00:0b", "02:00:0a:4d:00:0c"]


def test_an_interface_of_its_own_has_address_and_route() -> None:
    assert network_script(TAPS[:1], apart=False).splitlines() == [
        "ip address add 10.77.0.11/24 dev vec0",
        "ip link set vec0 up",
        "ip route add default via 10.77.0.1",
    ]


def test_interfaces_kept_apart_have_a_namespace_each() -> None:
    lines = network_script(TAPS, apart=True).splitlines()
    assert "ip link set vec0 netns d1" in lines
    assert "ip link set vec1 netns d2" in lines
    assert "ip -n d2 address add 10.77.0.12/24 dev vec1" in lines
    assert "ip -n d2 route add default via 10.77.0.1" in lines
