"""Run a scenario and judge it.

One with real peers: start them behind a gateway, wait for tunnels, ping through them, transfer, report. One with
packets of our own: let it look, and report.
"""

from collections.abc import Mapping, Sequence

from throughway.lab import detected, leaks
from throughway.lab.checked import CheckedScenario, CheckReport
from throughway.lab.gateway import GatewayKind, Throughway
from throughway.lab.leaks import Leaks
from throughway.lab.outcome import Outcome
from throughway.lab.peers.client import Client, Peers
from throughway.lab.ping import FirstReply, Pinging
from throughway.lab.progress import Progress
from throughway.lab.report import PINGS, ClientReport, Report
from throughway.lab.scenarios import Scenario
from throughway.lab.testbed import Testbed
from throughway.lab.transfer import Transfer, transfer_through
from throughway.lab.vpn import VpnScenario
from throughway.lab.waiting import holds_within
from throughway.lab.walked import ROUTER, fault_among

PING_INTERVAL_S = 0.2
PING_LIMIT_S = PINGS * PING_INTERVAL_S + 10.0

SESSIONS_LIMIT_S = 5.0
"""How soon after its pings a session must carry data: the daemon reads counters every two seconds."""

SNAP_BYTES = 256
"""How much of a packet is kept while files are transferred: all headers, those that an ICMP error quotes included."""


def run_scenario(
    scenario: Scenario,
    clients: int,
    kind: GatewayKind,
    progress: Progress,
    *,
    transfer_bytes: int = 0,
    is_kept: bool = True,
    until_fails: str = "",
) -> Outcome:
    """Run a scenario in a testbed of its own, and leave nothing behind but the folder of a run that failed.

    `transfer_bytes` go through each tunnel, each way. With `is_kept` false that folder goes too. The check that
    `until_fails` names is the last one if it fails.
    """
    progress.step("making the networks")
    with Testbed() as bed:
        outcome: Outcome
        if isinstance(scenario, CheckedScenario):
            outcome = look_in(bed, scenario, kind, progress, until_fails)
        else:
            outcome = run_in(bed, scenario, clients, kind, progress, transfer_bytes)
        if not outcome.passed and is_kept:
            outcome = outcome.kept_in(bed.folder)
            bed.keep()
        progress.step("ending everything")
    return outcome


def run_in(
    bed: Testbed, scenario: VpnScenario, clients: int, kind: GatewayKind, progress: Progress, transfer_bytes: int = 0
) -> Report:
    """Run a scenario with real peers in a testbed that stays up afterwards, tunnels included."""
    peers = scenario.peers(bed, clients)
    bed.capture(SNAP_BYTES if transfer_bytes else 0)
    started, replies = start(bed, peers, clients, kind, progress)
    give_up_s = bed.gateway.give_up_s if bed.gateway else 0.0
    wait_for_tunnels(replies, give_up_s)
    up = [client for client, reply in zip(started, replies, strict=True) if reply.reply_s is not None]
    progress.step(f"pinging through {len(up)} of {clients} tunnels")
    counts = ping_through(up)
    transfers: dict[str, Transfer] = {}
    if transfer_bytes:
        # A tunnel that stayed down has transferred nothing, which is told as that.
        transfers = {client.name: Transfer(0, 0, intact=False) for client in started}
        transfers |= transfer_through(up, transfer_bytes, progress)
    rows = client_reports(started, replies, counts, transfers, session_faults(bed, up))
    return Report(
        scenario=scenario.name,
        gateway=kind,
        clients=rows,
        expected=scenario.detected,
        detected=detected.in_captures(started, bed.topology.router_outside, *bed.captures),
        leaks=leaks_of(bed),
        reboots=tuple(bed.reboots()),
    )


def look_in(
    bed: Testbed, scenario: CheckedScenario, kind: GatewayKind, progress: Progress, until_fails: str = ""
) -> CheckReport:
    """Run a scenario that yields checks in a testbed that stays up afterwards.

    The check that `until_fails` names is the last one if it fails.
    """
    bed.capture()
    checks = []
    for check in scenario.checks(bed, kind, progress):
        checks.append(check)
        progress.step(f"{'passed' if check.passed else 'failed'}: {check.what}")
        if check.what == until_fails and not check.passed:
            break
    return CheckReport(
        scenario=scenario.name,
        gateway=kind,
        checks=tuple(checks),
        leaks=leaks_of(bed),
        reboots=tuple(bed.reboots()),
    )


def leaks_of(bed: Testbed) -> Leaks:
    """Look what the captures of a testbed show that they must not, and what the provider dropped."""
    return leaks.look(*bed.captures, bed.topology.leaked())


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


def session_faults(bed: Testbed, clients: Sequence[Client]) -> dict[str, str]:
    """Say for each client what is missing until its session carries data; nothing where the gateway knows none."""
    gateway = bed.gateway
    if not isinstance(gateway, Throughway):
        return {}
    faults: dict[str, str] = {}

    def are_well() -> bool:
        sessions = gateway.sessions()
        own = {client.name: ROUTER if client.place is bed.router else str(client.address) for client in clients}
        faults.update({one.name: fault_among(sessions, own[one.name], one.server) for one in clients})
        return not any(faults.values())

    holds_within(are_well, SESSIONS_LIMIT_S)
    return faults


def client_reports(
    clients: Sequence[Client],
    replies: Sequence[FirstReply],
    counts: Mapping[str, tuple[int, int]],
    transfers: Mapping[str, Transfer],
    faults: Mapping[str, str],
) -> tuple[ClientReport, ...]:
    """Put together what was found of each client."""
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
                transfer=transfers.get(client.name),
                session_fault=faults.get(client.name),
            )
        )
    return tuple(rows)
