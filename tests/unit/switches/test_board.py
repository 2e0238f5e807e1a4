"""Which position holds, against a model that tries all settings; and what follows for tracker and rules."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.switches.boards import ALICE, BOB, CATALOGUE, OTHER, PEER, board
from throughway.core.blocking import Blocking
from throughway.core.errors import SettingsRejected
from throughway.core.ids import UdpPort
from throughway.switches.board import Board
from throughway.switches.position import Place, Position, Setting, Switches

NAMES = ("esp", "ike", "ipsec", "pptp", "pptp-gre", "wireguard", "openvpn")
DEVICES, PEERS = (None, ALICE, BOB), (None, PEER, OTHER)

settings = st.dictionaries(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(DEVICES), st.sampled_from(PEERS)),
    st.sampled_from([Position.ON, Position.OFF]),
)


def made(chosen: dict[tuple[str, str | None, str | None], Position]) -> Board:
    return Board(CATALOGUE, Switches(tuple(Setting(n, p, Place.of(d, o)) for (n, d, o), p in chosen.items())))


def by_model(chosen: dict[tuple[str, str | None, str | None], Position], name: str, device: str, peer: str) -> Position:
    """Rank all settings that fit by how specific they are, and take the first."""
    family = next(protocol.family for protocol in CATALOGUE if protocol.id == name)

    def rank(key: tuple[str, str | None, str | None]) -> tuple[bool, bool, bool]:
        return key[1] is not None, key[2] is not None, key[0] == name

    fitting = [
        key for key in chosen if key[0] in (name, family) and key[1] in (None, device) and key[2] in (None, peer)
    ]
    return chosen[max(fitting, key=rank)] if fitting else Position.ON


@given(settings, st.sampled_from(["esp", "ike", "pptp", "pptp-gre", "wireguard"]))
def test_the_most_specific_setting_holds(
    chosen: dict[tuple[str, str | None, str | None], Position], protocol: str
) -> None:
    switches = made(chosen)
    for device in (ALICE, BOB):
        for peer in (PEER, OTHER):
            found = switches.ruling(protocol, ip_address(device), ip_address(peer))
            assert found.position is by_model(chosen, protocol, device, peer)


@given(settings)
def test_rules_and_tracker_and_board_agree_for_whom_a_protocol_is_blocked(
    chosen: dict[tuple[str, str | None, str | None], Position],
) -> None:
    switches = made(chosen)
    blocking = {(one.protocol, one.is_pptp): one for one in switches.blocking()}
    withheld = switches.withheld()
    for device in map(ip_address, (ALICE, BOB)):
        for peer in map(ip_address, (PEER, OTHER)):
            for protocol, number, is_pptp in (("esp", 50, False), ("pptp-gre", 47, True), ("gre", 47, False)):
                is_off = switches.is_off(protocol, device, peer)
                assert blocking.get((number, is_pptp), Blocking(number)).blocks(device, peer) is is_off
                if not is_pptp:
                    assert withheld.is_withheld(number, device, peer) is is_off  # type: ignore[arg-type]


def test_a_family_switches_all_of_its_protocols_and_no_other() -> None:
    switches = board(("pptp", "off"))
    off = {protocol.id for protocol in CATALOGUE if switches.ruling(protocol.id).position is Position.OFF}
    assert off == {"pptp", "pptp-gre"}
    assert [(one.protocol, one.is_pptp) for one in switches.blocking()] == [(47, True)]
    assert switches.has_off_with_ports
    assert not switches.withheld(), "calls of PPTP are never the tracker's"


def test_off_for_one_device_is_enough_to_look_at_flows() -> None:
    assert not board(("esp", "off")).has_off_with_ports
    assert board(("wireguard", "off", ALICE, None)).has_off_with_ports
    assert not board(("wireguard", "on", ALICE, None)).has_off_with_ports


def test_unassisted_leaves_protocols_and_ports_to_the_kernel() -> None:
    withheld = board(("ipsec", "unassisted"), ("l2tp", "unassisted")).withheld()
    assert withheld.unassisted == {50, 115}
    assert withheld.ports == {UdpPort.IKE, UdpPort.L2TP}
    assert withheld.is_withheld(50, ip_address(ALICE), ip_address(PEER))  # type: ignore[arg-type]


def test_the_helper_is_withheld_by_device_and_peer() -> None:
    without = board(("pptp", "unassisted", ALICE, None), ("pptp", "on", ALICE, PEER)).without_helper()
    alice, bob, peer, other = map(ip_address, (ALICE, BOB, PEER, OTHER))
    assert [without.blocks(one, there) for one in (alice, bob) for there in (peer, other)] == [
        False,
        True,
        False,
        False,
    ]
    assert board(("pptp", "unassisted")).without_helper().is_everywhere


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (("wiregard", "off"), "did you mean `wireguard`"),
        (("zzz", "off"), "`throughway protocols list` names all"),
        (("ipsec", "unassisted", ALICE, None), "everybody only"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(setting: tuple[str, ...], words: str) -> None:
    with pytest.raises(SettingsRejected, match=words):
        board(setting)  # type: ignore[arg-type]


def test_places_are_addresses_of_one_version() -> None:
    with pytest.raises(SettingsRejected, match=r"10\.0\.0\.300"):
        Place.of("10.0.0.300", None)
    with pytest.raises(SettingsRejected, match="different versions"):
        Place.of(ALICE, "2001:db8::1")
    with pytest.raises(SettingsRejected, match="not the address of one peer"):
        Place.of(None, "224.0.0.1")
    with pytest.raises(SettingsRejected, match="not the address of one device"):
        Place.of("fe80::1%eth0", None)
