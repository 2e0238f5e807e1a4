"""What tcpdump has captured on a side of the router."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PCAP_HEADER_BYTES: Final = 24

_RECORD: Final = struct.Struct("=IIII")
_ETHERNET_BYTES: Final = 14
_IPV4: Final = b"\x08\x00"


@dataclass(frozen=True, slots=True)
class Captured:
    """An IPv4 packet of a capture, as much of it as was kept, and when it came, in seconds of the wall clock."""

    at_s: float
    packet: bytes


def read(capture: Path) -> Iterator[Captured]:
    """Read the IPv4 packets of a capture of an Ethernet interface, in tcpdump's own format and byte order.

    What tcpdump has not finished to write is left out.
    """
    written = capture.read_bytes() if capture.exists() else b""
    at = PCAP_HEADER_BYTES
    while at + _RECORD.size <= len(written):
        seconds, microseconds, kept, _ = _RECORD.unpack_from(written, at)
        begin, at = at + _RECORD.size, at + _RECORD.size + kept
        if at <= len(written) and written[begin + 12 : begin + 14] == _IPV4:
            yield Captured(seconds + microseconds / 1e6, written[begin + _ETHERNET_BYTES : at])
