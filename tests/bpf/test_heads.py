"""Heads: what the programs copy is what the reference in Python says, within budgets, and nothing is ever stopped."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from pyroute2 import IPRoute

from tests.captures import captures_folder, described, needs_captures
from tests.heads import TO_INSIDE, TO_PEER, Kernel, Seen
from tests.unit.detect.test_openvpn import packet
from tests.unit.detect.test_prefilters import HEADS, PORTS, QUERY
from tests.unit.detect.test_wireguard import INITIATION, RESPONSE
from tests.unit.detect.traffic import SHIPPED, ipv4, noise, tcp, udp
from throughway.core.limits import Limits
from throughway.dataplane import head_abi
from throughway.dataplane.head_abi import HEAD, HEAD_PACKETS_MAX, HeadCount, HeadState
from throughway.dataplane.heads import Heads
from throughway.detect.prefilters import Prefilter, Prefilters
from throughway.detect.structures import UDP, prefilters
from throughway.identify.captures import Capture
from throughway.wire import ip
from throughway.wire.frames import ip_offset
from throughway.wire.tcp import ACK, SYN

from .gateway import ALICE, BOB, NEXT_HOP, OUTSIDE, PASS, PEER, STRANGER, THEIRS, Gateway

_SIZE_MAX: Final = 3000
"""A test run takes packets of up to a page."""

_AT: Final = slice(head_abi.LAYOUTS["head"].offset_of("at_ns"), head_abi.LAYOUTS["head"].offset_of("at_ns") + 8)
ALL: Final = prefilters(SHIPPED)


def address(text: str) -> bytes:
    return bytes(map(int, text.split(".")))


def to_peer(payload: bytes, port: int = 4444, source_port: int = 40000, host: str = ALICE, peer: str = PEER) -> Seen:
    return Seen(0.0, ipv4(17, udp(source_port, port, payload), address(host), address(peer)), TO_PEER)


def to_inside(payload: bytes, port: int = 4444, source_port: int = 40000, peer: str = PEER) -> Seen:
    return Seen(0.0, ipv4(17, udp(port, source_port, payload), address(peer), address(ALICE)), TO_INSIDE)


class Copying:
    """The programs on the inside interfaces, their heads, and the reference beside them."""

    def __init__(self, gateway: Gateway, limits: Limits, used: Prefilters = ALL) -> None:
        self.gateway = gateway
        self.maps = gateway.loaded.maps
        self.heads = Heads(self.maps, limits)
        self.heads.read(1 << 20)
        self._counted = self.heads.counts()
        self.reference = Kernel()
        self.use(used)

    def use(self, used: Prefilters) -> None:
        self.heads.use(used)
        self.reference.use(used)

    def run(self, seen: Seen, came_by: int | None = None) -> None:
        """Let a packet pass, which is neither stopped nor changed."""
        program = "inside_ingress" if seen.direction == TO_PEER else "inside_egress"
        came_by = self.gateway.ifindex if came_by is None else came_by
        out = self.gateway.run(program, seen.data, THEIRS, came_by=came_by if seen.direction == TO_INSIDE else 0)
        assert (out.verdict, out.packet, out.mark) == (PASS, seen.data, THEIRS)

    def copied(self) -> list[bytes]:
        """Return the heads since the last time, without the time in them."""
        return [timeless(record) for record in self.heads.read(1 << 20)]

    def agree(self, *packets: Seen) -> list[bytes]:
        """Let packets pass in both, and compare."""
        for seen in packets:
            self.run(seen)
        expected = [timeless(record) for seen in packets if (record := self.reference.look(seen)) is not None]
        found = self.copied()
        assert found == expected
        return found

    def counted(self) -> dict[HeadCount, int]:
        now = self.heads.counts()
        news = {what: count - self._counted[what] for what, count in now.items() if count > self._counted[what]}
        self._counted = now
        return news

    def state(self, seen: Seen) -> tuple[HeadState, bytes] | None:
        """Read the state of a packet's flow, and how many packets were seen each way."""
        at = seen.data[20:24]
        ends = (
            (seen.data[12:20], at)
            if seen.direction == TO_PEER
            else (seen.data[16:20] + seen.data[12:16], at[2:] + at[:2])
        )
        value = self.maps["head_flows"].lookup(b"".join(ends) + bytes((seen.data[9],)) + bytes(3))
        if value is None:
            return None
        _, _, state, _, counts, _ = head_abi.LAYOUTS["head_flow"].format.unpack(value)
        return HeadState(state), counts


