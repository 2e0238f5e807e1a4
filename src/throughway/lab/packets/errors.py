"""ICMP errors about tunnels: each type, both ways, about each protocol without ports."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from throughway.lab.checked import Check
from throughway.lab.gateway import GatewayKind
from throughway.lab.namespace import command
from throughway.lab.packets import builder
from throughway.lab.packets.builder import Packet, filler
from throughway.lab.packets.crossing import ESP, GRE, HOPS, ICMP, L2TPV3, Crossing, crossing, found
from throughway.lab.packets.portless import WITHOUT_NAMES, cross, opening
from throughway.lab.packets.stations import Station, arrives
from throughway.lab.progress import Progress
from throughway.lab.testbed import Testbed

ROUTER_ON_THE_WAY: Final = IPv4Address("203.0.113.7")
"""Who tells the devices of trouble with their packets: not the peer, but a router that stands before it."""

QUOTED_MIN: Final = 8
"""Bytes that are quoted behind the header at least (RFC 792)."""

AT_ONCE: Final = 64
ABSENT_LIMIT_S: Final = 0.5
UNSEEN_SPI: Final = 0x7777

PCAP_HEADER: Final = struct.Struct("=IHHiIII")
PCAP_RECORD: Final = struct.Struct("=IIII")
PCAP_MAGIC: Final = 0xA1B2C3D4
LINKTYPE_RAW: Final = 101
PROGRAMS: Final = ("tshark",)


@dataclass(frozen=True, slots=True)
class Error:
    """One kind of ICMP error; `rest` are the 32 bits behind the checksum, where an MTU or a pointer is."""

    kind: int
    code: int
    rest: int = 0
    disowns: bool = False
    """Whether it says that nobody there takes such packets."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A packet to send, and how it must be seen at an end."""

    end: Station
    sent: Packet
    expected: Packet


ERRORS: Final = (
    Error(3, 0),
    Error(3, 1),
    Error(3, 4, rest=1300),
    Error(3, 13),
    Error(4, 0),
    Error(11, 0),
    Error(11, 1),
    Error(12, 0, rest=0x09000000),
    Error(3, 2, disowns=True),
    Error(3, 3, disowns=True),
)
"""Each type that quotes a packet, but for redirects: no router passes those on (RFC 1812 section 5.3.1)."""


Tunnels = Mapping[Station, Mapping[int, tuple[bytes, bytes]]]
"""For each host, by protocol, the payloads of a packet to the peer and of one to the host."""


def icmp(bed: Testbed, kind: GatewayKind, progress: Progress) -> Iterator[Check]:
    """Routers and hosts on both sides complain about packets of tunnels, and whoever sent those packets is told."""
    progress.step(f"starting {kind}")
    with crossing(bed, kind, 2) as scene:
        way = bed.topology.peer("way", ROUTER_ON_THE_WAY)
        with Station(way, ROUTER_ON_THE_WAY) as reporter:
            progress.step("opening tunnels")
            tunnels = _tunnels(scene)
            yield from _open(scene, tunnels)
            # What leaves the gateway is all that the two sides see of ICMP.
            seen: list[Packet] = []
            for one in ERRORS:
                progress.step(f"sending ICMP type {one.kind} code {one.code}")
                yield _come_in(scene, reporter, tunnels, one)
                yield _go_out(scene, tunnels, one)
                seen += _taken(scene)
            yield from _unknown(scene, reporter)
            progress.step("asking tshark")
            seen += _taken(scene)
            unreadable = sum(len(end.unreadable) for end in scene.stations)
            yield Check("no packet came with a wrong header checksum", unreadable == 0, f"{unreadable} packets")
            yield _second_opinion(seen, bed.folder / "icmp.pcap")


def _taken(scene: Crossing) -> list[Packet]:
    """Take what the stations have received of ICMP away from them."""
    taken = [packet for end in scene.stations for packet in end.of_protocol(ICMP)]
    for end in scene.stations:
        end.received.clear()
    return taken


def _tunnels(scene: Crossing) -> Tunnels:
    """Name the tunnels: the first host has one of each protocol, the second of those that can have several."""
    first, second = scene.hosts
    tunnels = {
        first: {number: (opening(number, 1), opening(number, 1)) for number in WITHOUT_NAMES},
        second: {GRE: (builder.gre(2, filler(64, 2)), builder.gre(2, filler(64, 2)))},
    }
    for number, host in enumerate(scene.hosts, 1):
        tunnels[host] |= {
            ESP: (builder.esp(0x1000 + number, 1, filler(64, 3)), builder.esp(0x2000 + number, 1, filler(64, 4))),
            L2TPV3: (builder.l2tpv3(0x3000 + number, filler(64, 5)), builder.l2tpv3(0x4000 + number, filler(64, 6))),
        }
    return tunnels


def _open(scene: Crossing, tunnels: Tunnels) -> Iterator[Check]:
    """Let packets pass in all tunnels, both ways for one host before the next: so it is certain whose they are."""
    for number, (host, own) in enumerate(tunnels.items(), 1):
        yield Check(f"IKE of {host.address} passes", scene.negotiate(host, 0xA0 + number))
        passed = len(cross(scene, host, own))
        yield Check(f"tunnels of {host.address} carry packets both ways", passed == len(own), found(passed, len(own)))


