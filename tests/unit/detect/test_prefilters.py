"""No prefilter hides what a recogniser would have begun with or kept in mind, and plain traffic fits none of them."""

from dataclasses import replace
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.detect.test_dtls import hello
from tests.unit.detect.test_ipsec import AUTH, MAIN_MODE, SA_INIT
from tests.unit.detect.test_ipsec import esp as esp_in_udp
from tests.unit.detect.test_l2tp import SCCRQ
from tests.unit.detect.test_openvpn import data_v2, packet, wrapped
from tests.unit.detect.test_overlays import HELLO, nebula
from tests.unit.detect.test_wireguard import DISCO, INITIATION, RESPONSE
from tests.unit.detect.test_wireguard import data as wireguard_data
from tests.unit.detect.traffic import SHIPPED, noise
from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue.protocol import Pattern, Protocol, Recognise, Side, Transport
from throughway.core.ids import IpProtocol
from throughway.detect.answers import Datagram, Notes
from throughway.detect.connections import Connections
from throughway.detect.declared import Declared
from throughway.detect.prefilters import PAYLOAD_MIN_BYTES, PREFILTERS_MAX
from throughway.detect.recogniser import Recogniser
from throughway.detect.registry import udp_recognisers
from throughway.detect.streams import Stream
from throughway.detect.structures import prefilters

HEADS = [
    SA_INIT, bytes(4) + SA_INIT, AUTH, MAIN_MODE, esp_in_udp(0xC0FFEE01, 1), INITIATION, RESPONSE, DISCO,
    wireguard_data(7, 1), SCCRQ, HELLO, nebula(0, 0, 0, 1, noise(96)), nebula(1, 0, 7, 3, noise(40)), data_v2(1),
    wrapped(7, noise(8), 1, 5), packet(7, noise(8), (), b"", 0),
    packet(8, noise(8), (0,), noise(8), 0, 20), packet(4, noise(8), (), b"", 1, 32),
    packet(5, noise(8), (1,), noise(8), None),
    hello(noise(32), (0x00A8,)), b"IP=192.0.2.1,PORT=4500", b"\0\3\0\0" + noise(60), bytes(3) + b"\1\0\0\0\7opcode",
    pack("!HBBHHHH", 0x1234, 1, 0, 1, 0, 0, 0) + b"\3www\7example\0\0\1\0\1", noise(120), bytes(64),
]  # fmt: skip
PORTS = [53, 443, 500, 1194, 1701, 4242, 4500, 4754, 5555, 9993, 40000, 51820]
ALL = prefilters(SHIPPED)


@st.composite
def datagrams(draw: st.DrawFn) -> Datagram:
    """Draw a datagram near one of a VPN's: some bytes changed, cut short or made longer."""
    data = bytearray(draw(st.sampled_from(HEADS)))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, min(len(data) - 1, 48)))] = draw(st.sampled_from([0, 1, 2, 16, 32, 72, 255, 128]))
    data = data[: draw(st.integers(1, len(data)))] if draw(st.booleans()) else data
    data += noise(draw(st.sampled_from([0, 0, 1, 4, 12, 28])))
    payload = bytes(data)[:PAYLOAD_MIN_BYTES]
    ports = draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))
    return Datagram(1.0, payload, len(data), draw(st.booleans()), *ports)


def state_of(thing: object) -> object:
    """Say all that an object has in its slots, and that the objects in them have."""
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    if not slots or type(thing).__module__ == "builtins":
        return repr(thing)
    return {name: state_of(getattr(thing, name)) for name in slots if hasattr(thing, name)}


def is_touched(kind: type[Recogniser], datagram: Datagram) -> bool:
    """Whether a recogniser that sees this first has begun with it: said something, noted it or kept it in mind."""
    if not kind.begins(datagram):
        return False
    fresh, notes = kind(), Notes(8)
    before = state_of(fresh)
    return fresh.look(datagram, notes) is not None or bool(notes.words()) or state_of(fresh) != before


@settings(max_examples=600, deadline=None)
@given(datagrams())
def test_no_prefilter_hides_what_a_recogniser_keeps_in_mind(datagram: Datagram) -> None:
    touched = [kind.__name__ for kind in udp_recognisers(SHIPPED) if is_touched(kind, datagram)]
    assert not touched or ALL.fits(IpProtocol.UDP, datagram), touched


