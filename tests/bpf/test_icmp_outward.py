"""ICMP errors from inside, and the router's own: our address outside and in the quotation, or nothing at all."""

import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

from throughway.core.reasons import Reason
from throughway.dataplane.abi import ObservedKind

from .gateway import (
    ALICE,
    BOB,
    CAROL,
    CARRIED,
    DROP,
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
    to_inside,
)

PROTOCOLS = [
    pytest.param(lambda host, **ip: esp(PEER, host, 0x3333, **ip), 50, 0x3333, 28, id="ESP"),
    pytest.param(lambda host, **ip: gre(PEER, host, key=6, **ip), 47, 1 << 32 | 6, 28, id="GRE with a key"),
    pytest.param(lambda host, **ip: gre(PEER, host, **ip), 47, 0, 28, id="GRE without a key"),
    pytest.param(lambda host, **ip: l2tp(PEER, host, 77, **ip), 115, 77, 28, id="L2TPv3 data"),
    pytest.param(lambda host, **ip: l2tp_control(PEER, host, 88, **ip), 115, 1 << 32 | 88, 32, id="L2TPv3 control"),
    pytest.param(lambda host, **ip: other(PEER, host, 4, **ip), 4, 0, 28, id="IP in IP"),
]
ERRORS = [(3, 4), (3, 2), (3, 3), (3, 1), (4, 0), (11, 0), (11, 1), (12, 0)]
Build = Callable[..., Packet]


def _error(source: str, quoted: Packet | Raw, icmp_type: int = 11, code: int = 0, **outer: Any) -> Packet:
    return IP(src=source, dst=PEER, **outer) / ICMP(type=icmp_type, code=code) / quoted


@pytest.mark.parametrize(("icmp_type", "code"), ERRORS)
@pytest.mark.parametrize(("build", "protocol", "discriminator", "shortest"), PROTOCOLS)
@pytest.mark.parametrize("source", [ALICE, OUTSIDE, CAROL], ids=["the host", "the router", "a router inside"])
def test_error_leaves_with_our_address_outside_and_in(
    gateway: Gateway,
    build: Build,
    protocol: int,
    discriminator: int,
    shortest: int,
    icmp_type: int,
    code: int,
    source: str,
) -> None:
    gateway.decide(to_inside(discriminator, protocol=protocol), ALICE)
    for size in (shortest, shortest + 13, None):
        error = _error(source, quote(build(ALICE, ttl=1, tos=4), size), icmp_type, code, ttl=50, id=77)
        out = gateway.from_inside(error, mark=THEIRS | CARRIED)
        expected = _error(OUTSIDE, quote(build(OUTSIDE, ttl=1, tos=4), size), icmp_type, code, ttl=50, id=77)
        assert out.packet == bytes(expected)
        assert sum_of_icmp(out.packet) == 0xFFFF
        assert (out.verdict, out.mark) == (PASS, THEIRS)
    assert gateway.counted() == {Reason.ICMP_ERROR_TRANSLATED: 3}


def test_options_in_both_headers(gateway: Gateway) -> None:
    gateway.decide(to_inside(0x3333), ALICE)
    options = record_route(5)
    error = _error(ALICE, quote(esp(PEER, ALICE, 0x3333, options=options), 52), options=options)
    out = gateway.from_inside(error)
    expected = _error(OUTSIDE, quote(esp(PEER, OUTSIDE, 0x3333, options=options), 52), options=options)
    assert out.packet == bytes(expected)
    assert sum_of_icmp(out.packet) == 0xFFFF


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    host=st.integers(0x0A000001, 0x0AFFFFFE),
    quoted_id=st.integers(0, 0xFFFF),
    ttl=st.integers(0, 255),
    rest=st.binary(max_size=40),
)
def test_the_icmp_checksum_stays_right_for_every_address(
    gateway: Gateway, host: int, quoted_id: int, ttl: int, rest: bytes
) -> None:
    """The quoted address and the quoted checksum change by opposite amounts (RFC 1624)."""
    address = str(IPv4Address(host))
    gateway.decide(to_inside(0x3333), address)
    quoted, expected = (
        Raw(bytes(esp(PEER, at, 0x3333, size=0, id=quoted_id, ttl=ttl)) + rest) for at in (address, OUTSIDE)
    )
    out = gateway.from_inside(_error(address, quoted))
    assert sum_of_icmp(out.packet) == 0xFFFF
    assert out.packet == bytes(_error(OUTSIDE, expected))