def _come_in(scene: Crossing, reporter: Station, tunnels: Tunnels, error: Error) -> Check:
    """Complain from outside about a packet of each tunnel as it was there, and see whether its sender is told."""
    wanted: list[Wanted] = []
    for host, own in tunnels.items():
        for protocol, (out, _) in own.items():
            sent = scene.to_peer(host, protocol, out)
            there = scene.at_peer(sent)
            told = Packet(reporter.address, scene.shared, ICMP, _about(error, there), sent.identification)
            as_sent = _about(error, sent.after(HOPS))
            wanted.append(Wanted(host, told, told.after(HOPS, destination=host.address).carrying(as_sent)))
    came = _all_come(scene, reporter, wanted)
    return _counted(f"type {error.kind} code {error.code} from outside", came, wanted)


def _go_out(scene: Crossing, tunnels: Tunnels, error: Error) -> Check:
    """Complain from each host about a packet that came to it, and see whether the peer is told, of our address alone.

    A host that disowns ESP is heard and not passed on as long as several may own it, so that is left out here.
    """
    wanted: list[Wanted] = []
    for host, own in tunnels.items():
        for protocol, (_, back) in own.items():
            if error.disowns and protocol == ESP:
                continue
            sent = scene.to_inside(protocol, back)
            here = scene.at_host(sent, host)
            told = Packet(host.address, scene.peer.address, ICMP, _about(error, here), sent.identification)
            as_sent = _about(error, sent.after(HOPS))
            wanted.append(Wanted(scene.peer, told, told.after(HOPS, source=scene.shared).carrying(as_sent)))
    came = sum(_all_come(scene, host, [one for one in wanted if one.sent.source == host.address]) for host in tunnels)
    return _counted(f"type {error.kind} code {error.code} from inside", came, wanted)


def _about(error: Error, packet: Packet) -> bytes:
    """Write an error about a packet. Some routers quote as little as they may, others all of it."""
    quoted = packet.to_bytes()
    if packet.identification % 2:
        quoted = quoted[: len(quoted) - len(packet.payload) + QUOTED_MIN]
    return builder.icmp(error.kind, error.code, quoted, error.rest)


def _all_come(scene: Crossing, sender: Station, wanted: Sequence[Wanted]) -> int:
    """Send packets, some at a time, and return how many arrived as they should."""
    came = 0
    for at in range(0, len(wanted), AT_ONCE):
        part = wanted[at : at + AT_ONCE]
        sender.send(*(one.sent for one in part))
        scene.waits(partial(_have_come, part))
        came += _count(part)
    return came


def _have_come(part: Sequence[Wanted]) -> bool:
    return _count(part) == len(part)


def _count(part: Sequence[Wanted]) -> int:
    there = {one.end.address: set(one.end.of_protocol(ICMP)) for one in part}
    return sum(one.expected in there[one.end.address] for one in part)


def _unknown(scene: Crossing, reporter: Station) -> Iterator[Check]:
    """Complain about packets that nobody has sent: nothing of it may pass."""
    host = scene.hosts[0]
    before = [len(end.of_protocol(ICMP)) for end in scene.stations]
    unseen = builder.esp(UNSEEN_SPI, 1, filler(64, 8))
    out = scene.at_host(scene.to_inside(ESP, unseen), host)
    back = scene.at_peer(scene.to_peer(host, ESP, unseen))
    host.send(Packet(host.address, scene.peer.address, ICMP, _about(ERRORS[0], out)))
    reporter.send(Packet(reporter.address, scene.shared, ICMP, _about(ERRORS[0], back)))
    arrives(scene.stations, lambda: False, ABSENT_LIMIT_S)
    after = [len(end.of_protocol(ICMP)) for end in scene.stations]
    yield Check("errors about packets that were never sent do not pass", before == after)


def _counted(what: str, came: int, wanted: list[Wanted]) -> Check:
    return Check(what, came == len(wanted), found(came, len(wanted)))


def _second_opinion(packets: list[Packet], file: Path) -> Check:
    """Let tshark judge the checksums of packets: of the outer header, of ICMP, and of the header that is quoted."""
    write_capture(packets, file)
    fields = ("ip.checksum.status", "icmp.checksum.status")
    told = command(
        *("tshark", "-r", str(file), "-o", "ip.check_checksum:TRUE", "-T", "fields"),
        *(word for name in fields for word in ("-e", name)),
        limit_s=60.0,
    )
    good = sum(is_good(line) for line in told.splitlines())
    return Check("tshark finds all checksums right", bool(packets) and good == len(packets), found(good, len(packets)))


def is_good(line: str) -> bool:
    """Read a line of tshark's: 1 stands for a right checksum, 2 for one that it has not looked at."""
    of_headers, _, of_icmp = line.partition("\t")
    return of_headers.split(",") == ["1", "1"] and of_icmp.split(",")[0] == "1"


def write_capture(packets: list[Packet], file: Path) -> None:
    """Write packets to a file for tshark, without a link header."""
    with file.open("wb") as capture:
        capture.write(PCAP_HEADER.pack(PCAP_MAGIC, 2, 4, 0, 0, 65535, LINKTYPE_RAW))
        for packet in packets:
            data = packet.to_bytes()
            capture.write(PCAP_RECORD.pack(0, 0, len(data), len(data)) + data)
