"""Have connection tracking forget the flows whose translation is wrong, so that their next packet begins anew.

Translation is decided by the first packet of a flow, and a flow that retransmits keeps what was decided for
ever. Wrong is an address that is not ours any more. The kernel sees to that for masquerade when an
address is taken from an interface, but not when another address takes its place as the first one, or
when the operator translates in another way. And wrong is none at all, of flows from before our rules, and
another port where hosts keep theirs from now on.
"""

import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from errno import ENOENT
from ipaddress import IPv4Address
from itertools import islice
from typing import Final

from throughway.core.errors import KernelRefused
from throughway.core.ids import IpProtocol, UdpPort
from throughway.dataplane import ctnetlink as nl
from throughway.dataplane.ctnetlink import attribute, attributes
from throughway.dataplane.routes import Routes

BATCH: Final = 64
"""Flows that are deleted before the kernel's answers are read; so many answers find room in a socket."""


def flush_of(address: IPv4Address) -> int:
    """Delete all flows that are translated to or from the address; return how many there were.

    What hosts began has the address as the destination of its answers; port forwardings and the calls of
    PPTP have it as the destination of their first packet. Flows of the router's own are not translated
    and stay. One pass over the table for each of the two, filtered in the kernel, with one batch in
    memory at a time: some microseconds for each flow, but not for the event loop's thread. Raises
    KernelRefused; flows deleted until then are gone.
    """
    with nl.open_socket() as kernel:
        return sum(
            _delete(kernel, batch)
            for direction, flags, translated in (
                (nl.TUPLE_REPLY, nl.FILTER_REPLY_FLAGS, nl.IS_SOURCE_NAT),
                (nl.TUPLE_ORIGINAL, nl.FILTER_ORIGINAL_FLAGS, nl.IS_DESTINATION_NAT),
            )
            for batch in _batches(_names(_to(address), direction, flags, nl.FILTER_BY_DESTINATION, translated))
        )


def flush_untranslated(insides: Collection[int], outside: int) -> int:
    """Delete all flows that nobody translates and that hosts began through the outside; return how many there were.

    Which way a flow goes is asked of the kernel's routes; interfaces are given by their index. One pass over the table:
    not for the event loop's thread. Raises KernelRefused, and OSError where the routes do not answer.
    """
    with nl.open_socket() as kernel, Routes() as routes:

        def begun_inside(found: Mapping[int, memoryview]) -> bool:
            if int.from_bytes(found.get(nl.STATUS, b""), "big") & (nl.IS_SOURCE_NAT | nl.IS_DESTINATION_NAT):
                return False
            source, destination = _addresses(found[nl.TUPLE_ORIGINAL])
            return routes.interface_to(destination) == outside and routes.interface_to(source) in insides

        found = (attributes(flow) for flow in nl.dump(b""))
        names = (_name(one) for one in found if nl.TUPLE_ORIGINAL in one and begun_inside(one))
        return sum(_delete(kernel, batch) for batch in _batches(names))


def _addresses(original: memoryview) -> tuple[IPv4Address, IPv4Address]:
    """Read where the first packet came from, and where it went to."""
    addresses = attributes(attributes(original)[nl.TUPLE_IP])
    return IPv4Address(bytes(addresses[nl.IP_SOURCE])), IPv4Address(bytes(addresses[nl.IP_DESTINATION]))


