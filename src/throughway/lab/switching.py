"""Switches in a running lab: five VPNs at once, each switched off and on while the others carry pings.

A series of pings tells exactly what came through its tunnel, and tcpdump on the inside what the device was told.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from throughway.control.client import ControlClient
from throughway.control.protocols_schema import Position as At
from throughway.control.protocols_schema import SwitchQuery
from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind, Throughway
from throughway.lab.namespace import HostTask
from throughway.lab.peers.client import Client, Peers
from throughway.lab.ping import FirstReply, Pinging, wait_for_answers
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed
from throughway.lab.topology import INSIDE_INTERFACE
from throughway.lab.vpns.ipsec import EspNative
from throughway.lab.vpns.ports import OpenVpn, WireGuard
from throughway.lab.vpns.ppp import L2tp, Pptp
from throughway.lab.waiting import holds_within, wait_until

FAMILIES: Final[dict[str, Callable[[Testbed], Peers]]] = {
    "wireguard": partial(WireGuard, clients=1),
    "openvpn": partial(OpenVpn, clients=1),
    "ipsec": partial(EspNative, clients=1),
    "l2tp": partial(L2tp, clients=1),
    "pptp": partial(Pptp, clients=1),
}
"""What is switched, and the peers that use it: native ESP of vpnc for IPsec."""

INTERVAL_S: Final = 0.1
UP_LIMIT_S: Final = 120.0
TOLD_LIMIT_S: Final = 15.0
BACK_LIMIT_S: Final = 90.0
UNDER_WAY: Final = 2
"""Pings that may be under way when a switch is thrown, and still be answered."""

OTHERS: Final = 30
"""Pings of each other tunnel that are to be answered meanwhile."""

_TOLD: Final = "icmp[0] == 3 and icmp[1] == 13 or tcp[tcpflags] & tcp-rst != 0"
"""ICMP "administratively prohibited" (RFC 1812 section 5.2.7.1), and TCP resets, as tcpdump filters them."""


@dataclass
class _Tunnel:
    """One VPN at work."""

    family: str
    peers: Peers
    client: Client
    pings: Pinging

    @property
    def answered(self) -> int:
        return len(self.pings.tally().answered)


def switches(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """Each of five VPNs stops at once when it is switched off, and comes back, while the others lose nothing."""
    peers = {family: make(bed) for family, make in FAMILIES.items()}
    progress.step(f"booting {', '.join(guest.name for guest in bed.guests)}")
    bed.boot()
    progress.step(f"starting {kind}")
    gateway = bed.start_gateway(kind)
    progress.step("starting five servers and their clients")
    for one in peers.values():
        one.server()
    clients = {family: one.client(1) for family, one in peers.items()}
    is_up = _wait_for(list(clients.values()))
    yield Check("all tunnels are up", is_up, ", ".join(clients))
    if not is_up:
        return
    if not isinstance(gateway, Throughway):
        yield Check("there is a switch", passed=False, found="a plain Linux router has none")
        return
    told = bed.router.start("tcpdump", "-l", "-n", "-i", INSIDE_INTERFACE, _TOLD)
    wait_until(lambda: "listening" in told.output(), TOLD_LIMIT_S, "tcpdump to listen", told.log)
    tunnels = [_Tunnel(family, peers[family], client, _ping(client)) for family, client in clients.items()]
    wait_for_answers([tunnel.pings for tunnel in tunnels], 10, 20)
    for tunnel in tunnels:
        yield from _switched(tunnel, [other for other in tunnels if other is not tunnel], gateway.name, told, progress)


def _switched(
    tunnel: _Tunnel, others: Sequence[_Tunnel], gateway: str, told: HostTask, progress: Progress
) -> Iterator[Check]:
    family = tunnel.family
    progress.step(f"switching {family} off")
    for other in others:
        other.pings.stop()
        other.pings = _ping(other.client)
    wait_for_answers([other.pings for other in others], 5, 20)
    before = tunnel.answered
    _switch(gateway, family, At.OFF)
    wait_for_answers([other.pings for other in others], OTHERS, 30)
    more = tunnel.answered - before
    yield Check(f"{family} stops at once", more <= UNDER_WAY, f"{more} pings answered after it")
    is_told = holds_within(lambda: bool(_refusals(told, tunnel.client)), TOLD_LIMIT_S)
    yield Check(f"the device of {family} is told", is_told, next(iter(_refusals(told, tunnel.client)), "nothing"))
    lost = {other.family: len(other.pings.tally().lost) for other in others}
    yield Check(f"nobody else loses a packet while {family} is off", not any(lost.values()), str(lost))

    progress.step(f"switching {family} on")
    tunnel.pings.stop()
    _switch(gateway, family, At.ON)
    if tunnel.client.task.status() is not None:
        tunnel.client = tunnel.peers.client(1)  # it gave up when it was told, and somebody starts it again
    is_back = _wait_for([tunnel.client], BACK_LIMIT_S)
    tunnel.pings = _ping(tunnel.client)
    yield Check(f"{family} comes back", is_back)


def _wait_for(clients: Sequence[Client], limit_s: float = UP_LIMIT_S) -> bool:
    """Wait until a ping has crossed the tunnel of each client."""
    replies = [FirstReply(client.place, client.device, client.target, client.may_ping) for client in clients]
    are_up = holds_within(lambda: all([reply.poll() for reply in replies]), limit_s)
    for reply in replies:
        reply.give_up()
    return are_up


def _ping(client: Client) -> Pinging:
    return Pinging(client.place, client.device, client.target, interval_s=INTERVAL_S)


def _switch(gateway: str, family: str, to: At) -> None:
    with ControlClient.of_gateway(gateway) as daemon:
        daemon.request("switch", SwitchQuery(name=family, position=to).to_json())


def _refusals(told: HostTask, client: Client) -> list[str]:
    """Return the lines of tcpdump in which a device is told that its server is out of reach."""
    prohibited = re.compile(
        rf"> {re.escape(str(client.address))}: (ICMP .*{re.escape(str(client.server))}.*prohibited)"
    )
    reset = re.compile(rf"IP ({re.escape(str(client.server))}\.\d+ > {re.escape(str(client.address))}\.\d+: Flags \[R)")
    return [found[1] for line in told.output().splitlines() if (found := prohibited.search(line) or reset.search(line))]