def timeless(record: bytes) -> bytes:
    return record[: _AT.start] + bytes(8) + record[_AT.stop :]


@pytest.fixture(scope="module", autouse=True)
def routed(wan: int) -> Iterator[None]:
    """Let the router have a way to the peers, and forward."""
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    before = forwarding.read_text()
    with IPRoute() as route:
        route.route("replace", dst="default", gateway=NEXT_HOP)
        forwarding.write_text("1")
        yield
        forwarding.write_text(before)
        route.route("del", dst="0.0.0.0/0", gateway=NEXT_HOP)


@pytest.fixture
def copying(gateway: Gateway) -> Iterator[Copying]:
    made = Copying(gateway, Limits(heads_per_host_rate=1 << 20, heads_per_peer_rate=1 << 20))
    yield made
    made.heads.close()


def test_a_handshake_is_copied_with_its_ports_and_who_began_it(copying: Copying) -> None:
    first, second = copying.agree(to_peer(INITIATION, 53), to_inside(RESPONSE, 53))
    key, _, _, size, filled, direction, initiator, is_first, is_last, _, _ = HEAD.unpack_from(first)
    name = head_abi.unpack_flow_name(key)
    assert (str(name.device), str(name.peer), name.source, name.destination) == (ALICE, PEER, 40000, 53)
    assert (size, filled, direction, initiator, is_first, is_last) == (148, 148, TO_PEER, TO_PEER, 1, 0)
    assert first[HEAD.size :] == INITIATION
    assert second[HEAD.size :] == RESPONSE
    assert copying.counted() == {HeadCount.COPIED: 2}


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("way", [to_peer, to_inside])
def test_each_prefilter_says_what_the_reference_says(
    copying: Copying, port: int, way: Callable[[bytes, int, int], Seen]
) -> None:
    """Near misses too: each head cut short, and with single bytes changed."""
    shown = [*HEADS, *(head[:at] for head in HEADS for at in range(1, len(head), 7))]
    changed = ((head, at) for head in HEADS for at in range(min(len(head), 64)))
    shown += [head[:at] + bytes((head[at] ^ 0xFF,)) + head[at + 1 :] for head, at in changed]
    packets = [way(payload, port, 10000 + number) for number, payload in enumerate(shown)]
    assert copying.agree(*packets)


def test_what_fits_nothing_is_looked_at_for_a_few_packets_and_costs_a_look_up_then(copying: Copying) -> None:
    for number in range(1, HEAD_PACKETS_MAX + 3):
        copying.agree(to_peer(QUERY, 53), to_inside(QUERY, 53))
        seen = min(number, HEAD_PACKETS_MAX)
        state = HeadState.DONE if number > HEAD_PACKETS_MAX else HeadState.WATCHED
        assert copying.state(to_peer(QUERY, 53)) == (state, bytes((seen, seen)))
    copying.agree(to_peer(INITIATION, 53))
    assert copying.counted() == {}


def test_from_the_first_that_fits_all_are_copied_up_to_the_bound(copying: Copying) -> None:
    asked, answered = to_peer(noise(100)), to_inside(noise(100))
    copying.agree(asked, to_peer(INITIATION))
    found = copying.agree(*[asked, answered] * (2 * HEAD_PACKETS_MAX))
    assert len(found) == 2 * HEAD_PACKETS_MAX - 2
    assert [HEAD.unpack_from(record)[8] for record in found] == [0] * (len(found) - 1) + [1], "the last one says so"
    assert copying.state(asked) == (HeadState.DONE, bytes((HEAD_PACKETS_MAX,) * 2))