def flush_port(peer: IPv4Address, port: UdpPort) -> int:
    """Delete all flows that hosts began from this UDP port to the same one of the peer, and that were translated;
    return how many there were.

    It costs as `flush_of` does, and raises the same.
    """
    numbers = attribute(nl.PROTOCOL_NUMBER, bytes([IpProtocol.UDP]))
    numbers += attribute(nl.PROTOCOL_SOURCE, port.to_bytes(2, "big"))
    numbers += attribute(nl.PROTOCOL_DESTINATION, port.to_bytes(2, "big"))
    wanted = _to(peer) + attribute(nl.TUPLE_PROTOCOL | nl.NESTED, numbers)
    by = nl.FILTER_BY_DESTINATION | nl.FILTER_BY_PROTOCOL | nl.FILTER_BY_SOURCE_PORT | nl.FILTER_BY_DESTINATION_PORT
    with nl.open_socket() as kernel:
        names = _names(wanted, nl.TUPLE_ORIGINAL, nl.FILTER_ORIGINAL_FLAGS, by, nl.IS_SOURCE_NAT)
        return sum(_delete(kernel, batch) for batch in _batches(names))


def forget(flows: Iterable[tuple[IPv4Address, IPv4Address, int, int, int]]) -> int:
    """Delete flows that hosts began, by device, peer, protocol and both ports; return how many there were.

    Each is named, so that nothing is searched: some ten microseconds for each. Raises KernelRefused.
    """
    with nl.open_socket() as kernel:
        return sum(_delete(kernel, batch) for batch in _batches(_began(*flow) for flow in flows))


def _began(device: IPv4Address, peer: IPv4Address, protocol: int, source: int, destination: int) -> bytes:
    """Name a flow by its first packet."""
    addresses = attribute(nl.IP_SOURCE, device.packed) + attribute(nl.IP_DESTINATION, peer.packed)
    numbers = attribute(nl.PROTOCOL_NUMBER, bytes([protocol]))
    numbers += attribute(nl.PROTOCOL_SOURCE, source.to_bytes(2, "big"))
    numbers += attribute(nl.PROTOCOL_DESTINATION, destination.to_bytes(2, "big"))
    parts = attribute(nl.TUPLE_IP | nl.NESTED, addresses) + attribute(nl.TUPLE_PROTOCOL | nl.NESTED, numbers)
    return attribute(nl.TUPLE_ORIGINAL | nl.NESTED, parts)


def _to(address: IPv4Address) -> bytes:
    return attribute(nl.TUPLE_IP | nl.NESTED, attribute(nl.IP_DESTINATION, address.packed))


def _names(wanted: bytes, direction: int, flags: int, by: int, translated: int) -> Iterator[bytes]:
    """Name each flow that has what is wanted in one direction, as the kernel wants to have it named."""
    filtered = attribute(nl.FILTER | nl.NESTED, attribute(flags, struct.pack("=I", by)))
    for flow in nl.dump(attribute(direction | nl.NESTED, wanted) + filtered):
        found = attributes(flow)
        # Deleting what has no tuple would delete everything.
        if nl.TUPLE_ORIGINAL in found and int.from_bytes(found.get(nl.STATUS, b""), "big") & translated:
            yield _name(found)


def _name(found: Mapping[int, memoryview]) -> bytes:
    """Name a flow for deleting. The ID keeps us from deleting another flow that has taken the name meanwhile."""
    return attribute(nl.TUPLE_ORIGINAL | nl.NESTED, found[nl.TUPLE_ORIGINAL]) + b"".join(
        attribute(kind, found[kind]) for kind in (nl.ID, nl.ZONE) if kind in found
    )


def _batches(names: Iterator[bytes]) -> Iterator[Sequence[bytes]]:
    while batch := tuple(islice(names, BATCH)):
        yield batch


def _delete(kernel: socket.socket, names: Sequence[bytes]) -> int:
    """Delete flows, and return how many were still there."""
    kernel.send(b"".join(nl.message(nl.CONNTRACK_DELETE, nl.REQUEST_ANSWERED, name) for name in names))
    numbers: list[int] = []
    while len(numbers) < len(names):
        numbers += [nl.error_number(content) for _, content in nl.received(kernel, "conntrack delete")]
    for number in numbers:
        if number not in (0, ENOENT):
            raise KernelRefused("conntrack delete", number, os.strerror(number), "It needs CAP_NET_ADMIN")
    return numbers.count(0)
