"""ESP packets in capture files, and whether a router changed no more of them than it may."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from scapy.utils import RawPcapReader, checksum

ETHERNET_BYTES = 14
IPV4 = 0x0800
ESP = 50


@dataclass(frozen=True)
class EspPacket:
    """An IPv4 packet that carries ESP, as it was on the wire."""

    raw: bytes

    @property
    def source(self) -> IPv4Address:
        return IPv4Address(self.raw[12:16])

    @property
    def destination(self) -> IPv4Address:
        return IPv4Address(self.raw[16:20])

    @property
    def ttl(self) -> int:
        return self.raw[8]

    @property
    def header_bytes(self) -> int:
        return (self.raw[0] & 0x0F) * 4

    @property
    def spi_and_sequence(self) -> tuple[int, int]:
        spi, sequence = struct.unpack_from("!II", self.raw, self.header_bytes)
        return spi, sequence

    @property
    def has_right_checksum(self) -> bool:
        return checksum(self.raw[: self.header_bytes]) == 0

    @property
    def unchanged_part(self) -> bytes:
        """All but TTL, header checksum and addresses."""
        return self.raw[:8] + self.raw[9:10] + self.raw[20:]


def read_esp(file: Path) -> list[EspPacket]:
    """Read the ESP packets of a capture, without what Ethernet padded them with."""
    with RawPcapReader(str(file)) as reader:
        frames = [frame for frame, _ in reader]
    return [EspPacket(packet) for frame in frames if (packet := _esp_of(frame)) is not None]


def _esp_of(frame: bytes) -> bytes | None:
    if struct.unpack_from("!H", frame, 12)[0] != IPV4 or frame[ETHERNET_BYTES + 9] != ESP:
        return None
    length = struct.unpack_from("!H", frame, ETHERNET_BYTES + 2)[0]
    return frame[ETHERNET_BYTES : ETHERNET_BYTES + length]


def unmatched(sent: Iterable[EspPacket], came_out: Sequence[EspPacket]) -> list[tuple[int, int]]:
    """Return SPI and sequence number of the packets that came out of the router nowhere."""
    out = {(packet.spi_and_sequence, packet.unchanged_part) for packet in came_out}
    return [packet.spi_and_sequence for packet in sent if (packet.spi_and_sequence, packet.unchanged_part) not in out]
