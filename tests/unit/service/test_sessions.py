"""The sessions that people are told of, from what a tracker and a register know."""

import pytest

from tests.unit.service.desk import ALICE, BOB, OUTSIDE, PEER, Desk
from throughway.control.reading import DocumentMismatch
from throughway.control.session_schema import CarriedBy, Session, SessionsQuery, Verdict
from throughway.core import discriminators
from throughway.core.events import AhFromInside, EspFromInside, L2tpControl, L2tpControlSeen, PortlessFromInside
from throughway.core.flows import FlowKey
from throughway.core.ids import Path, Spi
from throughway.service.sessions import PAGE_FLOWS_MAX, page
from throughway.sessions.register import Entry

GRE, L2TPV3, OTHER = 47, 115, 94
KEY = discriminators.of_gre(42)
ICRQ = 10


def test_gre_with_a_key() -> None:
    desk = Desk().happen(PortlessFromInside(ALICE, PEER, GRE, KEY))
    desk.now += 9.0
    desk.count(
        ALICE, {FlowKey.to_inside(GRE, Path(PEER), KEY): 3, FlowKey.to_peer(GRE, ALICE, PEER, KEY): 4}, desk.now - 9.0
    )
    (row,) = desk.rows()
    assert (row.id, row.device, row.protocol, row.peer) == (f"gre-{ALICE}-{PEER}", str(ALICE), "gre", str(PEER))
    assert row.discriminators_to_peer == row.discriminators_to_inside == ("key 0x2a",)
    assert (row.packets_to_inside, row.packets_to_peer, row.bytes_to_peer) == (3, 4, 400)
    assert row.idle_s == pytest.approx(9.0)
    assert (row.verdict, row.carried_by, row.reason) == (Verdict.CERTAIN, CarriedBy.BPF, "")
    assert row.address == str(OUTSIDE)
    assert row.step == "carrying data"
    assert row.steps[2].evidence == f"leaves as {OUTSIDE}"


@pytest.mark.parametrize(
    ("protocol", "name", "evidence"),
    [
        (GRE, "gre", "GRE, no key, IP protocol 47"),
        (L2TPV3, "l2tpv3", "L2TPv3, session 0x00000000, IP protocol 115"),
        (4, "ipip", "IP in IP, IP protocol 4"),
        (OTHER, "ip-94", "ip-94, IP protocol 94"),
    ],
)
def test_host_waits_until_something_comes_back(protocol: int, name: str, evidence: str) -> None:
    (row,) = Desk().happen(PortlessFromInside(ALICE, PEER, protocol, 0)).rows()
    assert (row.verdict, row.protocol, row.step) == (Verdict.WAITING, name, "detected")
    assert row.steps[-1].evidence == row.flows[0].evidence == evidence


def test_one_flow_for_each_protocol_of_a_host_and_a_peer() -> None:
    desk = Desk().happen(
        EspFromInside(ALICE, PEER, Spi(0x1000), 1),
        PortlessFromInside(ALICE, PEER, GRE, 0),
        PortlessFromInside(ALICE, PEER, GRE, KEY),
        PortlessFromInside(ALICE, PEER, L2TPV3, 9),
        PortlessFromInside(ALICE, PEER, OTHER, 0),
    )
    rows = desk.rows()
    assert sorted(row.family for row in rows) == ["gre", "ip-94", "ipsec", "l2tp"]
    assert sorted(flow.protocol for _, flow in desk.flows()) == ["esp", "gre", "ip-94", "l2tpv3"]
    assert {flow.discriminators_to_peer for _, flow in desk.flows() if flow.protocol == "gre"} == {
        ("no key", "key 0x2a")
    }