@pytest.mark.parametrize("kind", udp_recognisers(SHIPPED))
def test_each_recogniser_is_touched_by_some_of_the_heads(kind: type[Recogniser]) -> None:
    """Else the property above says nothing about it."""
    inside_gre = pack("!HH", 0, 0x0800) + pack("!BBHHHBBH4s4s", 0x45, 0, 20, 1, 0, 64, 1, 0, bytes(4), bytes(4))
    shown = [Datagram(1.0, head, len(head), True, 40000, port) for head in (*HEADS, inside_gre) for port in PORTS]
    assert any(is_touched(kind, datagram) for datagram in shown)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        [
            pack("!HHIHH", 156, 1, 0x1A2B3C4D, 1, 0) + bytes(144),
            b"IKETCP" + pack("!H", 40) + noise(38),
            b"SSTP_DUPLEX_POST /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/ HTTP/1.1\r\n",
            b"CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\n",
            b"POST / HTTP/1.1\r\nX-Aggregate-Auth: 1\r\n",
            pack("!H", 14) + packet(7, noise(8), (), b"", 0),
            b"\x16\x03\x01\x02\x00\x01" + noise(64),
            b"SSH-2.0-OpenSSH_9.2\r\n",
        ]
    ),
    st.integers(1, 160),
    st.booleans(),
)
def test_no_prefilter_hides_the_beginning_of_a_stream(data: bytes, size: int, from_initiator: bool) -> None:
    stream, connections, notes = Stream(443), Connections(), Notes(8)
    stream.head(from_initiator).push(1, data[:size])
    answer = connections.look(stream, 1.0, from_initiator, notes)
    segment = Datagram(1.0, data[:size], len(data[:size]), from_initiator, 40000, 443)
    assert ALL.fits(IpProtocol.TCP, segment) or not (answer or connections.is_interested)


QUERY = pack("!HBBHHHH", 0xA234, 1, 0, 1, 0, 0, 0) + b"\3www\7example\0\0\1\0\1"


@pytest.mark.parametrize(
    ("transport", "payload", "port"),
    [
        (IpProtocol.UDP, QUERY, 53),
        (IpProtocol.UDP, b"\xc3\0\0\0\1\x08" + noise(1194), 443),
        (IpProtocol.UDP, pack("!HHI", 1, 8, 0x2112A442) + noise(20), 3478),
        (IpProtocol.UDP, b"\x80\x60" + noise(170), 30000),
        (IpProtocol.UDP, b"\x23" + bytes(39) + noise(8), 123),
        (IpProtocol.UDP, b"\x16\xfe\xff" + bytes(8) + b"\0\x80\1" + noise(45) + b"\0" + noise(80), 30000),
        (IpProtocol.TCP, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise(500), 443),
        (IpProtocol.TCP, b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", 22),
        (IpProtocol.TCP, b"220 mail.example ESMTP\r\n", 25),
    ],
    ids=["dns", "quic", "stun", "rtp", "ntp", "webrtc", "tls", "ssh", "smtp"],
)
def test_plain_traffic_fits_no_prefilter(transport: IpProtocol, payload: bytes, port: int) -> None:
    assert not ALL.fits(transport, Datagram(1.0, payload, len(payload), True, 40000, port))


MAGIC = Protocol(
    "own",
    "Own",
    "own",
    Recognise(
        Transport.UDP,
        ports=(5555, 5556, 6000),
        patterns=(Pattern(4, b"\xca\xfe", b"\xff\xff", 8, 100, Side.RESPONDER), Pattern(600, b"\1" * 30, b"\xff" * 30)),
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"abcd\xca\xfe" + bytes(20), bytes(600) + b"\1" * 30, bytes(600) + b"\1" * 24 + bytes(6)]),
    st.integers(1, 700),
    st.sampled_from([5555, 6000, 7000]),
    st.booleans(),
    st.sampled_from(list(Transport)[1:]),
)
def test_no_prefilter_hides_a_declared_protocol(
    data: bytes, size: int, port: int, from_initiator: bool, transport: Transport
) -> None:
    catalogue = Catalogue((replace(MAGIC, recognise=replace(MAGIC.recognise, transport=transport)),))
    ports = (40000, port) if from_initiator else (port, 40000)
    datagram = Datagram(1.0, data[:size], len(data[:size]), from_initiator, *ports)
    number = IpProtocol.UDP if transport is Transport.UDP else IpProtocol.TCP
    if Declared(catalogue).judge(number, datagram):
        assert prefilters(catalogue).fits(number, datagram)


def test_as_much_of_a_payload_is_wanted_as_patterns_reach() -> None:
    found = prefilters(Catalogue((MAGIC,)))
    assert found.payload_bytes == 630
    assert [(each.port_min, each.port_max) for each in found.all] == [(5555, 5556), (6000, 6000), (0, 65535)]
    assert ALL.payload_bytes == PAYLOAD_MIN_BYTES


def test_too_many_declared_protocols_share_one_prefilter() -> None:
    many = [
        Protocol(f"own-{n}", "Own", f"own-{n}", Recognise(Transport.UDP, ports=(10_000 + 2 * n,)))
        for n in range(PREFILTERS_MAX)
    ]
    found = prefilters(Catalogue((*SHIPPED, *many)))
    assert len(found.all) == len(ALL.all) + 1
    on_port = Datagram(1.0, b"x", 1, True, 40000, 10_000 + 2 * 77)
    assert found.fits(IpProtocol.UDP, on_port)
    assert not found.fits(IpProtocol.UDP, on_port._replace(destination_port=9_999, source_port=9_998))
