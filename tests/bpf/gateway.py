"""A gateway for tests: the real programs on maps of their own, fed one packet at a time.

ALICE 10.77.0.11 ─┐                                ┌─ PEER      203.0.113.9
BOB   10.77.0.12 ─┼─ inside ── OUTSIDE 192.0.2.1 ──┤
CAROL 10.77.0.13 ─┘                                └─ STRANGER  198.51.100.7, whom nobody spoke to
"""

import struct
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from scapy.layers.inet import IP, IPOption_RR, fragment
from scapy.layers.ipsec import ESP
from scapy.packet import Packet, Raw

from throughway.core import ids
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol, Peer
from throughway.core.reasons import Reason
from throughway.dataplane import abi
from throughway.dataplane.config import ConfigRecord
from throughway.dataplane.libbpf import BpfObject, test_run
from throughway.dataplane.records import FragmentRecord, ObservedRecord, PuntRecord
from throughway.dataplane.ring import Ring

CHECKOUT: Final = Path(__file__).resolve().parents[2]
OBJECT: Final = CHECKOUT / "src/throughway/dataplane/objects/throughway.bpf.o"

OUTSIDE: Final = "192.0.2.1"
NEXT_HOP: Final = "192.0.2.254"
PEER: Final = "203.0.113.9"
STRANGER: Final = "198.51.100.7"
ALICE: Final = "10.77.0.11"
BOB: Final = "10.77.0.12"
CAROL: Final = "10.77.0.13"
ROUTER: Final = "0.0.0.0"  # noqa: S104

MASK: Final = 0x30000000
CARRIED: Final = 0x10000000
REINJECTED: Final = 0x20000000
THEIRS: Final = 0xC0FFEE77 & ~MASK
"""Mark bits that belong to somebody else."""

PASS: Final = 0xFFFFFFFF
DROP: Final = 2
REDIRECT: Final = 7
"""TC_ACT_UNSPEC, TC_ACT_SHOT and TC_ACT_REDIRECT of <linux/pkt_cls.h>."""
TAKEN: Final = REDIRECT
"""To where nothing is: the daemon has the packet, and its sender is told that it was sent."""

ETHERNET: Final = bytes.fromhex("020000000001020000000002")
HOLD_MAX: Final = abi.HELD_PER_FLOW_MAX
NEVER_NS: Final = 1 << 62

SMALL_MAPS: Final = {
    "mappings": 4096,
    "senders": 4096,
    "peers": 1024,
    "hosts": 1024,
    "ike_budgets": 1024,
    "fragment_budgets": 1024,
}
_FILLED: Final = (
    *(*SMALL_MAPS, "fan_outs", "traces", "pending", "fragments", "reports", "kept_ports"),
    *("head_flows", "head_tls", "head_budgets"),
)
"""What is emptied between tests."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a packet. `packet` begins with the IP header and is as it would go on."""

    verdict: int
    packet: bytes
    mark: int


def esp(source: str, destination: str, spi: int = 0x1000, sequence: int = 1, size: int = 64, **ip: Any) -> Packet:
    """Build an ESP packet with that much behind the ESP header."""
    return IP(src=source, dst=destination, **ip) / ESP(spi=spi, seq=sequence, data=bytes(i & 0xFF for i in range(size)))


def gre(
    source: str, destination: str, key: int | None = None, checksum: bool = False, size: int = 64, **ip: Any
) -> Packet:
    """Build a packet of GRE version 0 with IPv4 in it (RFC 2784, RFC 2890); the sequence bit is set with the key."""
    flags = (0x8000 if checksum else 0) | (0 if key is None else 0x3000)
    fields = struct.pack("!I", 0x12340000) if checksum else b""
    fields += b"" if key is None else struct.pack("!II", key, 9)
    return IP(src=source, dst=destination, proto=47, **ip) / Raw(
        struct.pack("!HH", flags, 0x0800) + fields + bytes(size)
    )


def pptp(source: str, destination: str, call_id: int = 5, **ip: Any) -> Packet:
    """Build a packet of GRE version 1 (RFC 2637 section 4.1)."""
    return IP(src=source, dst=destination, proto=47, **ip) / Raw(struct.pack("!HHHH", 0x2001, 0x880B, 0, call_id))


def l2tp(source: str, destination: str, session: int = 7, size: int = 64, **ip: Any) -> Packet:
    """Build a data packet of L2TPv3 over IP (RFC 3931 section 4.1.1.1)."""
    return IP(src=source, dst=destination, proto=115, **ip) / Raw(struct.pack("!I", session) + bytes(size))


