"""What the flows that begin in the bench say: first packets of VPNs, as their documents have them, and of what is none.

Each flow has two questions of a device and the answers of a peer. What would be encrypted is noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from struct import pack
from typing import Final

from throughway.bench.ends import TALK_SIZE_MAX
from throughway.bench.routers import FIRST_HOST, FIRST_PEER, ROUTER_OUTSIDE
from throughway.core.ids import IpProtocol
from throughway.lab.packets.builder import Packet
from throughway.wire import ipv4

_IS_ANSWER, _IS_QUESTION = 0x8000, 0x4000
_PORT: Final = 1024
_UDP_PAYLOAD_AT: Final = 28
_PAYLOAD_MIN: Final = 12
"""Frames have room for the ports and the checksum of TCP, whatever they carry."""

_SYN, _ACK = 0x02, 0x10
_CLIENT_AT, _SERVER_AT = 1000, 5000
"""Initial sequence numbers."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of flow: the ID that detection has to find, or None, and what is said on a port.

    `said` are question, answer, question, answer. `mark` is an offset and a size in UDP payloads: there the flow's own
    number stands.
    """

    protocol: str | None
    transport: IpProtocol
    port: int
    said: tuple[bytes, bytes, bytes, bytes]
    mark: tuple[int, int] = (0, 0)


def _noise(size: int) -> bytes:
    return Random(size).randbytes(size)  # noqa: S311


def _ike(exchange: int, flags: int, responder: int) -> bytes:
    """Write an IKEv2 message (RFC 7296 section 3.1): in the clear SA, KE and nonce, else one encrypted payload."""
    bodies = [(33, 44), (34, 68), (40, 32)] if exchange == 34 else [(46, 200)]
    following = [kind for kind, _ in bodies[1:]] + [0 if exchange == 34 else 39]
    payloads = b"".join(
        pack("!BBH", behind, 0, 4 + size) + _noise(size) for behind, (_, size) in zip(following, bodies, strict=True)
    )
    spis = pack("!QQ", 0x1122334455667788, responder)
    return spis + pack("!BBBBII", bodies[0][0], 0x20, exchange, flags, 0, 28 + len(payloads)) + payloads


def _ike_talk(before: bytes = b"") -> tuple[bytes, bytes, bytes, bytes]:
    messages = (_ike(34, 0x08, 0), _ike(34, 0x20, 7), _ike(35, 0x08, 7), _ike(35, 0x20, 7))
    first, second, third, fourth = (before + message for message in messages)
    return first, second, third, fourth


def _openvpn_reset(opcode: int, session: bytes, remote: bytes) -> bytes:
    """Write a hard reset with tls-auth by SHA-1, or its answer, as long (ssl_pkt.h of its source)."""
    acks = b"\x01" + bytes(4) + remote if remote else b"\0"
    return bytes((opcode << 3,)) + session + _noise(20) + pack("!II", 1, 0x65000000) + acks + bytes(4)


_SESSION, _REMOTE = b"sessionA", b"sessionB"
_OPENVPN: Final = (
    _openvpn_reset(7, _SESSION, b""),
    _openvpn_reset(8, _REMOTE, _SESSION),
    b"\x48\0\0\0" + pack("!I", 1) + _noise(60),
    b"\x48\0\0\0" + pack("!I", 1) + _noise(60),
)
_WIREGUARD: Final = (
    pack("<II", 1, 0) + _noise(124) + bytes(16),
    pack("<III", 2, 0, 0) + _noise(64) + bytes(16),
    pack("<IIQ", 4, 0, 0) + _noise(48),
    pack("<IIQ", 4, 0, 0) + _noise(48),
)


def _l2tp(message: int, tunnel: int) -> bytes:
    """Write a control message (RFC 2661 section 3.1) with its type and an assigned tunnel ID."""
    avps = pack("!HHHH", 0x8008, 0, 0, message) + pack("!HHHH", 0x8008, 0, 9, 4711)
    return pack("!HHHHHH", 0xC802, 12 + len(avps), tunnel, 0, 0, 0) + avps


def _pptp(message: int, size: int) -> bytes:
    """Write a control message (RFC 2637 section 2)."""
    return pack("!HHIHH", size, 1, 0x1A2B3C4D, message, 0).ljust(size, b"\0")


def _framed(message: bytes) -> bytes:
    return pack("!H", len(message)) + message


def _dns(flags: int) -> bytes:
    return pack("!HHHHHH", 0, flags, 1, 0, 0, 0) + b"\3www\7example\0\0\1\0\1"


_DISCO: Final = b"TS\xf0\x9f\x92\xac" + _noise(120)
_NODE: Final = bytes.fromhex("8056c2e21c")
_HELLO: Final = (
    bytes(8) + bytes.fromhex("62f865ae71") + _NODE + b"\0" + bytes(8) + b"\x01"
    + pack("!BBBHQ", 12, 1, 14, 2, 1_700_000_000_000) + _NODE + b"\0" + _noise(84)
)  # fmt: skip
_TLS_HELLO: Final = b"\x16\x03\x01\x01\x40\x01\0\x01\x3c\x03\x03" + _noise(300)
_QUIC: Final = b"\xc3\0\0\0\1\x08" + _noise(400)
_RTP: Final = b"\x80\x60" + _noise(170)

UDP, TCP = IpProtocol.UDP, IpProtocol.TCP

VPNS: Final = (
    Kind("wireguard", UDP, 51820, _WIREGUARD, (4, 4)),
    Kind("wireguard", UDP, 53, _WIREGUARD, (4, 4)),
    Kind("ike", UDP, 500, _ike_talk(), (0, 4)),
    Kind("ike-natt", UDP, 4500, _ike_talk(bytes(4)), (4, 4)),
    Kind("ike", UDP, 8500, _ike_talk(), (0, 4)),
    Kind("openvpn", UDP, 1194, _OPENVPN, (1, 4)),
    Kind("openvpn", UDP, 443, _OPENVPN, (1, 4)),
    Kind("l2tpv2", UDP, 1701, (_l2tp(1, 0), _l2tp(2, 4711), _l2tp(3, 4711), _l2tp(6, 4711))),
    Kind("tailscale", UDP, 41641, (_DISCO, _DISCO, _DISCO, _DISCO), (40, 4)),
    Kind("zerotier", UDP, 9993, (_HELLO, _HELLO, _HELLO, _HELLO), (0, 4)),
    Kind("pptp", TCP, 1723, (b"", b"", _pptp(1, 156), _pptp(2, 156))),
    Kind("openvpn", TCP, 443, (b"", b"", _framed(_OPENVPN[0]), _framed(_OPENVPN[1]))),
)

OTHERS: Final = (
    Kind(None, UDP, 53, (_dns(0x0100), _dns(0x8180), _dns(0x0100), _dns(0x8180)), (0, 2)),
    Kind(None, UDP, 443, (_QUIC, _QUIC, b"\x45" + _noise(80), b"\x45" + _noise(80)), (6, 4)),
    Kind(None, UDP, 30000, (_RTP, _RTP, _RTP, _RTP), (4, 4)),
    Kind(None, UDP, 123, (b"\x23" + bytes(47), b"\x24" + _noise(47), b"\x23" + bytes(47), b"\x24" + _noise(47))),
    Kind(None, TCP, 443, (b"", b"", _TLS_HELLO, b"\x16\x03\x03\0\x7a\x02" + _noise(250))),
    Kind(None, TCP, 80, (b"", b"", b"GET / HTTP/1.1\r\nHost: www.example\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n")),
)


def pack_talks(kinds: Sequence[Kind]) -> dict[bytes, bytes]:
    """Write the entries of the table `talks` (bpf/beginnings.h), two for each kind."""
    talks: dict[bytes, bytes] = {}
    for number, kind in enumerate(kinds):
        for step in range(2):
            at = 2 * number + step
            question, answer = (_said(kind, step, is_answer, at) for is_answer in (False, True))
            talks[pack("=I", at)] = question + answer
    return talks


def _said(kind: Kind, step: int, is_answer: bool, at: int) -> bytes:
    payload = kind.said[2 * step + is_answer]
    identification = at | (_IS_ANSWER if is_answer else _IS_QUESTION)
    ends = (FIRST_PEER, ROUTER_OUTSIDE) if is_answer else (FIRST_HOST, FIRST_PEER)
    ports = (kind.port, _PORT) if is_answer else (_PORT, kind.port)
    if kind.transport == UDP:
        payload = payload.ljust(_PAYLOAD_MIN, b"\0")
        carried = pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    else:
        begin, other = (_SERVER_AT, _CLIENT_AT) if is_answer else (_CLIENT_AT, _SERVER_AT)
        flags = (_ACK if is_answer or step else 0) | (0 if step else _SYN)
        acknowledged = other + 1 + (len(kind.said[2]) if step and is_answer else 0) if flags & _ACK else 0
        front = pack("!HHIIBBHHH", *ports, begin + step, acknowledged, 0x50, flags, 65535, 0, 0)
        carried = front + payload
        pseudo = ends[0].packed + ends[1].packed + pack("!HH", TCP, len(carried))
        carried = front[:16] + pack("!H", ipv4.checksum(pseudo + carried)) + front[18:] + payload
    packet = Packet(*ends, kind.transport, carried, identification, dont_fragment=True).to_bytes()
    offset, size = kind.mark
    mark_at = _UDP_PAYLOAD_AT + offset if size else 0
    if size and is_answer and kind.said[:2] == _WIREGUARD[:2] and step == 0:
        mark_at += 4  # The response has the initiation's index behind its own.
    return pack("=HHHH", len(packet), mark_at, size, 0) + packet.ljust(TALK_SIZE_MAX, b"\0")
