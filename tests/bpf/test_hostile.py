"""Random and mutated packets: nothing fails, and nothing goes where no verdict sends it."""

import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from throughway.core import discriminators
from throughway.core.errors import KernelRefused
from throughway.dataplane.abi import KeptFlag

from .gateway import (
    ALICE,
    BOB,
    CAROL,
    CARRIED,
    DROP,
    ETHERNET,
    MASK,
    OUTSIDE,
    PASS,
    PEER,
    REDIRECT,
    REINJECTED,
    ROUTER,
    STRANGER,
    TAKEN,
    Gateway,
    to_inside,
    to_peer,
)

_OURS = IPv4Address(OUTSIDE).packed
_PEER = IPv4Address(PEER).packed
_OWNERS = {0x1000: {ALICE}, 0x2000: {BOB, CAROL}, 0x3000: {ROUTER}}
"""What the verdicts say of the SPIs from PEER; towards PEER, 0x1000 is ALICE's and 0x2000 is BOB's."""

_addresses = st.sampled_from([OUTSIDE, PEER, STRANGER, ALICE, BOB, CAROL, ROUTER]).map(lambda a: IPv4Address(a).packed)
_spis = st.sampled_from([0x1000, 0x2000, 0x3000, 0x4000, 0, 255]).map(lambda spi: struct.pack("!II", spi, 1))


