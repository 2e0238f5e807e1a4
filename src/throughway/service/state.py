"""The gateway at a glance."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from throughway import __version__
from throughway.control.schema import AttachedBy, Finding, Level, Status
from throughway.core.ids import Peer, UdpPort
from throughway.service.gateway import Gateway
from throughway.service.options import Options


def status(
    options: Options,
    gateway: Gateway,
    *,
    uptime_s: float,
    mappings: int,
    session_count: int,
    adopted: int,
    learned: Sequence[tuple[Peer, UdpPort]],
    detected: Mapping[str, int],
) -> Status:
    """Put the state of the gateway together. `adopted` is how many mappings the start took over."""
    return Status(
        version=__version__,
        gateway=options.gateway,
        pid=os.getpid(),
        uptime_s=uptime_s,
        inside=options.inside,
        outside=options.outside,
        outside_address=next((str(address) for address in gateway.outside_addresses), None),
        outside_addresses=tuple(str(address) for address in gateway.outside_addresses),
        attached_by=AttachedBy(gateway.attached_by),
        path=gateway.path,
        memory_bytes=memory_bytes(),
        mappings=mappings,
        pending=gateway.plane.pending_count(),
        sessions=session_count,
        adopted=adopted,
        ike_port=options.ike_port.value,
        l2tp_port=options.l2tp_port.value,
        ports_kept=tuple(f"{peer} udp {int(port)}" for peer, port in learned),
        reasons={reason.name.lower().replace("_", "-"): count for reason, count in gateway.plane.reasons().items()},
        heads={what.name.lower().replace("_", "-"): count for what, count in gateway.plane.heads.counts().items()},
        detected=dict(detected),
        findings=tuple(
            Finding(
                code=finding.code,
                level=Level(finding.level.value),
                what=finding.what,
                remedy=finding.remedy,
                commands=finding.commands,
            )
            for finding in gateway.findings
        ),
    )


def memory_bytes() -> int:
    """Read the resident memory of this process (proc(5), statm), shared libraries included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