def test_tshark_finds_every_checksum_right(gateway: Gateway, tmp_path: Path) -> None:
    """A second opinion: outer header, ICMP message, and the header in the quotation, both ways."""
    packets: list[Packet] = []
    for param in PROTOCOLS:
        build, protocol, discriminator, _ = param.values
        key = to_inside(discriminator, protocol=protocol)  # type: ignore[arg-type]
        gateway.decide(key, ALICE)
        for icmp_type, code in ERRORS:
            error = _error(ALICE, quote(build(ALICE)), icmp_type, code)  # type: ignore[operator]
            packets.append(IP(gateway.from_inside(error).packet))
    assert len(packets) == len(PROTOCOLS) * len(ERRORS)
    wrpcap(str(tmp_path / "errors.pcap"), packets)
    fields = ("ip.checksum.status", "icmp.checksum.status", "ip.src", "ip.dst")
    command = ["tshark", "-r", str(tmp_path / "errors.pcap"), "-o", "ip.check_checksum:TRUE", "-T", "fields"]
    command += [part for name in fields for part in ("-e", name)]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = said.stdout.splitlines()
    assert len(lines) == len(packets)
    for line in lines:
        headers, message, sources, destinations = line.split("\t")
        assert (set(headers.split(",")), message) == ({"1"}, "1"), line
        assert sources.split(",")[:2] == [OUTSIDE, PEER]
        assert destinations.split(",")[:2] == [PEER, OUTSIDE]


_QUOTED = esp(PEER, ALICE, 0x3333, size=100)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(_error(ALICE, quote(esp(PEER, ALICE, 0x4444))), id="an SPI that nobody has"),
        pytest.param(_error(BOB, quote(esp(PEER, BOB, 0x3333))), id="an SPI of another host"),
        pytest.param(_error(ALICE, quote(esp(STRANGER, ALICE, 0x3333))), id="from another peer"),
        pytest.param(_error(ALICE, quote(esp(PEER, ALICE, 7))), id="a reserved SPI"),
        pytest.param(_error(ALICE, quote(_QUOTED, 27)), id="the quote is too short"),
        pytest.param(_error(ALICE, quote(esp(PEER, ALICE, 0x3333, frag=3))), id="a later fragment is quoted"),
        pytest.param(_error(ALICE, quote(_QUOTED), flags="MF"), id="the error is a fragment"),
        pytest.param(_error(ALICE, quote(_QUOTED), 5, 1), id="a redirect"),
        pytest.param(_error(OUTSIDE, quote(_QUOTED), 5, 1), id="a redirect of the router"),
        pytest.param(_error(OUTSIDE, quote(esp(PEER, ALICE, 0x4444))), id="the router's, of an SPI that nobody has"),
        pytest.param(_error(ALICE, quote(esp(PEER, OUTSIDE, 0x3333))), id="a quote that no host can have"),
        pytest.param(_error(ALICE, quote(gre(PEER, ALICE))), id="GRE that nobody has"),
        pytest.param(_error(ALICE, quote(gre(PEER, ALICE, key=1, checksum=True), 28)), id="a key that is not quoted"),
        pytest.param(IP(src=ALICE, dst=STRANGER) / ICMP(type=11) / quote(_QUOTED), id="to somebody else"),
    ],
)
def test_what_cannot_be_translated_does_not_leave(gateway: Gateway, packet: Packet) -> None:
    gateway.decide(to_inside(0x3333), ALICE)
    out = gateway.from_inside(packet)
    assert (out.verdict, out.packet) == (DROP, bytes(packet))
    assert gateway.counted() == {Reason.ICMP_ERROR_UNKNOWN: 1}


def test_without_an_outside_address_none_leaves(gateway: Gateway) -> None:
    gateway.decide(to_inside(0x3333), ALICE)
    gateway.configure(addresses=())
    assert gateway.from_inside(_error(ALICE, quote(_QUOTED))).verdict == DROP
    assert gateway.counted() == {Reason.NO_OUTSIDE_ADDRESS: 1}


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(_error(OUTSIDE, quote(esp(PEER, OUTSIDE, 0x3333)), 3, 2), id="about what came to the router"),
        pytest.param(_error(OUTSIDE, quote(gre(PEER, OUTSIDE)), 3, 2), id="about GRE that came to the router"),
        pytest.param(_error(OUTSIDE, quote(IP(src=PEER, dst=OUTSIDE) / UDP() / bytes(8)), 3, 3), id="about UDP"),
        pytest.param(_error(ALICE, quote(IP(src=PEER, dst=ALICE) / UDP() / bytes(8)), 3, 3), id="a host's about UDP"),
        pytest.param(_error(OUTSIDE, quote(pptp(PEER, OUTSIDE))), id="about PPTP"),
        pytest.param(IP(src=OUTSIDE, dst=PEER) / ICMP(type=8) / quote(_QUOTED), id="an echo"),
        pytest.param(_error(OUTSIDE, quote(_QUOTED, 12)), id="less than a header is quoted"),
        pytest.param(_error(OUTSIDE, Raw(b"")), id="nothing is quoted"),
    ],
)
def test_all_else_passes_untouched(gateway: Gateway, packet: Packet) -> None:
    gateway.decide(to_inside(0x3333), ALICE)
    out = gateway.from_inside(packet, mark=THEIRS)
    assert (out.verdict, out.packet, out.mark) == (PASS, bytes(packet), THEIRS)
    assert gateway.counted() == {}


