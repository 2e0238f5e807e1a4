"""The frames of the bench: what is sent, and so what has to arrive, byte for byte.

bpf/bench.bpf.c has the drawing, and writes the same frames in the kernel. What arrives is described as a plan too:
that of the same frames with the addresses, the TTL and the link header that a right gateway gives them.
"""

import struct
from dataclasses import dataclass
from enum import IntFlag
from ipaddress import IPv4Address
from typing import Final

from throughway.core.ids import IpProtocol
from throughway.lab.packets.builder import Packet

FRAME_SIZE: Final = 64
STAMP: Final = slice(42, 50)
"""When a stamped frame was sent; only the kernel knows."""

_ETHERNET: Final = struct.Struct("!6s6sH")
_ESP: Final = struct.Struct("!II8xIII2s")
_PLAN: Final = struct.Struct("=64sIIIIII")
_ETHERTYPE_IPV4: Final = 0x0800
_END: Final = b"tw"
_SCATTER: Final = 0x9E3779B1
"""Odd, so that no two of 2**32 sequence numbers give the same word (the golden ratio, as everybody uses it)."""


class Flag(IntFlag):
    """How the frames of a plan differ from one another; shared with bpf/bench.bpf.c."""

    VARY_SOURCE = 1
    VARY_DESTINATION = 2
    IN_ORDER = 4
    STAMPED = 8


NOTHING: Final = Flag(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """ESP frames of `spis` tunnels, which belong to `pairs` pairs of a host and a peer in turn.

    With VARY_SOURCE or VARY_DESTINATION the address is that of the first pair, and grows by one for each further
    one. Without IN_ORDER the tunnels take turns as if at random, so that no cache holds what comes next.
    """

    link_source: bytes
    link_destination: bytes
    source: IPv4Address
    destination: IPv4Address
    first_spi: int
    spis: int
    pairs: int = 1
    ttl: int = 64
    flags: Flag = NOTHING

    def spi_number(self, sequence: int) -> int:
        """Return which of the tunnels the frame with this sequence number belongs to."""
        if self.flags & Flag.IN_ORDER:
            return sequence % self.spis
        return (sequence * _SCATTER & 0xFFFFFFFF) * self.spis >> 32

    def frame(self, sequence: int) -> bytes:
        """Write the frame with this sequence number, without a stamp."""
        number = self.spi_number(sequence)
        pair = number % self.pairs
        word = sequence * _SCATTER & 0xFFFFFFFF
        packet = Packet(
            self.source + pair * bool(self.flags & Flag.VARY_SOURCE),
            self.destination + pair * bool(self.flags & Flag.VARY_DESTINATION),
            IpProtocol.ESP,
            _ESP.pack(self.first_spi + number, sequence, word, word, word, _END),
            ttl=self.ttl,
            dont_fragment=True,
        )
        return _ETHERNET.pack(self.link_destination, self.link_source, _ETHERTYPE_IPV4) + packet.to_bytes()

    def pack(self, ifindex: int, first_sequence: int) -> bytes:
        """Write `struct plan`: frames from this sequence number on, out of this interface."""
        template = (
            _ETHERNET.pack(self.link_destination, self.link_source, _ETHERTYPE_IPV4)
            + Packet(
                self.source,
                self.destination,
                IpProtocol.ESP,
                _ESP.pack(0, 0, 0, 0, 0, _END),
                ttl=self.ttl,
                dont_fragment=True,
            ).to_bytes()
        )
        return _PLAN.pack(template, ifindex, self.first_spi, self.spis, self.pairs, self.flags, first_sequence)
