"""Recorded IPsec sessions as clients of one server: the same packets between other addresses, at other times.

What was recorded over IPv6 becomes IPv4: IKE and ESP are the same bytes over both. An SPI that a client chose for
itself can be renumbered, so that one recording can be several clients.
"""

from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address
from struct import Struct
from typing import Final

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from tests import captures
from throughway.core.events import IkeExchange
from throughway.core.ids import IpProtocol, Spi
from throughway.wire import ike, udp

_IPV4: Final = Struct("!BBHHHBBH4s4s")
_IPV6_SIZE: Final = 40
_ADDRESS_SHIFT: Final = 20
"""Bits of a recorded SPI that stay when it is renumbered; the number of the client goes above."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One packet of a session: seconds since its first one, who sends, and the bytes behind the IP header."""

    at: float
    from_client: bool
    protocol: int
    payload: bytes

    @property
    def spi(self) -> Spi | None:
        """The SPI of ESP, else None."""
        return Spi(int.from_bytes(self.payload[:4], "big")) if self.protocol == IpProtocol.ESP else None

    def packet(self, source: IPv4Address, destination: IPv4Address, spi: Spi | None = None) -> bytes:
        """Write it as an IPv4 packet between these addresses, with another SPI if one is given."""
        payload = self.payload if spi is None else spi.to_bytes(4, "big") + self.payload[4:]
        size = _IPV4.size + len(payload)
        return _IPV4.pack(0x45, 0, size, 0, 0, 64, self.protocol, 0, source.packed, destination.packed) + payload


@dataclass(frozen=True, slots=True)
class Session:
    """What one client and its server said, in order."""

    name: str
    frames: tuple[Frame, ...]

    @property
    def first_inbound_s(self) -> float:
        """When the server's first ESP packet came; the end of a session without any."""
        return next((frame.at for frame in self.frames if frame.spi and not frame.from_client), self.frames[-1].at)

    def inbound(self) -> dict[Spi, Frame]:
        """Return the SPIs with which the server sent, each with its last packet."""
        return {frame.spi: frame for frame in self.frames if frame.spi and not frame.from_client}

    def agreements(self) -> set[tuple[int, int]]:
        """Name the IKE exchanges that may have agreed on a child SA, by IKE SA and message."""
        headers = [ike.parse(frame.payload[udp.HEADER_SIZE :]) for frame in self.frames if frame.spi is None]
        kinds = (IkeExchange.FIRST_CHILD, IkeExchange.CHILD)
        return {(header.initiator_spi, header.exchange_id) for header in headers if header and header.exchange in kinds}

    @property
    def is_inbound_first(self) -> bool:
        """Whether the server's ESP packet was the first of all."""
        return next((not frame.from_client for frame in self.frames if frame.spi), False)


def renumbered(spi: Spi, client: int) -> Spi:
    """Return the SPI that a client, counted from 0, has chosen in place of the recorded one."""
    return Spi((spi + (client << _ADDRESS_SHIFT)) & 0xFFFFFFFF)


@cache
def native() -> tuple[Session, ...]:
    """Return the sessions with ESP in both directions and the IKE before it, each once; none without captures."""
    found: dict[tuple[Frame, ...], Session] = {}
    for file, described in captures.described("sessions.json").items():
        for session in described["sessions"] if described["kind"] == "ipsec" else ():
            ways = {spi["dir"] for spi in session["spis"] if spi["encap"] == "ESP"}
            if session["packets_ike"] and ways == {"in", "out"}:
                frames = _frames(file, session["client"], session["server"])
                found.setdefault(frames, Session(file, frames))
    return tuple(found.values())


@cache
def bystanders() -> tuple[Session, ...]:
    """Return sessions without native ESP: one whose tunnel nobody uses, and one that floated to UDP 4500."""
    described = captures.described("sessions.json")
    found = []
    for file in ("joy/ikev2.pcap", "tcpdump/isakmp4500.pcap") if described else ():
        (session,) = described[file]["sessions"]
        found.append(Session(file, _frames(file, session["client"], session["server"])))
    return tuple(found)


def _frames(file: str, client: str, server: str) -> tuple[Frame, ...]:
    frames: list[Frame] = []
    began_at: float | None = None
    for _, frame in captures.packets(file):
        ip = frame.getlayer(IP) or frame.getlayer(IPv6)
        if ip is None or {ip.src, ip.dst} != {client, server}:
            continue
        at = float(frame.time)
        began_at = at if began_at is None else began_at
        raw = bytes(ip.original)
        is_v4 = ip.version == 4
        protocol = raw[9] if is_v4 else raw[6]
        payload = raw[(raw[0] & 0xF) * 4 : ip.len] if is_v4 else raw[_IPV6_SIZE : _IPV6_SIZE + ip.plen]
        assert protocol in (IpProtocol.UDP, IpProtocol.ESP), f"{file} has protocol {protocol}"
        frames.append(Frame(at - began_at, ip.src == client, protocol, payload))
    return tuple(sorted(frames, key=lambda frame: frame.at))
