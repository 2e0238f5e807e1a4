"""IP protocols that a switch leaves to the kernel pass the programs as they are, with mappings or without."""

import pytest
from scapy.layers.inet import ICMP, IP

from throughway.dataplane.config import protocol_bits

from .gateway import ALICE, OUTSIDE, PASS, PEER, TAKEN, Gateway, Outcome, esp, readdressed, to_inside, to_peer

ESP, AH = 50, 51


def test_unassisted_packets_pass_untouched_both_ways(gateway: Gateway) -> None:
    gateway.decide(to_peer(), ALICE)
    gateway.decide(to_inside(), ALICE)
    gateway.configure(unassisted=frozenset({ESP}))
    going, coming = esp(OUTSIDE, PEER), esp(PEER, OUTSIDE)
    assert gateway.from_inside(going) == Outcome(PASS, bytes(going), 0)
    assert gateway.from_outside(coming) == Outcome(PASS, bytes(coming), 0)
    assert gateway.from_outside(esp(PEER, OUTSIDE, spi=0x9999)).verdict == PASS
    assert gateway.counted() == {}
    assert list(gateway.punted()) == []
    mapping = gateway.mapping(to_inside())
    assert mapping is not None and mapping.packets == 0


def test_errors_about_unassisted_packets_are_the_kernels_too(gateway: Gateway) -> None:
    gateway.configure(unassisted=frozenset({ESP}))
    error = IP(src=PEER, dst=OUTSIDE) / ICMP(type=3, code=3) / esp(OUTSIDE, PEER)
    assert gateway.from_outside(error) == Outcome(PASS, bytes(error), 0)


def test_all_other_protocols_are_ours_as_before(gateway: Gateway) -> None:
    gateway.configure(unassisted=frozenset({AH, 47, 18, 82, 255}))
    gateway.decide(to_inside(), ALICE)
    packet = esp(PEER, OUTSIDE)
    assert gateway.from_outside(packet).packet == readdressed(packet, dst=ALICE)
    gateway.configure()
    assert gateway.from_inside(esp(ALICE, PEER)).verdict == TAKEN


@pytest.mark.parametrize("number", [0, 31, 32, 50, 255])
def test_each_protocol_has_a_bit_of_its_own(number: int) -> None:
    words = protocol_bits(frozenset({number}))
    assert [(at, word) for at, word in enumerate(words) if word] == [(number // 32, 1 << number % 32)]
