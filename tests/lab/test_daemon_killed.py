"""kill -9 of the daemon interrupts no tunnel, and the next daemon knows what the first one did."""

import pytest

from throughway.control.schema import Session
from throughway.lab.gateway import GatewayKind, Throughway
from throughway.lab.ping import Pinging, wait_for_answers
from throughway.lab.progress import Progress
from throughway.lab.run import start, wait_for_tunnels
from throughway.lab.scenarios import VPNS
from throughway.lab.testbed import Testbed

TWENTY_A_SECOND = 0.05
CLIENTS = 3


def esp(gateway: Throughway) -> list[Session]:
    return [session for session in gateway.sessions() if session.protocol == "esp"]


def pairs(gateway: Throughway) -> list[tuple[object, ...]]:
    """Return who has which tunnel, and how sure the daemon is of it."""
    return sorted(
        (
            session.device,
            session.peer,
            sorted(session.discriminators_to_peer),
            sorted(session.discriminators_to_inside),
            str(session.verdict),
        )
        for session in esp(gateway)
    )


@pytest.mark.scenario("esp-native")
def test_no_ping_is_lost_while_the_daemon_is_killed_and_started_again(bed: Testbed, quiet: Progress) -> None:
    peers = VPNS["esp-native"].peers(bed, CLIENTS)
    bed.capture()
    clients, replies = start(bed, peers, CLIENTS, GatewayKind.THROUGHWAY, quiet)
    gateway = bed.gateway
    assert isinstance(gateway, Throughway)
    assert wait_for_tunnels(replies, gateway.give_up_s)

    pings = [Pinging(client.place, client.device, client.target, interval_s=TWENTY_A_SECOND) for client in clients]
    wait_for_answers(pings, 20, 10)
    before, first_pid = pairs(gateway), gateway.pid
    assert len(before) == CLIENTS

    gateway.kill()
    wait_for_answers(pings, 60, 20)
    gateway.start()
    wait_for_answers(pings, 40, 20)

    tallies = [ping.stop() for ping in pings]
    assert [tally.lost for tally in tallies] == [[]] * CLIENTS
    # At most the ping that was under way when they were stopped has no answer.
    assert all(tally.sent - len(tally.answered) <= 1 for tally in tallies)
    assert gateway.pid != first_pid
    assert pairs(gateway) == before
    assert gateway.status().adopted >= len(before)
    assert bed.topology.leaked() == 0
