"""What a session must show to be said to carry data."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from throughway.control.session_schema import CarriedBy, Diagnosis, Session, StepTaken, Verdict
from throughway.lab.walked import STEPS, fault_among, fault_of
from throughway.sessions.steps import Step

DEVICE, SERVER = "10.77.0.11", IPv4Address("203.0.113.20")
AT = "2026-11-22T17:09:28.456Z"


def steps(*names: str) -> tuple[StepTaken, ...]:
    return tuple(
        StepTaken(step=name, at=AT, ago_s=10.0 - number, evidence="a packet") for number, name in enumerate(names)
    )


WELL = Session(
    id="ipsec-10.77.0.11-203.0.113.20",
    device=DEVICE,
    protocol="esp",
    peer=str(SERVER),
    discriminators_to_peer=(),
    discriminators_to_inside=(),
    verdict=Verdict.CERTAIN,
    candidates=1,
    packets_to_peer=1,
    bytes_to_peer=100,
    packets_to_inside=1,
    bytes_to_inside=100,
    age_s=10.0,
    idle_s=0.0,
    carried_by=CarriedBy.BPF,
    steps=steps(*STEPS),
)


def test_the_names_of_the_steps_are_the_sessions_own() -> None:
    assert tuple(step.words for step in Step) == STEPS


def test_six_steps_in_order_with_evidence_have_no_fault() -> None:
    assert fault_of(WELL) == ""


@pytest.mark.parametrize(
    ("session", "fault"),
    [
        (
            replace(WELL, steps=steps(*STEPS[:5])),
            "took the steps started, detected, translated, forwarded, established",
        ),
        (replace(WELL, steps=()), "took the steps none"),
        (replace(WELL, steps=(replace(WELL.steps[0], evidence=""), *WELL.steps[1:])), "has no evidence of: started"),
        (
            replace(WELL, steps=(replace(WELL.steps[0], ago_s=1.0), *WELL.steps[1:])),
            "took the steps in another order: [1.0, 9.0, 8.0, 7.0, 6.0, 5.0] s ago",
        ),
        (
            replace(WELL, diagnosis=Diagnosis(code="peer.silent", fact="It is.", remedy="Look.", at=AT, ago_s=1.0)),
            "is diagnosed with peer.silent: It is.",
        ),
    ],
)
def test_each_fault_is_told(session: Session, fault: str) -> None:
    assert fault_of(session) == fault


def test_the_latest_session_of_the_device_with_the_server_counts_unless_an_older_one_is_well() -> None:
    broken = replace(WELL, steps=steps(*STEPS[:2]), age_s=2.0)
    strange = replace(WELL, device="10.77.0.12")
    assert fault_among([strange], DEVICE, SERVER) == "has no session"
    assert fault_among([replace(WELL, ended="closed")], DEVICE, SERVER) == "has no session"
    assert fault_among([broken, replace(broken, age_s=20.0, steps=())], DEVICE, SERVER).endswith("started, detected")
    assert fault_among([broken, WELL], DEVICE, SERVER) == ""
