"""Later fragments, counted with the flow of their first one. What they carry is never looked at."""

from collections import OrderedDict
from typing import Final, NamedTuple

from throughway.detect.flows import Flow
from throughway.wire.ip import IpFront

_PACKETS_MAX: Final = 1024
"""Fragmented packets remembered at once; the oldest is forgotten first."""


class _PacketId(NamedTuple):
    """What names a packet that was fragmented (RFC 791 section 3.2, RFC 8200 section 4.5)."""

    source: bytes
    destination: bytes
    protocol: int
    identification: int


class Fragments:
    """Which flow a fragmented packet belongs to, and what came of it before that was known."""

    def __init__(self) -> None:
        self._flows: OrderedDict[_PacketId, Flow] = OrderedDict()
        self._early: OrderedDict[_PacketId, tuple[int, int]] = OrderedDict()

    def first(self, front: IpFront, flow: Flow) -> None:
        """Remember the flow of a first fragment, and count what of its packet was early."""
        packet = _name(front)
        packets, size = self._early.pop(packet, (0, 0))
        flow.packets += packets
        flow.bytes += size
        self._flows[packet] = flow
        _shorten(self._flows)

    def later(self, front: IpFront, size_bytes: int) -> Flow | None:
        """Count a later fragment; the flow, if it is known yet."""
        packet = _name(front)
        flow = self._flows.get(packet)
        if flow is None:
            packets, size = self._early.get(packet, (0, 0))
            self._early[packet] = (packets + 1, size + size_bytes)
            _shorten(self._early)
            return None
        flow.packets += 1
        flow.bytes += size_bytes
        return flow


def _name(front: IpFront) -> _PacketId:
    return _PacketId(front.source, front.destination, front.protocol, front.fragment_id or 0)


def _shorten(table: OrderedDict[_PacketId, Flow] | OrderedDict[_PacketId, tuple[int, int]]) -> None:
    if len(table) > _PACKETS_MAX:
        table.popitem(last=False)
