"""ICMP errors from outside reach the host, quoting the packet that the host sent."""

from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Packet, Raw

from throughway.core.reasons import Reason

from .gateway import (
    ALICE,
    CARRIED,
    DROP,
    ETHERNET,
    OUTSIDE,
    PASS,
    PEER,
    ROUTER,
    STRANGER,
    THEIRS,
    Gateway,
    cut,
    esp,
    gre,
    l2tp,
    l2tp_control,
    other,
    pptp,
    quote,
    record_route,
    sum_of_icmp,
    to_peer,
)


@pytest.mark.parametrize(("icmp_type", "code"), [(3, 4), (3, 2), (4, 0), (11, 0), (12, 0)])
@pytest.mark.parametrize("quoted_size", [28, 60, None])
def test_error_is_translated_inside_and_out(
    gateway: Gateway, icmp_type: int, code: int, quoted_size: int | None
) -> None:
    gateway.decide(to_peer(spi=0x3333), ALICE)
    sent_by_us = esp(OUTSIDE, PEER, 0x3333, ttl=60, size=200)
    sent_by_host = esp(ALICE, PEER, 0x3333, ttl=60, size=200)
    error = IP(src=STRANGER, dst=OUTSIDE, ttl=50) / ICMP(type=icmp_type, code=code, nexthopmtu=1400)
    out = gateway.from_outside(error / quote(sent_by_us, quoted_size), mark=THEIRS)
    expected = IP(src=STRANGER, dst=ALICE, ttl=50) / ICMP(type=icmp_type, code=code, nexthopmtu=1400)
    assert out.packet == bytes(expected / quote(sent_by_host, quoted_size))
    assert sum_of_icmp(out.packet) == 0xFFFF
    assert (out.verdict, out.mark) == (PASS, THEIRS | CARRIED)
    assert gateway.counted() == {Reason.ICMP_ERROR_TRANSLATED: 1}


@pytest.mark.parametrize(
    ("build", "protocol", "discriminator", "quoted_size"),
    [
        pytest.param(lambda a: gre(a, PEER, key=6), 47, 1 << 32 | 6, 28, id="GRE with a key"),
        pytest.param(lambda a: gre(a, PEER, key=6, checksum=True), 47, 1 << 32 | 6, 32, id="GRE, checksum and key"),
        pytest.param(lambda a: gre(a, PEER), 47, 0, 28, id="GRE without a key"),
        pytest.param(lambda a: l2tp(a, PEER, 77), 115, 77, 28, id="L2TPv3 data"),
        pytest.param(lambda a: l2tp_control(a, PEER, 88), 115, 1 << 32 | 88, 32, id="L2TPv3 control"),
        pytest.param(lambda a: other(a, PEER, 4), 4, 0, 28, id="IP in IP"),
    ],
)
def test_error_about_any_of_our_protocols(
    gateway: Gateway, build: Callable[[str], Packet], protocol: int, discriminator: int, quoted_size: int
) -> None:
    gateway.decide(to_peer(ALICE, discriminator, protocol=protocol), ALICE)
    error = IP(src=STRANGER, dst=OUTSIDE) / ICMP(type=3, code=4, nexthopmtu=1400)
    out = gateway.from_outside(error / quote(build(OUTSIDE), quoted_size))
    expected = IP(src=STRANGER, dst=ALICE) / ICMP(type=3, code=4, nexthopmtu=1400)
    assert out.packet == bytes(expected / quote(build(ALICE), quoted_size))
    assert sum_of_icmp(out.packet) == 0xFFFF
    assert gateway.counted() == {Reason.ICMP_ERROR_TRANSLATED: 1}


def test_options_in_both_headers(gateway: Gateway) -> None:
    gateway.decide(to_peer(spi=0x3333), ALICE)
    options = record_route(5)
    quoted, original = (esp(source, PEER, 0x3333, options=options) for source in (OUTSIDE, ALICE))
    error = IP(src=STRANGER, dst=OUTSIDE, options=options) / ICMP(type=3, code=4)
    out = gateway.from_outside(error / quote(quoted, 24 + 20 + 8))
    expected = IP(src=STRANGER, dst=ALICE, options=options) / ICMP(type=3, code=4)
    assert out.packet == bytes(expected / quote(original, 24 + 20 + 8))
    assert sum_of_icmp(out.packet) == 0xFFFF