def l2tp_control(source: str, destination: str, connection: int = 0, avps: bytes = b"", **ip: Any) -> Packet:
    """Build a control message of L2TPv3 over IP (RFC 3931 section 4.1.1.2)."""
    message = struct.pack("!HHIHH", 0xC803, 12 + len(avps), connection, 0, 0) + avps
    return IP(src=source, dst=destination, proto=115, **ip) / Raw(bytes(4) + message)


def other(source: str, destination: str, protocol: int = 4, size: int = 64, **ip: Any) -> Packet:
    """Build a packet of a protocol that nothing is known of."""
    return IP(src=source, dst=destination, proto=protocol, **ip) / Raw(bytes(size))


def quote(packet: Packet, size: int | None = None) -> Raw:
    """Quote so many bytes of a packet, as an ICMP error does."""
    return Raw(bytes(packet)[:size])


def sum_of_icmp(packet: bytes) -> int:
    """Return the one's complement sum over the ICMP message, which is 0xffff where the checksum is right."""
    message = packet[(packet[0] & 15) * 4 :]
    message += bytes(len(message) % 2)
    total = sum(int.from_bytes(message[at : at + 2]) for at in range(0, len(message), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def record_route(hops: int) -> list[IPOption_RR]:
    """Build the IP options of a packet with room for so many hops (RFC 791 section 3.1)."""
    return [IPOption_RR(routers=[OUTSIDE] * hops)]


def cut(packet: Packet | bytes, size: int = 1000) -> list[IP]:
    """Cut a packet into fragments with at most this much payload."""
    pieces: list[IP] = fragment(IP(bytes(packet)), fragsize=size)  # type: ignore[no-untyped-call]
    return pieces


def readdressed(packet: Packet | bytes, **addresses: str) -> bytes:
    """Return what the packet is with other addresses and the checksum that scapy computes: the oracle."""
    changed = IP(bytes(packet))
    for name, address in addresses.items():
        setattr(changed, name, address)
    del changed.chksum
    return bytes(changed)


def to_inside(spi: int = 0x1000, peer: str = PEER, protocol: int = IpProtocol.ESP, slot: int = 0) -> FlowKey:
    """Name the flow of a packet from the peer to our address in a slot, of ESP unless another protocol is given."""
    return FlowKey.to_inside(protocol, ids.Path(Peer(IPv4Address(peer)), slot), spi)


def to_peer(host: str = ALICE, spi: int = 0x1000, peer: str = PEER, protocol: int = IpProtocol.ESP) -> FlowKey:
    """Name the flow of a packet of the host, of ESP unless another protocol is given."""
    return FlowKey.to_peer(protocol, Host(IPv4Address(host)), Peer(IPv4Address(peer)), spi)


class Gateway:
    """The loaded programs. Counters, maps and rings begin empty; the peer is known unless a test says else.

    Loading takes a quarter of a second, so that all tests share the programs, and each finds the maps as they were.
    """

    def __init__(self, loaded: BpfObject, ifindex: int) -> None:
        self.loaded = loaded
        self.ifindex = ifindex
        for name in _FILLED:
            for key in list(loaded.maps[name].keys()):
                loaded.maps[name].delete(key)
        self._punts = Ring(self.loaded.maps["punts"].fd, self.loaded.maps["punts"].max_entries)
        self._observed = Ring(self.loaded.maps["observed"].fd, self.loaded.maps["observed"].max_entries)
        self._counted: Counter[Reason] = Counter()
        self.counted()
        self.punted()
        self.observed()
        self.configure()
        self.know_peer(PEER)

    def close(self) -> None:
        """Give the rings back. The programs stay loaded."""
        self._punts.close()
        self._observed.close()

    def configure(self, **changes: object) -> None:
        """Write the configuration: the usual one with these changes."""
        usual: dict[str, object] = {
            "addresses": (IPv4Address(OUTSIDE),),
            "outside_ifindex": self.ifindex,
            "link_header_size": 14,
            "mark_mask": MASK,
            "mark_carried": CARRIED,
            "mark_reinjected": REINJECTED,
            "punts_per_peer": 1000,
            "punts_per_host": 1000,
            "ike_per_address": 1000,
            "fragments_per_address": 1000,
            "ports_kept": abi.KeptFlag.NONE,
        }
        record = ConfigRecord(**(usual | changes))  # type: ignore[arg-type]
        self.loaded.maps["config"].update(struct.pack("=I", 0), record.pack())

    def run(
        self, program: str, packet: Packet | bytes, mark: int = 0, link: bytes | None = None, came_by: int = 0
    ) -> Outcome:
        """Run a program on an IP packet behind an Ethernet header, or behind `link` instead.

        `came_by` is the interface that a forwarded packet came in by.
        """
        header = ETHERNET + b"\x08\x00" if link is None else link
        context = struct.pack("=8xI24xII148x", mark, came_by, self.ifindex)
        result = test_run(self.loaded.programs[program], header + bytes(packet), context)
        return Outcome(result.verdict, result.packet[len(header) :], struct.unpack_from("=I", result.context, 8)[0])

    def from_outside(self, packet: Packet | bytes, mark: int = 0, link: bytes | None = None) -> Outcome:
        """Let a packet come in by the outside interface."""
        return self.run("outside_ingress", packet, mark, link)

    def from_inside(self, packet: Packet | bytes, mark: int = 0, link: bytes | None = None) -> Outcome:
        """Let a packet leave by the outside interface."""
        return self.run("outside_egress", packet, mark, link)

    def counted(self) -> dict[Reason, int]:
        """Return what was counted by reason since the last time that this was asked."""
        total: Counter[Reason] = Counter()
        for reason in Reason:
            values = self.loaded.maps["reasons"].lookup(struct.pack("=I", reason))
            assert values is not None
            total[reason] = sum(struct.unpack(f"={len(values) // 8}Q", values))
        news = total - self._counted
        self._counted = total
        return dict(news)

    def punted(self) -> list[PuntRecord]:
        """Take all records out of the ring `punts`."""
        return [PuntRecord.unpack(data) for data in self._punts.read(1 << 16)]

    def observed(self) -> list[ObservedRecord]:
        """Take all records out of the ring `observed`."""
        return [ObservedRecord.unpack(data) for data in self._observed.read(1 << 16)]

    def know_peer(self, peer: str, by_host: bool = True) -> None:
        """Say that a host has spoken to this peer, or the router alone."""
        self.loaded.maps["peers"].update(IPv4Address(peer).packed, struct.pack("=IIQ", 1000, by_host, 0))

    def forget_peer(self, peer: str) -> None:
        """Say that nobody has spoken to this peer."""
        self.loaded.maps["peers"].delete(IPv4Address(peer).packed)

    def fragments(self) -> list[FragmentRecord]:
        """Read all that is known of fragmented packets."""
        return [FragmentRecord.unpack(value) for _, value in self.loaded.maps["fragments"].items()]

    def knows_peer(self, peer: str) -> bool:
        """Tell whether somebody here has spoken to this peer."""
        return self.loaded.maps["peers"].lookup(IPv4Address(peer).packed) is not None

    def control(self, request: abi.ControlRequest) -> int:
        """Ask the program `control`, and return its errno."""
        return test_run(self.loaded.programs["control"], request.pack()).verdict

    def decide(self, key: FlowKey, *hosts: str, slot: int = 0) -> int:
        """Give the flow to these hosts, and have them send from our address in this slot."""
        owners = tuple(Host(IPv4Address(host)) for host in hosts)
        return self.control(abi.ControlRequest(op=abi.ControlOp.DECIDE, key=key, hosts=owners, slot=slot))

    def refuse(self, key: FlowKey, until_ns: int) -> int:
        """Refuse the flow until this time of the monotonic clock."""
        return self.control(abi.ControlRequest(op=abi.ControlOp.REFUSE, key=key, until_ns=until_ns))

    def watchdog(self, key: FlowKey, expected: int) -> int:
        """Say that nothing more of so many held packets will be put back."""
        return self.control(abi.ControlRequest(op=abi.ControlOp.WATCHDOG, key=key, expected=expected))

    def mapping(self, key: FlowKey) -> abi.MappingRecord | None:
        """Read the mapping of the flow."""
        value = self.loaded.maps["mappings"].lookup(abi.pack_key(key))
        return None if value is None else abi.MappingRecord.unpack(value)

    def pending(self, key: FlowKey) -> abi.PendingRecord | None:
        """Read the pending entry of the flow."""
        value = self.loaded.maps["pending"].lookup(abi.pack_key(key))
        return None if value is None else abi.PendingRecord.unpack(value)

    def is_open(self, key: FlowKey) -> bool:
        """Tell whether packets of the flow take the direct way."""
        mapping = self.mapping(key)
        return mapping is not None and abi.MappingFlag.ACTIVE in mapping.flags

    def remove(self, key: FlowKey) -> None:
        """Remove the mapping, as the daemon does."""
        self.loaded.maps["mappings"].delete(abi.pack_key(key))

    def pass_held(self, key: FlowKey, packet: Packet | bytes) -> Outcome:
        """Put one held packet back and follow it out: to its peer, or to its host through the inside interface."""
        if key.direction is Direction.TO_PEER:
            return self.from_inside(packet, mark=REINJECTED)
        delivered = self.from_outside(packet, mark=REINJECTED)
        if delivered.verdict == PASS:
            return self.run("inside_egress", delivered.packet, mark=delivered.mark)
        return delivered
