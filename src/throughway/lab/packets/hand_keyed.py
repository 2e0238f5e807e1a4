"""Tunnels of ESP between kernels whose keys are set by hand, so that a scenario says when each end does what.

client d1 ─┐ one guest
client d2 ─┼────────── router ── provider ── server, a guest
client d3 ─┘
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from throughway.lab.errors import LabFailed
from throughway.lab.peers import xfrm
from throughway.lab.peers.client import Client
from throughway.lab.ping import FirstReply
from throughway.lab.place import Place, must
from throughway.lab.testbed import Testbed
from throughway.lab.uml import Guest, GuestNamespace
from throughway.lab.vpns import manual
from throughway.lab.waiting import holds_within, wait_until

TASK_LIMIT_S: Final = 15.0
COUNT: Final = "ip -s xfrm state"

_SA: Final = re.compile(r"proto esp spi (0x[0-9a-f]+).*?lifetime current:\s+\d+\(bytes\), (\d+)\(packets\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Echoes:
    """What one end has counted of pings since its start, requests and replies, out and in (RFC 4293, RFC 1213)."""

    requests_out: int
    requests_in: int
    replies_out: int
    replies_in: int

    def __sub__(self, before: "Echoes") -> "Echoes":
        return Echoes(
            self.requests_out - before.requests_out,
            self.requests_in - before.requests_in,
            self.replies_out - before.replies_out,
            self.replies_in - before.replies_in,
        )


def echoes_of(place: Place) -> Echoes:
    """Read what a place's stack has counted."""
    names, values = (line.split()[1:] for line in must(place, "grep", "^Icmp:", "/proc/net/snmp").splitlines())
    counted = dict(zip(names, map(int, values), strict=True))
    return Echoes(counted["OutEchos"], counted["InEchos"], counted["OutEchoReps"], counted["InEchoReps"])


class HandKeyed:
    """A server and some clients, each pair with an SA in both directions, and how they are replaced.

    A rekey makes before it breaks: `renew` lets both ends receive with new SAs, and `turn` lets one of them send with
    the new ones. Once both do, the next rekey ends the old.
    """

    def __init__(self, bed: Testbed, clients: int) -> None:
        self._bed = bed
        self._tunnels = manual.InGuests(bed, clients, manual.ESP)
        self._shared = bed.topology.router_outside
        self._generation = 0
        self.clients: list[Client] = []
        self.carried: Counter[int] = Counter()
        """By SPI, the packets with which the server's ends have counted the SAs of all generations."""

    @property
    def server(self) -> Guest:
        """The server's guest."""
        return self._guest(at_server=True)

    def boot(self) -> None:
        """Boot both guests and give every end its first SAs. Nothing is sent yet."""
        self._bed.boot()
        self._tunnels.server()
        self.clients = [self._tunnels.client(number) for number in range(1, len(self._places) + 1)]

    def echoes(self) -> tuple[list[Echoes], Echoes]:
        """Read what the clients and the server have counted."""
        return [echoes_of(client.place) for client in self.clients], echoes_of(self.server)

    def renew(self) -> None:
        """Let every end receive with new SAs, and no more with those that nobody sends with any more."""
        self._generation += 1
        scripts = {at_server: self._lines(at_server, self._receive) for at_server in (True, False)}
        said = self._together({True: f"{COUNT}\n{scripts[True]}", False: scripts[False]})
        self._note(said[True])

    def turn(self, *, at_server: bool, sent: int = 0) -> None:
        """Let the server or all clients send with the new SAs and no other, as if so many packets had been sent."""
        self._together({at_server: self._lines(at_server, self._send, sent)})

    def count(self) -> None:
        """Note in `carried` what the SAs have carried so far."""
        self._note(must(self.server, "sh", "-ec", COUNT))

    def spis(self, generation: int) -> list[int]:
        """List all SPIs of a generation, both directions."""
        return [spi for number in range(1, len(self._places) + 1) for spi in xfrm.spis(number, generation)]

    @property
    def _places(self) -> list[GuestNamespace]:
        return self._guest(at_server=False).places()

    def _note(self, states: str) -> None:
        self.carried |= Counter({int(spi, 16): int(packets) for spi, packets in _SA.findall(states)})

    def _receive(self, number: int, near: IPv4Address, far: IPv4Address, *, at_server: bool) -> list[str]:
        new, old = (xfrm.spis(number, self._generation - before)[not at_server] for before in (0, 2))
        ended = [xfrm.delete(far, near, old)] if self._generation > 1 else []
        return [xfrm.add(far, near, new, number), *ended]

    def _send(self, number: int, near: IPv4Address, far: IPv4Address, sent: int, *, at_server: bool) -> list[str]:
        new, old = (xfrm.spis(number, self._generation - before)[at_server] for before in (0, 1))
        return [xfrm.add(near, far, new, number, sent=sent), xfrm.delete(near, far, old)]

    def _lines(self, at_server: bool, step: Callable[..., list[str]], *rest: int) -> str:
        """Write a script of `ip` for all ends on one side."""
        script = []
        for number, (place, client) in enumerate(zip(self._places, self.clients, strict=True), 1):
            inner = "" if at_server else f"-n {place.inner} "
            near, far = (client.server, self._shared) if at_server else (client.address, client.server)
            commands = "\n".join(step(number, near, far, *rest, at_server=at_server))
            script.append(f"ip {inner}-batch - <<'END'\n{commands}\nEND")
        return "\n".join(script)

    def _together(self, scripts: Mapping[bool, str]) -> dict[bool, str]:
        """Run scripts at the server (True) and at the clients (False) at the same time, and return what they say.

        Raises LabFailed with the words of `ip` when one is refused.
        """
        tasks = {
            at_server: self._guest(at_server=at_server).start("sh", "-ec", script)
            for at_server, script in scripts.items()
        }
        wait_until(
            lambda: all(task.status() is not None for task in tasks.values()), TASK_LIMIT_S, "`ip` in the guests"
        )
        for task in tasks.values():
            if task.status() != 0:
                raise LabFailed(f"{task.label}: {task.output().strip()}")
        return {at_server: task.output() for at_server, task in tasks.items()}

    def _guest(self, *, at_server: bool) -> Guest:
        return self._tunnels.guests[0 if at_server else 1]


def are_up(tunnels: HandKeyed, limit_s: float) -> list[float | None]:
    """Ping through each tunnel until an answer has come, and return after how many seconds; None where none did."""
    replies = [FirstReply(client.place, client.device, client.target, client.may_ping) for client in tunnels.clients]
    # A list, not a generator: each must be looked at each time.
    holds_within(lambda: all([reply.poll() for reply in replies]), limit_s)
    for reply in replies:
        reply.give_up()
    return [reply.reply_s for reply in replies]