def _ip(protocol: int, source: bytes, destination: bytes, fragment: int, options: bytes, payload: bytes) -> bytes:
    size = 20 + len(options) + len(payload)
    head = struct.pack("!BBHHHBBH", 0x40 | (5 + len(options) // 4), 0, size, 7, fragment, 64, protocol, 0)
    return head + source + destination + options + payload


def _packets(payloads: st.SearchStrategy[bytes], protocol: int) -> st.SearchStrategy[bytes]:
    fragments = st.sampled_from([0, 0, 0, 0x2000, 0x2001, 0x0001, 0x4000])
    options = st.sampled_from([b"", b"", bytes(4), bytes(40)])
    return st.builds(_ip, st.just(protocol), _addresses, _addresses, fragments, options, payloads)


_esp = _packets(st.builds(bytes.__add__, _spis, st.binary(max_size=40)), 50)
_gre = _packets(
    st.builds(
        bytes.__add__, st.sampled_from([bytes(4), b"\x20\0\0\0\0\0\0\6", b"\x30\1\0\0\0\0\0\6"]), st.binary(max_size=40)
    ),
    47,
)
_l2tp = _packets(
    st.builds(
        bytes.__add__, st.sampled_from([b"\0\0\0\7", bytes(4) + b"\xc8\3\0\x0c\0\0\0\5"]), st.binary(max_size=40)
    ),
    115,
)
_other = _packets(st.binary(max_size=40), 94)
_ours = st.one_of(_esp, _gre, _l2tp, _other)
_icmp = _packets(
    st.builds(
        lambda head, quote: head + quote,
        st.sampled_from([b"\3\4", b"\3\2", b"\5\1", b"\x0b\0", b"\x08\0"]).map(lambda h: h + bytes(6)),
        _ours,
    ),
    1,
)
_udp = _packets(
    st.builds(
        lambda ports, marker, rest: struct.pack("!HHHH", *ports, 8 + len(marker + rest), 0) + marker + rest,
        st.sampled_from([(500, 500), (1701, 1701), (4500, 4500), (4500, 500), (53, 53)]),
        st.sampled_from([b"", bytes(4), b"\1\2\3\4\5\6\7\x08", b"\xc8\2\0\x0c\0\5", b"\0\3\0\0\0\0\0\5"]),
        st.binary(max_size=40),
    ),
    17,
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A packet that makes sense, with a few bytes changed and perhaps its end cut off or something behind it."""
    packet = bytearray(draw(st.one_of(_ours, _icmp, _udp, st.binary(min_size=20, max_size=120))))
    for _ in range(draw(st.integers(0, 3))):
        packet[draw(st.integers(0, min(len(packet), 64) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        packet = packet[: draw(st.integers(20, len(packet)))]
    return bytes(packet) + draw(st.sampled_from([b"", b"", bytes(30)]))


@pytest.fixture
def decided(gateway: Gateway) -> Gateway:
    for spi, hosts in _OWNERS.items():
        gateway.decide(to_inside(spi), *sorted(hosts))
    gateway.decide(to_peer(ALICE, 0x1000), ALICE)
    gateway.decide(to_peer(BOB, 0x2000), BOB)
    return gateway


_shared_gateway = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
_many = settings(max_examples=1500, deadline=None, suppress_health_check=_shared_gateway)
_some = settings(_many, max_examples=600)
_marks = st.sampled_from([0, CARRIED, REINJECTED, CARRIED | REINJECTED, 0x41]) | st.integers(0, (1 << 32) - 1)


def _protocol(packet: bytes) -> int | None:
    """Return the protocol of what is IPv4 at all."""
    header, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4])
    return packet[9] if packet[0] >> 4 == 4 and header >= 20 and total >= header else None


def _is_portless(packet: bytes) -> bool:
    protocol = _protocol(packet)
    return protocol is not None and discriminators.is_ours(protocol) and max(packet[12], packet[16]) < 224


def _changed(before: bytes, after: bytes) -> set[int]:
    assert len(before) == len(after)
    return {at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new}


@_many
@given(packet=_mutated(), mark=_marks)
def test_nothing_is_delivered_to_a_host_that_is_in_no_mapping(decided: Gateway, packet: bytes, mark: int) -> None:
    out = decided.from_outside(packet, mark)
    assert out.verdict in (PASS, DROP, REDIRECT)
    assert (out.mark ^ mark) & ~MASK == 0
    if out.verdict != PASS:
        assert _is_portless(packet), "nothing else is ever stopped"
    if out.verdict == DROP:
        return
    changed = _changed(packet, out.packet)
    if not changed:
        return
    assert packet[16:20] == _OURS and not mark & CARRIED
    header = (packet[0] & 15) * 4
    owner = str(IPv4Address(out.packet[16:20]))
    addresses = {10, 11, 16, 17, 18, 19}
    if packet[9] != 1:
        assert packet[9] == 50, "only ESP has an owner here"
        assert packet[12:16] == _PEER
        if not int.from_bytes(packet[6:8]) & 0x1FFF:
            assert owner in _OWNERS[int.from_bytes(packet[header : header + 4])]
        assert owner in {ALICE, BOB, CAROL}
    else:
        quoted = header + 8
        spi_at = quoted + (packet[quoted] & 15) * 4
        sender = {0x1000: ALICE, 0x2000: BOB}[int.from_bytes(packet[spi_at : spi_at + 4])]
        assert (owner, packet[quoted + 16 : quoted + 20]) == (sender, _PEER)
        addresses |= {quoted + at for at in (10, 11, 12, 13, 14, 15)}
    assert changed <= addresses
    assert out.mark & CARRIED


@_many
@given(packet=_mutated(), mark=_marks)
def test_no_inside_address_leaves_with_what_is_ours(decided: Gateway, packet: bytes, mark: int) -> None:
    """Nor in the quotation of an ICMP error about it."""
    out = decided.from_inside(packet, mark)
    assert out.verdict in (PASS, DROP, REDIRECT)
    assert (out.mark ^ mark) & ~MASK == 0
    is_ours, is_icmp = _is_portless(packet), _protocol(packet) == 1
    if packet[16:20] == _OURS and mark & REINJECTED and out.verdict == REDIRECT:
        assert out.packet == packet, "turned round"
    elif out.verdict == TAKEN:
        assert is_ours and out.packet == packet == decided.punted()[-1].frame[len(ETHERNET) + 2 :]
    elif out.verdict == PASS and is_ours and not _is_pptp(packet):
        assert out.packet[12:16] == _OURS
        assert _changed(packet, out.packet) <= {10, 11, 12, 13, 14, 15}
    elif is_icmp and out.packet != packet:
        quoted = (packet[0] & 15) * 4 + 8
        assert out.verdict == PASS
        assert out.packet[12:16] == out.packet[quoted + 16 : quoted + 20] == _OURS
        addresses = {10, 11, 12, 13, 14, 15} | {quoted + at for at in (10, 11, 16, 17, 18, 19)}
        assert _changed(packet, out.packet) <= addresses
    else:
        assert out.packet == packet
        assert out.verdict == PASS or is_ours or is_icmp


@_some
@given(packet=_mutated(), mark=_marks)
def test_no_inside_address_leaves_with_a_kept_port(decided: Gateway, packet: bytes, mark: int) -> None:
    decided.configure(ports_kept=KeptFlag.IKE | KeptFlag.L2TP)
    out = decided.from_inside(packet, mark)
    assert out.verdict in (PASS, DROP, REDIRECT)
    assert (out.mark ^ mark) & ~MASK == 0
    header = (packet[0] & 15) * 4
    ports, fragment = packet[header : header + 4], int.from_bytes(packet[6:8]) & 0x3FFF
    is_kept = ports in (b"\x01\xf4\x01\xf4", b"\x06\xa5\x06\xa5") and int.from_bytes(packet[2:4]) >= header + 8
    is_group = packet[16] >= 0xE0 or packet[12] >= 0xE0
    if _protocol(packet) == 17 and not is_group and (is_kept or fragment & 0x1FFF) and out.verdict == PASS:
        assert out.packet[12:16] == _OURS
    decided.punted()
    decided.observed()


def _is_pptp(packet: bytes) -> bool:
    header = (packet[0] & 15) * 4
    return packet[9] == 47 and packet[header + 1 : header + 2] != b"" and packet[header + 1] & 7 == 1


@_some
@given(packet=_mutated(), mark=_marks, program=st.sampled_from(["inside_ingress", "inside_egress"]))
def test_inside_hooks_change_and_stop_nothing(decided: Gateway, packet: bytes, mark: int, program: str) -> None:
    out = decided.run(program, packet, mark)
    assert (out.verdict, out.packet, out.mark) == (PASS, packet, mark)
    decided.observed()


@_some
@given(data=st.binary(min_size=14, max_size=200))
def test_any_bytes_may_be_asked_of_control(gateway: Gateway, data: bytes) -> None:
    try:
        outcome = gateway.run("control", data[14:], link=data[:14])
    except KernelRefused:
        return  # The kernel makes no packet of them.
    assert outcome.verdict < 4096
