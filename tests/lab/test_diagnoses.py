"""VPNs that fail: each time the daemon says why, in time; and nothing where nothing is wrong."""

from collections.abc import Callable, Iterable

import pytest

from throughway.lab.checked import Check
from throughway.lab.diagnoses import DIAGNOSIS_SCENARIOS, PLIGHTS
from throughway.lab.diagnoses.others import SCENARIOS as OTHERS
from throughway.lab.gateway import GatewayKind
from throughway.lab.progress import Progress
from throughway.lab.run import look_in
from throughway.lab.testbed import Testbed
from throughway.sessions.diagnoses import TABLE

AT_ONCE = {
    "diagnosis-ike-fragments",
    "diagnosis-switched-off",
    "diagnosis-ah",
}
"""Those that take some ten seconds each; the others take up to half a minute, or are much like one of these."""

BY_NAME = {scenario.name: scenario for scenario in DIAGNOSIS_SCENARIOS}

RUNS: dict[str, Callable[..., Iterable[Check]]] = {
    **{plight.scenario.name: plight.checks for plight in PLIGHTS},
    **{scenario.name: scenario.checks for scenario in OTHERS},
}
"""How each is run without its trouble, too."""

NOT_PROVOKED = {
    "refused": "only where the gateway's tables are full, which tests of the daemon are for",
}


def parameters(at_once: set[str]) -> list[object]:
    return [
        pytest.param(
            name, marks=[pytest.mark.scenario(name), *([] if name in at_once else [pytest.mark.full])], id=name
        )
        for name in BY_NAME
    ]


@pytest.mark.parametrize("name", parameters(AT_ONCE))
def test_the_daemon_says_why_a_vpn_fails_and_sees_that_it_recovers(name: str, bed: Testbed, quiet: Progress) -> None:
    report = look_in(bed, BY_NAME[name], GatewayKind.THROUGHWAY, quiet)
    assert [(check.what, check.found) for check in report.checks if not check.passed] == []
    assert report.passed, report


@pytest.mark.parametrize("name", parameters(set()))
def test_nothing_is_said_of_the_same_vpn_without_the_trouble(name: str, bed: Testbed, quiet: Progress) -> None:
    bed.capture()
    checks = list(RUNS[name](bed, GatewayKind.THROUGHWAY, quiet, is_struck=False))
    failed = [check for check in checks if not check.passed]
    assert len(checks) > len(failed) == 1
    assert "is named within" in failed[0].what
    assert failed[0].found.startswith("nothing is, for 20 s")


def test_every_diagnosis_is_provoked_but_for_those_that_have_a_reason() -> None:
    others = {"switch.off", "ah.refused", "discriminator.taken", "server.second-client"}
    assert len(others) == len(OTHERS)
    assert {entry.code for entry in TABLE} - {plight.code for plight in PLIGHTS} - others == set(NOT_PROVOKED)


@pytest.mark.full
@pytest.mark.scenario("diagnosis-ike-unanswered")
def test_a_gateway_that_cannot_be_asked_fails(bed: Testbed, quiet: Progress) -> None:
    assert not look_in(bed, BY_NAME["diagnosis-ike-unanswered"], GatewayKind.MASQUERADE, quiet).passed
