"""The structures that a file of the catalogue can name, and the code behind each."""

from typing import Final

from throughway.catalogue.catalogue import Catalogue
from throughway.detect.dtls import Anyconnect
from throughway.detect.ipsec import Ipsec
from throughway.detect.l2tp import L2tp
from throughway.detect.openvpn import Openvpn
from throughway.detect.overlays import Nebula, Softether, Zerotier
from throughway.detect.portless import GreInUdp
from throughway.detect.recogniser import Recogniser
from throughway.detect.wireguard import Wireguard

_UDP: Final[dict[str, type[Recogniser]]] = {
    "ipsec": Ipsec,
    "wireguard": Wireguard,
    "openvpn": Openvpn,
    "l2tp": L2tp,
    "zerotier": Zerotier,
    "nebula": Nebula,
    "softether": Softether,
    "dtls": Anyconnect,
    "gre-in-udp": GreInUdp,
}

_ELSEWHERE: Final = frozenset({"ip-protocol", "tcp"})
"""Structures that the engine knows without asking: protocols that the IP header names, and heads of TCP streams."""

STRUCTURES: Final = frozenset(_UDP) | _ELSEWHERE
"""All names that `structure` in a file may have."""


def udp_recognisers(catalogue: Catalogue) -> tuple[type[Recogniser], ...]:
    """Return the recognisers that a catalogue asks for, in a fixed order, each once."""
    asked = {name for protocol in catalogue.protocols for name in protocol.recognise.structures}
    return tuple(kind for name, kind in _UDP.items() if name in asked)
