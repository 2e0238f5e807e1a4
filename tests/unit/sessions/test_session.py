"""One session, by itself: what it keeps count of stays true while it forgets."""

from ipaddress import IPv4Address
from random import Random

from throughway.core.events import IkeExchange
from throughway.core.ids import Host, IpProtocol, Peer
from throughway.sessions.facts import Counted, Detected, FlowName, Negotiated, Traffic
from throughway.sessions.session import EXCHANGES_MAX, FLOWS_MAX, Session

ALICE = Host(IPv4Address("192.168.1.10"))
PEER = Peer(IPv4Address("203.0.113.9"))


def test_suspicion_is_what_flows_and_exchanges_show_whatever_was_forgotten() -> None:
    """Facts at random about more flows and exchanges than are remembered; some are answered and some are not."""
    dice, session = Random(7), Session("ipsec", ALICE, PEER, "ipsec", 0.0, 0.0)  # noqa: S311
    seen: set[bool] = set()
    for at in range(4000):
        now = float(at)
        name = FlowName(ALICE, PEER, IpProtocol.UDP, 40000 + dice.randrange(FLOWS_MAX + 8), 4500)
        match dice.randrange(4):
            case 0:
                if name not in session.flows:
                    session.make_room()
                session.on_detected(Detected(name, "ike-natt", "ipsec", 0.9, "IKE"), now)
                session.flows[name].is_gone = dice.random() < 0.1
            case 1 if name in session.flows:
                flow = session.flows[name]
                sent = Traffic(flow.to_peer.packets + 1, flow.to_peer.bytes + 500, now)
                came = Traffic(flow.to_inside.packets + 1, flow.to_inside.bytes + 500, now)
                session.on_counted(Counted(name, sent, came if dice.random() < 0.98 else flow.to_inside), now)
            case _:
                exchange = dice.randrange(EXCHANGES_MAX + 4)
                is_request = dice.random() < 0.03
                session.on_negotiated(
                    Negotiated(ALICE, PEER, exchange, IkeExchange.CHILD, 1, is_request, 300, name), now
                )
        shown = [flow.unanswered.packets for flow in session.flows.values()]
        shown += [talk.asked for talk in session.talks.values()]
        assert session.is_suspect == any(shown)
        seen.add(session.is_suspect)
    assert seen == {True, False}
    assert (len(session.flows), len(session.talks)) == (FLOWS_MAX, EXCHANGES_MAX)
