"""What must not be seen on the wire, looked up in the captures of a run."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from throughway.lab.addresses import INSIDE, UPLINK
from throughway.lab.captured import read

_ICMP: Final = 1
_ICMP_ERRORS: Final = frozenset({3, 4, 5, 11, 12})
"""The types that quote a packet (RFC 1122 section 3.2.2)."""


@dataclass(frozen=True, slots=True)
class Leaks:
    """How many packets were where they must not be.

    `dropped` left the router with a private source and were dropped by the provider; `named` were on the outside with
    an inside address in their header, or in one that an ICMP error quotes; `unasked` came to an inside host from a
    peer that it had sent nothing to.
    """

    dropped: int = 0
    named: int = 0
    unasked: int = 0

    def __bool__(self) -> bool:
        return bool(self.dropped or self.named or self.unasked)

    def sentences(self) -> tuple[str, ...]:
        """Say what was found; nothing when nothing was."""
        told = (
            (self.dropped, "packets left the router with a private source address"),
            (self.named, "packets on the outside named an inside address"),
            (self.unasked, "packets came to hosts that had sent nothing to their source"),
        )
        return tuple(f"{count} {what}" for count, what in told if count)


NO_LEAKS: Final = Leaks()


@dataclass(frozen=True, slots=True)
class Seen:
    """An IPv4 packet of a capture; `quoted` are the addresses of the packet that an ICMP error quotes."""

    source: int
    destination: int
    quoted: tuple[int, int] | None


def look(inside: Path, outside: Path, dropped: int) -> Leaks:
    """Look through the captures of the router's two sides; the provider has told how many packets it dropped."""
    named = sum(
        any(_is_inside(address) for address in (seen.source, seen.destination, *(seen.quoted or ())))
        for seen in packets(outside)
    )
    asked, unasked = set(), 0
    for seen in packets(inside):
        if _is_inside(seen.source):
            asked.add((seen.source, seen.destination))
        # An error comes from wherever the packet that it quotes has come to; that one was looked at.
        elif _is_inside(seen.destination) and seen.quoted is None and not _is_router(seen.source):
            unasked += (seen.destination, seen.source) not in asked
    return Leaks(dropped, named, unasked)


def packets(capture: Path) -> Iterator[Seen]:
    """Read the addresses of the IPv4 packets of a capture."""
    for captured in read(capture):
        seen = _read(captured.packet)
        if seen is not None:
            yield seen


def _read(packet: bytes) -> Seen | None:
    if len(packet) < 20:
        return None
    source, destination = struct.unpack_from("!II", packet, 12)
    quoted = None
    icmp = packet[(packet[0] & 0x0F) * 4 :]
    is_first = not struct.unpack_from("!H", packet, 6)[0] & 0x1FFF
    if packet[9] == _ICMP and is_first and len(icmp) >= 28 and icmp[0] in _ICMP_ERRORS:
        quoted = struct.unpack_from("!II", icmp, 20)
    return Seen(source, destination, quoted)


def _is_inside(address: int) -> bool:
    return _is_in(INSIDE, address)


def _is_router(address: int) -> bool:
    return _is_in(UPLINK, address)


def _is_in(network: IPv4Network, address: int) -> bool:
    return address & int(network.netmask) == int(network.network_address)
