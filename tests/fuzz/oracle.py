"""What may become of a packet in the BPF programs, said by the standards and the verdicts alone, without their code.

The verdicts of `TO_INSIDE` and `TO_PEER` are installed before the first packet, and no other one follows, so a packet
of another flow can be taken by the daemon or dropped, and never passes translated.
"""

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address
from struct import unpack_from
from typing import Final

PASS: Final = 0xFFFFFFFF
DROP: Final = 2
REDIRECT: Final = 7
"""TC_ACT_UNSPEC, TC_ACT_SHOT and TC_ACT_REDIRECT of <linux/pkt_cls.h>."""

CARRIED: Final = 0x10000000
REINJECTED: Final = 0x20000000
BOTH: Final = CARRIED | REINJECTED


def _address(text: str) -> bytes:
    return IPv4Address(text).packed


OUTSIDE: Final = _address("192.0.2.1")
PEER: Final = _address("203.0.113.9")
STRANGER: Final = _address("198.51.100.7")
ALICE, BOB, CAROL = (_address(f"10.77.0.{number}") for number in (11, 12, 13))
ROUTER: Final = _address("0.0.0.0")  # noqa: S104

WIDE: Final = 1 << 32
TO_INSIDE: Final[dict[tuple[int, int], tuple[bytes, ...]]] = {
    (50, 0x1000): (ALICE,),
    (50, 0x2000): (BOB, CAROL),
    (50, 0x3000): (ROUTER,),
    (47, WIDE | 6): (ALICE,),
    (47, 0): (BOB,),
    (115, 7): (BOB,),
    (115, WIDE | 5): (CAROL,),
    (94, 0): (CAROL,),
}
"""Who owns what comes from PEER, by protocol and discriminator; the last one gets the original, the others copies."""

TO_PEER: Final[dict[tuple[bytes, int, int], bool]] = {
    (ALICE, 50, 0x1001): True,
    (BOB, 50, 0x2001): True,
    (ALICE, 47, WIDE | 6): True,
    (BOB, 115, 7): True,
    (CAROL, 94, 0): True,
}
"""What hosts may send to PEER; in the table of senders too, by which ICMP errors find their host."""

KERNEL_S: Final = frozenset({1, 2, 6, 17, 33, 51, 132, 136})
"""Protocols with ports, ICMP, IGMP and AH: never carried by the programs."""

_ERRORS: Final = frozenset({3, 4, 11, 12})
"""ICMP messages that quote and are passed on (RFC 792); a redirect (5) quotes too."""


class Name(Enum):
    """What naming a packet comes to where it gets no discriminator."""

    NOT_OURS = "the kernel's"
    BROKEN = "malformed"
    LATER = "a later fragment"


@dataclass(frozen=True, slots=True)
class Ip:
    """The IPv4 header of a packet, as it is."""

    size: int
    header: int
    protocol: int
    source: bytes
    destination: bytes
    identification: bytes
    more: bool
    offset: int

    @classmethod
    def read(cls, data: bytes) -> "Ip | None":
        """Read it; None where nobody could (RFC 791 section 3.1)."""
        if len(data) < 20 or data[0] >> 4 != 4:
            return None
        header, size = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
        if header < 20 or size < header:
            return None
        flags = int.from_bytes(data[6:8], "big")
        return cls(size, header, data[9], data[12:16], data[16:20], data[4:6], bool(flags & 0x2000), flags & 0x1FFF)

    @property
    def is_carried(self) -> bool:
        """Whether it is of the programs' protocols, between two single hosts (RFC 1112 section 4)."""
        return self.protocol not in KERNEL_S and self.source[0] < 224 and self.destination[0] < 224


def discriminator(protocol: int, data: bytes) -> int | Name:
    """Name a flow by what follows the IP header, which may be cut off."""
    if protocol == 50:
        if len(data) < 8:
            return Name.BROKEN
        spi: int = unpack_from("!I", data)[0]
        return spi if spi > 255 else Name.BROKEN
    if protocol == 47:
        return _of_gre(data)
    if protocol == 115:
        if len(data) < 4 or (data[:4] == bytes(4) and len(data) < 12):
            return Name.BROKEN
        session, *_ = unpack_from("!I", data)
        return session or WIDE | int(unpack_from("!I", data, 8)[0])
    return 0