@pytest.mark.parametrize("checksum", [0, 0xFFFF, 0x1234])
def test_a_quoted_checksum_that_was_wrong_does_not_break_the_icmp_one(gateway: Gateway, checksum: int) -> None:
    gateway.decide(to_peer(spi=0x3333), ALICE)
    error = IP(src=STRANGER, dst=OUTSIDE) / ICMP(type=11) / quote(esp(OUTSIDE, PEER, 0x3333, chksum=checksum))
    out = gateway.from_outside(error)
    assert out.verdict == PASS
    assert sum_of_icmp(out.packet) == 0xFFFF
    assert IP(out.packet).dst == ALICE


def _error(quoted: Packet | Raw, **outer: Any) -> Packet:
    return IP(src=STRANGER, dst=OUTSIDE, **outer) / ICMP(type=3, code=4) / quoted


_SENT = esp(OUTSIDE, PEER, 0x3333, size=100)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(_error(quote(esp(OUTSIDE, PEER, 0x4444))), id="an SPI that nobody uses"),
        pytest.param(_error(quote(esp(OUTSIDE, STRANGER, 0x3333))), id="another peer"),
        pytest.param(_error(quote(esp(ALICE, PEER, 0x3333))), id="a source that is not ours"),
        pytest.param(_error(quote(IP(src=OUTSIDE, dst=PEER) / UDP() / bytes(8))), id="UDP"),
        pytest.param(_error(quote(_SENT, 27)), id="the quote is too short"),
        pytest.param(_error(quote(_SENT, 12)), id="less than a header is quoted"),
        pytest.param(_error(Raw(b"")), id="nothing is quoted"),
        pytest.param(_error(quote(esp(OUTSIDE, PEER, 0x3333, frag=3))), id="a later fragment is quoted"),
        pytest.param(_error(quote(gre(OUTSIDE, PEER, key=0x3333, checksum=True), 28)), id="a key that is not quoted"),
        pytest.param(_error(quote(pptp(OUTSIDE, PEER))), id="PPTP"),
        pytest.param(_error(quote(esp(OUTSIDE, PEER, 0x3333, version=5))), id="not version 4"),
        pytest.param(_error(quote(esp(OUTSIDE, PEER, 0x3333, ihl=3))), id="the quoted IHL is below 5"),
        pytest.param(_error(quote(esp(OUTSIDE, PEER, 0x3333, ihl=15), 28)), id="the quoted IHL points behind the end"),
        pytest.param(_error(quote(_SENT), flags="MF"), id="the error is a fragment"),
        pytest.param(_error(quote(_SENT), frag=1), id="the error is a later fragment"),
        pytest.param(IP(src=STRANGER, dst=OUTSIDE) / ICMP(type=8) / quote(_SENT), id="no error but an echo"),
        pytest.param(IP(src=STRANGER, dst=OUTSIDE) / ICMP(type=5) / quote(_SENT), id="no error but a redirect"),
        pytest.param(IP(src=STRANGER, dst=OUTSIDE, proto=1, len=24) / Raw(b"\x03\x04\0\0"), id="half an ICMP header"),
    ],
)
def test_other_errors_are_the_stacks(gateway: Gateway, packet: Packet) -> None:
    gateway.decide(to_peer(spi=0x3333), ALICE)
    out = gateway.from_outside(packet, mark=THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, bytes(packet), THEIRS)
    assert gateway.counted() == {}


def test_an_error_that_cannot_be_readdressed_is_dropped(gateway: Gateway) -> None:
    gateway.configure(link_header_size=15)
    gateway.decide(to_peer(spi=0x3333), ALICE)
    assert gateway.from_outside(_error(quote(_SENT)), link=ETHERNET + b"\x08\x00\x00").verdict == DROP
    assert gateway.counted() == {Reason.REWRITE_FAILED: 1}


def test_padding_is_not_taken_for_a_quote(gateway: Gateway) -> None:
    gateway.decide(to_peer(spi=0x3333), ALICE)
    short = IP(bytes(_error(quote(_SENT, 20))))
    padded = bytes(short) + bytes(_SENT)[20:]
    assert gateway.from_outside(padded).packet == padded


def test_an_error_about_the_routers_own_tunnel_is_the_routers(gateway: Gateway) -> None:
    gateway.decide(to_peer(ROUTER, 0x3333), ROUTER)
    packet = bytes(_error(quote(_SENT)))
    assert gateway.from_outside(packet).packet == packet


def test_an_error_that_quotes_a_first_fragment(gateway: Gateway) -> None:
    gateway.decide(to_peer(spi=0x3333), ALICE)
    first = cut(esp(OUTSIDE, PEER, 0x3333, size=2000))[0]
    out = gateway.from_outside(_error(quote(first, 28)))
    assert IP(out.packet).dst == ALICE
    assert out.verdict != DROP
