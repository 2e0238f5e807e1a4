"""The file of peers that need a port kept: it survives, it is bounded, and what is broken in it costs itself alone."""

import json
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from throughway.core.ids import Peer, UdpPort
from throughway.service.remembered import RememberedPorts

PEERS = [Peer(IPv4Address(f"203.0.113.{n}")) for n in range(10)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "office.ports.json"


def test_what_was_added_is_there_in_the_next_run(file: Path) -> None:
    first = RememberedPorts(file, 4)
    assert first.entries == ()
    first.add(PEERS[0], UdpPort.IKE)
    first.add(PEERS[1], UdpPort.L2TP)
    first.add(PEERS[0], UdpPort.IKE)
    assert RememberedPorts(file, 4).entries == ((PEERS[1], UdpPort.L2TP), (PEERS[0], UdpPort.IKE))
    first.discard(PEERS[1], UdpPort.L2TP)
    first.discard(PEERS[2], UdpPort.IKE)
    assert RememberedPorts(file, 4).entries == ((PEERS[0], UdpPort.IKE),)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_oldest_makes_room(file: Path) -> None:
    remembered = RememberedPorts(file, 3)
    for peer in PEERS:
        remembered.add(peer, UdpPort.IKE)
    assert [peer for peer, _ in RememberedPorts(file, 3).entries] == PEERS[-3:]
    assert [peer for peer, _ in RememberedPorts(file, 2).entries] == PEERS[-2:]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        json.dumps({"version": 2, "ports": []}),
        json.dumps({"version": 1, "ports": [{"peer": "nobody", "port": 500}]}),
        json.dumps({"version": 1, "ports": [{"peer": "203.0.113.9", "port": 4500}]}),
        json.dumps({"version": 1, "ports": [{"peer": "203.0.113.9"}]}),
        json.dumps({"version": 1, "ports": 5}),
        "\0",
    ],
)
def test_a_broken_file_is_said_and_begun_anew(file: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file.parent.mkdir()
    file.write_text(text)
    remembered = RememberedPorts(file, 4)
    assert remembered.entries == ()
    assert "ports.unreadable" in capsys.readouterr().out
    remembered.add(PEERS[0], UdpPort.IKE)
    assert RememberedPorts(file, 4).entries == ((PEERS[0], UdpPort.IKE),)


def test_a_disk_that_refuses_costs_the_memory_alone(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.parent.write_text("a file where the folder should be")
    remembered = RememberedPorts(file, 4)
    remembered.add(PEERS[0], UdpPort.IKE)
    assert remembered.entries == ((PEERS[0], UdpPort.IKE),)
    assert "ports.not_written" in capsys.readouterr().out