@pytest.mark.parametrize(
    ("protocol", "name", "words"),
    [
        (GRE, 0, "The device 192.168.1.10 has GRE without a key with this peer."),
        (GRE, KEY, "The device 192.168.1.10 has GRE with the same key with this peer."),
        (OTHER, 0, "The device 192.168.1.10 uses IP protocol 94 with this peer"),
    ],
)
def test_second_host_is_shown_as_refused_with_the_fact_and_the_remedy(protocol: int, name: int, words: str) -> None:
    desk = Desk().happen(PortlessFromInside(ALICE, PEER, protocol, name), PortlessFromInside(BOB, PEER, protocol, name))
    (refused,) = [row for row in desk.rows() if row.verdict is Verdict.REFUSED]
    assert (refused.device, refused.step) == (str(BOB), "started")
    assert refused.reason.startswith(words)
    assert refused.reason.endswith(".")
    assert refused.diagnosis is not None
    assert (refused.diagnosis.code, refused.diagnosis.remedy) == ("discriminator.taken", refused.reason)
    assert [row.device for row in desk.rows() if row.verdict is not Verdict.REFUSED] == [str(ALICE)]


def test_device_with_one_tunnel_refused_and_another_that_works_is_not_refused_as_a_whole() -> None:
    desk = Desk().happen(
        PortlessFromInside(ALICE, PEER, GRE, KEY),
        PortlessFromInside(BOB, PEER, GRE, 0),
        PortlessFromInside(BOB, PEER, GRE, KEY),
    )
    (row,) = [row for row in desk.rows() if row.device == str(BOB)]
    assert row.verdict is Verdict.WAITING
    assert [flow.verdict for flow in row.flows] == [Verdict.WAITING, Verdict.REFUSED]
    assert row.diagnosis is not None


def test_refusal_that_nobody_asks_for_any_more_is_over() -> None:
    desk = Desk().happen(PortlessFromInside(ALICE, PEER, OTHER, 0), PortlessFromInside(BOB, PEER, OTHER, 0))
    desk.book.on_refusals([])
    (row,) = [row for row in desk.rows() if row.device == str(BOB)]
    assert (row.diagnosis, row.reason) == (None, "")


def test_equal_session_id_is_shown_with_the_direction_it_belongs_to() -> None:
    message = L2tpControl(0, ICRQ, local_session_id=7)
    desk = Desk().happen(L2tpControlSeen(ALICE, PEER, True, message), L2tpControlSeen(BOB, PEER, True, message))
    (refused,) = [flow for _, flow in desk.flows() if flow.verdict is Verdict.REFUSED]
    assert (refused.discriminators_to_peer, refused.discriminators_to_inside) == ((), ("0x00000007",))


def test_ah_says_why_it_cannot_work() -> None:
    (row,) = Desk().happen(AhFromInside(ALICE, PEER)).rows()
    assert (row.protocol, row.family, row.verdict) == ("ah", "ipsec", Verdict.REFUSED)
    assert "no NAT can carry it" in row.reason
    assert row.diagnosis is not None
    assert row.diagnosis.code == "ah.refused"


def many(count: int) -> Desk:
    desk = Desk()
    for number in range(count):
        desk.happen(PortlessFromInside(ALICE, PEER, 100 + number, 0))
    return desk


def pages(desk: Desk, limit: int, flows_max: int = PAGE_FLOWS_MAX) -> list[list[Session]]:
    found: list[list[Session]] = []
    after = None
    rows = {row.id: row for row in desk.rows()}

    def row(entry: Entry) -> Session:
        return rows[entry.session.id]

    while True:
        one = page(desk.book.register.entries(), row, SessionsQuery(after=after, limit=limit), flows_max)
        found.append(list(one.sessions))
        if one.next is None:
            return found
        after = one.next


@pytest.mark.parametrize("limit", [1, 3, 7, 8])
def test_pages_have_every_session_once_the_newest_first(limit: int) -> None:
    found = pages(many(7), limit)
    ids = [row.id for one in found for row in one]
    assert ids == [f"ip-{100 + number}-{ALICE}-{PEER}" for number in reversed(range(7))]
    assert max(len(one) for one in found) <= limit


def test_no_page_has_more_flows_than_an_answer_holds() -> None:
    assert [len(one) for one in pages(many(5), 500, flows_max=2)] == [2, 2, 1]
    assert [len(one) for one in pages(many(2), 500, flows_max=0)] == [1, 1], "one that has more goes alone"


def test_what_is_no_cursor_is_refused() -> None:
    with pytest.raises(DocumentMismatch, match="is not a cursor"):
        page([], Desk().rows, SessionsQuery(after="nothing"))  # type: ignore[arg-type]