@pytest.mark.parametrize("code", [0, 1, 2, 3, 9, 10, 13])
def test_who_disowns_a_copy_is_told_of_and_not_heard_outside(gateway: Gateway, code: int) -> None:
    gateway.decide(to_inside(0x3333), ALICE, BOB)
    for host in (ALICE, BOB):
        assert gateway.from_inside(_error(host, quote(esp(PEER, host, 0x3333)), 3, code)).verdict == DROP
    seen = gateway.observed()
    assert [
        (each.kind, str(each.host), str(each.peer), each.protocol, each.discriminator, each.code) for each in seen
    ] == [(ObservedKind.DISOWNED, host, PEER, 50, 0x3333, code) for host in (ALICE, BOB)]
    assert gateway.counted() == {Reason.DISOWNED: 2}


def test_other_errors_about_a_copy_are_passed_on(gateway: Gateway) -> None:
    """The peer has to know of a smaller MTU, whosever copy it was."""
    gateway.decide(to_inside(0x3333), ALICE, BOB)
    for host, icmp_type, code in ((ALICE, 3, 4), (BOB, 11, 0), (BOB, 12, 0)):
        out = gateway.from_inside(_error(host, quote(esp(PEER, host, 0x3333)), icmp_type, code))
        assert out.packet == bytes(_error(OUTSIDE, quote(esp(PEER, OUTSIDE, 0x3333)), icmp_type, code))
    assert gateway.observed() == []


def test_the_router_cannot_reach_a_candidate_and_the_peer_does_not_hear_of_it(gateway: Gateway) -> None:
    """Nor is it the host's word that it does not own the tunnel: it may be switched off."""
    gateway.decide(to_inside(0x3333), ALICE, BOB)
    assert gateway.from_inside(_error(OUTSIDE, quote(esp(PEER, BOB, 0x3333)), 3, 1)).verdict == DROP
    assert gateway.observed() == []
    assert gateway.counted() == {Reason.DISOWNED: 1}


def test_the_router_disowns_its_own_copy(gateway: Gateway) -> None:
    gateway.decide(to_inside(0x3333), ALICE, ROUTER)
    assert gateway.from_inside(_error(OUTSIDE, quote(esp(PEER, OUTSIDE, 0x3333)), 3, 2)).verdict == DROP
    (seen,) = gateway.observed()
    assert (seen.kind, str(seen.host), seen.code) == (ObservedKind.DISOWNED, ROUTER, 2)


def test_the_only_owner_is_told_of_and_heard_outside(gateway: Gateway) -> None:
    gateway.decide(to_inside(1 << 32 | 6, protocol=47), ALICE)
    for code, is_told in ((2, True), (1, False), (4, False)):
        out = gateway.from_inside(_error(ALICE, quote(gre(PEER, ALICE, key=6)), 3, code))
        assert out.packet == bytes(_error(OUTSIDE, quote(gre(PEER, OUTSIDE, key=6)), 3, code))
        assert [(each.protocol, each.discriminator, each.code) for each in gateway.observed()] == (
            [(47, 1 << 32 | 6, 2)] if is_told else []
        )


def test_nobody_speaks_for_another_host(gateway: Gateway) -> None:
    gateway.decide(to_inside(0x3333), ALICE, BOB)
    gateway.from_inside(_error(CAROL, quote(esp(PEER, ALICE, 0x3333)), 3, 2))
    assert gateway.observed() == []


def test_disowning_again_is_told_once_a_second(gateway: Gateway) -> None:
    gateway.decide(to_inside(0x3333), ALICE, BOB)
    for _ in range(10):
        gateway.from_inside(_error(ALICE, quote(esp(PEER, ALICE, 0x3333)), 3, 2))
    assert len(gateway.observed()) == 1


def test_an_error_about_a_first_fragment(gateway: Gateway) -> None:
    gateway.decide(to_inside(0x3333), ALICE)
    pieces = (cut(esp(PEER, at, 0x3333, size=2000))[0] for at in (ALICE, OUTSIDE))
    quoted, expected = (quote(piece, 28) for piece in pieces)
    assert gateway.from_inside(_error(ALICE, quoted)).packet == bytes(_error(OUTSIDE, expected))
