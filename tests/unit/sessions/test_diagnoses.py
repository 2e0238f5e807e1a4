"""Each diagnosis is named within 15 seconds of the last packet that it needs, and not for a session that is well."""

import pytest

from tests.unit.sessions.story import ALICE, BOB, PEER, PRIVATE, PUBLIC, Story, esp, udp
from tests.unit.sessions.test_register import IPSEC, ipsec_up
from throughway.core.events import IkeExchange
from throughway.core.ids import ROUTER, IpProtocol
from throughway.core.reasons import Reason
from throughway.sessions.diagnoses import TABLE
from throughway.sessions.facts import FlowName, Refused, SwitchedOff, Traffic

WAIT_S = 13.0
"""Below the 15 seconds that a person may have to wait."""


def negotiate(story: Story, *, answered: bool) -> None:
    story.detect(udp(ALICE, 500), "ike", "ipsec")
    story.ike(ALICE, IkeExchange.INITIAL, out=True)
    if answered:
        story.ike(ALICE, IkeExchange.INITIAL, out=False)


def test_ike_that_nobody_answers() -> None:
    story = Story()
    negotiate(story, answered=False)
    story.ike(ALICE, IkeExchange.INITIAL, out=True)
    story.wait(1)
    assert not story.code(IPSEC), "two messages may still be on their way"
    story.wait(WAIT_S)
    assert story.code(IPSEC) == "ike.unanswered"


def test_nothing_is_said_of_answers_to_the_router_itself_which_nobody_sees() -> None:
    story = Story()
    story.detect(udp(ROUTER, 500), "ike", "ipsec")
    for _ in range(4):
        story.ike(ROUTER, IkeExchange.INITIAL, out=True)
    story.wait(WAIT_S)
    assert not story.code(f"ipsec-router-{PEER}")


def test_ike_that_is_answered_late_recovers() -> None:
    story = Story()
    negotiate(story, answered=False)
    for _ in range(2):
        story.ike(ALICE, IkeExchange.INITIAL, out=True)
    story.wait(1)
    assert story.code(IPSEC) == "ike.unanswered"
    story.ike(ALICE, IkeExchange.INITIAL, out=False)
    story.wait(1)
    assert not story.code(IPSEC)
    assert [told.name for told in story.told][-1] == "session.recovered"


@pytest.mark.parametrize(("size", "code"), [(3000, "ike.fragments-lost"), (400, "ike.stopped")])
def test_ike_that_ends_at_the_authentication(size: int, code: str) -> None:
    story = Story()
    negotiate(story, answered=True)
    for _ in range(3):
        story.ike(ALICE, IkeExchange.FIRST_CHILD, out=True, size=size, number=1)
    story.wait(WAIT_S)
    assert story.code(IPSEC) == code


def test_ike_that_is_answered_on_its_first_port_alone() -> None:
    story = Story()
    negotiate(story, answered=True)
    story.detect(udp(ALICE, 4500), "ike-natt", "ipsec")
    for _ in range(3):
        story.ike(ALICE, IkeExchange.FIRST_CHILD, out=True, number=1)
    story.count(udp(ALICE, 4500), 3, 0, size=300)
    story.wait(WAIT_S)
    found = story.diagnosis(IPSEC)
    assert found is not None
    assert (found.code, found.fact) == ("ike.stopped", f"{PEER} answered IKE on UDP 500, but on UDP 4500 it does not.")


def one_way(story: Story) -> None:
    negotiate(story, answered=True)
    story.ike(ALICE, IkeExchange.FIRST_CHILD, out=True, number=1)
    story.ike(ALICE, IkeExchange.FIRST_CHILD, out=False, number=1)
    story.detect(esp(ALICE), "esp", "ipsec")
    story.count(esp(ALICE), 4, 0)
    story.wait(WAIT_S)


def test_esp_one_way() -> None:
    story = Story()
    one_way(story)
    assert story.code(IPSEC) == "ipsec.one-way"


def test_esp_one_way_behind_a_second_nat_names_the_nat() -> None:
    story = Story(outside=PRIVATE)
    one_way(story)
    found = story.diagnosis(IPSEC)
    assert found is not None
    assert found.code == "nat.double"
    assert str(PRIVATE) in found.fact


def test_a_second_nat_alone_is_no_reason() -> None:
    story = Story(outside=PRIVATE)
    ipsec_up(story)
    story.wait(WAIT_S)
    assert not story.code(IPSEC)


def test_pptp_without_gre() -> None:
    story = Story()
    control = FlowName(ALICE, PEER, IpProtocol.TCP, 40000, 1723)
    story.detect(control, "pptp", "pptp")
    story.count(control, 5, 5)
    story.wait(WAIT_S)
    assert story.code(f"pptp-{ALICE}-{PEER}") == "pptp.gre-missing"


def test_pptp_without_gre_stays_so_while_the_control_connection_goes_on() -> None:
    story = Story()
    control = FlowName(ALICE, PEER, IpProtocol.TCP, 40000, 1723)
    story.detect(control, "pptp", "pptp")
    for packets in range(5, 15):
        story.count(control, packets, packets)
        story.wait(2)
        assert story.code(f"pptp-{ALICE}-{PEER}") == ("pptp.gre-missing" if packets > 6 else "")


def test_small_requests_that_are_never_answered_are_no_keepalives() -> None:
    """OpenVPN asks with 14 bytes."""
    story = Story()
    flow = udp(ALICE, 1194)
    story.detect(flow, "openvpn", "openvpn")
    for out in (1, 2, 3):
        story.count(flow, out, 0, size=42)
        story.wait(3)
    assert story.code(f"openvpn-{ALICE}-{PEER}-1194") == "peer.silent"


