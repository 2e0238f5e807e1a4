"""Tunnels that are older than the gateway."""

import time
from collections.abc import Iterator
from typing import Final

from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind
from throughway.lab.packets.crossing import found
from throughway.lab.packets.hand_keyed import HandKeyed
from throughway.lab.ping import Pinging
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed
from throughway.lab.waiting import holds_within

CLIENTS: Final = 3
EVERY_S: Final = 0.05
AGAIN_LIMIT_S: Final = 2.0

SENT: Final = 1_000_000
"""Packets that each SA counts from, so that none looks new (RFC 4303 section 2.2)."""

FOLLOWING: Final = 20
"""Answers that each tunnel must get after its first one, without one missing."""

FOLLOWING_LIMIT_S: Final = 10.0


def adoption(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """The gateway starts while the devices and the peer send in tunnels that it has never seen begin."""
    tunnels = HandKeyed(bed, CLIENTS)
    progress.step("booting the guests")
    tunnels.boot()
    tunnels.renew()
    for at_server in (True, False):
        tunnels.turn(at_server=at_server, sent=SENT)
    progress.step("sending in all tunnels, without a gateway")
    bed.router.command("sysctl", "-qw", "net.ipv4.ip_forward=0")
    pings = [Pinging(c.place, c.device, c.target, interval_s=EVERY_S) for c in tunnels.clients]
    sending = holds_within(lambda: all(ping.tally().sent >= FOLLOWING for ping in pings), FOLLOWING_LIMIT_S)
    answered = sum(len(ping.tally().answered) for ping in pings)
    yield Check("the tunnels are in use, and nothing passes yet", sending and not answered, f"{answered} answers")

    progress.step(f"starting {kind}")
    bed.start_gateway(kind)
    began = time.monotonic()
    # Throughway has done so by itself.
    bed.router.command("sysctl", "-qw", "net.ipv4.ip_forward=1")
    holds_within(lambda: all(ping.tally().answered for ping in pings), AGAIN_LIMIT_S)
    took_s = time.monotonic() - began
    again = sum(bool(ping.tally().answered) for ping in pings)
    what = f"all tunnels carry again within {AGAIN_LIMIT_S:g} s"
    yield Check(what, again == CLIENTS, f"{found(again, CLIENTS)}, {took_s:.1f} s")

    holds_within(lambda: all(len(ping.tally().answered) > FOLLOWING for ping in pings), FOLLOWING_LIMIT_S)
    for client, ping in zip(tunnels.clients, pings, strict=True):
        tally = ping.stop()
        first = min(tally.answered, default=0)
        lost = [number for number in tally.lost if number > first]
        enough = len(tally.answered) > FOLLOWING
        yield Check(f"{client.address} loses nothing from then on", enough and not lost, f"{len(lost)} lost")
