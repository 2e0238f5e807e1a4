"""IKE headers, and every IKE message of the captures against what tshark says of it."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.ikev2 import IKEv2
from scapy.layers.isakmp import ISAKMP

from tests.captures import described, ipv4_bytes, needs_captures, packets
from throughway.core.events import IkeExchange
from throughway.core.ids import IpProtocol
from throughway.wire import ike, ipv4, udp

QUICK_MODE = ike.IkeHeader(
    initiator_spi=0x1122334455667788,
    responder_spi=0x99AABBCCDDEEFF00,
    next_payload=8,
    major_version=1,
    minor_version=0,
    exchange_type=32,
    flags=0x01,
    message_id=0xE22A74C1,
    size=28,
)


def test_ikev1_header_is_read_as_scapy_wrote_it() -> None:
    written = ISAKMP(
        init_cookie=bytes.fromhex("1122334455667788"),
        resp_cookie=bytes.fromhex("99aabbccddeeff00"),
        next_payload=8,
        exch_type=32,
        flags=1,
        id=0xE22A74C1,
        length=28,
    )
    assert ike.parse(bytes(written)) == QUICK_MODE


def test_ikev2_header_is_read_as_scapy_wrote_it() -> None:
    written = IKEv2(
        init_SPI=bytes.fromhex("1122334455667788"),
        resp_SPI=bytes(8),
        exch_type=34,
        flags=0x08,
        id=0,
        length=28,
        next_payload=33,
    )
    header = ike.parse(bytes(written))
    assert header is not None
    assert (header.major_version, header.initiator_spi, header.responder_spi) == (2, 0x1122334455667788, 0)
    assert (header.exchange, header.exchange_id) == (IkeExchange.INITIAL, 0)


@pytest.mark.parametrize(
    ("version", "exchange_type", "exchange"),
    [
        (1, 2, IkeExchange.INITIAL),
        (1, 4, IkeExchange.INITIAL),
        (1, 5, IkeExchange.INFORMATIONAL),
        (1, 6, IkeExchange.OTHER),
        (1, 32, IkeExchange.CHILD),
        (1, 33, IkeExchange.OTHER),
        (1, 35, IkeExchange.OTHER),
        (2, 32, IkeExchange.OTHER),
        (2, 34, IkeExchange.INITIAL),
        (2, 35, IkeExchange.FIRST_CHILD),
        (2, 36, IkeExchange.CHILD),
        (2, 37, IkeExchange.INFORMATIONAL),
        (2, 43, IkeExchange.INITIAL),
        (2, 44, IkeExchange.OTHER),
        (2, 255, IkeExchange.OTHER),
    ],
)
def test_exchange_types_are_told_apart_by_version(version: int, exchange_type: int, exchange: IkeExchange) -> None:
    assert replace(QUICK_MODE, major_version=version, exchange_type=exchange_type).exchange is exchange


def _ikev2(message_id: int, flags: int) -> int:
    return replace(QUICK_MODE, major_version=2, exchange_type=36, message_id=message_id, flags=flags).exchange_id


def test_request_and_response_of_one_ikev2_exchange_agree() -> None:
    assert _ikev2(3, flags=0x08) == _ikev2(3, flags=0x20)
    assert _ikev2(3, flags=0x00) == _ikev2(3, flags=0x28)


def test_exchanges_that_either_end_began_differ() -> None:
    assert _ikev2(3, flags=0x08) != _ikev2(3, flags=0x00)
    assert _ikev2(3, flags=0x08) != _ikev2(4, flags=0x08)


def test_flags_of_ikev1_do_not_change_the_exchange() -> None:
    """The commit bit, 0x02, and encryption, 0x01, come and go within one Quick Mode."""
    assert {replace(QUICK_MODE, flags=flags).exchange_id for flags in (0x00, 0x01, 0x03, 0x08, 0x28)} == {0xE22A74C1}


def _bytes(*, spi: int = 1, version: int = 0x20, size: int = 28) -> bytes:
    return spi.to_bytes(8, "big") + bytes(8) + bytes([33, version, 34, 8]) + bytes(4) + size.to_bytes(4, "big")


def test_size_of_the_message_is_checked_where_it_is_known() -> None:
    assert ike.parse(_bytes(size=1264)) is not None, "the header alone is enough"
    assert ike.parse(_bytes(size=1264), 1264) is not None
    assert ike.parse(_bytes(size=1264), 1268) is not None, "padding behind the message"
    assert ike.parse(_bytes(size=1265), 1264) is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (_bytes()[:27], "cut off"),
        (_bytes(spi=0), "an initiator SPI of 0"),
        (_bytes(size=27), "a length below the header's"),
        (_bytes(size=0), "a length of 0"),
        (_bytes(version=0x00), "version 0"),
        (_bytes(version=0x30), "version 3"),
        (_bytes(version=0xBE), "version 11"),
    ],
)
def test_implausible_header_is_refused(data: bytes, why: str) -> None:
    assert ike.parse(data) is None, why


def test_minor_version_is_ignored() -> None:
    assert ike.parse(_bytes(version=0x21)) is not None


@given(st.binary(max_size=64), st.none() | st.integers(0, 70_000))
def test_no_bytes_raise(data: bytes, message_size: int | None) -> None:
    header = ike.parse(data, message_size)
    if header is not None:
        assert header.exchange in IkeExchange
        assert 0 <= header.exchange_id < 1 << 33


# What sessions.json calls the exchanges, and what they are to us. "43" is IKE_INTERMEDIATE.
_NAMES = {
    "MainMode": (1, IkeExchange.INITIAL),
    "Aggressive": (1, IkeExchange.INITIAL),
    "QuickMode": (1, IkeExchange.CHILD),
    "Info": (1, IkeExchange.INFORMATIONAL),
    "IKE_SA_INIT": (2, IkeExchange.INITIAL),
    "IKE_AUTH": (2, IkeExchange.FIRST_CHILD),
    "CREATE_CHILD_SA": (2, IkeExchange.CHILD),
    "INFORMATIONAL": (2, IkeExchange.INFORMATIONAL),
    "43": (2, IkeExchange.INITIAL),
}
_IKE_PORTS = {udp.IKE_PORT, udp.NAT_T_PORT}


def _messages(file: str) -> dict[int, ike.IkeHeader]:
    """Read what we take for IKE messages over IPv4, by frame number; a later fragment counts as its first."""
    found: dict[int, ike.IkeHeader] = {}
    first_fragments: dict[tuple[IPv4Address, int], ike.IkeHeader] = {}
    for number, frame in packets(file):
        data = ipv4_bytes(frame)
        packet = ipv4.parse_quoted(data) if data else None
        if packet is None or packet.protocol != IpProtocol.UDP:
            continue
        name = (packet.source, packet.identification)
        header = _message(packet) if packet.has_first_bytes else first_fragments.get(name)
        if header is None:
            continue
        found[number] = header
        if packet.more_fragments:
            first_fragments[name] = header
    return found


def _message(packet: ipv4.Ipv4Packet) -> ike.IkeHeader | None:
    """Read the IKE header in a packet as the data plane would: by port, and behind the marker on 4500."""
    datagram = udp.parse(packet.payload)
    if datagram is None or not {datagram.source_port, datagram.destination_port} & _IKE_PORTS:
        return None
    size = datagram.size - udp.HEADER_SIZE
    if udp.NAT_T_PORT not in (datagram.source_port, datagram.destination_port):
        return ike.parse(datagram.payload, size)
    message = udp.strip_non_esp_marker(datagram.payload)
    return None if message is None else ike.parse(message, size - len(udp.NON_ESP_MARKER))


def _ike_sas() -> list[tuple[str, dict[str, object]]]:
    """List (file, IKE SA) of all sessions over IPv4 with IKE in them."""
    return [
        (file, ike_sa)
        for file, known in described("sessions.json").items()
        if known["kind"] == "ipsec"
        for session in known["sessions"]
        if ":" not in session["client"]
        for ike_sa in session["ike_sas"]
    ]


@needs_captures
@pytest.mark.parametrize(("file", "ike_sa"), _ike_sas())
def test_every_ike_message_of_the_captures_is_what_tshark_says(file: str, ike_sa: dict[str, object]) -> None:
    read = _messages(file)
    exchanges = ike_sa["exch"]
    assert isinstance(exchanges, list)
    for frame, _, direction, name, message_id, _ in exchanges:
        header = read[frame]
        assert (header.major_version, header.exchange) == _NAMES[name]
        assert f"{header.initiator_spi:016x}" == ike_sa["ispi"]
        assert header.message_id == message_id
        if header.major_version == 2:
            assert bool(header.flags & ike.FLAG_INITIATOR) == (direction == "i>r")


@needs_captures
def test_no_ike_is_seen_where_tshark_knows_no_vpn() -> None:
    """A false IKE message would make its sender a candidate."""
    seen = {file: _messages(file) for file in described("index.json")["non_vpn"]}
    assert {file: messages for file, messages in seen.items() if messages} == {}


@needs_captures
@pytest.mark.parametrize(
    "file",
    [
        "tcpdump/isakmp-delete-segfault.pcap",
        "tcpdump/isakmp-no-none-np.pcapng",
        "zeek-spicy-ipsec/ipsec-ikev1-zero-length.pcap",
    ],
)
def test_hostile_message_of_the_captures_is_refused(file: str) -> None:
    assert _messages(file) == {}
