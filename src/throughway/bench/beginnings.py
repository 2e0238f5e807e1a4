"""Flows that begin by the thousand a second, a tenth of them VPNs: whether each is recognised, and what that costs."""

import os
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
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

_WARM_UP: Final = 0.25
"""Of the time; then the tables are as full as they get, and memory is compared from there on."""

_SETTLES_WITHIN_S: Final = 5.0
_BEGINNING: Final = struct.Struct("=14sHIIIIII")

_SHORT_TIMERS: Final = (
    *("udp_timeout", "udp_timeout_stream", "tcp_timeout_syn_sent", "tcp_timeout_syn_recv"),
    *("tcp_timeout_established", "tcp_timeout_unacknowledged"),
)
"""The kernel tracks 262,144 connections where nobody has said more; those that are over make room after a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginnings:
    """What came of it. `late` is by how much the last flow began later than it should; memory is in bytes."""

    seconds: float
    flows: int
    vpns: int
    detected: int
    answered: float
    heads: dict[str, int]
    cpu_share: float
    rss_bytes: int
    rss_growth_bytes: int

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
            "daemon_rss_bytes": self.rss_bytes,
            "daemon_rss_growth_bytes": self.rss_growth_bytes,
        }


def begin(bed: Bed, per_second: int, seconds: float) -> Beginnings:
    """Have so many flows begin each second, for so long.

    Raises WrongAnswer where a VPN's flow was not recognised, or another one was, or packets did not come through.
    """
    router, pid = bed.routers[Kind.THROUGHWAY], bed.daemon.pid
    with within(router.namespace.path):
        for name in _SHORT_TIMERS:
            router.namespace.command("sysctl", "-qw", f"net.netfilter.nf_conntrack_{name}=1")
    bed.ends.set_talks(pack_talks((*VPNS, *OTHERS)))
    expected_before = Counter(bed.daemon.status().detected)
    heard_before = bed.ends.heard()
    each = max(1, per_second // TICKS_PER_SECOND)
    ticks = max(1, int(seconds * per_second / each))
    began, cpu_s = time.perf_counter(), cpu_seconds(pid)
    memory: list[int] = []
    with _before_others(pid):
        for tick in range(ticks):
            _send(bed, tick * each, each)
            if tick % TICKS_PER_SECOND == 0:
                memory.append(rss_bytes(pid))
            _rest(began + (tick + 1) * each / per_second)
    spent = time.perf_counter() - began
    share = (cpu_seconds(pid) - cpu_s) / spent
    flows = ticks * each
    wanted = _wanted(flows)

    def found() -> Counter[str]:
        return Counter(bed.daemon.status().detected) - expected_before

    holds_within(lambda: found() == wanted, _SETTLES_WITHIN_S)
    questions, answers = (now - before for now, before in zip(bed.ends.heard(), heard_before, strict=True))
    passed = f"of {STEPS * flows} questions {questions} reached the peers, {answers} were answered"
    if (got := found()) != wanted:
        heads = bed.daemon.status().heads
        words = f"of {flows} flows {dict(wanted)} are VPNs, and {dict(got)} were recognised"
        raise WrongAnswer(f"{words}; {passed}; heads: {heads}")
    answered = min(questions, answers) / (STEPS * flows)
    if answered < ANSWERED_MIN:
        raise WrongAnswer(passed)
    memory.append(rss_bytes(pid))
    warm = memory[int(len(memory) * _WARM_UP) :]
    half = len(warm) // 2
    return Beginnings(
        seconds=spent,
        flows=flows,
        vpns=wanted.total(),
        detected=got.total(),
        answered=answered,
        heads=dict(bed.daemon.status().heads),
        cpu_share=share,
        rss_bytes=memory[-1],
        rss_growth_bytes=int(median(warm[half:]) - median(warm[:half] or warm)),
    )


@contextmanager
def _before_others(pid: int) -> Iterator[None]:
    """Let the daemon have the processor before what else this machine does, as the frames have theirs."""
    os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))


def _send(bed: Bed, first: int, count: int) -> None:
    """Have so many flows begin: their first questions, and then, when those were answered, their second ones."""
    router = bed.routers[Kind.THROUGHWAY]
    for step in range(STEPS):
        plan = _BEGINNING.pack(
            INSIDE_LINK, step, router.inside_index, first, VPN_EVERY, len(VPNS), len(OTHERS), HOSTS_MAX
        )
        with within(bed.inside.path):
            bed.ends.begin(plan, count)


def _rest(until: float) -> None:
    if (left := until - time.perf_counter()) > 0:
        time.sleep(left)


def _wanted(flows: int) -> Counter[str]:
    """Count the flows of each protocol among so many."""
    vpns = (VPNS[number // VPN_EVERY % len(VPNS)] for number in range(0, flows, VPN_EVERY))
    return Counter(kind.protocol for kind in vpns if kind.protocol)
