import re
from pathlib import Path

import pytest

from throughway.core.errors import SettingsRejected
from throughway.lab import programs
from throughway.lab.diagnoses import DIAGNOSIS_SCENARIOS
from throughway.lab.packets import PACKET_SCENARIOS
from throughway.lab.scenarios import LIVE, SCENARIOS, SWITCHES, VPNS, named

PAGE = Path(__file__).parents[3] / "docs" / "lab.md"


def test_the_default_scenario_has_the_promised_clients() -> None:
    assert {name: SCENARIOS[name].clients for name in LIVE} == {
        "esp-native": 3,
        "openvpn-udp": 2,
        "wireguard": 2,
        "pptp": 2,
    }


def test_the_number_of_clients_is_the_scenarios_own_unless_given() -> None:
    assert named("esp-native")[1] == 3
    assert named("esp-native", 8)[1] == 8


@pytest.mark.parametrize("clients", [0, 9])
def test_a_number_that_a_scenario_cannot_have_is_refused(clients: int) -> None:
    with pytest.raises(SettingsRejected) as refused:
        named("esp-native", clients)
    assert refused.value.key == "--clients"
    assert refused.value.remedy == f"esp-native can have 1 to 8 clients, not {clients}"


def test_an_unknown_name_is_refused_with_what_may_be_meant() -> None:
    with pytest.raises(SettingsRejected, match="`throughway lab list` names all"):
        named("carrier-pigeon")
    with pytest.raises(SettingsRejected, match="did you mean wireguard"):
        named("wiregard")


def test_every_program_of_every_scenario_has_a_package() -> None:
    needed = {program for scenario in SCENARIOS.values() for program in scenario.programs}
    assert needed | set(programs.ALWAYS) <= set(programs.PACKAGES)


def test_a_scenario_for_one_client_says_so() -> None:
    with pytest.raises(SettingsRejected) as refused:
        named("l2tp-ipsec", 2)
    assert refused.value.remedy == "l2tp-ipsec can have 1 client, not 2"
    assert "a server cannot have two behind one address" in SCENARIOS["l2tp-ipsec"].shows


def test_names_are_given_once() -> None:
    assert len(SCENARIOS) == len(VPNS) + len(PACKET_SCENARIOS) + len([SWITCHES]) + len(DIAGNOSIS_SCENARIOS)


def test_the_page_about_the_lab_has_every_scenario_and_what_masquerade_does() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|.*\| (\w+) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(name, "fails" if one.masquerade_fails else "passes") for name, one in SCENARIOS.items()]
