"""Mutated input through all that reads bytes from outside: nothing raises, and nothing is read that is not there."""

from collections.abc import Callable, Sequence
from functools import cache
from ipaddress import IPv4Address
from random import Random
from typing import Final

from tests.fuzz import corpus
from tests.fuzz.mutation import mutated, random_bytes
from tests.fuzz.running import Finding
from throughway.control import frames
from throughway.control.errors import RequestRefused
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer
from throughway.core.ports import ControlObserved, IkeObserved, Punted
from throughway.service import hearing
from throughway.wire import esp, gre, icmp, ike, ipv4, l2tpv3, udp

HOST: Final = Host(corpus.HOST)
PEER: Final = Peer(corpus.PEER)
ANOTHER: Final = IPv4Address("192.0.2.1")

Look = Callable[[bytes], None]
"""Reads some input, and raises AssertionError where what it has read is not what is there."""


def look_at_packet(data: bytes) -> None:
    """Read an IPv4 packet as the daemon does, and what is in it."""
    quoted = ipv4.parse_quoted(data)
    packet = ipv4.parse(data)
    assert packet is None or packet == quoted
    if quoted is None:
        return
    assert data[0] >> 4 == 4
    assert 20 <= quoted.header_size == (data[0] & 15) * 4 <= quoted.total_size == int.from_bytes(data[2:4], "big")
    assert quoted.payload == data[quoted.header_size : quoted.total_size]
    assert quoted.protocol == data[9]
    assert quoted.source.packed + quoted.destination.packed == data[12:20]
    assert quoted.fragment_offset == (int.from_bytes(data[6:8], "big") & 0x1FFF) * 8
    if packet is None:
        return
    assert len(data) >= packet.total_size
    look_at_rewritten(data, packet)
    look_at_payload(data, packet)


def look_at_rewritten(data: bytes, packet: ipv4.Ipv4Packet) -> None:
    """Give it another address each way: nothing else changes, and the header checksum is right afterwards."""
    for at, again in ((12, ipv4.with_source(data, ANOTHER)), (16, ipv4.with_destination(data, ANOTHER))):
        assert again[at : at + 4] == ANOTHER.packed
        assert ipv4.checksum(again[: packet.header_size]) == 0
        assert again[:10] + again[12:at] + again[at + 4 :] == data[:10] + data[12:at] + data[at + 4 :]


def look_at_payload(data: bytes, packet: ipv4.Ipv4Packet) -> None:
    """Read what is behind the IP header, as its protocol says, and ask for the event of it as a question."""
    match packet.protocol:
        case IpProtocol.ICMP:
            look_at_icmp(packet.payload)
        case IpProtocol.UDP:
            look_at_datagram(packet.payload)
        case IpProtocol.GRE:
            look_at_gre(packet.payload)
        case IpProtocol.L2TPV3:
            number = l2tpv3.session_id(packet.payload)
            assert (number is None) == (len(packet.payload) < 4)
            look_at_control(packet.payload[4:])
        case IpProtocol.ESP:
            header = esp.parse(packet.payload)
            assert (header is None) == (len(packet.payload) < esp.HEADER_SIZE)
            spi = int.from_bytes(packet.payload[:4], "big")
            assert header is None or header.spi == spi
            for key in (FlowKey.to_inside(50, Path(PEER), spi), FlowKey.to_peer(50, HOST, PEER, spi)):
                assert (hearing.event_of(Punted(key, data, is_copy=False)) is None) == (header is None)


def look_at_icmp(data: bytes) -> None:
    """Read an ICMP error; the packet that it quotes begins behind its header."""
    error = icmp.parse(data)
    if error is not None:
        assert ipv4.checksum(data) == 0
        assert error.quoted.source.packed + error.quoted.destination.packed == data[20:28]
        assert len(error.quoted.payload) >= 8
        _ = error.refusal


def look_at_datagram(data: bytes) -> None:
    """Read a datagram, and IKE in it."""
    datagram = udp.parse(data)
    if datagram is not None:
        assert data[8:].startswith(datagram.payload)
        assert len(datagram.payload) <= datagram.size - 8
        _ = datagram.is_whole
        for message in (datagram.payload, udp.strip_non_esp_marker(datagram.payload)):
            look_at_ike(message or b"")


def look_at_ike(data: bytes) -> None:
    """Read the head of an IKE message, as it is observed and with its size."""
    header = ike.parse(data)
    sized = ike.parse(data, len(data))
    assert sized is None or sized == header
    if header is not None:
        assert header.initiator_spi == int.from_bytes(data[:8], "big") != 0
        assert header.major_version in (1, 2)
        assert header.message_id == header.exchange_id & 0xFFFFFFFF == int.from_bytes(data[20:24], "big")
    for direction in Direction:
        event = hearing.event_of(IkeObserved(HOST, PEER, direction, floated=False, message=data))
        assert (event is None) == (header is None)


def look_at_gre(data: bytes) -> None:
    """Read the front of GRE."""
    header = gre.parse(data)
    if header is not None:
        assert header.version in (0, 1)
        assert (header.key is not None) == bool(data[0] & 0x20)
        assert header.key is None or header.key.to_bytes(4, "big") in (data[4:8], data[8:12])
        assert (header.call_id is not None) == (header.version == 1)


def look_at_control(data: bytes) -> None:
    """Read an L2TPv3 control message; every ID in it stands in the message."""
    message = l2tpv3.parse_control(data)
    event = hearing.event_of(ControlObserved(HOST, PEER, Direction.TO_PEER, IpProtocol.L2TPV3, data))
    assert (event is None) == (message is None)
    if message is not None:
        assert message.control_connection_id == int.from_bytes(data[4:8], "big")
        for number in (message.assigned_connection_id, message.local_session_id, message.remote_session_id):
            assert number is None or number.to_bytes(4, "big") in data[12:]


def look_at_request(data: bytes) -> None:
    """Read a frame of the control socket: a request, or a refusal that can be sent."""
    try:
        request = frames.Request.from_json(frames.decode(data))
    except RequestRefused as refused:
        frames.encode(frames.refusal(None, refused), frames.ANSWER_BYTES_MAX)
        return
    again = frames.encode(request.to_json(), frames.ANSWER_BYTES_MAX)
    assert frames.Request.from_json(frames.decode(again[frames.HEADER_BYTES :])) == request


@cache
def inputs() -> tuple[tuple[Look, tuple[bytes, ...]], ...]:
    """List what reads input, packets three times as often, and the right input that it begins with."""
    whole = (look_at_packet, (*corpus.built(), *corpus.captured()))
    return (
        *(whole, whole, whole),
        (look_at_ike, tuple(corpus.ike_messages())),
        (look_at_control, tuple(corpus.control_messages())),
        (look_at_request, tuple(corpus.requests())),
    )


def fuzz(seed: str, count: int) -> list[Finding]:
    """Let so many inputs through the parsers. The same seed, the same inputs."""
    dice = Random(seed)  # noqa: S311 - the same every time
    kinds: Sequence[tuple[Look, tuple[bytes, ...]]] = inputs()
    findings = []
    for _ in range(count):
        look, right = kinds[int(dice.random() * len(kinds))]
        data = mutated(dice.choice(right), dice) if dice.random() < 0.97 else random_bytes(dice)
        try:
            look(data)
        except Exception as problem:
            findings.append(Finding(look.__name__, f"{type(problem).__name__}: {problem}", data))
    return findings
