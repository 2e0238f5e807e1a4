"""Rekeys under traffic, counted at both ends."""

from collections.abc import Iterator, Sequence
from typing import Final

from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind
from throughway.lab.packets.crossing import found
from throughway.lab.packets.hand_keyed import Echoes, HandKeyed, are_up
from throughway.lab.ping import Pinging
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed
from throughway.lab.waiting import holds_within

CLIENTS: Final = 3
REKEYS: Final = 10
EVERY_S: Final = 0.02
"""50 packets a second each way."""

CROSSED: Final = 5
"""Answers to each client between two steps, so that each SA is used."""

STEP_LIMIT_S: Final = 5.0


def esp_rekey(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """Three tunnels are rekeyed at the same time, again and again; every second time the peer is the first to turn."""
    tunnels = HandKeyed(bed, CLIENTS)
    progress.step("booting the guests")
    tunnels.boot()
    gateway = bed.start_gateway(kind)
    progress.step("waiting for the tunnels")
    replies = are_up(tunnels, gateway.give_up_s)
    up = sum(reply is not None for reply in replies)
    yield Check("the tunnels are up", up == CLIENTS, found(up, CLIENTS))
    if up < CLIENTS:
        return
    before = _settled(tunnels)
    pings = [Pinging(c.place, c.device, c.target, interval_s=EVERY_S) for c in tunnels.clients]
    done = 0
    for rekey in range(REKEYS):
        progress.step(f"rekey {rekey + 1} of {REKEYS}, {'the peer' if rekey % 2 else 'the devices'} first")
        done += _rekey(tunnels, pings, peer_first=bool(rekey % 2))
    yield Check("packets crossed with each new pair of SAs, both ways", done == REKEYS, found(done, REKEYS))
    for ping in pings:
        ping.stop()
    yield from _accounts(tunnels, before, done)


def _rekey(tunnels: HandKeyed, pings: Sequence[Pinging], *, peer_first: bool) -> bool:
    """Replace all SAs, and return whether answers came at each step."""
    tunnels.renew()
    answered = []
    for at_server in (peer_first, not peer_first):
        tunnels.turn(at_server=at_server)
        answered.append(_crosses(pings))
    return all(answered)


def _crosses(pings: Sequence[Pinging]) -> bool:
    wanted = [len(ping.tally().answered) + CROSSED for ping in pings]
    return holds_within(
        lambda: all(len(ping.tally().answered) >= least for ping, least in zip(pings, wanted, strict=True)),
        STEP_LIMIT_S,
    )


def _settled(tunnels: HandKeyed) -> tuple[list[Echoes], Echoes]:
    """Read the counters of all ends once they stand still."""
    last = tunnels.echoes()

    def stand_still() -> bool:
        nonlocal last
        before, last = last, tunnels.echoes()
        return before == last

    holds_within(stand_still, STEP_LIMIT_S)
    return last


def _accounts(tunnels: HandKeyed, before: tuple[list[Echoes], Echoes], rekeys: int) -> Iterator[Check]:
    """Compare what each end has sent with what the other has got."""
    now = _settled(tunnels)
    clients = [after - first for after, first in zip(now[0], before[0], strict=True)]
    server = now[1] - before[1]
    requests = sum(client.requests_out for client in clients)
    yield Check(
        "the server got every packet that a device sent",
        server.requests_in == requests,
        found(server.requests_in, requests),
    )
    yield Check(
        "the server answered each",
        server.replies_out == server.requests_in,
        found(server.replies_out, server.requests_in),
    )
    for client, echoes in zip(tunnels.clients, clients, strict=True):
        yield Check(
            f"{client.address} got an answer to each of its packets",
            0 < echoes.requests_out == echoes.replies_in,
            found(echoes.replies_in, echoes.requests_out),
        )
    tunnels.count()
    spis = [spi for generation in range(1, rekeys + 1) for spi in tunnels.spis(generation)]
    used = sum(tunnels.carried[spi] > 0 for spi in spis)
    yield Check("each new SA has carried packets", used == len(spis), found(used, len(spis)))
