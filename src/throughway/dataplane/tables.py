"""The maps of the BPF programs, by what they mean."""

import errno
import os
import struct
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final

from throughway.core.errors import InvariantBroken, KernelRefused
from throughway.core.events import FlowCount, FlowTrace
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import ROUTER, Host, Peer, UdpPort
from throughway.core.ports import InstalledFlow
from throughway.core.reasons import Reason
from throughway.dataplane import abi
from throughway.dataplane.config import ConfigRecord
from throughway.dataplane.libbpf import test_run
from throughway.dataplane.libbpf_maps import BpfMap
from throughway.dataplane.records import FragmentName, FragmentRecord, pack_trace, unpack_trace

_NS: Final = 1_000_000_000
_LAST_NS_AT: Final = abi.LAYOUTS["mapping"].offset_of("last_ns")
_MAPPING: Final = abi.LAYOUTS["mapping"].format
_FAN_OUT: Final = int(abi.MappingFlag.FAN_OUT)
"""What is read of a million mappings is read without a value in between."""

_LOOKED_AT_MAX: Final = 250
"""Mappings that are read at a time: about 3 ms if all of them were used."""

_TRACES_AT_ONCE: Final = 64
"""Traces that are read at a time. They are large and mostly none, and are asked for twice a second."""

_FIRST: Final = struct.pack("=I", 0)


