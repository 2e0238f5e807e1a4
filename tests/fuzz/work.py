"""One piece of work, in a process of its own."""

import ctypes
from typing import Final

from pyroute2 import IPRoute

from tests.bpf.gateway import OBJECT, OUTSIDE, Gateway
from tests.fuzz import bpf, parsers
from tests.fuzz.running import Finding
from throughway.dataplane.libbpf import BpfObject

_CLONE_NEWNET: Final = 0x40000000
_gateways: Final[list[Gateway]] = []
"""The one of this process, which ends with it, as its network namespace does."""


def through_parsers(seed: str, count: int) -> list[Finding]:
    """Let so many inputs through the parsers."""
    return parsers.fuzz(f"parsers {seed}", count)


def through_bpf(seed: str, count: int) -> list[Finding]:
    """Let so many packets through programs and tables of this process alone."""
    if not _gateways:
        _gateways.append(_loaded())
    run = bpf.Run(_gateways[0])
    run.play(f"bpf {seed}", count)
    run.assert_nothing_was_learnt()
    return run.findings


def _loaded() -> Gateway:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace")
    with IPRoute() as route:
        route.link("add", ifname="wan0", kind="veth", peer="far0")
        for name in ("lo", "wan0", "far0"):
            (index,) = route.link_lookup(ifname=name)
            route.link("set", index=index, state="up")
        (wan0,) = route.link_lookup(ifname="wan0")
        route.addr("add", index=wan0, address=OUTSIDE, prefixlen=24)
    gateway = Gateway(BpfObject.load(OBJECT), wan0)
    bpf.prepare(gateway)
    return gateway
