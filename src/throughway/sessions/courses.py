"""What each family of VPN does before it is established, and what counts as its data.

An encrypted tunnel does not say that it is up. What can be seen is which answers came and how much went each way,
so each family has the least that an established tunnel, and one that carries data, must have shown. The figures are
packets of the flows named, from the device's own count and the peer's.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The course of one family.

    `data` are the protocols whose packets are data, empty for all of the family. `answers` is how many of their
    packets come back from an established tunnel at least, 0 where only a message shows it (an IKE exchange, a reply
    of PPTP). `each_way` is how many have passed both ways when data does.
    `has_port_each` is true where each source port of a device is a tunnel of its own.
    """

    data: frozenset[str] = frozenset()
    answers: int = 1
    each_way: int = 2
    has_port_each: bool = False


IPSEC: Final = Course(data=frozenset({"esp", "esp-udp", "ike-natt", "ike-tcp"}), answers=0, each_way=2)
"""ESP is data at once. On UDP 4500 and in TCP the messages of IKE are counted out by who reads the counters."""

_COURSES: Final = {
    "ipsec": IPSEC,
    # GRE has the negotiation of PPP before data: link, authentication and addresses take some packets each way
    # (RFC 1661 section 5, RFC 1332 section 3).
    "pptp": Course(data=frozenset({"pptp-gre"}), answers=0, each_way=10),
    # The control connection has three messages and each session three more (RFC 2661 section 5); then comes PPP.
    "l2tp": Course(answers=3, each_way=12),
    # One answer ends the handshake (section 5.4 of the WireGuard paper), and each further packet is data.
    "wireguard": Course(answers=1, each_way=3, has_port_each=True),
    # Resets, a TLS handshake in pieces with acknowledgements, and the exchange of keys.
    "openvpn": Course(answers=6, each_way=12, has_port_each=True),
    # TCP's and TLS's handshakes and an HTTP exchange come first; an acknowledgement is a packet too.
    "sstp": Course(answers=6, each_way=14, has_port_each=True),
    "anyconnect": Course(answers=6, each_way=14),
    "softether": Course(answers=6, each_way=14, has_port_each=True),
}

_PLAIN: Final = Course(answers=1, each_way=2)
"""Tunnels without a negotiation: GRE, IP in IP, and what an operator adds."""


def course_of(family: str) -> Course:
    """Return the course of a family; one that is not known has no negotiation."""
    return _COURSES.get(family, _PLAIN)
