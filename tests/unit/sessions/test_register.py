"""A session joins the flows of one VPN use, walks its six steps in order, and ends with a cause."""

from ipaddress import IPv4Address

from tests.unit.sessions.story import ALICE, BOB, PEER, PUBLIC, Story, esp, udp
from throughway.core.events import IkeExchange
from throughway.core.ids import Host, IpProtocol
from throughway.core.reasons import Reason
from throughway.sessions.facts import (
    Admitted,
    Answered,
    Counted,
    Detected,
    FlowGone,
    FlowName,
    Refused,
    SwitchedOff,
    Traffic,
)
from throughway.sessions.register import ENDED_SHOWN_S, IDLE_S, JUDGED_MAX, SESSIONS_PER_DEVICE_MAX
from throughway.sessions.session import FLOWS_MAX
from throughway.sessions.steps import Step

IPSEC = f"ipsec-{ALICE}-{PEER}"


def ipsec_up(story: Story, device: Host = ALICE) -> None:
    """Let a device negotiate and send, and be answered."""
    story.detect(udp(device, 500), "ike", "ipsec")
    story.count(udp(device, 500), 1, 0)
    story.ike(device, IkeExchange.INITIAL, out=True)
    story.ike(device, IkeExchange.INITIAL, out=False)
    story.ike(device, IkeExchange.FIRST_CHILD, out=True, number=1)
    story.ike(device, IkeExchange.FIRST_CHILD, out=False, number=1)
    story.detect(esp(device), "esp", "ipsec")
    story.count(esp(device), 5, 5)


def test_ike_and_its_esp_are_one_session_that_walks_the_six_steps_in_order() -> None:
    story = Story()
    ipsec_up(story)
    (entry,) = story.register.entries()
    session = entry.session
    assert session.id == IPSEC
    assert session.protocols == ("ike", "esp")
    assert [taken.step for taken in session.walk.taken] == list(Step)
    times = [taken.at for taken in session.walk.taken]
    assert times == sorted(times)
    assert all(taken.evidence for taken in session.walk.taken)
    assert entry.diagnosis is None
    steps = [told.fields["step"] for told in story.told if told.name == "session.step"]
    assert steps == [step.words for step in Step]


def test_evidence_of_a_later_step_waits_for_the_earlier_ones() -> None:
    story = Story()
    flow = udp(ALICE, 51820)
    story.detect(flow, "wireguard", "wireguard")
    story.tell(Answered(flow, "handshake response"))
    session = story.entry(f"wireguard-{ALICE}-{PEER}-51820").session
    assert session.walk.words == Step.DETECTED.words
    story.wait(1)
    story.count(flow, 1, 1)
    assert session.walk.words == Step.ESTABLISHED.words
    assert session.walk.taken[-1].evidence == "handshake response"
    assert session.walk.taken[-1].at == story.now


def test_counters_of_flows_that_nobody_recognised_are_no_session() -> None:
    story = Story()
    story.count(udp(ALICE, 53), 3, 3)
    assert not list(story.register.entries())
    assert not story.register.knows(udp(ALICE, 53))


def test_pptp_joins_its_control_connection_and_its_calls() -> None:
    story = Story()
    control = FlowName(ALICE, PEER, IpProtocol.TCP, 40000, 1723)
    calls = FlowName(ALICE, PEER, IpProtocol.GRE, 7, 9)
    story.detect(control, "pptp", "pptp")
    story.count(control, 5, 5)
    story.tell(Answered(control, "Outgoing-Call-Reply: connected"))
    story.detect(calls, "pptp-gre", "pptp")
    story.count(calls, 6, 6)
    session = story.entry(f"pptp-{ALICE}-{PEER}").session
    assert session.walk.words == Step.ESTABLISHED.words, "the negotiation of PPP is no data yet"
    story.count(calls, 20, 20)
    assert session.walk.words == Step.CARRYING_DATA.words


def test_each_source_port_of_wireguard_is_a_session_and_each_device_has_its_own() -> None:
    story = Story()
    for device, source in ((ALICE, 1000), (ALICE, 1001), (BOB, 1000)):
        story.detect(udp(device, 51820, source), "wireguard", "wireguard")
    assert len(list(story.register.entries())) == 3


def test_a_session_ends_when_all_its_flows_are_gone_and_a_new_one_begins_beside_it() -> None:
    story = Story()
    ipsec_up(story)
    story.tell(FlowGone(udp(ALICE, 500), "idle"))
    assert story.entry(IPSEC).ended_at is None
    story.tell(FlowGone(esp(ALICE), "no packet for 900 s"))
    assert story.entry(IPSEC).cause == "no packet for 900 s"
    ipsec_up(story)
    assert story.entry(f"{IPSEC}.2").ended_at is None
    story.wait(ENDED_SHOWN_S)
    assert story.register.find(IPSEC) is None
    assert story.register.find(f"{IPSEC}.2") is not None


def test_a_session_of_which_nothing_is_heard_ends_by_itself() -> None:
    story = Story()
    ipsec_up(story)
    story.wait(IDLE_S - 1)
    assert story.entry(IPSEC).ended_at is None
    story.wait(1)
    assert story.entry(IPSEC).ended_at == story.now
    assert [told.name for told in story.told][-1] == "session.ended"


def test_a_device_fills_only_its_own_share() -> None:
    story = Story()
    story.detect(udp(BOB, 51820), "wireguard", "wireguard")
    for source in range(1, SESSIONS_PER_DEVICE_MAX + 50):
        story.detect(udp(ALICE, 51820, source), "wireguard", "wireguard")
    entries = list(story.register.entries())
    assert sum(entry.session.device == ALICE for entry in entries) == SESSIONS_PER_DEVICE_MAX
    assert any(entry.session.device == BOB for entry in entries)
    assert not story.register.knows(udp(ALICE, 51820, 1)), "the one that was quiet for longest made room"


