"""The sum of all runs: passed exactly when Throughway passes all, and masquerade fails what it cannot do."""

from collections.abc import Iterator

import pytest
from rich.console import Console

from throughway.lab.checked import Check, CheckedScenario, CheckReport
from throughway.lab.every import Attempt, Row, Summary
from throughway.lab.gateway import GatewayKind
from throughway.lab.leaks import Leaks
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed


def nothing(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    yield Check("nothing", passed=True)


def attempt(kind: GatewayKind, *, passed: bool) -> Attempt:
    return Attempt(CheckReport(scenario="hairpin", gateway=kind, checks=(Check("it arrives", passed),)))


TROUBLE = Attempt(None, ("guest server failed 4 boots: no sha1",))


def row(*, ours: bool | None, plain: bool | None, plain_fails: bool) -> Row:
    scenario = CheckedScenario(name="hairpin", shows="", checks=nothing, masquerade_fails=plain_fails)
    return Row(
        scenario,
        TROUBLE if ours is None else attempt(GatewayKind.THROUGHWAY, passed=ours),
        TROUBLE if plain is None else attempt(GatewayKind.MASQUERADE, passed=plain),
        12.34,
    )


@pytest.mark.parametrize(
    ("ours", "plain", "plain_fails", "passed"),
    [
        (True, False, True, True),
        (True, True, True, False),
        (True, None, True, False),
        (True, True, False, True),
        (True, False, False, True),
        (False, False, True, False),
        (None, False, True, False),
    ],
)
def test_a_row(ours: bool | None, plain: bool | None, plain_fails: bool, passed: bool) -> None:
    one = row(ours=ours, plain=plain, plain_fails=plain_fails)
    assert one.passed is passed
    assert Summary((row(ours=True, plain=True, plain_fails=False), one)).passed is passed


def test_nothing_run_is_nothing_passed() -> None:
    assert not Summary(()).passed


def test_the_table_has_both_gateways_side_by_side() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(Summary((row(ours=True, plain=False, plain_fails=True),)).table())
    (line,) = [line for line in captured.get().splitlines() if "hairpin" in line]
    cells = [cell.strip() for cell in line.strip("│ ").split("│")]
    assert cells == ["hairpin", "-", "passed", "failed (it cannot)", "12"]


def test_trouble_is_told_and_is_neither() -> None:
    one = row(ours=True, plain=None, plain_fails=True)
    assert one.masquerade.word() == "trouble"
    assert one.remarks() == [
        "hairpin: plain masquerade cannot do this, but its run is: trouble",
        "hairpin, masquerade: guest server failed 4 boots: no sha1",
    ]
    assert Summary((one,)).remarks()[-1] == "not as it should be: hairpin"
    assert one.to_json()["masquerade"] == {"passed": False, "trouble": ["guest server failed 4 boots: no sha1"]}


def test_the_document_of_a_row() -> None:
    document = row(ours=True, plain=False, plain_fails=True).to_json()
    assert list(document) == [
        *("scenario", "clients", "masquerade_fails", "throughway", "masquerade", "seconds", "passed"),
    ]
    assert document["throughway"] == {
        "scenario": "hairpin",
        "gateway": "throughway",
        "checks": [{"what": "it arrives", "passed": True, "found": ""}],
        "passed": True,
    }


def test_a_leak_fails_a_scenario_with_checks_behind_our_gateway_alone() -> None:
    checks = (Check("it arrives", passed=True),)
    for kind, passed in ((GatewayKind.THROUGHWAY, False), (GatewayKind.MASQUERADE, True)):
        report = CheckReport(scenario="hairpin", gateway=kind, checks=checks, leaks=Leaks(named=2))
        assert report.passed is passed
        assert report.remarks() == ["2 packets on the outside named an inside address"]
    assert not CheckReport(scenario="hairpin", gateway=GatewayKind.THROUGHWAY, checks=()).passed
