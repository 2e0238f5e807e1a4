"""The prefilters of the recognisers: which bytes a packet must have for one of them to begin, or to keep it in mind.

Each is what the recogniser's `begins` and the first tests of its `look` want, as far as masked bytes can say it.
"""

from typing import Final

from throughway.catalogue.catalogue import Catalogue
from throughway.core.ids import IpProtocol
from throughway.detect import l2tp, openvpn, overlays, portless, wireguard
from throughway.detect.prefilters import Prefilter, Prefilters, Word, prefilters_of, word
from throughway.wire import openvpn as openvpn_wire
from throughway.wire import pptp
from throughway.wire import wireguard as wireguard_wire
from throughway.wire.udp import IKE_PORT, NAT_T_PORT

UDP, TCP = IpProtocol.UDP, IpProtocol.TCP


def _on(port: int, words: tuple[Word, ...] = (), size_min: int = 0) -> Prefilter:
    return Prefilter(transport=UDP, words=words, size_min=size_min, port_min=port, port_max=port)


def _ike(at: int) -> tuple[Prefilter, ...]:
    """IKE off its own ports: version, exchange type, flags, and a length below 65,536, as `describe` wants them."""
    return (
        Prefilter(transport=UDP, words=(word(at + 17, "1000000000000000", "ffd8f80000000000"), _short(at))),
        Prefilter(transport=UDP, words=(word(at + 17, "2020000000000000", "fff0c70000000000"), _short(at))),
    )


def _short(at: int) -> Word:
    return word(at + 24, "0000")


_IPSEC: Final = (
    _on(IKE_PORT, size_min=20),
    _on(NAT_T_PORT, size_min=20),
    *_ike(0),
    *(Prefilter(transport=UDP, words=(word(0, "00000000"), *each.words)) for each in _ike(4)),
)

_WIREGUARD: Final = (
    # The three zero bytes of an initiation and of its response may be filled, so their sizes tell them.
    *(
        Prefilter(
            transport=UDP,
            first=frozenset({kind}),
            size_min=wireguard_wire.SIZES[kind],
            size_max=wireguard_wire.SIZES[kind],
        )
        for kind in (wireguard_wire.INITIATION, wireguard_wire.RESPONSE)
    ),
    Prefilter(transport=UDP, words=(word(0, "03000000"),), size_min=64, size_max=64),
    Prefilter(transport=UDP, words=(word(0, "04000000"),), size_min=wireguard_wire.DATA_SIZE_MIN),
    Prefilter(transport=UDP, words=(Word(0, b"\xff" * 6, wireguard.DISCO_MAGIC),)),
)

_ACKS: Final = ("000000", "f0ffff")
"""At most eight acknowledgements, and then the number of a packet, theirs or its own: below 65,536."""

_HAS_SESSION: Final = Word(1, b"\xff" * 8, bytes(8), differs=True)
"""A session ID is never 0; a query of NTP has nothing else there."""

_RESETS: Final = frozenset(openvpn_wire.Opcode(kind) << 3 for kind in openvpn_wire.RESETS)
_CONTROLS: Final = frozenset(
    kind << 3 | key for kind in (set(openvpn_wire.Opcode) - openvpn_wire.DATA - openvpn_wire.RESETS) for key in range(8)
)

_OPENVPN: Final = (
    Prefilter(transport=UDP, words=(_HAS_SESSION, word(9, *_ACKS)), first=_CONTROLS, size_min=14),
    *(
        Prefilter(transport=UDP, words=(_HAS_SESSION, word(9, *_ACKS)), first=_RESETS, size_min=n, size_max=n)
        for n in (14, 26)
    ),
    # Behind an HMAC: the number of the packet, below 65,536, the time, and as above.
    *(
        Prefilter(
            transport=UDP,
            words=(_HAS_SESSION, word(9 + size, "0000"), word(17 + size, *_ACKS)),
            first=_CONTROLS | _RESETS,
            size_min=22 + size,
        )
        for size in openvpn_wire.HMAC_SIZES
        if size
    ),
    # With tls-crypt: the number, with which early negotiation may begin at 0x0f000000, and the time.
    Prefilter(transport=UDP, words=(_HAS_SESSION, word(9, "00", "f0")), first=_CONTROLS | _RESETS, size_min=54),
    Prefilter(transport=UDP, words=(word(0, "4800", "f8ff"),), size_min=24),
    Prefilter(transport=UDP, words=(word(0, "48ffffff", "f8ffffff"),), size_min=24),
    _on(openvpn.PORT, (word(0, "30", "f8"),), size_min=21),
)

_L2TP: Final = (
    Prefilter(transport=UDP, words=(word(0, "c802", "fffe"),), size_min=12),
    Prefilter(transport=UDP, words=(word(0, "00030000"),), size_min=8),
    _on(l2tp.PORT, (word(0, "0002", "000e"),), size_min=8),
)

_ZEROTIER: Final = (
    _on(overlays.ZEROTIER_PORT, size_min=28),
    # The sender's address is repeated in its identity.
    Prefilter(transport=UDP, words=(word(27, "01", "1f"), Word(41, b"\xff" * 5, bytes(5), like=13))),
)

_NEBULA: Final = (Prefilter(transport=UDP, words=(word(0, "10000000", "f0feffff"),), size_min=16),)

_SOFTETHER: Final = (
    Prefilter(transport=UDP, words=(word(0, "000000"),), size_min=25),
    Prefilter(transport=UDP, words=(word(0, b"IP=".hex()),)),
)

_DTLS: Final = (
    Prefilter(transport=UDP, words=(word(1, "0100"),), first=frozenset(range(20, 24)), size_min=13),
    # A ClientHello whose session has 32 bytes.
    Prefilter(transport=UDP, words=(word(0, "16fefd", "fffffd"), word(13, "01"), word(59, "20"))),
)

_GRE_IN_UDP: Final = (_on(portless.GRE_IN_UDP_PORT, size_min=4),)

_TCP: Final = (
    # PPTP's message type and magic cookie (RFC 2637 section 2).
    Prefilter(transport=TCP, words=(word(2, "00011a2b3c4d"),)),
    *(
        Prefilter(transport=TCP, words=(Word(0, b"\xff" * len(text), text),))
        for text in (b"IKETCP", b"SSTP_DUP", b"POST ", b"GET ", b"CONNECT ")
    ),
    # OpenVPN: a length of 14 to 4,096, and an opcode of 1 to 11.
    Prefilter(transport=TCP, words=(word(2, "00", "80"),), first=frozenset(range(0x11))),
    # In so few bytes any of them may begin.
    Prefilter(transport=TCP, size_max=pptp.HEADER_SIZE - 1),
)

_ALL: Final[dict[str, tuple[Prefilter, ...]]] = {
    "ipsec": _IPSEC,
    "wireguard": _WIREGUARD,
    "openvpn": _OPENVPN,
    "l2tp": _L2TP,
    "zerotier": _ZEROTIER,
    "nebula": _NEBULA,
    "softether": _SOFTETHER,
    "dtls": _DTLS,
    "gre-in-udp": _GRE_IN_UDP,
    "tcp": _TCP,
}


def prefilters(catalogue: Catalogue) -> Prefilters:
    """Make the prefilters of a catalogue."""
    return prefilters_of(catalogue, _ALL)