class Tables:
    """Reads and writes the maps; what has counters or locks only through the program `control`."""

    def __init__(self, maps: Mapping[str, BpfMap], control: int) -> None:
        self._control = control
        self._config = maps["config"]
        self._mappings = maps["mappings"]
        self._fan_outs = maps["fan_outs"]
        self._traces = maps["traces"]
        self._pending = maps["pending"]
        self._senders = maps["senders"]
        self._fragments = maps["fragments"]
        self._reasons = maps["reasons"]
        self._kept_ports = maps["kept_ports"]

    def outside_addresses(self) -> tuple[IPv4Address | None, ...]:
        """Read the addresses that are translated to, by slot."""
        value = self._config.lookup(_FIRST)
        if value is None:
            return ()
        _, count, packed, *_ = abi.LAYOUTS["config"].format.unpack(value)
        each = (packed[4 * slot : 4 * slot + 4] for slot in range(min(count, abi.SLOTS_MAX)))
        return tuple(IPv4Address(address) if any(address) else None for address in each)

    def configure(self, config: ConfigRecord) -> None:
        """Write what the programs go by."""
        self._config.update(_FIRST, config.pack())

    def keep_ports(self, peer: Peer, ports: Collection[UdpPort]) -> None:
        """Have hosts keep these UDP ports with the peer, and no others that were learned."""
        if ports:
            self._kept_ports.update(peer.packed, struct.pack("=I", abi.kept_flags(ports)))
        else:
            self._kept_ports.delete(peer.packed)

    def keep_with_every_peer(self, flags: abi.KeptFlag) -> None:
        """Have hosts keep these ports with every peer, besides those that the tables of an earlier run have."""
        if (value := self._config.lookup(_FIRST)) is not None:
            written, at = bytearray(value), abi.LAYOUTS["config"].offset_of("ports_kept")
            (present,) = struct.unpack_from("=I", written, at)
            struct.pack_into("=I", written, at, present | flags)
            self._config.update(_FIRST, bytes(written))

    def peers_with_kept_ports(self) -> list[Peer]:
        """Read with which peers hosts keep ports, in no order."""
        return [Peer(IPv4Address(packed)) for packed, _ in self._kept_ports.items()]

    def decide(self, key: FlowKey, hosts: Sequence[Host], slot: int) -> None:
        """Give the flow to these hosts. Its counters stay; what is held drains first."""
        self._ask(abi.ControlRequest(op=abi.ControlOp.DECIDE, key=key, hosts=tuple(hosts), slot=slot), "mapping")

    def refuse(self, key: FlowKey, until_ns: int) -> None:
        """Drop the flow's packets until this time of CLOCK_MONOTONIC."""
        self._ask(abi.ControlRequest(op=abi.ControlOp.REFUSE, key=key, until_ns=until_ns), "refusal")

    def open_if(self, key: FlowKey, handed_over: int) -> bool:
        """Open a draining flow if exactly so many of its packets were handed over; tell whether it is open."""
        request = abi.ControlRequest(op=abi.ControlOp.WATCHDOG, key=key, expected=handed_over)
        # ENOENT: nothing is pending, which is as open as can be. EAGAIN: more was handed over meanwhile.
        return test_run(self._control, request.pack()).verdict in (0, errno.ENOENT)

    def unpassed(self, key: FlowKey) -> tuple[int, int] | None:
        """Tell (handed over, not seen since) in packets of a flow that is being drained; None of all others."""
        pending = self.pending(key)
        if pending is None or pending.state is not abi.PendingState.DRAINING:
            return None
        return pending.punted, pending.punted - pending.reinjected

    def pending(self, key: FlowKey) -> abi.PendingRecord | None:
        """Read what the kernel knows of an undecided flow."""
        value = self._pending.lookup(abi.pack_key(key))
        return abi.PendingRecord.unpack(value) if value is not None else None

    def all_pending(self) -> Iterator[tuple[FlowKey, abi.PendingRecord]]:
        """Read all undecided flows, in no order."""
        for key, value in self._pending.items():
            yield abi.unpack_key(key), abi.PendingRecord.unpack(value)

    def forget_pending(self, key: FlowKey) -> None:
        """Forget that the flow was undecided. Unknown keys are no error."""
        self._ask(abi.ControlRequest(op=abi.ControlOp.FORGET, key=key), "undecided flow")

    def has_first_fragment(self, name: FragmentName) -> bool:
        """Tell whether the kernel knows where the later fragments of this packet go."""
        value = self._fragments.lookup(name.pack())
        if value is None:
            return False
        first = FragmentRecord.unpack(value)
        return first.state is not abi.FragmentState.AWAITED and first.until_ns > time.monotonic_ns()

    def is_installed(self, key: FlowKey) -> bool:
        """Tell whether the flow was given to somebody."""
        return self._mappings.lookup(abi.pack_key(key)) is not None

    def remove(self, key: FlowKey) -> None:
        """Forget all of the flow. Unknown keys are no error.

        Its pending entry goes first: while the mapping is active nothing looks for one, and the packet after the
        removal of the mapping makes a fresh one.
        """
        packed = abi.pack_key(key)
        mapping = self._mappings.lookup(packed)
        self.forget_pending(key)
        self._mappings.delete(packed)
        self._fan_outs.delete(packed)
        self._traces.delete(packed)
        if key.direction is Direction.TO_PEER and key.host != ROUTER and mapping is not None:
            sender = abi.pack_sender_key(key, abi.MappingRecord.unpack(mapping).slot)
            # Two hosts may have chosen the same number towards one peer; the entry names the later one.
            if self._senders.lookup(sender) == key.host.packed:
                self._senders.delete(sender)

    def flows(self) -> Iterator[InstalledFlow]:
        """Read all mappings with their counters, in batches, in no order."""
        for packed, value in self._mappings.items():
            yield from self._flow(packed, value)

    def used_flows(self, since: float) -> Iterator[tuple[InstalledFlow, ...]]:
        """Read the mappings that a packet has used since this monotonic time, a few hundred looked at for each tuple.

        The others are left out before anything is made of them: of a million idle ones nothing else is affordable.
        """
        for batch in self._mappings.batches_where(_LAST_NS_AT, int(since * _NS), _LOOKED_AT_MAX):
            yield tuple(flow for packed, value in batch for flow in self._flow(packed, value))

    def _flow(self, packed: bytes, value: bytes) -> Iterator[InstalledFlow]:
        """Make a flow of an entry; none if its fan-out was removed while the batch was read."""
        host, flags, packets, octets, last_ns, created_ns, slot, _ = _MAPPING.unpack(value)
        key = abi.unpack_key(packed)
        hosts: tuple[Host, ...] = (Host(abi.address_of(host)),)
        if flags & _FAN_OUT:
            fan_out = self._fan_outs.lookup(packed)
            if fan_out is None:
                return
            hosts = abi.unpack_fan_out(fan_out)
        yield InstalledFlow(hosts, FlowCount(key, packets, octets, last_ns / _NS), created_ns / _NS, slot)

    def trace(self, key: FlowKey) -> None:
        """Note when packets of the flow come. One that is not installed is not traced."""
        packed = abi.pack_key(key)
        if self._traces.lookup(packed) is not None:
            return
        self._traces.update(packed, pack_trace())
        if test_run(self._control, abi.ControlRequest(op=abi.ControlOp.TRACE, key=key).pack()).verdict:
            self._traces.delete(packed)

    def untrace(self, key: FlowKey) -> None:
        """Note the times of the flow's packets no more. Unknown keys are no error."""
        test_run(self._control, abi.ControlRequest(op=abi.ControlOp.UNTRACE, key=key).pack())
        self._traces.delete(abi.pack_key(key))

    def traces(self) -> Iterator[FlowTrace]:
        """Read the times of all traced flows, in no order."""
        for packed, value in self._traces.items(_TRACES_AT_ONCE):
            # Two processors may have noted at once, out of order by a hair.
            times = sorted(at / _NS for at in unpack_trace(value))
            yield FlowTrace(abi.unpack_key(packed), tuple(times))

    def forget_traces(self) -> None:
        """Forget what an earlier run traced: whoever wants it now will ask."""
        for packed, _ in list(self._traces.items()):
            self.untrace(abi.unpack_key(packed))

    def reasons(self) -> dict[Reason, int]:
        """Sum up the packets by reason over all processors."""
        totals: dict[Reason, int] = {}
        for reason in Reason:
            value = self._reasons.lookup(struct.pack("=I", reason)) or b""
            totals[reason] = sum(struct.unpack(f"={len(value) // 8}Q", value))
        return totals

    def _ask(self, request: abi.ControlRequest, what: str) -> None:
        number = test_run(self._control, request.pack()).verdict
        if number == errno.EINVAL:
            raise InvariantBroken(f"the program `control` does not understand {request}")
        if number:
            remedy = (
                "The table is full; raise the limit or wait for idle mappings to go" if number == errno.E2BIG else ""
            )
            raise KernelRefused(f"{what} for {request.key}", number, os.strerror(number), remedy)
