"""What bpf/heads.h does, said once more in Python: the packets of flows in, the heads that are copied out.

It is the reference that the programs are compared with, and lets detection be tried on captures without a kernel.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from throughway.core.ids import Host, IpProtocol, Peer
from throughway.dataplane import head_abi
from throughway.dataplane.head_abi import HEAD, HEAD_PACKETS_MAX, HEAD_STREAM_MAX, HeadState
from throughway.detect.answers import Datagram
from throughway.detect.prefilters import Prefilters
from throughway.sessions.facts import FlowName
from throughway.wire import ip, tcp

TO_INSIDE, TO_PEER = 0, 1
_UDP_SIZE: Final = 8


class Seen(NamedTuple):
    """One packet as it passes an inside interface."""

    at: float
    data: bytes
    direction: int


@dataclass(slots=True)
class _State:
    initiator: int
    begins_at: dict[int, int] = field(default_factory=dict)
    state: HeadState = HeadState.WATCHED
    seen: list[int] = field(default_factory=lambda: [0, 0])


class Front(NamedTuple):
    """What a packet's headers say. `size` is the payload's on the wire, `payload` what is here of it."""

    name: FlowName
    size: int
    payload: bytes
    sequence: int
    flags: int


def front_of(seen: Seen) -> Front | None:
    """Read a packet of TCP or UDP that is no later fragment."""
    found = ip.front(seen.data)
    if found is None or len(found.source) != 4 or found.fragment_offset:
        return None
    at = found.payload_at
    if found.protocol == IpProtocol.UDP and found.end >= at + _UDP_SIZE:
        ports = int.from_bytes(seen.data[at : at + 2], "big"), int.from_bytes(seen.data[at + 2 : at + 4], "big")
        size = int.from_bytes(seen.data[at + 4 : at + 6], "big") - _UDP_SIZE
        payload, sequence, flags = seen.data[at + _UDP_SIZE : min(found.end, at + _UDP_SIZE + max(size, 0))], 0, 0
    elif found.protocol == IpProtocol.TCP and (segment := tcp.front(seen.data[: found.end], at)):
        ports, sequence, flags = (segment.source_port, segment.destination_port), segment.sequence, segment.flags
        payload = seen.data[segment.payload_at : found.end]
        size = max(at + found.size - segment.payload_at, 0)
    else:
        return None
    ends = found.source, found.destination
    if seen.direction == TO_INSIDE:
        ends, ports = ends[::-1], ports[::-1]
    device, peer = (IPv4Address(end) for end in ends)
    return Front(FlowName(Host(device), Peer(peer), found.protocol, *ports), size, payload, sequence, flags)


class Kernel:
    """The state machine of head_keys.h, without bounds on how many flows there are and without budgets.

    It stands in for `Heads` where there is no kernel.
    """

    def __init__(self) -> None:
        self._prefilters = Prefilters()
        self._flows: dict[FlowName, _State] = {}
        self._tls: dict[tuple[object, ...], int] = {}
        self._ring: list[bytes] = []
        self.finished: set[FlowName] = set()

    def use(self, prefilters: Prefilters) -> None:
        self._prefilters = prefilters
        for name, state in list(self._flows.items()):
            if name.protocol == IpProtocol.TCP:
                state.state = HeadState.DONE
            else:
                del self._flows[name]

    def fileno(self) -> int:
        raise NotImplementedError

    def read(self, limit: int) -> list[bytes]:
        taken, self._ring = self._ring[:limit], self._ring[limit:]
        return taken

    def finish(self, keys: Iterable[bytes]) -> None:
        for name in map(head_abi.unpack_flow_name, keys):
            self.finished.add(name)
            if name in self._flows:
                self._flows[name].state = HeadState.DONE

    def forget(self, key: bytes) -> None:
        self._flows.pop(head_abi.unpack_flow_name(key), None)

    def passes(self, seen: Seen) -> bool:
        """Let a packet pass, and say whether its head was copied."""
        record = self.look(seen)
        if record is not None:
            self._ring.append(record)
        return record is not None

    def look(self, seen: Seen) -> bytes | None:
        """Return what is copied of a packet."""
        if not self._prefilters.all:
            return None
        front = front_of(seen)
        if front is None:
            return None
        state = self._flows.get(front.name)
        if front.name.protocol == IpProtocol.UDP:
            if front.size <= 0:
                return None
            state = self._flows.setdefault(front.name, _State(seen.direction, {TO_INSIDE: 0, TO_PEER: 0}))
            return self._take(state, front, seen, 0)
        if front.flags & tcp.SYN:
            begins_at = front.sequence + 1 & 0xFFFFFFFF
            if not front.flags & tcp.ACK:
                self._flows[front.name] = _State(seen.direction, {seen.direction: begins_at})
            elif state is not None and state.state is not HeadState.DONE:
                state.begins_at[seen.direction] = begins_at
            return None
        if state is None or front.size <= 0 or seen.direction not in state.begins_at:
            return None
        stream_at = front.sequence - state.begins_at[seen.direction] & 0xFFFFFFFF
        if stream_at >= (1 if state.state is HeadState.WATCHED else HEAD_STREAM_MAX):
            return None
        return self._take(state, front, seen, stream_at)

    def _take(self, state: _State, front: Front, seen: Seen, stream_at: int) -> bytes | None:
        if state.state is HeadState.DONE:
            return None
        if state.seen[seen.direction] >= HEAD_PACKETS_MAX:
            if min(state.seen) >= HEAD_PACKETS_MAX:
                state.state = HeadState.DONE
            return None
        state.seen[seen.direction] += 1
        payload = front.payload[: self._prefilters.payload_bytes]
        if not payload:
            return None
        tls_port = self._tls_port(state, front, stream_at)
        is_first = state.state is HeadState.WATCHED
        if is_first and not self._prefilters.fits(front.name.protocol, _datagram(state, front, seen, payload)):
            return None
        state.state = HeadState.BEGUN
        return (
            HEAD.pack(
                head_abi.pack_flow_name(front.name),
                int(seen.at * 1e9),
                stream_at,
                front.size,
                len(payload),
                seen.direction,
                state.initiator,
                is_first,
                min(state.seen) >= HEAD_PACKETS_MAX,
                tls_port.to_bytes(2, "big"),
                0,
            )
            + payload
        )

    def _tls_port(self, state: _State, front: Front, stream_at: int) -> int:
        name = front.name
        own, other = name.source, name.destination
        if state.initiator == TO_INSIDE:
            own, other = other, own
        key = name.device, name.peer, other, state.initiator
        if name.protocol == IpProtocol.UDP:
            return self._tls.get(key, 0)
        data = front.payload
        if not stream_at and len(data) >= 3 and data[:2] == b"\x16\x03" and data[2] <= 3:
            self._tls[key] = own
        return 0


def _datagram(state: _State, front: Front, seen: Seen, payload: bytes) -> Datagram:
    ports = front.name.source, front.name.destination
    if seen.direction == TO_INSIDE:
        ports = ports[::-1]
    return Datagram(seen.at, payload, front.size, seen.direction == state.initiator, *ports)
