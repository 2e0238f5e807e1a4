"""How VPNs on UDP fail."""

from typing import Final

from throughway.lab.diagnoses.evidence import Evidence
from throughway.lab.diagnoses.plight import Plight
from throughway.lab.peers import wireguard
from throughway.lab.upstream import to
from throughway.lab.vpns.ports import WireGuard

NARROW_BYTES: Final = 1300
LARGE_PING_BYTES: Final = 1300
"""With WireGuard's and ping's own headers that is above NARROW_BYTES, and below the tunnel's size of 1,420."""

_UDP: Final = 17

PLIGHTS: Final = (
    Plight(
        name="server-dead",
        shows="WireGuard to a server that is not there",
        code="peer.silent",
        peers=WireGuard,
        programs=wireguard.PROGRAMS,
        strike=lambda upstream: upstream.drop(to(WireGuard.SERVER)),
        evidence=Evidence(3, _UDP, wireguard.PORT),
    ),
    Plight(
        name="server-dies",
        shows="WireGuard to a server that goes away",
        code="peer.silent-since",
        peers=WireGuard,
        programs=wireguard.PROGRAMS,
        strike=lambda upstream: upstream.drop(to(WireGuard.SERVER)),
        in_use=True,
        evidence=Evidence(3, _UDP, wireguard.PORT),
    ),
    Plight(
        name="mtu-black-hole",
        shows=f"a link of {NARROW_BYTES} bytes on the way, and no ICMP comes back from it",
        code="path-mtu.black-hole",
        peers=WireGuard,
        programs=wireguard.PROGRAMS,
        strike=lambda upstream: upstream.narrow(NARROW_BYTES),
        in_use=True,
        ping_bytes=LARGE_PING_BYTES,
        evidence=Evidence(3, _UDP, wireguard.PORT, NARROW_BYTES),
    ),
)
