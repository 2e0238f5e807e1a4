"""Flows that begin by the thousand a second, a tenth of them VPNs: whether each is recognised, and what that costs."""

import os
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from throughway.bench.compare import WrongAnswer
from throughway.bench.ends import within
from throughway.bench.filling import cpu_seconds, rss_bytes
from throughway.bench.routers import HOSTS_MAX, INSIDE_LINK, Bed, Kind
from throughway.bench.talks import OTHERS, VPNS, pack_talks
from throughway.lab.waiting import holds_within

VPN_EVERY: Final = 10
TICKS_PER_SECOND: Final = 10
"""A run of live frames takes the kernel some 20 ms to set up and to take down."""

STEPS: Final = 2
ANSWERED_MIN: Final = 0.99
"""Of all questions; what connection tracking has no room for is lost, and nothing else should be."""

_SETTLES_WITHIN_S: Final = 5.0
_BEGINNING: Final = struct.Struct("=14sHIIIIII")

_SHORT_TIMERS: Final = (
    *("udp_timeout", "udp_timeout_stream", "tcp_timeout_syn_sent", "tcp_timeout_syn_recv"),
    *("tcp_timeout_established", "tcp_timeout_unacknowledged"),
)
"""The kernel tracks 262,144 connections where nobody has said more; those that are over make room after a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginnings:
    """What came of it, but for `unmeasured_s` before. Memory is in bytes: at the beginning, the middle and the end."""

    seconds: float
    flows: int
    vpns: int
    detected: int
    answered: float
    heads: dict[str, int]
    cpu_share: float
    unmeasured_s: float
    rss_start_bytes: int
    rss_middle_bytes: int
    rss_bytes: int

    @property
    def rss_growth_bytes(self) -> int:
        """How much memory came in the second half."""
        return self.rss_bytes - self.rss_middle_bytes

    def to_json(self) -> dict[str, object]:
        """Return a form for programs."""
        return {
            "seconds": self.seconds,
            "flows": self.flows,
            "flows_per_second": round(self.flows / self.seconds),
            "vpn_flows": self.vpns,
            "vpn_flows_detected": self.detected,
            "questions_answered": self.answered,
            "heads": self.heads,
            "daemon_cpu_share": self.cpu_share,
            "unmeasured_seconds": self.unmeasured_s,
            "daemon_rss_start_bytes": self.rss_start_bytes,
            "daemon_rss_middle_bytes": self.rss_middle_bytes,
            "daemon_rss_bytes": self.rss_bytes,
            "daemon_rss_growth_bytes": self.rss_growth_bytes,
        }


def begin(bed: Bed, per_second: int, seconds: float, unmeasured_s: float = 0.0) -> Beginnings:
    """Have so many flows begin each second, for so long, a tenth of them VPNs.

    Before, as many begin for another time that is not measured. When it is long enough each of the daemon's tables of
    flows and sessions is full behind it, so that for whatever comes something has to go. Nothing is dearer, and what
    memory grows by then it may grow by for ever.

    Raises WrongAnswer where a VPN's flow was not recognised, or another one was, or packets did not come through.
    """
    router, pid = bed.routers[Kind.THROUGHWAY], bed.daemon.pid
    with within(router.namespace.path):
        for name in _SHORT_TIMERS:
            router.namespace.command("sysctl", "-qw", f"net.netfilter.nf_conntrack_{name}=1")
    bed.ends.set_talks(pack_talks((*VPNS, *OTHERS)))
    before = bed.daemon.status()
    heard_before = bed.ends.heard()
    unmeasured = range(int(unmeasured_s * per_second))
    measured = range(len(unmeasured), len(unmeasured) + max(1, int(seconds * per_second)))
    with _before_others(pid):
        _begin_all(bed, unmeasured, per_second)
        heads_before = bed.daemon.status().heads
        began, cpu_s, memory = time.perf_counter(), cpu_seconds(pid), [rss_bytes(pid)]
        for half in (measured[: len(measured) // 2], measured[len(measured) // 2 :]):
            _begin_all(bed, half, per_second)
            memory.append(rss_bytes(pid))
    spent = time.perf_counter() - began
    share = (cpu_seconds(pid) - cpu_s) / spent
    vpns_before, vpns = _wanted(unmeasured), _wanted(measured)
    flows, wanted = measured.stop, vpns_before + vpns

    def found() -> Counter[str]:
        return Counter(bed.daemon.status().detected) - Counter(before.detected)

    holds_within(lambda: found() == wanted, _SETTLES_WITHIN_S)
    questions, answers = (now - then for now, then in zip(bed.ends.heard(), heard_before, strict=True))
    passed = f"of {STEPS * flows} questions {questions} reached the peers, {answers} were answered"
    if (got := found()) != wanted:
        heads = bed.daemon.status().heads
        words = f"of {flows} flows {dict(wanted)} are VPNs, and {dict(got)} were recognised"
        raise WrongAnswer(f"{words}; {passed}; heads: {heads}")
    answered = min(questions, answers) / (STEPS * flows)
    if answered < ANSWERED_MIN:
        raise WrongAnswer(passed)
    heads = bed.daemon.status().heads
    return Beginnings(
        seconds=spent,
        flows=len(measured),
        vpns=vpns.total(),
        detected=(got - vpns_before).total(),
        answered=answered,
        heads={what: count - heads_before.get(what, 0) for what, count in heads.items()},
        cpu_share=share,
        unmeasured_s=unmeasured_s,
        rss_start_bytes=memory[0],
        rss_middle_bytes=memory[1],
        rss_bytes=memory[2],
    )


@contextmanager
def _before_others(pid: int) -> Iterator[None]:
    """Let the daemon have the processor before what else this machine does, as the frames have theirs."""
    os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))


def _begin_all(bed: Bed, flows: range, per_second: int) -> None:
    """Have flows begin, so many each second."""
    began, each = time.perf_counter(), max(1, per_second // TICKS_PER_SECOND)
    for at in range(0, len(flows), each):
        now = flows[at : at + each]
        _send(bed, now)
        _rest(began + (at + len(now)) / per_second)


def _send(bed: Bed, flows: range) -> None:
    """Have so many flows begin: their first questions, and then, when those were answered, their second ones."""
    router = bed.routers[Kind.THROUGHWAY]
    for step in range(STEPS):
        plan = _BEGINNING.pack(
            INSIDE_LINK, step, router.inside_index, flows.start, VPN_EVERY, len(VPNS), len(OTHERS), HOSTS_MAX
        )
        with within(bed.inside.path):
            bed.ends.begin(plan, len(flows))


def _rest(until: float) -> None:
    if (left := until - time.perf_counter()) > 0:
        time.sleep(left)


def _wanted(flows: range) -> Counter[str]:
    """Count the flows of each protocol among these."""
    vpns = (VPNS[number // VPN_EVERY % len(VPNS)] for number in flows if number % VPN_EVERY == 0)
    return Counter(kind.protocol for kind in vpns if kind.protocol)
