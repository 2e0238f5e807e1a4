"""A process that holds a data plane as the daemon does, to be killed.

    python -m tests.kernel.bpf_plane.keeper BPFFS OUTSIDE HOST INSIDE...

It gives what comes in to HOST and what goes out to its sender, and says `ready` once it is attached.
"""

import select
import socket
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path

from throughway.core.flows import Direction
from throughway.core.ids import Host
from throughway.core.ports import Interface, Punted
from throughway.dataplane.bpf import BpfDataPlane, BpfSettings


def interface(name: str) -> Interface:
    return Interface(name, socket.if_nametoindex(name), 14)


def main(bpffs: str, address: str, host: str, *insides: str) -> None:
    outside = interface("out0")
    plane = BpfDataPlane.open(BpfSettings(outside=outside, bpffs=Path(bpffs)))
    plane.attach(outside, [interface(each) for each in insides])
    plane.set_outside_addresses([IPv4Address(address)])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while (wake := plane.pump(time.monotonic())) is not None:
        select.select(plane.filenos(), [], [], max(0.0, wake - time.monotonic()))
        for each in plane.read():
            if isinstance(each, Punted):
                to_inside = each.key.direction is Direction.TO_INSIDE
                plane.install(each.key, [Host(IPv4Address(host)) if to_inside else each.key.host])
                plane.reinject(each.key)


if __name__ == "__main__":
    main(*sys.argv[1:])
