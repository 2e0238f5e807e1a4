"""Hostile bytes and floods: the daemon lives, stays small, says little, and the tunnels go on."""

import contextlib
import random
import struct
from ipaddress import IPv4Address

from tests.kernel.bpf_plane.net import Network, checksum, esp_packet
from tests.kernel.daemon.net import ALICE, BOB, CREATE_CHILD, IKE_PORT, OUTSIDE, PEER, STRANGER, Ends, pins, wait_for
from tests.kernel.daemon.process import Daemon
from throughway.core.flows import FlowKey
from throughway.core.ids import IpProtocol, Path, Peer
from throughway.core.limits import Limits
from throughway.dataplane import abi
from throughway.dataplane.libbpf import map_get

MEMORY_BYTES_MAX = 80 << 20
FLOOD = 300
LINES_MAX = 100
"""Of all events together, in the seconds that a test takes: 20 of one name in ten seconds."""


def assert_well(daemon: Daemon, ends: Ends, next_sequence: int) -> None:
    """The daemon answers, is small, has said little, and alice's tunnel passes."""
    status = daemon.status()
    assert status.memory_bytes < MEMORY_BYTES_MAX
    assert not daemon.says("daemon.failed")
    assert len(daemon.said().splitlines()) < LINES_MAX
    ends.both_ways(ALICE, 0x1001, 0x2001, range(next_sequence, next_sequence + 5))


def carry(daemon: Daemon, ends: Ends) -> None:
    daemon.up()
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 5))


def packet(source: IPv4Address, protocol: int, body: bytes) -> bytes:
    """Make an IPv4 packet with anything in it."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
    head += source.packed + OUTSIDE.packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def test_random_bytes_as_ike_and_as_esp(daemon: Daemon, ends: Ends) -> None:
    """From a host to UDP 500, from the peer to the outside address: all lengths, headers with random fields."""
    carry(daemon, ends)
    dice = random.Random(7)  # noqa: S311 - the same every time
    for size in (0, 1, 3, 4, 7, 8, 17, 27, 28, 29, 200, 1400):
        for _ in range(40):
            body = dice.randbytes(size)
            ends.ike[ALICE].socket.sendto(body, (str(PEER), IKE_PORT))
            ends.peer.send(packet(PEER, 50, body))
            ends.peer.send(packet(PEER, 17, struct.pack("!HHHH", IKE_PORT, IKE_PORT, 8 + size, 0) + body))
    seen = daemon.status().reasons
    assert seen["malformed"] >= 40 * 5
    assert_well(daemon, ends, 5)
    assert daemon.status().pending <= Limits().pending_max


def test_random_spis_of_an_unknown_peer_never_come_to_the_daemon(daemon: Daemon, ends: Ends) -> None:
    carry(daemon, ends)
    before = daemon.status()
    dice = random.Random(8)  # noqa: S311 - the same every time
    for _ in range(3000):
        ends.peer.send(esp_packet(STRANGER, OUTSIDE, dice.randrange(256, 1 << 32), 1))
    wait_for("dropped", lambda: daemon.status().reasons["no-candidate"] == 3000)
    after = daemon.status()
    assert (after.mappings, after.pending) == (before.mappings, 0)
    assert after.reasons["punted"] == before.reasons["punted"]
    assert_well(daemon, ends, 5)


def test_tunnel_that_the_kernel_has_no_room_for_is_refused_until_there_is(
    daemon: Daemon, ends: Ends, net: Network
) -> None:
    """A full table of fan-outs costs the contested tunnel that comes next, and nobody else."""
    carry(daemon, ends)
    ends.exchange(BOB, 0xB1, CREATE_CHILD, 7)
    ends.exchange(ALICE, 0xA1, CREATE_CHILD, 2)
    [folder] = pins(net)
    with contextlib.closing(map_get(folder / "map-fan_outs")) as table:
        keys = [
            abi.pack_key(FlowKey.to_inside(IpProtocol.ESP, Path(Peer(STRANGER)), n)) for n in range(table.max_entries)
        ]
        for key in keys:
            table.update(key, bytes(table.value_size))
        ends.peer.send_esp(PEER, OUTSIDE, 0x2002, range(1, 4))
        wait_for("refused", lambda: bool(daemon.lines("tunnel.refused")))
        assert "kernel.refused" in daemon.lines("tunnel.refused")[0]
        assert "FanOut" in daemon.lines("command.failed")[0]
        assert_well(daemon, ends, 5)
        for key in keys:
            table.delete(key)

    def passes() -> bool:
        ends.peer.send_esp(PEER, OUTSIDE, 0x2002, range(4, 5))
        return ends.alice.sequences(0x2002) != [] != ends.bob.sequences(0x2002)

    wait_for("there is room again", passes)


def test_flood_of_contested_spis_keeps_nobody_else_waiting(daemon: Daemon, ends: Ends) -> None:
    """Hosts in the middle of a conversation may own any SPI that their peer makes up."""
    carry(daemon, ends)
    for host, initiator_spi in ((ALICE, 0xA1), (BOB, 0xB1)):
        ends.exchange(host, initiator_spi, CREATE_CHILD, 7)
    ends.bob.send_esp(BOB, PEER, 0x1002, range(5000, 5001))
    for spi in range(0x100000, 0x100000 + FLOOD):
        ends.peer.send(esp_packet(PEER, OUTSIDE, spi, 1))
    ends.alice.send_esp(ALICE, STRANGER, 0x1003, range(1, 4))
    wait_for("a new tunnel passes", lambda: ends.peer.sequences(0x1003) == [1, 2, 3])
    wait_for("all is decided", lambda: daemon.status().pending == 0)
    assert daemon.lines("mapping.installed") or daemon.lines("mapping.contested")
    assert_well(daemon, ends, 5)
