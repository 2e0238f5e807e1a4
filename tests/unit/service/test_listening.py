"""The log of flows that were recognised has each of them once."""

from dataclasses import replace

from structlog.testing import capture_logs

from tests.unit.service.desk import ALICE, PEER
from throughway.core.ids import IpProtocol
from throughway.service.listening import FactTeller
from throughway.service.telling import Teller
from throughway.sessions.facts import Detected, FlowGone, FlowName
from throughway.sessions.register import Register

IKE = Detected(FlowName(ALICE, PEER, IpProtocol.UDP, 500, 500), "ike", "ipsec", 0.9, "IKEv2")


def test_a_flow_that_two_find_is_told_once_and_again_when_it_is_something_else_or_comes_back() -> None:
    register = Register()
    teller = FactTeller(Teller(), register)
    with capture_logs() as lines:
        for fact in (
            IKE,
            replace(IKE, evidence="found again"),
            replace(IKE, protocol="esp-udp"),
            FlowGone(IKE.flow, "closed"),
            IKE,
        ):
            teller.on_fact(fact, 0.0)
            register.handle(fact, 0.0)
    assert [line["protocol"] for line in lines if line["event"] == "flow.detected"] == ["ike", "esp-udp", "ike"]
