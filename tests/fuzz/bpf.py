"""Packets through the loaded BPF programs by BPF_PROG_TEST_RUN, one call each, and what the oracle says of them."""

import errno
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address
from random import Random
from typing import Final

from tests.bpf.gateway import ETHERNET, Gateway
from tests.fuzz.oracle import (
    BOTH,
    CARRIED,
    PASS,
    PEER,
    REINJECTED,
    TAKEN,
    TO_INSIDE,
    TO_PEER,
    Allowed,
    Oracle,
)
from tests.fuzz.packets import PROGRAMS, packet
from tests.fuzz.running import Finding
from throughway.core.errors import KernelRefused
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Path, Peer
from throughway.dataplane.abi import PuntKind, pack_key
from throughway.dataplane.libbpf import test_run

EPOCH: Final = 1000
"""Packets after which what was learnt of peers, fragments and undecided flows is forgotten; the rings hold more."""

_LEARNT: Final = ("pending", "fragments", "reports", "peers", "hosts", "ike_budgets", "fragment_budgets")
_MARKS: Final = (0, 0, 0, 0x77, 0xC0FFEE00 & ~BOTH, CARRIED, REINJECTED, REINJECTED | 0x77, BOTH)
_RATE: Final = 1_000_000
_IPV4: Final = b"\x08\x00"
_LEAST: Final = {_IPV4: 20, b"\x86\xdd": 40}
"""Of less than the header that the link type announces the kernel makes no packet (net/bpf/test_run.c)."""

_OTHER_TYPES: Final = (b"\x86\xdd", b"\x81\x00", b"\x08\x06", b"\x00\x00")


def prepare(gateway: Gateway) -> None:
    """Install the verdicts of the oracle, and let budgets not matter."""
    gateway.configure(punts_per_peer=_RATE, punts_per_host=_RATE, ike_per_address=_RATE, fragments_per_address=_RATE)
    peer = Peer(_ip(PEER))
    for (protocol, number), hosts in TO_INSIDE.items():
        key = FlowKey.to_inside(protocol, Path(peer), number)
        assert gateway.decide(key, *(str(_ip(host)) for host in hosts)) == 0
    for host, protocol, number in TO_PEER:
        key = FlowKey.to_peer(protocol, Host(_ip(host)), peer, number)
        assert gateway.decide(key, str(_ip(host))) == 0


def _ip(address: bytes) -> IPv4Address:
    return IPv4Address(address)


class Run:
    """Lets packets through, an epoch after another."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.findings: list[Finding] = []
        self._oracle = Oracle()
        self._taken: list[bytes] = []

    def play(self, seed: str, count: int) -> None:
        """Let so many packets through. The same seed, the same packets."""
        dice = Random(seed)  # noqa: S311 - the same every time
        for number in range(count):
            if number % EPOCH == 0:
                self.begin_anew()
            self.one(dice)
        self.begin_anew()

    def one(self, dice: Random) -> None:
        """Let one packet through."""
        program = dice.choice(PROGRAMS)
        mark = dice.choice(_MARKS)
        link = ETHERNET + (_IPV4 if dice.random() < 0.98 else dice.choice(_OTHER_TYPES))
        data = packet(dice, program)
        context = struct.pack("=8xI24xII148x", mark, 0, self._gateway.ifindex)
        try:
            result = test_run(self._gateway.loaded.programs[program], link + data, context)
        except KernelRefused as refused:
            if refused.errno != errno.EINVAL or len(data) >= _LEAST.get(link[12:], 1):
                self._find(program, f"not run: {refused}", mark, link + data)
            return
        after: int = struct.unpack_from("=I", result.context, 8)[0]
        if link[12:] != _IPV4:
            allowed = [Allowed(PASS, data, mark)]
        elif program == "outside_ingress":
            allowed = self._oracle.outside_ingress(data, mark)
        elif program == "outside_egress":
            allowed = self._oracle.outside_egress(data, mark)
        else:
            allowed = self._oracle.inside(data, mark)
        # What says most comes first: a copy of a fan-out that is turned round is not one that the daemon has.
        allowed.sort(key=lambda one: one.packet is None)
        happened = next((one for one in allowed if fits(one, data, result.verdict, result.packet[14:], after)), None)
        if happened is None or result.packet[:14] != link:
            what = f"verdict {result.verdict:#x}, mark {after:#x}, packet {result.packet.hex()}"
            self._find(program, f"{what}; allowed: {allowed}", mark, link + data)
        if happened == TAKEN:
            self._taken.append(link + data)

    def begin_anew(self) -> None:
        """Compare what was taken with what came to the daemon, and forget what was learnt."""
        gateway = self._gateway
        held = [r.frame for r in gateway.punted() if r.kind in (PuntKind.HELD, PuntKind.FRAGMENT)]
        if held != self._taken:
            self._find("punts", f"{len(self._taken)} packets were taken and {len(held)} came", 0, b"".join(self._taken))
        self._taken = []
        for record in gateway.observed():
            assert len(record.message) <= 512
        for name in _LEARNT:
            table = gateway.loaded.maps[name]
            for key in list(table.keys()):
                table.delete(key)
        gateway.know_peer(str(_ip(PEER)))
        self._oracle = Oracle()

    def assert_nothing_was_learnt(self) -> None:
        """The mappings are those that were decided."""
        peer = Peer(_ip(PEER))
        keys = {pack_key(FlowKey.to_inside(protocol, Path(peer), number)) for protocol, number in TO_INSIDE}
        keys |= {
            pack_key(FlowKey.to_peer(protocol, Host(_ip(host)), peer, number)) for host, protocol, number in TO_PEER
        }
        assert set(self._gateway.loaded.maps["mappings"].keys()) == keys

    def _find(self, program: str, said: str, mark: int, frame: bytes) -> None:
        self.findings.append(Finding(program, f"mark {mark:#x} before; {said}", frame))


def fits(allowed: Allowed, before: bytes, verdict: int, after: bytes, mark: int) -> bool:
    """Whether what happened is this."""
    if verdict != allowed.verdict:
        return False
    if allowed.packet is None:
        return True
    return mark == allowed.mark and is_same(allowed.packet, after, before, allowed.sums)


def is_same(wanted: bytes, after: bytes, before: bytes, sums: Sequence[int]) -> bool:
    """Whether a packet is as wanted, with checksums that are as right as before: RFC 1624 keeps a wrong one wrong."""
    if after == wanted and not sums:
        return True
    if len(after) != len(wanted):
        return False
    patched = bytearray(wanted)
    for at in sums:
        patched[at : at + 2] = after[at : at + 2]
        begin = at - 10
        end = begin + (after[begin] & 15) * 4
        if total(after[begin:end]) != total(before[begin:end]):
            return False
    return bytes(patched) == after


def total(data: bytes) -> int:
    """Sum 16-bit words in one's complement, where 0 and 0xffff are the same (RFC 1071)."""
    words: tuple[int, ...] = struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1])
    return sum(words) % 0xFFFF
