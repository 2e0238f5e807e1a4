"""Run a scenario: start its peers behind a gateway, wait for tunnels, ping through them, report."""

from collections.abc import Sequence

from throughway.lab.gateway import GatewayKind
from throughway.lab.peers.client import Client, Peers
from throughway.lab.ping import FirstReply, Pinging
from throughway.lab.progress import Progress
from throughway.lab.report import PINGS, ClientReport, Report
from throughway.lab.scenarios import Scenario
from throughway.lab.testbed import Testbed
from throughway.lab.waiting import holds_within

PING_INTERVAL_S = 0.2
PING_LIMIT_S = PINGS * PING_INTERVAL_S + 10.0


def run_scenario(scenario: Scenario, clients: int, kind: GatewayKind, progress: Progress) -> Report:
    """Run a scenario in a testbed of its own, and leave nothing behind but the folder of a run that failed."""
    progress.step("making the networks")
    with Testbed() as bed:
        report = run_in(bed, scenario, clients, kind, progress)
        if not report.passed:
            bed.keep()
        progress.step("ending everything")
    return report


def run_in(bed: Testbed, scenario: Scenario, clients: int, kind: GatewayKind, progress: Progress) -> Report:
    """Run a scenario in a testbed that stays up afterwards, tunnels included."""
    peers = scenario.peers(bed, clients)
    bed.capture()
    started, replies = start(bed, peers, clients, kind, progress)
    give_up_s = bed.gateway.give_up_s if bed.gateway else 0.0
    wait_for_tunnels(replies, give_up_s)
    up = [client for client, reply in zip(started, replies, strict=True) if reply.reply_s is not None]
    progress.step(f"pinging through {len(up)} of {clients} tunnels")
    counts = ping_through(up)
    return make_report(bed, scenario, kind, started, replies, counts)


def start(
    bed: Testbed, peers: Peers, clients: int, kind: GatewayKind, progress: Progress
) -> tuple[list[Client], list[FirstReply]]:
    """Boot the guests, start the gateway, the server and the clients, all clients at once, and begin to ping."""
    if peers.guests:
        progress.step(f"booting {', '.join(guest.name for guest in peers.guests)}")
        bed.boot()
    if bed.gateway is None:
        progress.step(f"starting {kind}")
        bed.start_gateway(kind)
    progress.step("starting the server and its clients")
    peers.server()
    return start_clients(peers, clients)


def start_clients(peers: Peers, clients: int) -> tuple[list[Client], list[FirstReply]]:
    """Start all clients at once, and begin to ping."""
    started, replies = [], []
    for number in range(1, clients + 1):
        client = peers.client(number)
        started.append(client)
        replies.append(FirstReply(client.place, client.device, client.target, client.may_ping))
    return started, replies


def wait_for_tunnels(replies: Sequence[FirstReply], give_up_s: float) -> bool:
    """Wait until a ping has crossed each tunnel, and return whether one has; those that wait are ended."""
    # A list, not a generator: each must be looked at each time.
    are_up = holds_within(lambda: all([reply.poll() for reply in replies]), give_up_s)
    for reply in replies:
        reply.give_up()
    return are_up


def ping_through(clients: Sequence[Client]) -> dict[str, tuple[int, int]]:
    """Ping through the tunnels of all clients at once; return the pings sent and answered, by the client's name."""
    pings = {
        client.name: Pinging(client.place, client.device, client.target, interval_s=PING_INTERVAL_S, count=PINGS)
        for client in clients
    }
    holds_within(lambda: all(ping.has_ended() for ping in pings.values()), PING_LIMIT_S)
    tallies = {name: ping.stop() for name, ping in pings.items()}
    return {name: (tally.sent, len(tally.answered)) for name, tally in tallies.items()}


def make_report(
    bed: Testbed,
    scenario: Scenario,
    kind: GatewayKind,
    clients: Sequence[Client],
    replies: Sequence[FirstReply],
    counts: dict[str, tuple[int, int]],
) -> Report:
    """Put together what was found; a run that failed names the folder of its testbed."""
    rows = []
    for client, reply in zip(clients, replies, strict=True):
        sent, received = counts.get(client.name, (0, 0))
        rows.append(
            ClientReport(
                name=client.name,
                address=str(client.address),
                tunnel_up=received > 0,
                pings_sent=sent,
                pings_received=received,
                first_reply_s=None if reply.reply_s is None else round(reply.reply_s, 3),
            )
        )
    report = Report(
        scenario=scenario.name,
        gateway=kind,
        clients=tuple(rows),
        leaked=bed.topology.leaked(),
        reboots=tuple(bed.reboots()),
    )
    return report if report.passed else report.kept_in(bed.folder)
