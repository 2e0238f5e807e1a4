"""What the captures of a run say of each client, device by device."""

from ipaddress import IPv4Address
from pathlib import Path
from struct import pack
from typing import cast

from tests.unit.detect.traffic import ipv4, noise, udp
from throughway.lab import detected
from throughway.lab.detected import Detected
from throughway.lab.peers.client import Client
from throughway.lab.place import Place, Task

DEVICE, ROUTER, SERVER = IPv4Address("10.77.0.11"), IPv4Address("192.0.2.2"), IPv4Address("198.51.100.11")
WIREGUARD = pack("<II", 1, 0x1234) + noise(124) + bytes(16)
ESP = pack("!II", 0xC0FFEE00, 1) + noise(80)


def client(name: str, address: IPv4Address) -> Client:
    place, task = cast(Place, None), cast(Task, None)
    return Client(name, address, place, "tun0", "172.19.0.1", SERVER, place, task)


def between(address: IPv4Address, protocol: int, payload: bytes) -> bytes:
    return ipv4(protocol, payload, address.packed, SERVER.packed)


def capture(path: Path, *packets: bytes, tail: bytes = b"") -> Path:
    head = pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    path.write_bytes(head + b"".join(pack("<IIII", 1, 0, len(one), len(one)) + one for one in packets) + tail)
    return path


def found(tmp_path: Path, inside: list[bytes], outside: list[bytes], *clients: Client) -> dict[str, Detected]:
    files = capture(tmp_path / "inside.pcap", *inside), capture(tmp_path / "outside.pcap", *outside, tail=bytes(8))
    return detected.in_captures(clients, ROUTER, *files)


def test_a_device_is_what_its_flows_on_the_inside_are(tmp_path: Path) -> None:
    inside = [between(DEVICE, 17, udp(40000, 53, WIREGUARD)), between(DEVICE, 50, ESP), between(DEVICE, 1, noise(40))]
    other = client("other", IPv4Address("10.77.0.12"))
    told = found(tmp_path, inside, [], client("wireguard1", DEVICE), other)
    assert told == {"wireguard1": Detected(("esp", "wireguard")), "other": Detected()}
    assert told["wireguard1"].is_just(("wireguard", "esp"))
    assert not told["other"].is_just(("wireguard",))
    assert told["other"].words() == "nothing"


def test_a_client_on_the_router_is_on_the_outside_alone(tmp_path: Path) -> None:
    told = found(tmp_path, [], [between(ROUTER, 50, ESP)], client("vpnc3", ROUTER))
    assert told == {"vpnc3": Detected(("esp",))}


def test_a_flow_without_a_name_is_told(tmp_path: Path) -> None:
    told = found(tmp_path, [between(DEVICE, 17, udp(40000, 443, noise(60)))], [], client("x", DEVICE))
    assert told["x"].unnamed == ("IP protocol 17 to 198.51.100.11 port 443",)
    assert not told["x"].is_just(())
