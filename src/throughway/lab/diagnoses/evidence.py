"""The packets that a diagnosis needs as evidence, and when the last of them passed."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from throughway.lab.captured import read
from throughway.wire import ipv4

_WITH_PORTS = frozenset({6, 17})


@dataclass(frozen=True, slots=True)
class Evidence:
    """So many packets of a device, of an IP protocol, to a port where one is said, and of a size at least.

    Those `in_vain` are counted from the last answer on.
    """

    packets: int
    protocol: int
    port: int = 0
    size_bytes: int = 0
    in_vain: bool = False

    @property
    def words(self) -> str:
        """Name the last of them."""
        of = f"to port {self.port}" if self.port else f"of protocol {self.protocol}"
        return f"packet {self.packets} {of}"

    def complete_at(self, capture: Path, device: IPv4Address, since_s: float) -> float | None:
        """Return when the last of them passed, after a moment of the wall clock; None while some are missing."""
        times: list[float] = []
        for captured in read(capture):
            if captured.at_s >= since_s and self._is_one(captured.packet, device):
                times.append(captured.at_s)
            elif self.in_vain and self._is_answer(captured.packet, device):
                times.clear()
        return times[self.packets - 1] if len(times) >= self.packets else None

    def _is_one(self, packet: bytes, device: IPv4Address) -> bool:
        parsed = ipv4.parse(packet)
        if parsed is None or parsed.source != device:
            return False
        return self._is_of_flow(parsed, slice(2, 4)) and parsed.total_size >= self.size_bytes

    def _is_answer(self, packet: bytes, device: IPv4Address) -> bool:
        parsed = ipv4.parse(packet)
        return parsed is not None and parsed.destination == device and self._is_of_flow(parsed, slice(0, 2))

    def _is_of_flow(self, parsed: ipv4.Ipv4Packet, peers_port: slice) -> bool:
        if parsed.protocol != self.protocol or parsed.fragment_offset:
            return False
        port = int.from_bytes(parsed.payload[peers_port], "big") if self.protocol in _WITH_PORTS else 0
        return not self.port or port == self.port