def test_what_the_daemon_has_decided_is_copied_no_more_until_it_forgets(copying: Copying) -> None:
    (record,) = copying.agree(to_peer(INITIATION))
    key = record[: head_abi.LAYOUTS["head_key"].size]
    copying.heads.finish([key])
    copying.run(to_peer(INITIATION))
    assert copying.copied() == []
    copying.heads.forget(key)
    copying.run(to_peer(INITIATION))
    assert copying.copied() == [record]


def test_other_filters_begin_anew_with_datagrams_and_not_with_connections(copying: Copying) -> None:
    syn = Seen(0.0, ipv4(6, tcp(40000, 1723, 99, SYN, b""), address(ALICE), address(PEER)), TO_PEER)
    copying.agree(to_peer(QUERY, 5555), syn)
    own = Prefilters((Prefilter(transport=UDP, port_min=5555, port_max=5555, is_responders_port=True),))
    copying.use(own)
    assert len(copying.agree(to_peer(QUERY, 5555), to_inside(QUERY, 5555))) == 2
    copying.use(ALL)
    segment = ipv4(
        6, tcp(40000, 1723, 100, ACK, struct.pack("!HHIHH", 156, 1, 0x1A2B3C4D, 1, 0)), address(ALICE), address(PEER)
    )
    assert copying.agree(Seen(0.0, segment, TO_PEER)) == []


def test_with_no_filters_nothing_is_looked_at(copying: Copying) -> None:
    copying.use(Prefilters())
    copying.agree(to_peer(INITIATION))
    assert copying.state(to_peer(INITIATION)) is None


def stream(*payloads: tuple[int, int, bytes], flags: int = ACK) -> Iterator[Seen]:
    """Segments of one connection: direction, where in the stream, what."""
    for direction, at, payload in payloads:
        first = 1000 if direction == TO_PEER else 0xFFFFFFF0
        ports = (40000, 443) if direction == TO_PEER else (443, 40000)
        ends = (address(ALICE), address(PEER)) if direction == TO_PEER else (address(PEER), address(ALICE))
        yield Seen(0.0, ipv4(6, tcp(*ports, first + at, flags, payload), *ends), direction)


BEGINS: Final = [*stream((TO_PEER, -1, b""), flags=SYN), *stream((TO_INSIDE, -1, b""), flags=SYN | ACK)]


def test_a_stream_is_looked_at_from_its_syn_and_asked_about_at_its_beginning(copying: Copying) -> None:
    reset = b"\0\x0e" + packet(7, noise(8), (), b"", 0)
    assert copying.agree(*stream((TO_PEER, 0, reset))) == [], "no SYN was seen"
    assert copying.agree(*BEGINS, *stream((TO_PEER, 40, reset), (TO_PEER, 2000, reset))) == []
    found = copying.agree(
        *stream((TO_PEER, 0, reset), (TO_INSIDE, 0, b"any"), (TO_INSIDE, 30, b"more"), (TO_PEER, 2048, b"late"))
    )
    assert [HEAD.unpack_from(record)[2] for record in found] == [0, 0, 30]
    assert copying.agree(*BEGINS, *stream((TO_PEER, 0, b"GET / HTTP/1.1\r\n"))), "a new connection of the same ends"


def test_datagrams_beside_tls_say_so(copying: Copying) -> None:
    """AnyConnect's DTLS is known by the TLS beside it, which itself is never copied."""
    hello = b"\x16\x03\x01\x02\x00\x01" + noise(300)
    assert copying.agree(*BEGINS, *stream((TO_PEER, 0, hello))) == []
    (record,) = copying.agree(to_peer(INITIATION, 443, 50000))
    assert HEAD.unpack_from(record)[9] == (40000).to_bytes(2, "big")
    (record,) = copying.agree(to_peer(INITIATION, 444, 50000))
    assert HEAD.unpack_from(record)[9] == bytes(2)


def test_what_does_not_cross_the_gateway_is_not_copied(copying: Copying) -> None:
    for seen in (to_peer(INITIATION, peer=OUTSIDE), to_peer(INITIATION, peer="224.0.0.251")):
        copying.run(seen)
        assert copying.state(seen) == (HeadState.DONE, bytes((0, 1)))
    copying.run(to_inside(RESPONSE), came_by=copying.gateway.ifindex + 1)
    assert copying.state(to_inside(RESPONSE)) == (HeadState.DONE, bytes((1, 0)))
    assert copying.copied() == []


