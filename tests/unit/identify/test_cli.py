"""`throughway identify`: JSON lines, words for people, and its exit status."""

import json
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import PcapWriter
from typer.testing import CliRunner

import throughway.__main__  # noqa: F401 - mounts the command
from tests.unit.detect.test_wireguard import INITIATION
from throughway.cli.app import app

KEYS = [
    *("file", "src", "sport", "dst", "dport", "ip_proto", "protocol", "confidence", "packets", "bytes"),
    *("discriminators", "evidence"),
]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "a.pcap"
    ends = Ether() / IP(src="10.0.0.2", dst="198.51.100.10")
    with PcapWriter(str(path), linktype=1) as writer:
        writer.write(ends / UDP(sport=40000, dport=53) / Raw(INITIATION))
        writer.write(ends / UDP(sport=40001, dport=53) / Raw(b"something else"))
        writer.write(ends / IP(src="10.0.0.2") / Raw(b"x"))
    return path


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["identify", "--protocols", "/nonexistent", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_each_flow_is_a_line_with_these_keys(capture: Path) -> None:
    status, out, _ = run(capture, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [list(record) for record in records] == [KEYS] * len(records)
    assert records[0] == {
        "file": str(capture),
        "src": "10.0.0.2",
        "sport": 40000,
        "dst": "198.51.100.10",
        "dport": 53,
        "ip_proto": 17,
        "protocol": "wireguard",
        "confidence": 0.9,
        "packets": 1,
        "bytes": 28 + len(INITIATION),
        "discriminators": ["index 0x11111111"],
        "evidence": "WireGuard handshake initiation, 148 bytes, index 0x11111111, UDP 53",
    }
    assert (records[1]["protocol"], records[1]["confidence"], records[1]["evidence"]) == (None, 0.0, "")
    assert (records[2]["sport"], records[2]["dport"], records[2]["ip_proto"]) == (None, None, 4)


def test_people_see_vpns_and_all_flows_on_request(capture: Path) -> None:
    status, out, _ = run(capture)
    assert status == 0
    assert "wireguard   90%  10.0.0.2:40000 -> 198.51.100.10:53  udp  1 packets, 176 B" in out
    assert ":40001" not in out
    assert "VPN flows of" in out
    assert ":40001" in run(capture, "--all")[1]


def test_a_damaged_file_yields_what_could_be_read_and_exit_status_1(capture: Path) -> None:
    capture.write_bytes(capture.read_bytes()[:-5])
    status, out, errors = run(capture, "--json")
    assert status == 1
    assert json.loads(out.splitlines()[0])["protocol"] == "wireguard"
    assert "ends in the middle of a record" in errors


def test_a_file_that_is_not_there_does_not_keep_others_from_being_read(capture: Path) -> None:
    status, out, errors = run(capture.with_name("absent"), capture, "--json")
    assert status == 1
    assert len(out.splitlines()) >= 2
    assert "cannot be opened" in errors


def test_an_unknown_link_type_is_told(tmp_path: Path) -> None:
    path = tmp_path / "usb.pcap"
    with PcapWriter(str(path), linktype=220) as writer:
        writer.write(b"xxxxxxxxxxxxxxxx")
    status, _, errors = run(path)
    assert status == 1
    assert "link type 220" in errors


def test_a_protocol_of_the_operators_is_taken_and_a_wrong_one_is_told(capture: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    text = 'id = "acme"\nname = "Acme"\n[recognise]\ntransport = "udp"\n[[recognise.pattern]]\nbytes = "736f6d657468"\n'
    (own / "acme.toml").write_text(text)
    result = CliRunner().invoke(app, ["identify", "--protocols", str(own), str(capture), "--json"])
    assert [json.loads(line)["protocol"] for line in result.stdout.splitlines()][:2] == ["wireguard", "acme"]
    (own / "acme.toml").write_text(text.replace("736f", "73x"))
    result = CliRunner().invoke(app, ["identify", "--protocols", str(own), str(capture)])
    assert result.exit_code == 2
    assert "line 6" in result.stderr
