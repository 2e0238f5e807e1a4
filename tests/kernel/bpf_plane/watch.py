"""One tunnel both ways, and what tc, the kernel and the BPF file system show of a gateway."""

import ctypes
import socket
import subprocess
from pathlib import Path

from tests.kernel.bpf_plane.conftest import Ends, Gateway
from tests.kernel.bpf_plane.net import ALICE, OUTSIDE, PEER, Network, inside, run, wait_for
from throughway.core import ids
from throughway.core.flows import FlowKey
from throughway.core.ids import IpProtocol
from throughway.core.reasons import Reason
from throughway.dataplane.libbpf import TCX_EGRESS, TCX_INGRESS

SPI = 0x12345678
TO_INSIDE = FlowKey.to_inside(IpProtocol.ESP, ids.Path(PEER), SPI)
TO_PEER = FlowKey.to_peer(IpProtocol.ESP, ALICE, PEER, SPI)


def both_ways(gateway: Gateway, ends: Ends, sequences: range) -> None:
    """Send packets of one tunnel in both directions, and see that they arrive behind those that came before."""
    ends.alice.send_esp(ALICE, PEER, SPI, sequences)
    ends.peer.send_esp(PEER, OUTSIDE, SPI, sequences)
    expected = list(range(1, sequences.stop))
    wait_for(
        f"{sequences} both ways",
        lambda: len(ends.peer.sequences(SPI)) >= len(expected) and len(ends.alice.sequences(SPI)) >= len(expected),
        gateway.step if gateway.is_up else lambda: None,
    )
    assert ends.peer.sequences(SPI) == expected
    assert ends.alice.sequences(SPI) == expected


def filters(net: Network) -> str:
    """What tc says of all filters and qdiscs of the router."""
    said = run("tc", "-n", net.router, "qdisc", "show")
    for name in ("in0", "in1", "out0"):
        for side in ("ingress", "egress"):
            shown = subprocess.run(
                ["tc", "-n", net.router, "filter", "show", "dev", name, side],
                capture_output=True,
                text=True,
                check=False,
            )
            said += shown.stdout
    return said


def tcx_programs(net: Network) -> int:
    """Count the tcx programs on the router's interfaces, as the kernel tells somebody else."""
    library = ctypes.CDLL("libbpf.so.1")
    total = 0
    with inside(net.router):
        for ifindex, _ in socket.if_nameindex():
            for attach_type in (TCX_INGRESS, TCX_EGRESS):
                count = ctypes.c_uint32(0)
                library.bpf_prog_query(ifindex, attach_type, 0, None, None, ctypes.byref(count))
                total += count.value
    return total


def pins(bpffs: Path) -> list[str]:
    root = bpffs / "throughway"
    return sorted(str(each.relative_to(root)) for each in root.rglob("*")) if root.exists() else []


def drops(gateway: Gateway) -> dict[Reason, int]:
    """What was dropped, for whatever reason."""
    return {reason: count for reason, count in gateway.plane.reasons().items() if reason.is_drop}
