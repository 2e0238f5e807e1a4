"""The protocols that come with Throughway, and the operator's beside them."""

from pathlib import Path

import pytest

from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue.protocol import Carrier
from throughway.catalogue_files import read_catalogue, read_file, shipped
from throughway.core.errors import SettingsRejected
from throughway.detect.registry import STRUCTURES, udp_recognisers

IDS = {
    *("ike", "ike-natt", "esp", "esp-udp", "ah", "ike-tcp", "pptp", "pptp-gre", "gre", "l2tpv2", "l2tpv3"),
    *("l2tpv3-udp", "ipip", "6in4", "openvpn", "wireguard", "sstp", "anyconnect", "softether", "tailscale"),
    *("zerotier", "nebula"),
}

OWN = 'id = "acme"\nname = "Acme"\n[recognise]\ntransport = "udp"\nports = [5555]\n'


def test_the_ids_are_those_that_programs_know() -> None:
    assert Catalogue.of(shipped()).ids == IDS


@pytest.mark.parametrize("protocol", shipped(), ids=lambda protocol: protocol.id)
def test_a_file_says_all_that_there_is_to_say(protocol) -> None:  # type: ignore[no-untyped-def]
    assert protocol.summary
    assert protocol.sources
    assert protocol.recognise.structures
    assert protocol.nat.needs
    assert protocol.switch.off_blocks
    assert protocol.establishment
    assert protocol.tell
    assert protocol.discriminator or protocol.recognise.ports or protocol.family == "ipip"
    if protocol.recognise.transport == "udp":
        assert protocol.nat.carried_by is Carrier.MASQUERADE
        assert protocol.timers.idle_s == 300


def test_every_structure_is_asked_for() -> None:
    asked = {name for protocol in shipped() for name in protocol.recognise.structures}
    assert asked == STRUCTURES
    assert len(udp_recognisers(Catalogue.of(shipped()))) == len(STRUCTURES) - 2


def test_an_operators_file_adds_a_protocol(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(OWN)
    (tmp_path / "acme.toml.save").write_text("rubbish")
    catalogue = read_catalogue(tmp_path)
    assert catalogue.ids == IDS | {"acme"}
    assert catalogue.families[-1] == "acme"
    assert [protocol.id for protocol in catalogue.of_family("acme")] == ["acme"]
    assert read_catalogue(tmp_path / "absent").ids == IDS


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (OWN.replace("acme", "openvpn"), "taken by another protocol"),
        (OWN.replace("name", 'family = "esp"\nname'), "ID of a protocol of another family"),
        (OWN.replace("5555", "0"), "from 1 to 65535"),
    ],
)
def test_an_operators_file_that_cannot_be_taken_is_told(tmp_path: Path, text: str, remedy: str) -> None:
    (tmp_path / "acme.toml").write_text(text)
    with pytest.raises(SettingsRejected, match=remedy):
        read_catalogue(tmp_path)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsRejected, match="cannot be read"):
        read_file(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(SettingsRejected, match="UTF-8"):
        read_file(tmp_path / "latin.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * 70_000)
    with pytest.raises(SettingsRejected, match="longer than"):
        read_file(tmp_path / "large.toml")
