"""What the parsers of VPN messages have in common: they answer None for what is too short, and never raise."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2tp import L2TP  # noqa: F401 - registers its port, so that the oracle reads what we build
from scapy.layers.pptp import PPTPOutgoingCallReply, PPTPStartControlConnectionRequest

from throughway.wire import ah, dtls, ike, ike_payloads, l2tp_strict, nebula, openvpn, pptp, wireguard, zerotier

Parser = Callable[[bytes], object]


def _ike_chain(data: bytes) -> object:
    header = ike.parse(data)
    return ike_payloads.parse(header, data, header.size) if header else None


PARSERS: dict[str, Parser] = {
    "ah": ah.parse,
    "ike payloads": _ike_chain,
    "pptp": pptp.parse,
    "l2tp control": lambda data: l2tp_strict.parse_control(data, len(data)),
    "l2tp data": lambda data: l2tp_strict.parse_data(data, len(data)),
    "wireguard": lambda data: wireguard.parse(data, len(data)),
    "openvpn": lambda data: [openvpn.parse_control(data, len(data), size) for size in openvpn.HMAC_SIZES],
    "openvpn tls-crypt": lambda data: openvpn.parse_wrapped(data, len(data)),
    "openvpn key": lambda data: openvpn.wrapped_key_fits(data, len(data)),
    "zerotier": zerotier.parse,
    "nebula": nebula.parse,
    "dtls record": lambda data: dtls.parse_record(data, len(data)),
    "dtls hello": dtls.parse_client_hello,
}

FRONTS = [
    b"",
    b"\xc8\x02\x00\x20",
    b"\xc8\x03\x00\x20",
    b"\x00\x9c\x00\x01\x1a\x2b\x3c\x4d\x00\x01",
    b"\x16\xfe\xff" + bytes(8) + b"\x00\x40\x01\x00\x00\x34" + bytes(5) + b"\x00\x00\x34\xfe\xfd",
    b"\x38" + b"12345678",
    b"\x28" + b"12345678\x01",
    b"\x04\x00\x00\x00",
    b"\x10\x00\x00\x00",
    b"12345678" + bytes(8) + b"\x21\x20\x22\x08" + bytes(4) + b"\x00\x00\x00\x40",
]


@pytest.mark.parametrize("name", PARSERS)
@given(st.sampled_from(FRONTS), st.binary(max_size=160))
def test_no_bytes_raise(name: str, front: bytes, rest: bytes) -> None:
    PARSERS[name](front + rest)


@pytest.mark.parametrize("name", [name for name in PARSERS if name not in ("openvpn", "openvpn key")])
def test_nothing_is_read_from_nothing(name: str) -> None:
    assert PARSERS[name](b"") is None


def test_pptp_messages_of_scapy_are_read() -> None:
    first = pptp.parse(bytes(PPTPStartControlConnectionRequest()))
    assert first is not None
    assert (first.name, first.size, first.call_id) == ("Start-Control-Connection-Request", 156, None)
    call = pptp.parse(bytes(PPTPOutgoingCallReply(call_id=128, peer_call_id=7)))
    assert call is not None
    assert call.call_id == 128


def test_an_ah_header_is_read() -> None:
    header = ah.parse(bytes.fromhex("3204000000000100000000010123456789abcdef01234567"))
    assert header == ah.AhHeader(next_header=50, spi=0x100, sequence=1)


def test_a_chain_that_repeats_itself_ends() -> None:
    """RFC 7296 section 3.2 has no bound of its own; payloads of four bytes would go on for a whole datagram."""
    message = bytearray(b"12345678" + bytes(8) + b"\x2b\x20\x22\x08" + bytes(8)) + b"\x2b\x00\x00\x04" * 300
    message[24:28] = len(message).to_bytes(4, "big")
    header = ike.parse(bytes(message))
    assert header is not None
    chain = ike_payloads.parse(header, bytes(message), header.size)
    assert chain is not None
    assert (len(chain.types), chain.is_whole) == (64, False)
