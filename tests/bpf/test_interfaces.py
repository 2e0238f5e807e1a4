"""What a test run cannot show: real interfaces, with and without a link header, tagged and jumbo frames."""

import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from throughway.core.reasons import Reason
from throughway.dataplane import abi
from throughway.dataplane.libbpf import TCX_EGRESS, TCX_INGRESS, link_create, link_update

from .gateway import ALICE, BOB, OUTSIDE, PEER, Gateway, esp, readdressed, to_inside, to_peer

_TUNSETIFF = 0x400454CA
_IFF_TUN_WITHOUT_HEADER = 0x1001
_WAIT_S = 2


@contextmanager
def _attached(gateway: Gateway, program: str, ifindex: int, where: int) -> Iterator[int]:
    link = link_create(gateway.loaded.programs[program], ifindex, where)
    try:
        yield link
    finally:
        os.close(link)


class _Tun:
    """A point-to-point interface without a link header: what is written comes in, what goes out is read."""

    def __init__(self) -> None:
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.fd, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN_WITHOUT_HEADER))
        with IPRoute() as route:
            (self.ifindex,) = route.link_lookup(ifname="tun0")
            route.link("set", index=self.ifindex, state="up")
            route.route("add", dst="10.77.0.0/24", oif=self.ifindex)

    def read(self) -> bytes:
        """Return the next IPv4 packet that goes out; the stack's own IPv6 is nobody's business here."""
        while select.select([self.fd], [], [], _WAIT_S)[0]:
            packet = os.read(self.fd, 65536)
            if packet[0] >> 4 == 4:
                return packet
        pytest.fail("nothing came out of the interface")


@pytest.fixture
def tun(wan: int, gateway: Gateway) -> Iterator[_Tun]:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/proc/sys/net/ipv4/conf/default/rp_filter").write_text("0")
    Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("0")
    Path("/proc/sys/net/ipv4/conf/default/send_redirects").write_text("0")
    Path("/proc/sys/net/ipv4/conf/all/send_redirects").write_text("0")
    made = _Tun()
    gateway.configure(link_header_size=0)
    with IPRoute() as route:
        route.route("add", dst=f"{PEER}/32", oif=made.ifindex)
    yield made
    os.close(made.fd)


def _forwarded(packet: bytes) -> bytes:
    """Return the packet as the router sends it on, one hop later."""
    return readdressed(packet, ttl=IP(packet).ttl - 1)


def test_without_link_header_to_the_inside(gateway: Gateway, tun: _Tun) -> None:
    gateway.decide(to_inside(), ALICE)
    packet = esp(PEER, OUTSIDE)
    with _attached(gateway, "outside_ingress", tun.ifindex, TCX_INGRESS):
        os.write(tun.fd, bytes(packet))
        assert tun.read() == _forwarded(readdressed(packet, dst=ALICE))


def test_without_link_header_fan_out(gateway: Gateway, tun: _Tun) -> None:
    gateway.decide(to_inside(), ALICE, BOB)
    packet = esp(PEER, OUTSIDE)
    with _attached(gateway, "outside_ingress", tun.ifindex, TCX_INGRESS):
        os.write(tun.fd, bytes(packet))
        got = {tun.read(), tun.read()}
    assert got == {_forwarded(readdressed(packet, dst=host)) for host in (ALICE, BOB)}


def test_without_link_header_to_the_peer_and_held(gateway: Gateway, tun: _Tun) -> None:
    packet = bytes(esp(ALICE, PEER))
    with (
        _attached(gateway, "outside_egress", tun.ifindex, TCX_EGRESS),
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as raw,
    ):
        address = ("tun0", 0x0800)
        raw.sendto(packet, address)
        with pytest.raises(OSError, match="No buffer space"):
            raw.sendto(bytes(esp(ALICE, PEER, 0)), address)  # so a sender is told of a drop, but not of a packet held
        (punt,) = gateway.punted()
        assert (punt.key, punt.frame, punt.link_header_size) == (to_peer(), packet, 0)
        gateway.decide(to_peer(spi=0x2000), ALICE)
        raw.sendto(bytes(esp(ALICE, PEER, 0x2000)), address)
        assert tun.read() == readdressed(esp(ALICE, PEER, 0x2000), src=OUTSIDE)


def _send(frame: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.sendto(frame, ("far0", 0x0800))


@pytest.mark.parametrize(
    ("frame_size", "reason"),
    [(abi.FRAME_LARGE, Reason.PUNTED), (abi.FRAME_LARGE + 1, Reason.TOO_LARGE_TO_HOLD)],
)
def test_jumbo_frames(gateway: Gateway, wan: int, frame_size: int, reason: Reason) -> None:
    with IPRoute() as route:
        for name in ("wan0", "far0"):
            (index,) = route.link_lookup(ifname=name)
            route.link("set", index=index, mtu=9500)
    packet = bytes(esp(PEER, OUTSIDE, size=frame_size - 14 - 28))
    with _attached(gateway, "outside_ingress", wan, TCX_INGRESS):
        _send(bytes(Ether(dst="ff:ff:ff:ff:ff:ff", type=0x0800)) + packet)
    assert gateway.counted() == {reason: 1}
    assert [punt.frame[14:] for punt in gateway.punted()] == [packet] * (reason is Reason.PUNTED)


@pytest.mark.parametrize(("vlan", "counted"), [(5, {}), (0, {Reason.PUNTED: 1})])
def test_frames_of_another_vlan_are_not_ours(gateway: Gateway, wan: int, vlan: int, counted: dict[Reason, int]) -> None:
    """ID 0 is no VLAN but a priority (IEEE 802.1Q); the stack takes such a frame for untagged, and so do we."""
    packet = bytes(esp(PEER, OUTSIDE))
    with _attached(gateway, "outside_ingress", wan, TCX_INGRESS):
        _send(bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / Dot1Q(vlan=vlan, prio=3, type=0x0800)) + packet)
    assert gateway.counted() == counted
    assert [punt.frame[14:] for punt in gateway.punted()] == [packet] * len(counted)


def test_a_link_can_be_given_another_program(gateway: Gateway, wan: int) -> None:
    packet = bytes(Ether(dst="ff:ff:ff:ff:ff:ff", type=0x0800)) + bytes(esp(PEER, OUTSIDE))
    with _attached(gateway, "inside_ingress", wan, TCX_INGRESS) as link:
        _send(packet)
        assert gateway.counted() == {}
        link_update(link, gateway.loaded.programs["outside_ingress"])
        _send(packet)
    assert gateway.counted() == {Reason.PUNTED: 1}


def test_later_programs_get_their_turn(gateway: Gateway, wan: int) -> None:
    """Two programs of ours stand for one of ours and one of somebody else: a pass is no last word."""
    gateway.decide(to_inside(), ALICE)
    ike = Ether(dst="ff:ff:ff:ff:ff:ff") / IP(src=ALICE, dst=PEER) / UDP(sport=500, dport=500) / bytes(28)
    with (
        _attached(gateway, "outside_ingress", wan, TCX_INGRESS),
        _attached(gateway, "inside_ingress", wan, TCX_INGRESS),
    ):
        _send(bytes(ike))
    assert len(gateway.observed()) == 1
