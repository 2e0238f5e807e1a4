"""The outside address changes under real tunnels, as with a provider that gives another one every night."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from throughway.lab import addresses, programs
from throughway.lab.addresses import GATEWAY, ROUTER_OUTSIDE, at
from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind
from throughway.lab.peers import openvpn, strongswan, vpnc, wireguard
from throughway.lab.peers.client import Client, Peers
from throughway.lab.ping import FirstReply
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed
from throughway.lab.topology import OUTSIDE_INTERFACE
from throughway.lab.vpns.ipsec import EspNative
from throughway.lab.vpns.ports import OpenVpn, WireGuard
from throughway.lab.waiting import holds_within

PROGRAMS: Final = (
    *programs.GUEST,
    *strongswan.PROGRAMS,
    *vpnc.PROGRAMS,
    *wireguard.PROGRAMS,
    *openvpn.PROGRAMS,
)

GIVEN_AWAY: Final = f"""
table ip given_away {{
    chain prerouting {{
        type filter hook prerouting priority raw; policy accept;
        ip saddr {at(addresses.UPLINK, ROUTER_OUTSIDE).ip} drop
        ip daddr {at(addresses.UPLINK, ROUTER_OUTSIDE).ip} drop
    }}
}}
"""

NEW_NUMBER: Final = ROUTER_OUTSIDE + 1
"""The host number of the router on the uplink, afterwards."""

DEAD_AFTER_S: Final = 10
"""The least that vpnc takes: so long it waits for a silent server before it asks."""

RECOVERY_LIMIT_S: Final = 60.0
"""vpnc asks five times in 25 s before it gives a server up, and is started again then; the others take less."""


class WatchfulVpnc(EspNative):
    """vpnc with dead peer detection (RFC 3706): it notices that the server's packets go elsewhere, and ends."""

    def client(self, number: int) -> Client:
        """Start vpnc on a device of its own."""
        device, address = self._devices[number - 1]
        task = vpnc.start(device, self.SERVER, number, self._files, dead_after_s=DEAD_AFTER_S)
        target, server = strongswan.TUNNEL_ADDRESS, self.SERVER
        return Client(f"vpnc{number}", address, device, vpnc.DEVICE, target, server, self._guest, task)


@dataclass
class Tunnel:
    """A client that is started again when it ends, as whoever uses it would do, and how long it waits for an answer."""

    peers: Peers
    number: int
    client: Client
    reply: FirstReply
    restarts: int = 0

    @classmethod
    def start(cls, peers: Peers, number: int) -> "Tunnel":
        """Start a client, and begin to ping."""
        client = peers.client(number)
        return cls(peers, number, client, _pinging(client))

    def ping_anew(self) -> None:
        """Begin to wait for an answer from now on."""
        self.reply = _pinging(self.client)

    def poll(self) -> bool:
        """Look whether an answer has come, and start the client again where it has ended."""
        if self.client.task.status() is not None:
            self.client = self.peers.client(self.number)
            self.restarts += 1
        return self.reply.poll()


def address_change(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """Tunnels of WireGuard, OpenVPN and vpnc are up, and the router gets another outside address."""
    groups: tuple[tuple[Peers, int], ...] = ((WatchfulVpnc(bed, 2), 2), (WireGuard(bed, 1), 1), (OpenVpn(bed, 1), 1))
    progress.step("booting the guest")
    bed.boot()
    progress.step(f"starting {kind}")
    gateway = bed.start_gateway(kind)
    progress.step("starting the servers and their clients")
    for peers, _ in groups:
        peers.server()
    tunnels = [Tunnel.start(peers, number) for peers, count in groups for number in range(1, count + 1)]
    wait_for(tunnels, gateway.give_up_s)
    yield from told(tunnels, "carries pings at first")
    progress.step("changing the outside address")
    began = time.monotonic()
    change_address(bed)
    for tunnel in tunnels:
        tunnel.ping_anew()
    wait_for(tunnels, RECOVERY_LIMIT_S)
    progress.step(f"waited for {time.monotonic() - began:.1f} s")
    yield from told(tunnels, "recovers from another outside address")


def change_address(bed: Testbed) -> None:
    """Give the router another outside address. The kernel takes the routes away with the old one.

    From now on the old one is somebody else's: the provider carries nothing from it or to it.
    """
    bed.topology.provider.command("nft", "-f", "-", script=GIVEN_AWAY)
    old, new = at(addresses.UPLINK, ROUTER_OUTSIDE), at(addresses.UPLINK, NEW_NUMBER)
    lines = [
        f"address del {old} dev {OUTSIDE_INTERFACE}",
        f"address add {new} dev {OUTSIDE_INTERFACE}",
        f"route add default via {at(addresses.UPLINK, GATEWAY).ip}",
    ]
    bed.router.command("ip", "-batch", "-", script="\n".join(lines) + "\n")


def _pinging(client: Client) -> FirstReply:
    return FirstReply(client.place, client.device, client.target, client.may_ping)


def wait_for(tunnels: Sequence[Tunnel], limit_s: float) -> None:
    """Wait until an answer has come through each tunnel, and give up the others."""
    # A list, not a generator: each must be looked at each time.
    holds_within(lambda: all([tunnel.poll() for tunnel in tunnels]), limit_s)
    for tunnel in tunnels:
        tunnel.reply.give_up()


def told(tunnels: Sequence[Tunnel], what: str) -> Iterator[Check]:
    """Check for each tunnel that an answer has come through it."""
    for tunnel in tunnels:
        reply_s = tunnel.reply.reply_s
        found = "no answer" if reply_s is None else f"after {reply_s:.1f} s"
        again = f", started again {tunnel.restarts} times" if tunnel.restarts else ""
        yield Check(f"{tunnel.client.name} {what}", reply_s is not None, found + again)