def test_ah() -> None:
    story = Story()
    ah = FlowName(ALICE, PEER, IpProtocol.AH)
    story.tell(Refused(ah, "ipsec", Reason.AH_REFUSED, "Set the VPN to ESP."))
    assert story.code(IPSEC) == "ah.refused"


def test_equal_ids() -> None:
    story = Story()
    gre = FlowName(BOB, PEER, IpProtocol.GRE)
    story.tell(Refused(gre, "gre", Reason.DISCRIMINATOR_TAKEN, "Give one of the tunnels another key."))
    found = story.diagnosis(f"gre-{BOB}-{PEER}")
    assert found is not None
    assert (found.code, found.remedy) == ("discriminator.taken", "Give one of the tunnels another key.")


def test_a_switch() -> None:
    story = Story()
    ipsec_up(story)
    story.tell(SwitchedOff(esp(ALICE), "ipsec", "ipsec"))
    assert story.code(IPSEC) == "switch.off"


def test_a_server_that_takes_one_client_for_another() -> None:
    """The second device comes up, and from then on the first one speaks in vain."""
    story = Story()
    ipsec_up(story)
    story.wait(1)
    ipsec_up(story, BOB)
    for out in range(6, 20, 2):
        story.wait(2)
        story.count_at(esp(ALICE), Traffic(out, out * 100, story.now), Traffic(5, 500, 1000.0))
        story.count(esp(BOB), out, out)
    story.wait(2)
    assert story.code(IPSEC) == "server.second-client"
    assert not story.code(f"ipsec-{BOB}-{PEER}")


def quiet_then_in_vain(story: Story, quiet_s: float, size: int) -> str:
    flow = udp(ALICE, 1194)
    story.detect(flow, "openvpn", "openvpn")
    story.count(flow, 20, 20)
    heard_at = story.now
    story.wait(quiet_s)
    for out in range(22, 36, 2):
        story.wait(2)
        more = (out - 20) * size
        story.count_at(flow, Traffic(out, 2000 + more, story.now), Traffic(20, 2000, heard_at))
    return f"openvpn-{ALICE}-{PEER}-1194"


def test_a_timer_upstream_that_is_too_short() -> None:
    story = Story()
    name = quiet_then_in_vain(story, 40.0, 100)
    found = story.diagnosis(name)
    assert found is not None
    assert found.code == "timer.upstream"
    assert "42 s" in found.fact


def test_large_packets_that_are_lost() -> None:
    story = Story()
    assert story.code(quiet_then_in_vain(story, 0.0, 1400)) == "path-mtu.black-hole"


def test_keepalives_of_the_peer_do_not_answer_for_large_packets() -> None:
    story = Story()
    flow = udp(ALICE, 1194)
    story.detect(flow, "openvpn", "openvpn")
    story.count(flow, 20, 20)
    for sent in range(1, 9):
        story.wait(2)
        came = 20 + sent // 4
        answered = Traffic(came, 2000 + (came - 20) * 68, story.now)
        story.count_at(flow, Traffic(20 + 2 * sent, 2000 + 2 * sent * 1400, story.now), answered)
    assert story.code(f"openvpn-{ALICE}-{PEER}-1194") == "path-mtu.black-hole"


def test_a_peer_that_answered_before() -> None:
    story = Story()
    assert story.code(quiet_then_in_vain(story, 0.0, 100)) == "peer.silent-since"


def test_a_peer_that_never_answers() -> None:
    story = Story()
    flow = udp(ALICE, 51820)
    story.detect(flow, "wireguard", "wireguard")
    for out in (1, 2, 3):
        story.count(flow, out, 0)
        story.wait(3)
    assert story.code(f"wireguard-{ALICE}-{PEER}-51820") == "peer.silent"


@pytest.mark.parametrize("size", [29, 60])
def test_keepalives_want_no_answer(size: int) -> None:
    """Those of NAT traversal and of WireGuard go one way in a tunnel that rests."""
    story = Story()
    flow = udp(ALICE, 51820)
    story.detect(flow, "wireguard", "wireguard")
    story.count(flow, 20, 20)
    heard_at = story.now
    for sent in range(1, 8):
        story.wait(25)
        story.count_at(flow, Traffic(20 + sent, 2000 + sent * size, story.now), Traffic(20, 2000, heard_at))
        story.wait(1)
        assert not story.code(f"wireguard-{ALICE}-{PEER}-51820")


def test_a_peer_that_answers_late_is_not_silent() -> None:
    """WireGuard's peer says that it got something after 10 seconds, when it has nothing else to say."""
    story = Story()
    flow = udp(ALICE, 51820)
    story.detect(flow, "wireguard", "wireguard")
    story.count(flow, 20, 20)
    heard_at = story.now
    for sent in range(1, 6):
        story.wait(2)
        story.count_at(flow, Traffic(20 + sent, 2000 + sent * 100, story.now), Traffic(20, 2000, heard_at))
    story.wait(1)
    assert not story.code(f"wireguard-{ALICE}-{PEER}-51820")


def test_a_session_that_is_well_has_none() -> None:
    story = Story(PUBLIC)
    ipsec_up(story)
    for packets in range(6, 30, 4):
        story.wait(2)
        story.count(esp(ALICE), packets, packets)
    assert not story.code(IPSEC)


def test_the_table_has_no_code_twice_and_every_line_says_what_to_do() -> None:
    codes = [entry.code for entry in TABLE]
    assert len(codes) == len(set(codes))
    assert all(entry.remedy for entry in TABLE if entry.code not in ("discriminator.taken", "refused"))
