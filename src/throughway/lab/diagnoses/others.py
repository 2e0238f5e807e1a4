"""Trouble that no provider makes: what NAT cannot carry, and two devices that are one to their server."""

import time
from collections.abc import Callable, Iterator
from typing import Final

from throughway.control.protocols_schema import Position
from throughway.lab import programs
from throughway.lab.checked import Check, CheckedScenario
from throughway.lab.diagnoses.evidence import Evidence
from throughway.lab.diagnoses.plight import PREFIX, ready, says_nothing
from throughway.lab.diagnoses.use import WATCHED_S, WELL_FOR_S, Use
from throughway.lab.gateway import GatewayKind
from throughway.lab.peers import l2tp, strongswan, wireguard
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed
from throughway.lab.vpns import manual
from throughway.lab.vpns.manual import InGuests
from throughway.lab.vpns.ports import WireGuard
from throughway.lab.vpns.ppp import L2tp

_Checks = Callable[[Testbed, GatewayKind, Progress], Iterator[Check]]

_UDP, _GRE, _AH = 17, 47, 51


def ah(bed: Testbed, kind: GatewayKind, progress: Progress, *, is_struck: bool = True) -> Iterator[Check]:
    """A device uses AH; without the trouble it uses ESP with the same keys."""
    if kind is not GatewayKind.THROUGHWAY:
        yield says_nothing(kind)
        return
    peers = InGuests(bed, 1, manual.AH if is_struck else manual.ESP)
    gateway = ready(bed, peers, progress)
    peers.server()
    use = Use(bed, gateway, peers)
    if not is_struck:
        yield use.carries("carries data")
    yield use.is_named("ah.refused", Evidence(1, _AH), 0.0, limit_s=WATCHED_S if is_struck else WELL_FOR_S)


def equal_keys(bed: Testbed, kind: GatewayKind, progress: Progress, *, is_struck: bool = True) -> Iterator[Check]:
    """Two devices have GRE with one key to a server; without the trouble each has its own."""
    if kind is not GatewayKind.THROUGHWAY:
        yield says_nothing(kind)
        return
    peers = InGuests(bed, 2, manual.GRE_OF_ONE_KEY if is_struck else manual.GRE)
    gateway = ready(bed, peers, progress)
    peers.server()
    first = Use(bed, gateway, peers, number=1)
    yield first.carries("carries data")
    progress.step("starting the second client")
    second = Use(bed, gateway, peers, number=2)
    limit_s = WATCHED_S if is_struck else WELL_FOR_S
    yield second.is_named("discriminator.taken", Evidence(1, _GRE), 0.0, limit_s=limit_s)
    yield first.carries("carries data beside it, and nothing is said to be wrong")
    if not is_struck:
        yield second.carries("carries data too")


def second_client(bed: Testbed, kind: GatewayKind, progress: Progress, *, is_struck: bool = True) -> Iterator[Check]:
    """Two devices have L2TP within IPsec to one server; without the trouble the second one stays away."""
    if kind is not GatewayKind.THROUGHWAY:
        yield says_nothing(kind)
        return
    peers = L2tp(bed, 2, with_ipsec=True)
    gateway = ready(bed, peers, progress)
    peers.server()
    first = Use(bed, gateway, peers, number=1)
    yield first.carries("carries data")
    since_s = time.time()
    if is_struck:
        progress.step("starting the second client")
        peers.client(2)
    # The server answers the first one until it has an SA with the second.
    evidence = Evidence(3, _UDP, 4500, in_vain=True)
    limit_s = WATCHED_S if is_struck else WELL_FOR_S
    yield first.is_named("server.second-client", evidence, since_s, limit_s=limit_s)


def switched_off(bed: Testbed, kind: GatewayKind, progress: Progress, *, is_struck: bool = True) -> Iterator[Check]:
    """The operator switches a VPN off that is in use, and on again."""
    if kind is not GatewayKind.THROUGHWAY:
        yield says_nothing(kind)
        return
    peers = WireGuard(bed, 1)
    gateway = ready(bed, peers, progress, "--configuration", str(bed.folder / "etc"))
    peers.server()
    use = Use(bed, gateway, peers)
    yield use.carries("carries data at first")
    since_s = time.time()
    if is_struck:
        gateway.switch("wireguard", Position.OFF)
    limit_s = WATCHED_S if is_struck else WELL_FOR_S
    yield use.is_named("switch.off", None, since_s, limit_s=limit_s)
    if is_struck:
        gateway.switch("wireguard", Position.ON)
        use.speak()
    yield use.carries("carries data in the end, and nothing is said to be wrong")


def _scenario(name: str, shows: str, checks: _Checks, *needed: str) -> CheckedScenario:
    return CheckedScenario(name=f"{PREFIX}{name}", shows=shows, checks=checks, masquerade_fails=True, programs=needed)


SCENARIOS: Final = (
    _scenario(
        "switched-off", "WireGuard that the operator switches off, and on again", switched_off, *wireguard.PROGRAMS
    ),
    _scenario("ah", "AH, whose checksum covers the addresses that NAT replaces", ah, *programs.GUEST),
    _scenario("equal-keys", "GRE of two devices to one server with the same key", equal_keys, *programs.GUEST),
    _scenario(
        "second-client",
        "L2TP within IPsec of two devices to one server, which keeps one of them",
        second_client,
        *(*programs.GUEST, "unshare", *strongswan.PROGRAMS, *l2tp.PROGRAMS),
    ),
)
