"""A VPN that fails in one way, from its start or in use: whether the daemon says why, and sees that it is over."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from throughway.lab.checked import Check, CheckedScenario
from throughway.lab.diagnoses.evidence import Evidence
from throughway.lab.diagnoses.use import WATCHED_S, WELL_FOR_S, Use
from throughway.lab.gateway import GatewayKind, Throughway
from throughway.lab.peers.client import Peers
from throughway.lab.ping import USUAL_BYTES
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed
from throughway.lab.upstream import Upstream
from throughway.lab.waiting import wait_until

PREFIX: Final = "diagnosis-"


QUIET_LIMIT_S: Final = 30.0


def nothing(upstream: Upstream) -> None:
    """Leave the provider as it is."""


def says_nothing(kind: GatewayKind) -> Check:
    """Return the one check of a gateway that cannot be asked."""
    return Check("the gateway says what is wrong", False, f"{kind} says nothing about VPNs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plight:
    """One way to fail, and what the daemon is to say of it.

    `strike` makes the trouble: before the client starts, or `in_use`, when the tunnel carries data. Then the client
    says nothing for `quiet_s`, and speaks again in pings of `ping_bytes`. A server that `is_dead` is started when the
    trouble ends. A client that `revives` is started again when it ends, and at the end of the trouble.
    """

    name: str
    shows: str
    code: str
    peers: Callable[[Testbed, int], Peers]
    programs: tuple[str, ...]
    evidence: Evidence
    before: Callable[[Upstream], None] = nothing
    strike: Callable[[Upstream], None] = nothing
    in_use: bool = False
    quiet_s: float = 0.0
    ping_bytes: int = USUAL_BYTES
    is_dead: bool = False
    revives: bool = False

    @property
    def scenario(self) -> CheckedScenario:
        """The plight as the lab lists and runs it."""
        return CheckedScenario(
            name=f"{PREFIX}{self.name}",
            shows=self.shows,
            checks=self.checks,
            masquerade_fails=True,
            programs=self.programs,
        )

    def checks(self, bed: Testbed, kind: GatewayKind, progress: Progress, *, is_struck: bool = True) -> Iterator[Check]:
        """Run it; without the strike the daemon has nothing to say, which fails the check that it names it."""
        if kind is not GatewayKind.THROUGHWAY:
            yield says_nothing(kind)
            return
        upstream = Upstream(bed.topology)
        self.before(upstream)
        peers = self.peers(bed, 1)
        gateway = ready(bed, peers, progress)
        if is_struck and not self.in_use:
            self.strike(upstream)
        if not (is_struck and self.is_dead):
            peers.server()
        use = Use(bed, gateway, peers, revives=self.revives)
        since_s = 0.0
        if self.in_use or not is_struck:
            yield use.carries("carries data at first")
        if self.in_use:
            progress.step("making the trouble")
            since_s = self._speak_anew(upstream, use, is_struck=is_struck)
        progress.step("waiting for the diagnosis")
        yield use.is_named(self.code, self.evidence, since_s, limit_s=WATCHED_S if is_struck else WELL_FOR_S)
        if is_struck:
            progress.step("ending the trouble")
            if upstream.is_filtering:
                dropped = upstream.dropped()
                yield Check("the provider had something to drop", dropped > 0, f"{dropped} packets")
            self._end(upstream, peers, use)
        yield use.carries("carries data in the end, and nothing is said to be wrong")

    def _speak_anew(self, upstream: Upstream, use: Use, *, is_struck: bool) -> float:
        """Make the trouble in a tunnel that carries data; return when the client began to speak in it."""
        if is_struck:
            self.strike(upstream)
        if self.quiet_s:
            # What the provider forgets, it forgets so long after the next packet.
            before = use.answers()
            wait_until(lambda: use.answers() > before, QUIET_LIMIT_S, "another answer")
            use.be_quiet()
            wait_until(lambda: use.is_quiet_for(self.quiet_s), self.quiet_s + QUIET_LIMIT_S, "the client to be quiet")
        return use.speak(self.ping_bytes)

    def _end(self, upstream: Upstream, peers: Peers, use: Use) -> None:
        upstream.mend()
        if self.is_dead:
            peers.server()
        if self.revives:
            use.start_again()
        else:
            use.speak()


def ready(bed: Testbed, peers: Peers, progress: Progress, *options: str) -> Throughway:
    """Boot the guests and start the gateway, with further options where it needs them."""
    if peers.guests:
        progress.step(f"booting {', '.join(guest.name for guest in peers.guests)}")
        bed.boot()
    progress.step(f"starting {GatewayKind.THROUGHWAY}, the server and its clients")
    gateway = bed.start_gateway(GatewayKind.THROUGHWAY, *options)
    assert isinstance(gateway, Throughway)  # noqa: S101 - that kind was asked for
    return gateway
