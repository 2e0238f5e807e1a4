"""The transaction that makes our table, read command by command. What it does is tested in tests/kernel/firewall."""

import json
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from throughway.core.errors import SettingsRejected
from throughway.core.ids import Peer, UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.core.limits import Limits
from throughway.core.marks import Marks
from throughway.policy.kept import PortRules, keep, translate
from throughway.policy.ruleset import Ruleset, RulesetSettings, attached, build, remove, transactions, update

GOLDEN = Path(__file__).with_name("ruleset.golden")
SETTINGS = RulesetSettings(insides=("lan1", "lan0"), outside="wan0")


def lines(ruleset: Ruleset) -> str:
    return "".join(f"{json.dumps(command)}\n" for command in ruleset.commands)


def test_the_transaction_is_as_reviewed() -> None:
    assert lines(build(SETTINGS)) == GOLDEN.read_text()


def test_timers_follow_the_table_in_a_transaction_of_their_own() -> None:
    table, timers = transactions(SETTINGS, Limits(udp_idle_s=301, pptp_control_idle_s=7441))
    assert table == build(SETTINGS).to_json()
    assert "unreplied : 301, replied : 301" in timers
    assert "established : 7441" in timers
    assert "hook" not in timers


def test_only_the_switch_lets_ipsec_in_unasked() -> None:
    closed = RulesetSettings(insides=("lan0",), outside="wan0", ipv6_ipsec=False)
    assert "IPv6" in lines(build(SETTINGS))
    assert "IPv6" not in lines(build(closed))


def test_the_interface_with_programs_is_noted_alone() -> None:
    place = {"family": "inet", "table": "throughway", "name": "attached"}
    flush, element = {"flush": {"set": place}}, {"add": {"element": {**place, "elem": [7]}}}
    assert attached(7).commands == (flush, element)
    assert attached(None).commands == (flush,)
    assert element not in build(SETTINGS).commands
    assert element in build(replace(SETTINGS, attached=7)).commands


PEER, OTHER = Peer(IPv4Address("203.0.113.9")), Peer(IPv4Address("203.0.113.10"))


def ruleset_of(ike: PortSetting, *learned: tuple[Peer, UdpPort]) -> str:
    ports = PortRules({UdpPort.IKE: ike, UdpPort.L2TP: PortSetting.TRANSLATE}, learned)
    return lines(build(RulesetSettings(insides=("lan0",), outside="wan0", ports=ports)))


def test_a_port_is_kept_with_the_peers_of_a_set_with_all_or_with_none() -> None:
    learned = ruleset_of(PortSetting.AUTO, (PEER, UdpPort.IKE), (OTHER, UdpPort.L2TP))
    assert "@keeps_ike" in learned
    assert '"elem": ["203.0.113.9"]' in learned
    assert "keeps its port, IKE" in ruleset_of(PortSetting.KEEP)
    for text in (ruleset_of(PortSetting.KEEP), ruleset_of(PortSetting.TRANSLATE)):
        assert "keeps_ike" not in text
    assert "keeps its port" not in ruleset_of(PortSetting.TRANSLATE)


def test_a_peer_is_put_into_the_set_and_taken_out_again() -> None:
    (added,), (taken,) = update(keep(PEER, UdpPort.IKE)).commands, update(translate(PEER, UdpPort.IKE)).commands
    assert added["add"] == taken["delete"]
    assert added["add"]["element"]["name"] == "keeps_ike"
    assert added["add"]["element"]["elem"] == ["203.0.113.9"]


def test_building_begins_with_removing_so_that_it_replaces() -> None:
    assert build(SETTINGS).commands[:2] == remove().commands


def test_no_command_names_another_table() -> None:
    for command in (*build(SETTINGS).commands, *remove().commands):
        ((_, objects),) = command.items()
        ((kind, thing),) = objects.items()
        assert (thing["family"], thing["name" if kind == "table" else "table"]) == ("inet", "throughway")


def test_the_json_text_is_a_libnftables_document() -> None:
    document = json.loads(build(SETTINGS).to_json())
    assert document["nftables"][0] == {"metainfo": {"json_schema_version": 1}}
    assert tuple(document["nftables"][1:]) == build(SETTINGS).commands


def test_other_marks_take_the_place_of_ours_everywhere() -> None:
    other = RulesetSettings(insides=("lan0",), outside="wan0", marks=Marks(mask=0xC0, carried=0x40, reinjected=0x80))
    text = build(other).to_json()
    assert str(0x10000000) not in text
    assert str(0x30000000) not in text
    assert "64" in text
    assert "192" in text


@pytest.mark.parametrize(
    ("insides", "outside", "key"),
    [
        ((), "wan0", "inside.interface"),
        (("lan0", "lan0"), "wan0", "inside.interface"),
        (("lan0",), "lan0", "outside.interface"),
        (("lan 0",), "wan0", "inside.interface"),
        (("lan0",), "", "outside.interface"),
        (("lan0",), "w" * 16, "outside.interface"),
        (('lan"0',), "wan0", "inside.interface"),
        (("lan*",), "wan0", "inside.interface"),
    ],
)
def test_names_that_no_interface_has_are_rejected_with_their_key(
    insides: tuple[str, ...], outside: str, key: str
) -> None:
    with pytest.raises(SettingsRejected) as rejected:
        RulesetSettings(insides=insides, outside=outside)
    assert rejected.value.key == key


@pytest.mark.parametrize(
    ("mask", "carried", "reinjected", "key"),
    [
        (0, 1, 2, "mark.mask"),
        (1 << 32, 1, 2, "mark.mask"),
        (0x3, 0x4, 0x2, "mark.carried"),
        (0x7, 0x3, 0x4, "mark.carried"),
        (0x3, 0x1, 0x0, "mark.reinjected"),
        (0x3, 0x1, 0x1, "mark.reinjected"),
    ],
)
def test_marks_are_single_bits_of_the_mask(mask: int, carried: int, reinjected: int, key: str) -> None:
    with pytest.raises(SettingsRejected) as rejected:
        Marks(mask=mask, carried=carried, reinjected=reinjected)
    assert rejected.value.key == key