def _of_gre(data: bytes) -> int | Name:
    if len(data) < 4:
        return Name.BROKEN
    flags: int = unpack_from("!H", data)[0]
    if flags & 7 == 1:
        return Name.NOT_OURS
    if flags & 7 or flags & 0x4000:
        return Name.BROKEN
    if not flags & 0x2000:
        return 0
    at = 8 if flags & 0x8000 else 4
    return WIDE | int(unpack_from("!I", data, at)[0]) if len(data) >= at + 4 else Name.BROKEN


@dataclass(frozen=True, slots=True)
class Allowed:
    """One thing that may happen: the verdict, the IP packet that goes on, and its mark; None where nothing goes on."""

    verdict: int
    packet: bytes | None = None
    mark: int = 0
    sums: tuple[int, ...] = ()
    """Where checksums stand in the packet: those follow by RFC 1624, and are compared by what they cover."""


DROPPED: Final = Allowed(DROP)
TAKEN: Final = Allowed(REDIRECT)


def replaced(data: bytes, *changes: tuple[int, bytes]) -> bytes:
    """Return the packet with other bytes at these offsets."""
    again = bytearray(data)
    for at, value in changes:
        again[at : at + len(value)] = value
    return bytes(again)


@dataclass
class Oracle:
    """Says what may happen; remembers who was spoken to, and which fragments came first, since it was made."""

    spoken_to: set[bytes] = field(default_factory=set)
    firsts: dict[tuple[bytes, ...], set[int | Name]] = field(default_factory=dict)

    def outside_ingress(self, data: bytes, mark: int) -> list[Allowed]:
        """A packet comes in by the outside interface."""
        ip, untouched = Ip.read(data), Allowed(PASS, data, mark)
        if ip is None or mark & CARRIED or ip.destination != OUTSIDE:
            return [untouched]
        if ip.protocol == 1:
            return [self._error_to_inside(data, ip, mark)]
        if not ip.is_carried:
            return [untouched]
        own, was_held = Allowed(PASS, data, mark & ~BOTH), bool(mark & REINJECTED)
        names = self._names(data, ip, b"in")
        allowed = [] if ip.offset == 0 else [DROPPED, TAKEN]
        if ip.offset and ip.source != PEER and ip.protocol != 50:
            allowed.append(Allowed(PASS, data, mark))
        for name in names:
            if name is Name.NOT_OURS:
                allowed.append(own)
            elif isinstance(name, Name):
                allowed.append(DROPPED)
            elif ip.source == PEER and (ip.protocol, name) in TO_INSIDE:
                allowed.append(self._delivered(data, mark, TO_INSIDE[ip.protocol, name], was_held=was_held))
            else:
                allowed += self._unknown(ip, own, was_held=was_held)
        return allowed

    def _unknown(self, ip: Ip, own: Allowed, *, was_held: bool) -> list[Allowed]:
        """A flow from outside that nobody has decided about."""
        if was_held:
            return [DROPPED]
        if ip.source == PEER:
            return [DROPPED, TAKEN]
        not_asked = own if ip.protocol != 50 else DROPPED
        return [not_asked, DROPPED, TAKEN] if ip.source in self.spoken_to else [not_asked]

    def _delivered(self, data: bytes, mark: int, hosts: tuple[bytes, ...], *, was_held: bool) -> Allowed:
        """What comes from the peer, to whom it is for."""
        others = mark & ~BOTH
        if hosts == (ROUTER,):
            return Allowed(PASS, data, others)
        rewritten = replaced(data, (16, hosts[-1]))
        ours = CARRIED | (REINJECTED if was_held else 0)
        verdict = REDIRECT if was_held and len(hosts) > 1 else PASS
        return Allowed(verdict, rewritten, others | ours, (10,))

    def _names(self, data: bytes, ip: Ip, way: bytes) -> set[int | Name]:
        """Name the flows that a packet may be of; a later fragment has the name of a first one that came before."""
        key = (way, ip.source, ip.destination, ip.identification, bytes([ip.protocol]))
        if ip.offset:
            return self.firsts.get(key, set())
        name = discriminator(ip.protocol, data[ip.header : ip.size]) if len(data) >= ip.size else Name.BROKEN
        if ip.more and name is not Name.BROKEN:
            self.firsts.setdefault(key, set()).add(name)
        return {name}

    def outside_egress(self, data: bytes, mark: int) -> list[Allowed]:
        """A packet leaves by the outside interface."""
        ip = Ip.read(data)
        if ip is None:
            return [Allowed(PASS, data, mark)]
        self.spoken_to.add(ip.destination)
        is_returned = mark & BOTH == BOTH
        if ip.destination == OUTSIDE and mark & REINJECTED:
            return [Allowed(REDIRECT, data, mark & ~BOTH if is_returned else mark)]
        mark = mark & ~BOTH if is_returned else mark
        untouched = Allowed(PASS, data, mark)
        if ip.protocol == 1:
            return self._error_to_peer(data, ip, mark)
        if not ip.is_carried:
            return [untouched]
        if ip.source == OUTSIDE:  # The router's own; what came by the short path has our address and the mark already.
            return [Allowed(PASS, data, mark & ~BOTH if mark & CARRIED else mark)]
        allowed = [] if ip.offset == 0 else [DROPPED, TAKEN]
        for name in self._names(data, ip, b"out"):
            if name is Name.NOT_OURS:
                allowed += [] if ip.offset else [untouched]
            elif isinstance(name, Name):
                allowed.append(DROPPED)
            elif ip.destination == PEER and (ip.source, ip.protocol, name) in TO_PEER:
                allowed.append(Allowed(PASS, replaced(data, (12, OUTSIDE)), mark & ~BOTH, (10,)))
            else:
                allowed += [DROPPED] if mark & REINJECTED else [DROPPED, TAKEN]
        return allowed

    def inside(self, data: bytes, mark: int) -> list[Allowed]:
        """A packet passes an inside interface, either way: nothing happens to it."""
        if (ip := Ip.read(data)) is not None:
            self.spoken_to.add(ip.destination)
        return [Allowed(PASS, data, mark)]

    def _error_to_inside(self, data: bytes, ip: Ip, mark: int) -> Allowed:
        """An ICMP error about what a host sent goes to that host, with the packet that it sent."""
        untouched = Allowed(PASS, data, mark)
        quoted = _quoted(data, ip)
        if quoted is None:
            return untouched
        at, inner, name = quoted
        if isinstance(name, Name) or data[ip.header] not in _ERRORS or inner.source != OUTSIDE:
            return untouched
        for host, protocol, number in TO_PEER:
            if inner.destination == PEER and (protocol, number) == (inner.protocol, name):
                changed = replaced(data, (at + 12, host), (16, host))
                return Allowed(PASS, changed, mark & ~BOTH | CARRIED, (10, at + 10))
        return untouched

    def _error_to_peer(self, data: bytes, ip: Ip, mark: int) -> list[Allowed]:
        """A host's or the router's ICMP error about what it got leaves with our addresses, or not at all."""
        untouched = Allowed(PASS, data, mark)
        quoted = _quoted(data, ip)
        if quoted is None or quoted[2] is Name.NOT_OURS:
            return [untouched]
        at, inner, name = quoted
        kind, code, host = data[ip.header], data[ip.header + 1], inner.destination
        is_own = ip.source == OUTSIDE == host
        owners: tuple[bytes, ...] = ()
        if not isinstance(name, Name) and kind != 5 and ip.destination == inner.source == PEER:
            owners = TO_INSIDE.get((inner.protocol, name), ())
        if (ROUTER if is_own else host) not in owners:
            return [untouched if is_own else DROPPED]
        if len(owners) > 1 and kind == 3 and code != 4:
            return [DROPPED]
        if is_own:
            return [untouched]
        return [Allowed(PASS, replaced(data, (at + 16, OUTSIDE), (12, OUTSIDE)), mark & ~BOTH, (10, at + 10))]


def _quoted(data: bytes, ip: Ip) -> tuple[int, Ip, int | Name] | None:
    """Find the packet that an ICMP message quotes: where its header is, that header, and its name; None for no such."""
    end = min(ip.size, len(data))
    at = ip.header + 8
    if ip.offset or end < at + 20 or data[ip.header] not in _ERRORS | {5}:
        return None
    header = (data[at] & 15) * 4
    if data[at] >> 4 != 4 or header < 20 or data[at + 9] in KERNEL_S:
        return None
    flags = int.from_bytes(data[at + 6 : at + 8], "big")
    inner = Ip(0, header, data[at + 9], data[at + 12 : at + 16], data[at + 16 : at + 20], b"", False, flags & 0x1FFF)
    broken = ip.more or inner.offset
    return at, inner, Name.BROKEN if broken else discriminator(inner.protocol, data[at + header : end])
