"""`throughway protocols` where no daemon runs: it works on the files, and says so."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from throughway.control.paths import RUNTIME_DIRECTORY_VARIABLE
from throughway.protocols.cli import app
from throughway.switch_files import CONFIGURATION_DIRECTORY_VARIABLE

ACME = 'id = "acme"\nname = "Acme VPN"\n[recognise]\ntransport = "udp"\nports = [5555]\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RUNTIME_DIRECTORY_VARIABLE, str(tmp_path / "run"))
    monkeypatch.setenv(CONFIGURATION_DIRECTORY_VARIABLE, str(tmp_path / "etc"))
    return tmp_path / "etc"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_the_list_has_a_line_for_each_protocol_and_says_who_answered(folder: Path) -> None:
    done = run("list")
    assert done.exit_code == 0, done.output
    first, heading, _, *lines = done.output.splitlines()
    assert first == "22 protocols in 13 families, 0 off"
    assert heading.split() == ["Family", "Protocol", "Switch", "What", "it", "is"]
    assert [line.split() for line in lines if "IKE behind NAT" in line] == [["ike-natt", "on", "IKE", "behind", "NAT"]]
    assert f"This is what {folder} says" in lines[-1]


def test_a_switch_is_written_and_shown_for_whom(folder: Path) -> None:
    assert run("disable", "ipsec", "--device", "10.0.0.2").output.startswith("ipsec is off for 10.0.0.2.")
    assert run("enable", "ike", "--peer", "203.0.113.9").output.startswith("ike is on for peer 203.0.113.9.")
    assert run("disable", "gre").output.startswith("gre is off.")
    listed = run("list").output
    assert "1 off" in listed
    assert "  ipsec is off for 10.0.0.2\n" in listed
    assert "  ike is on for every device with 203.0.113.9\n" in listed
    shown = run("show", "ike").output
    assert "except that" in shown
    assert "UDP, its structure; usual port 500" in shown
    assert run("reset", "ipsec", "--device", "10.0.0.2").output.startswith(
        "What was set of ipsec for 10.0.0.2 is taken back."
    )
    assert "ipsec" not in (folder / "protocols.toml").read_text()


def test_a_switch_for_all_says_what_it_does_not_reach() -> None:
    run("disable", "ike")
    run("disable", "ipsec", "--device", "10.0.0.2", "--peer", "203.0.113.9")
    run("enable", "esp", "--device", "10.0.0.3")
    assert run("enable", "ipsec").output.splitlines()[-2:] == [
        "Not ike, which is off by itself: `throughway protocols reset ike`.",
        "Not for 10.0.0.2 with 203.0.113.9, where ipsec is off: "
        "`throughway protocols reset ipsec --device 10.0.0.2 --peer 203.0.113.9`.",
    ]
    assert "Not" not in run("enable", "gre").output


def test_a_family_is_shown_with_all_of_its_protocols() -> None:
    run("disable", "pptp")
    shown = run("show", "pptp").output
    assert "pptp - PPTP" in shown
    assert "pptp-gre - GRE of PPTP" in shown
    assert shown.count("off (by pptp)") == 1, "the family's name is that of its first protocol"


def test_json_is_for_programs() -> None:
    run("unassisted", "gre")
    found = json.loads(run("list", "--json").output)
    (gre,) = [one for one in found["protocols"] if one["id"] == "gre"]
    assert (gre["position"], gre["decided_by"], gre["default"], gre["flows"]) == ("unassisted", "gre", "on", None)
    assert json.loads(run("show", "gre", "--json").output)["protocols"] == [gre]
    assert json.loads(run("disable", "gre", "--json").output) == {"name": "gre", "blocked": 0, "lifted": 0}


def test_a_protocol_of_ones_own_comes_and_goes(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(ACME)
    assert run("add", str(file)).output.startswith("acme is added")
    assert "Acme VPN (yours)" in run("list").output
    assert str(folder / "protocols.d" / "acme.toml") in run("show", "acme").output
    assert run("remove", "acme").output.startswith("acme is removed.")
    assert run("show", "acme").exit_code == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("disable", "wiregard"), "did you mean `wireguard`"),
        (("show", "wiregard"), "did you mean wireguard?"),
        (("disable", "gre", "--device", "10.0"), "no address"),
        (("unassisted", "esp", "--device", "10.0.0.2"), "everybody only"),
        (("remove", "esp"), "throughway protocols disable esp"),
        (("add", "/nonexistent.toml"), "No such file"),
        (("add", "/dev/null"), "line 1, id"),
    ],
)
def test_what_cannot_be_is_told_with_the_remedy(words: tuple[str, ...], told: str, folder: Path) -> None:
    done = run(*words)
    assert done.exit_code == 1
    assert told in done.output
    assert not (folder / "protocols.toml").exists()


def test_a_file_that_is_wrong_is_told_with_its_line(folder: Path) -> None:
    folder.mkdir()
    (folder / "protocols.toml").write_text('[switch]\ngre = "of"\n')
    done = run("list")
    assert done.exit_code == 1
    assert "protocols.toml, line 2, switch.gre" in done.output
    assert "use one of `on`, `off`, `unassisted`" in done.output