def test_later_fragments_and_empty_datagrams_are_passed_over(copying: Copying) -> None:
    data = bytearray(to_peer(INITIATION).data)
    data[6:8] = b"\0\x10"
    assert copying.agree(Seen(0.0, bytes(data), TO_PEER), to_peer(b"")) == []
    data[6:8] = b"\x20\0"
    assert len(copying.agree(Seen(0.0, bytes(data), TO_PEER))) == 1, "the first fragment has what is needed"


def test_who_floods_spends_a_budget_of_its_own(gateway: Gateway) -> None:
    copying = Copying(gateway, Limits(heads_per_host_rate=5, heads_per_peer_rate=5))
    for number in range(20):
        copying.run(to_peer(INITIATION, source_port=number + 1))
    copying.run(to_peer(INITIATION, host=BOB))
    for number in range(20):
        copying.run(to_inside(INITIATION, source_port=number + 100))
    copying.run(to_inside(INITIATION, peer=STRANGER))
    assert len(copying.copied()) == 5 + 1 + 5 + 1
    assert copying.counted() == {HeadCount.COPIED: 12, HeadCount.OVER_BUDGET: 30}
    copying.heads.close()


def test_a_full_ring_loses_heads_and_counts_them(copying: Copying) -> None:
    room = copying.maps["heads_seen"].max_entries // (HEAD.size + 512)
    sent = room + room // 4
    for number in range(sent):
        copying.run(to_peer(SPEAKS + noise(500), 500, 1 + number % 60000, peer=f"203.0.113.{number // 60000}"))
    found = copying.counted()
    assert found[HeadCount.COPIED] + found[HeadCount.RING_FULL] == sent
    assert found[HeadCount.RING_FULL] > 0
    assert len(copying.copied()) == found[HeadCount.COPIED]


SPEAKS: Final = bytes(range(1, 18)) + b"\x20\x22\x08"


@needs_captures
def test_captures_are_copied_as_the_reference_says(copying: Copying) -> None:
    """Every packet of TCP and UDP in the captures, from either side of the gateway; those cut short are made whole."""
    folder = captures_folder()
    assert folder is not None
    copied = 0
    for number, capture in enumerate(described("index.json")["captures"]):
        if (folder / capture["file"]).is_file():
            copying.use(ALL)
            copying.reference = Kernel()
            copying.reference.use(ALL)
            gateway_forgets(copying)
            copied += len(copying.agree(*seen_in(folder / capture["file"], is_flipped=bool(number % 2))))
    assert copied > 300


def gateway_forgets(copying: Copying) -> None:
    for name in ("head_flows", "head_tls"):
        for key in list(copying.maps[name].keys()):
            copying.maps[name].delete(key)


def seen_in(path: Path, *, is_flipped: bool) -> Iterator[Seen]:
    """Read a capture with other addresses, so that the gateway stands between the ends of each conversation."""
    hosts: dict[frozenset[bytes], bytes] = {}
    names: dict[bytes, int] = {}
    with Capture(path) as capture:
        for frame in capture:
            offset = ip_offset(frame.link_type, frame.data)
            found = None if offset is None else ip.front(frame.data, offset)
            if found is None or offset is None or len(found.source) != 4 or found.protocol not in (6, 17):
                continue
            size = found.payload_at - offset + found.size
            if size > _SIZE_MAX or frame.data[offset] >> 4 != 4 or found.destination[0] >= 224:
                continue
            ends = frozenset((found.source, found.destination))
            host = hosts.setdefault(ends, found.destination if is_flipped else found.source)
            direction = TO_PEER if found.source == host else TO_INSIDE
            data = bytearray(frame.data[offset : offset + size]).ljust(size, b"\0")
            inside, outside = (12, 16) if direction == TO_PEER else (16, 12)
            for at, net in ((inside, b"\x0a\x4d"), (outside, b"\xc6\x33")):
                number = names.setdefault(bytes(data[at : at + 4]), len(names) + 1)
                data[at : at + 4] = net + number.to_bytes(2, "big")
            yield Seen(0.0, bytes(data), direction)
