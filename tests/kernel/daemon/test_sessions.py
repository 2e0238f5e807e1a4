"""Sessions of a real daemon: the six steps, with their evidence, and what stopped those that stop."""

import pytest

from tests.kernel.bpf_plane.net import ip_packet
from tests.kernel.daemon.conftest import MakeDaemon
from tests.kernel.daemon.net import ALICE, BOB, OUTSIDE, PEER, Ends, ike_message, wait_for
from tests.kernel.daemon.process import Daemon
from throughway.control.client import ControlClient
from throughway.control.errors import RequestRefused
from throughway.control.event_schema import HappenedEvent
from throughway.control.session_schema import Session, Verdict
from throughway.sessions.steps import Step

NAMED_S = 15.0
"""In which a diagnosis is to be named, from the last packet that it needs."""

IPSEC = f"ipsec-{ALICE}-{PEER}"


def session(daemon: Daemon, session_id: str = IPSEC) -> Session:
    with ControlClient.of_gateway(daemon.gateway) as client:
        return client.session(session_id)


def events(daemon: Daemon, after: str | None = None) -> list[HappenedEvent]:
    with ControlClient.of_gateway(daemon.gateway) as client:
        return list(client.events(after).events)


def agree(ends: Ends) -> None:
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)


def code(daemon: Daemon, session_id: str = IPSEC) -> str:
    with ControlClient.of_gateway(daemon.gateway) as client:
        found = {row.id: row.diagnosis for row in client.sessions()}
    diagnosis = found.get(session_id)
    return diagnosis.code if diagnosis else ""


def test_ike_and_its_esp_walk_the_six_steps(daemon: Daemon, ends: Ends) -> None:
    daemon.up()
    agree(ends)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 9))
    row = session(daemon)
    assert [taken.step for taken in row.steps] == [step.words for step in Step]
    assert row.step == "carrying data"
    evidence = {taken.step: taken.evidence for taken in row.steps}
    assert evidence["started"] == f"first packet to {PEER}, UDP 500"
    assert evidence["detected"] == "IKEv2 IKE_SA_INIT request, initiator SPI 00000000000000a1, UDP 500"
    assert evidence["translated"].startswith(f"leaves as {OUTSIDE}")
    assert (row.family, row.protocols, row.protocol) == ("ipsec", ("ike", "esp"), "esp")
    assert [flow.evidence for flow in row.flows][1] == "ESP, SPI 0x00001001, IP protocol 50"
    assert (row.packets_to_peer, row.packets_to_inside) == (10, 10), "those of IKE are among them"
    assert (row.diagnosis, row.ended, row.verdict) == (None, "", Verdict.CERTAIN)
    assert [event.fields["step"] for event in events(daemon) if event.name == "session.step"] == [
        step.words for step in Step
    ]


def test_esp_that_is_not_answered_is_said_to_be_one_way(daemon: Daemon, ends: Ends) -> None:
    daemon.up()
    agree(ends)
    ends.alice.send_esp(ALICE, PEER, 0x1001, range(1, 6))
    wait_for("it is named", lambda: code(daemon) == "ipsec.one-way", NAMED_S)
    assert session(daemon).step == "established"
    (told,) = [event for event in events(daemon) if event.name == "session.stopped"]
    assert told.fields["session"] == IPSEC
    ends.peer.send_esp(PEER, OUTSIDE, 0x2001, range(1, 6))
    wait_for("it recovers", lambda: not code(daemon))
    wait_for("and carries data", lambda: session(daemon).step == "carrying data")


def test_ike_that_nobody_answers(daemon: Daemon, ends: Ends) -> None:
    daemon.up()
    for _ in range(3):
        ends.ike[ALICE].socket.sendto(ike_message(0xA1, 34, 0), (str(PEER), 500))
    wait_for("it is named", lambda: code(daemon) == "ike.unanswered", NAMED_S)


def test_second_device_with_one_key_is_refused_and_comes_through_when_the_first_is_gone(
    daemon: Daemon, ends: Ends
) -> None:
    daemon.up()
    for host in (ALICE, BOB):
        ends.of(host).send(ip_packet(host, PEER, 94, bytes(64)))
    name = f"ip-94-{BOB}-{PEER}"
    wait_for("it is named", lambda: code(daemon, name) == "discriminator.taken", NAMED_S)
    row = session(daemon, name)
    assert (row.verdict, row.step) == (Verdict.REFUSED, "started")
    assert row.reason.startswith(f"The device {ALICE} uses IP protocol 94")
    assert session(daemon, f"ip-94-{ALICE}-{PEER}").step == "forwarded"


def test_session_that_is_not_there(daemon: Daemon) -> None:
    daemon.up()
    with pytest.raises(RequestRefused, match="there is no session 'nobody'"):
        session(daemon, "nobody")


def test_events_go_on_where_a_reader_stopped(daemon: Daemon, ends: Ends) -> None:
    daemon.up()
    ends.begin(ALICE, 0xA1)
    wait_for("something happened", lambda: events(daemon))
    first = events(daemon)
    ends.begin(BOB, 0xB1)
    wait_for("more happened", lambda: len(events(daemon)) > len(first))
    everything = events(daemon)
    assert [one.cursor for one in everything[: len(first)]] == [one.cursor for one in first]
    assert events(daemon, first[-1].cursor)[0] == everything[len(first)]


def test_flow_that_the_gateway_forgets_ends_its_session(daemon: Daemon, ends: Ends) -> None:
    daemon.limits = {"portless_idle_s": 0.3, "sweep_every_s": 0.05, "counters_every_s": 0.05}
    daemon.up()
    ends.alice.send(ip_packet(ALICE, PEER, 94, bytes(64)))
    name = f"ip-94-{ALICE}-{PEER}"
    wait_for("it began", lambda: any(event.name == "session.started" for event in events(daemon)))
    wait_for("it ended", lambda: session(daemon, name).ended)
    row = session(daemon, name)
    assert row.ended == "the gateway has forgotten its idle mappings"
    assert (row.packets_to_peer, row.step, row.flows[0].is_gone) == (1, "forwarded", True)


def test_ah_is_named_with_its_remedy(daemon: Daemon, ends: Ends) -> None:
    daemon.up()
    ends.alice.send(ip_packet(ALICE, PEER, 51, bytes.fromhex("32040000 00001001 00000001") + bytes(32)))
    wait_for("it is named", lambda: code(daemon) == "ah.refused", NAMED_S)
    row = session(daemon)
    assert (row.verdict, row.protocol, row.step) == (Verdict.REFUSED, "ah", "started")


def test_large_message_of_ike_that_is_not_answered_was_lost_in_fragments(daemon: Daemon, ends: Ends) -> None:
    """The header says how long the message is; what follows the first fragment never came."""
    daemon.up()
    ends.begin(ALICE, 0xA1)
    message = ike_message(0xA1, 35, 1)
    for _ in range(3):
        ends.ike[ALICE].socket.sendto(message[:24] + (3000).to_bytes(4, "big"), (str(PEER), 500))
    wait_for("it is named", lambda: code(daemon) == "ike.fragments-lost", NAMED_S)
    assert session(daemon).step == "forwarded"


def test_sessions_of_an_earlier_run_are_known_after_a_restart(make_daemon: MakeDaemon, ends: Ends) -> None:
    """What was negotiated is forgotten; that data passes both ways says as much."""
    first = make_daemon().up()
    agree(ends)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 9))
    assert first.down(keep=True) == 0
    second = make_daemon().up()
    row = session(second)
    assert (row.protocols, row.step, row.packets_to_inside) == (("esp",), "carrying data", 8)