def test_a_better_recognition_replaces_a_weaker_one_and_never_the_other_way_round() -> None:
    story = Story()
    flow = udp(ALICE, 4500)
    story.tell(Detected(flow, "esp-udp", "ipsec", 0.5, "UDP 4500"))
    story.tell(Detected(flow, "ike-natt", "ipsec", 0.9, "IKE header"))
    story.tell(Detected(flow, "esp-udp", "ipsec", 0.5, "UDP 4500"))
    assert story.entry(IPSEC).session.protocols == ("ike-natt",)


def test_the_evidence_names_the_address_that_the_peer_sees() -> None:
    story = Story()
    ipsec_up(story)
    translated = story.entry(IPSEC).session.walk.taken[Step.TRANSLATED - 1]
    assert str(PUBLIC) in translated.evidence


def test_a_flow_that_nothing_translates_does_not_get_further() -> None:
    story = Story()
    flow = udp(ALICE, 51820)
    story.detect(flow, "wireguard", "wireguard")
    story.tell(Counted(flow, Traffic(3, 300, story.now), Traffic(), ""))
    assert story.entry(f"wireguard-{ALICE}-{PEER}-51820").session.walk.words == Step.DETECTED.words


def test_sessions_with_other_peers_are_their_own() -> None:
    story = Story()
    ipsec_up(story)
    other = IPv4Address("198.51.100.10")
    story.detect(FlowName(ALICE, other, IpProtocol.ESP), "esp", "ipsec")  # type: ignore[arg-type]
    assert len(list(story.register.entries())) == 2


def test_nothing_is_left_of_flows_of_a_device_that_changes_its_port_at_every_attempt() -> None:
    """A session remembers its latest flows; the register knows no others."""
    story = Story()
    names = [udp(ALICE, 500, source) for source in range(1, 3 * FLOWS_MAX)]
    for name in names:
        story.detect(name, "ike", "ipsec")
    assert len(story.entry(IPSEC).session.flows) == FLOWS_MAX
    assert [story.register.knows(name) for name in names] == [False] * (2 * FLOWS_MAX - 1) + [True] * FLOWS_MAX


def test_session_that_was_idle_and_goes_on_is_a_new_one() -> None:
    story = Story()
    flow = udp(ALICE, 51820)
    story.detect(flow, "wireguard", "wireguard")
    story.count(flow, 5, 5)
    story.wait(IDLE_S)
    name = f"wireguard-{ALICE}-{PEER}-51820"
    assert story.entry(name).ended_at is not None
    story.count(flow, 5, 5)
    assert story.register.find(f"{name}.2") is None, "nothing moved"
    story.count(flow, 9, 9)
    assert story.entry(f"{name}.2").session.walk.words == Step.CARRYING_DATA.words


def test_refusal_shows_that_the_device_began_and_admission_takes_it_back() -> None:
    story = Story()
    gre = FlowName(BOB, PEER, IpProtocol.GRE)
    story.tell(Refused(gre, "gre", Reason.DISCRIMINATOR_TAKEN, "Give it another key."))
    entry = story.entry(f"gre-{BOB}-{PEER}")
    assert entry.session.walk.words == Step.STARTED.words
    assert story.code(entry.session.id) == "discriminator.taken"
    story.tell(Admitted(gre))
    assert not story.code(entry.session.id)
    assert [told.name for told in story.told] == [
        "session.started",
        "session.step",
        "session.stopped",
        "session.recovered",
    ]


def test_what_is_switched_off_is_shown_until_it_is_on_again_whatever_the_kernel_forgets() -> None:
    story = Story()
    flow = udp(ALICE, 51820)
    story.detect(flow, "wireguard", "wireguard")
    (name,) = (entry.session.id for entry in story.register.entries())
    story.tell(SwitchedOff(flow, "wireguard", "wireguard"))
    story.tell(FlowGone(flow, "forgotten"))
    assert story.code(name) == "switch.off"
    assert story.entry(name).ended_at is None
    story.tell(Admitted(flow))
    assert story.entry(name).cause == "it was switched off"


def test_all_that_may_be_in_trouble_are_judged_in_turn() -> None:
    story = Story()
    devices = [Host(IPv4Address((10 << 24) + number)) for number in range(JUDGED_MAX + 10)]
    for device in devices:
        story.detect(udp(device, 51820), "wireguard", "wireguard")
        story.count(udp(device, 51820), 3, 0)
    story.wait(6)
    stopped = sum(told.name == "session.stopped" for told in story.told)
    assert stopped == JUDGED_MAX
    story.wait(1)
    assert sum(told.name == "session.stopped" for told in story.told) == len(devices)


def test_an_open_session_is_found_when_those_before_it_are_forgotten() -> None:
    """Sessions of one device and peer have numbers; the lower ones are gone before the latest ends."""
    story = Story()
    for _ in range(2):
        story.detect(esp(ALICE), "esp", "ipsec")
        story.tell(FlowGone(esp(ALICE), "forgotten"))
    story.detect(esp(ALICE), "esp", "ipsec")
    story.wait(ENDED_SHOWN_S)
    assert [entry.session.id for entry in story.register.entries()] == [f"ipsec-{ALICE}-{PEER}.3"]
    story.detect(udp(ALICE, 4500), "ike-natt", "ipsec")
    story.ike(ALICE, IkeExchange.FIRST_CHILD, out=True)
    (entry,) = story.register.entries()
    assert list(entry.session.flows) == [esp(ALICE), udp(ALICE, 4500)]
    assert entry.session.talks
